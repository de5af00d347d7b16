import json

import numpy as np
import pytest

from mmref.errors import StoreMismatchError
from mmref.search.captions.beside import open_captions
from mmref.search.captions.index import index_captions
from mmref.search.captions.listing import list_captions
from mmref.search.ingest.index import index_images
from mmref.search.stores.base import open_store

from ..fakes import COLOURS, ColourModel
from .sources import index_both, write_source

ROWS = {"red": ["a red card", "red"], "blue": ["a blue card"], "red-2": ["a red card"]}


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path / "data", ROWS)


def counts(report):
    names = ("added", "updated", "removed", "unchanged", "encoded")
    return {name: getattr(report, name) for name in names if getattr(report, name)}


def held(store):
    with open_captions(store) as captions:
        assert captions.verify() == []
        return {
            item.place.path.rsplit("/", 1)[1]: item.place.metadata["caption"]
            for item in captions.items()
        }


def test_captions_are_kept_beside_the_pictures(model, source, tmp_path):
    report = index_both(model, [source], tmp_path / "s")
    assert counts(report) == {"added": 4, "encoded": 3}
    assert held(tmp_path / "s") == {
        "red.png#1": "a red card",
        "red.png#2": "red",
        "blue.png#1": "a blue card",
        "red-2.png#1": "a red card",
    }
    image = str(source / "red-2.png")
    with open_store(str(tmp_path / "s")) as pictures, open_captions(tmp_path / "s") as captions:
        assert len(pictures) == 3
        assert captions.identity == pictures.identity
        item = captions.find(f"{image}#1")
        assert item.place.metadata == {
            **pictures.find(image).place.metadata,
            "caption": "a red card",
            "image": image,
        }
        assert item.place.metadata["camera"] == "c-red-2"
        assert item.place.mtime_ns == pictures.find(image).place.mtime_ns
        vector = model.encode_text(["a red card"])
        np.testing.assert_allclose(captions.vectors([item.id]), vector.numpy(), atol=1e-6)
        wanted = model.refiner.profiles(vector, "text").to_arrays()
        for name, values in captions.profiles([item.id]).items():
            np.testing.assert_array_equal(values, wanted[name])


def test_further_captions_go_also_behind_some_that_cannot_be_encoded(model, tmp_path):
    sentences = ["red", "zzz", "blue", "zz", "z", *COLOURS]
    rows = {"red": sentences, "blue": ["blue"]}
    source = write_source(tmp_path / "data", rows)
    index_both(model, [source], tmp_path / "s")
    assert list(held(tmp_path / "s")) == [f"red.png#{n}" for n in (1, 3, 6, 7, 8, 9)] + [
        "blue.png#1"
    ]
    write_source(source, rows | {"red": ["red"]})
    report = index_both(model, [source], tmp_path / "s")
    assert counts(report) == {"unchanged": 2, "removed": 5}
    assert list(held(tmp_path / "s")) == ["red.png#1", "blue.png#1"]


def test_only_what_is_new_or_changed_is_encoded(model, source, tmp_path):
    store = tmp_path / "s"
    index_both(model, [source], store)
    assert counts(index_both(model, [source], store)) == {"unchanged": 4}
    changed = {
        "red": ["a red card", "all red"],
        "red-2": ["a red card", "white", "red"],
        "white": ["white"],
    }
    write_source(source, changed)
    report = index_both(model, [source], store)
    assert counts(report) == {"unchanged": 2, "updated": 1, "added": 3, "encoded": 3}
    assert held(store)["red.png#2"] == "all red"
    assert "blue.png#1" in held(store)  # the SOURCE does not name it any more
    assert counts(index_both(model, [source], store, prune=True)) == {"unchanged": 6, "removed": 1}
    write_source(source, {"red": ["red"], "red-2": ["white"], "blue": ["blue"]})
    report = index_both(model, [source], store)
    assert counts(report) == {"updated": 2, "removed": 3, "added": 1, "encoded": 3}
    now = {"red.png#1": "red", "red-2.png#1": "white", "blue.png#1": "blue"}
    assert held(store) == {**now, "white.png#1": "white"}


def test_what_is_known_of_a_picture_is_known_of_its_captions(model, source, tmp_path):
    store = tmp_path / "s"
    index_both(model, [source], store)
    lines = (source / "manifest.jsonl").read_text()
    (source / "manifest.jsonl").write_text(lines.replace("c-blue", "c-9"))
    assert counts(index_both(model, [source], store)) == {"unchanged": 3, "updated": 1}
    with open_captions(store) as captions:
        assert captions.find(f"{source / 'blue.png'}#1").place.metadata["camera"] == "c-9"


def test_captions_go_with_their_pictures(model, source, tmp_path):
    store = tmp_path / "s"
    index_both(model, [source], store)
    (source / "blue.png").unlink()
    (source / "red-2.png").rename(source / "carmine.png")
    write_source(source, {"red": ROWS["red"], "carmine": ["a red card"]})
    report = index_both(model, [source], store)
    assert counts(report) == {"unchanged": 2, "added": 1, "encoded": 1, "removed": 1}
    assert set(held(store)) == {"red.png#1", "red.png#2", "blue.png#1", "carmine.png#1"}
    index_both(model, [source], store, prune=True)
    assert set(held(store)) == {"red.png#1", "red.png#2", "carmine.png#1"}


def test_what_cannot_be_indexed_is_told(model, source, tmp_path):
    rows = {"red": ["xyzzy", "a red card"], "blue": ["a blue card"], "bad": ["white"]}
    write_source(source, rows)
    (source / "bad.png").write_bytes(b"bad")
    report = index_both(model, [source], tmp_path / "s")
    assert counts(report) == {"added": 2, "encoded": 2}
    (skip,) = report.skipped
    assert skip.path.endswith("red.png#1")
    assert skip.reason == "the run knows no word of this caption"
    assert report.notes == ["captions left out, for the store does not hold their pictures: 1"]
    write_source(source, {"red": ["red"], "blue": ["a blue card"]})
    index_both(model, [source], tmp_path / "s")
    write_source(source, {"red": ["plugh"], "blue": ["a blue card"]})
    report = index_both(model, [source], tmp_path / "s")
    assert counts(report) == {"unchanged": 1, "removed": 1}  # the sentence that stood there
    assert set(held(tmp_path / "s")) == {"blue.png#1"}


def test_it_goes_on_where_it_was_stopped(model, source, tmp_path):
    store = tmp_path / "s"
    index_images(model, [source], store)

    def stop(seen, total, report):
        assert total == 4
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_captions(model, list_captions([source]), store, batch_size=1, progress=stop)
    assert set(held(store)) == {"red.png#1", "red.png#2"}
    report = index_captions(model, list_captions([source]), store)
    assert counts(report) == {"unchanged": 2, "added": 2, "encoded": 2}


def test_features_are_described_by_id(tmp_path):
    rows = [
        {"image": f"{name}-id", "captions": [f"a {name} card"], "identity": name}
        | {"split": "val" if row else "train", "feature_row": row}
        for row, name in enumerate(("red", "blue"))
    ]
    np.save(tmp_path / "features.npy", np.random.default_rng(0).standard_normal((2, 12)))
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
    report = index_both(ColourModel("features"), [tmp_path], tmp_path / "s")
    assert counts(report) == {"added": 2, "encoded": 2}
    with open_captions(tmp_path / "s") as captions:
        assert [item.place.metadata["image"] for item in captions.items()] == ["red-id", "blue-id"]


def test_storage_is_that_of_the_pictures_and_the_run_too(model, source, tmp_path):
    index_images(model, [source], tmp_path / "s", storage="int8")
    index_both(model, [source], tmp_path / "s")
    with open_captions(tmp_path / "s") as captions:
        assert captions.storage == "int8"
    other = ColourModel(name="later", digest="decade")
    with pytest.raises(StoreMismatchError, match=r"/s were made by the run colours.*--reencode"):
        index_captions(other, list_captions([source]), tmp_path / "s")
