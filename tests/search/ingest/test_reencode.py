import json

import numpy as np
import pytest

from mmref.errors import DataError, StoreMismatchError, UsageError
from mmref.search.ingest.index import index_images
from mmref.search.ingest.reencode import reencode
from mmref.search.stores.base import open_store

from ..fakes import ColourModel, contents, pictures

OLD, NEW = ColourModel(), ColourModel(refine="hubs", name="later", digest="decade")


class Turned(ColourModel):
    """A run whose vectors are others: the numbers in the other order."""

    def encode_image(self, items, batch_size=256):
        return super().encode_image(items, batch_size).flip(1)


@pytest.fixture
def store(tmp_path):
    pictures(tmp_path / "pics", 20)
    index_images(OLD, [tmp_path / "pics"], tmp_path / "s", batch_size=8)
    return tmp_path / "s"


def turned():
    return Turned(refine="hubs", name="later", digest="decade")


def test_a_store_is_encoded_anew(store, tmp_path):
    with open_store(str(store)) as opened:
        before = list(opened.items())
        old = opened.vectors([item.id for item in before])
    seen = []
    model = turned()
    report = reencode(
        model,
        store,
        run="runs/later",
        storage="fp16",
        batch_size=8,
        progress=lambda n, total, _: seen.append((n, total)),
    )
    assert (report.updated, report.encoded, report.removed, report.skipped) == (20, 20, 0, [])
    assert seen[-1] == (20, 20)
    with open_store(str(store)) as opened:
        assert (opened.identity.id, opened.storage) == ("later", "fp16")
        assert opened.identity.path.endswith("runs/later")
        assert list(opened.items()) == before
        ids = [item.id for item in before]
        np.testing.assert_allclose(opened.vectors(ids), old[:, ::-1], atol=1e-3)
        wanted = model.refiner.profiles(model.encode_text(["red"]), "text").to_arrays()
        assert opened.profiles(ids)["dense"].shape == (20, wanted["dense"].shape[1])
        assert opened.verify() == []
    again = reencode(model, store)
    assert (again.updated, again.unchanged) == (0, 20)
    with pytest.raises(StoreMismatchError):
        index_images(OLD, [tmp_path / "pics"], store)
    assert index_images(model, [tmp_path / "pics"], store).unchanged == 20


def test_it_goes_on_where_it_was_stopped(store):
    def stop(seen, total, report):
        if seen >= 8:
            raise KeyboardInterrupt

    before = contents_of(store)
    with pytest.raises(KeyboardInterrupt):
        reencode(turned(), store, batch_size=4, progress=stop)
    assert contents_of(store) == before
    with open_store(str(store)) as opened:
        assert opened.info()["reencoding"] == "later"
        assert opened.identity.id == "colours"
        assert opened.verify() == []
    model = turned()
    report = reencode(model, store, batch_size=4)
    assert report.unchanged + report.updated == 20
    assert model.encoded == report.encoded <= 12
    assert contents_of(store) != before


def contents_of(store):
    with open_store(str(store)) as opened:
        return contents(opened)


@pytest.mark.parametrize("harm", ["gone", "unusable"])
def test_pictures_that_are_gone_are_named_and_kept(store, tmp_path, harm):
    for name in ("0003.png", "0011.png"):
        if harm == "gone":
            (tmp_path / "pics" / name).unlink()
        else:
            (tmp_path / "pics" / name).write_bytes(b"\x89PNG no more")
    before = contents_of(store)
    with pytest.raises(DataError, match=rf"2 pictures are {harm} \(.*0003.png.*--prune"):
        reencode(turned(), store)
    assert contents_of(store) == before
    report = reencode(turned(), store, prune=True)
    assert report.removed == 2
    with open_store(str(store)) as opened:
        assert (len(opened), opened.identity.id) == (18, "later")
        assert opened.find(str(tmp_path / "pics" / "0003.png")) is None
        assert opened.verify() == []


def test_a_picture_that_changed_meanwhile_does_not_pass_for_what_it_was(store, tmp_path):
    picture = pictures(tmp_path / "pics", 1, start=5)[0]
    before = picture.read_bytes()
    fresh = pictures(tmp_path / "else", 1, start=77)[0]
    picture.write_bytes(fresh.read_bytes())
    calls = []

    def killed(*_):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reencode(turned(), store, batch_size=4, progress=killed)
    reencode(turned(), store, batch_size=4)
    with open_store(str(store)) as opened:
        assert opened.verify(content=True) == []
    (tmp_path / "pics" / "as-before.png").write_bytes(before)
    report = index_images(turned(), [tmp_path / "pics"], store)
    assert (report.added, report.unchanged, report.encoded) == (1, 20, 1)
    index_images(turned(), [tmp_path / "pics"], tmp_path / "new")
    assert contents_of(store) == contents_of(tmp_path / "new")


def test_only_the_storage_changes(store):
    before = contents_of(store)
    assert reencode(OLD, store, storage="int8").updated == 20
    with open_store(str(store)) as opened:
        assert (opened.storage, opened.identity.id) == ("int8", "colours")
    assert set(contents_of(store)) == set(before)


def test_features_need_their_source(tmp_path):
    source = tmp_path / "data"
    source.mkdir()
    np.save(source / "features.npy", np.random.default_rng(0).standard_normal((6, 12)))
    rows = [
        {"image": f"{n}-id", "captions": ["red"], "identity": n, "feature_row": n}
        | {"split": "val" if n else "train"}
        for n in range(6)
    ]
    (source / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    old = ColourModel("features")
    index_images(old, [source], tmp_path / "s")
    new = ColourModel("features", name="later", digest="decade")
    with pytest.raises(UsageError, match="name the SOURCE"):
        reencode(new, tmp_path / "s")
    assert reencode(new, tmp_path / "s", sources=[source]).updated == 6
    with open_store(str(tmp_path / "s")) as opened:
        assert opened.identity.id == "later"
