import json
import os
import shutil

import numpy as np
import pytest

from mmref.errors import DataError, PathError, StoreError, StoreMismatchError
from mmref.search.engine import Searcher
from mmref.search.ingest import writing
from mmref.search.ingest.index import index_images
from mmref.search.ingest.reading import file_digest
from mmref.search.records import RunIdentity
from mmref.search.stores.base import open_store
from mmref.search.stores.local import LocalStore

from ..fakes import ColourModel, contents, picture, pictures


@pytest.fixture
def pics(tmp_path):
    pictures(tmp_path / "pics", 7)
    return tmp_path / "pics"


def index(sources, store, **options):
    model = options.pop("model", None) or ColourModel()
    sources = sources if isinstance(sources, list) else [sources]
    return index_images(model, sources, store, batch_size=3, **options)


def counts(report):
    names = ("added", "updated", "moved", "removed", "unchanged", "encoded")
    return {name: value for name, value in report.as_dict().items() if name in names and value}


def test_a_folder_is_indexed_and_then_left_alone(pics, tmp_path):
    store = tmp_path / "s"
    assert counts(index(pics, store)) == {"added": 7, "encoded": 7}
    assert counts(index(pics, store)) == {"unchanged": 7}
    with open_store(str(store)) as opened:
        assert sorted(item.place.path for item in opened.items()) == sorted(
            map(str, pics.iterdir())
        )
        item = opened.find(str(pics / "0003.png"))
        wanted = ColourModel().encode_image([_open(pics / "0003.png")])[0].numpy()
        np.testing.assert_allclose(opened.vectors([item.id])[0], wanted, atol=1e-6)


def _open(path):
    from PIL import Image

    return Image.open(path)


def test_changed_touched_moved_copied_and_removed_files_are_told_apart(pics, tmp_path):
    store = tmp_path / "s"
    index(pics, store)
    picture(pics / "0000.png", 99)  # other content
    os.utime(pics / "0001.png", (1, 1))  # touched
    (pics / "inner").mkdir()
    (pics / "0002.png").rename(pics / "inner" / "moved.png")
    shutil.copy(pics / "0003.png", pics / "copy.png")
    (pics / "0004.png").unlink()
    before = dict(_ids(store))
    report = index(pics, store, prune=True)
    assert counts(report) == {
        "added": 1,
        "updated": 1,
        "moved": 1,
        "removed": 1,
        "unchanged": 4,
        "encoded": 1,
    }
    after = dict(_ids(store))
    assert after[str(pics / "inner" / "moved.png")] == before[str(pics / "0002.png")]
    assert str(pics / "0004.png") not in after
    assert str(pics / "0002.png") not in after
    assert counts(index(pics, store)) == {"unchanged": 7}
    fresh = tmp_path / "fresh"
    index(pics, fresh)
    with open_store(str(store)) as one, open_store(str(fresh)) as other:
        assert contents(one) == contents(other)


def _ids(store):
    with open_store(str(store)) as opened:
        return [(item.place.path, item.id) for item in opened.items()]


def test_without_prune_nothing_is_forgotten_and_prune_keeps_other_folders(pics, tmp_path):
    store = tmp_path / "s"
    other = pictures(tmp_path / "other", 2, start=50)
    index([pics, tmp_path / "other"], store)
    (pics / "0000.png").unlink()
    other[0].unlink()
    assert index(pics, store).removed == 0
    assert index(pics, store, prune=True).removed == 1
    assert [path for path, _ in _ids(store) if path == str(other[0])] == [str(other[0])]


def test_files_that_cannot_be_used_are_skipped_with_a_reason(pics, tmp_path):
    (pics / "empty.png").touch()
    (pics / "cut.png").write_bytes((pics / "0000.png").read_bytes()[:40])
    (pics / "words.jpg").write_text("no picture")
    (pics / "notes.txt").write_text("no picture, and nothing said about it")
    (pics / "gone.png").symlink_to(pics / "nowhere.png")
    (pics / "loop").symlink_to(pics)
    (pics / ".hidden.png").write_bytes((pics / "0000.png").read_bytes())
    shutil.copy(pics / "0001.png", pics / "no_suffix")
    report = index(pics, tmp_path / "s")
    assert report.added == 8
    reasons = {skip.path.rsplit("/", 1)[1]: skip.reason for skip in report.skipped}
    assert sorted(reasons) == ["cut.png", "empty.png", "gone.png", "words.jpg"]
    assert reasons["gone.png"] == "a link to nothing"
    assert "not an image" in reasons["words.jpg"]


def test_a_file_that_breaks_keeps_what_was_known_of_it(pics, tmp_path):
    index(pics, tmp_path / "s")
    (pics / "0000.png").write_bytes(b"broken")
    report = index(pics, tmp_path / "s", prune=True)
    assert "kept" in report.skipped[0].reason
    assert len(_ids(tmp_path / "s")) == 7


def test_a_name_that_is_not_utf8_is_reported(pics, tmp_path):
    odd = os.fsencode(pics) + b"/\xff.png"
    with open(odd, "wb") as file:  # noqa: PTH123
        file.write((pics / "0000.png").read_bytes())
    report = index(pics, tmp_path / "s")
    assert report.added == 7
    assert "UTF-8" in report.skipped[0].reason


@pytest.mark.parametrize("year", [1, 2400])
def test_a_time_that_no_store_can_keep_does_not_matter(pics, tmp_path, year):
    seconds = int((year - 1970) * 365.2425 * 86400)
    os.utime(pics / "0001.png", (seconds, seconds))
    report = index_images(ColourModel(), [pics], tmp_path / "s")
    assert (report.added, report.skipped) == (len(list(pics.iterdir())), [])
    again = index_images(ColourModel(), [pics], tmp_path / "s")
    assert (again.unchanged, again.encoded) == (report.added, 0)
    with Searcher.open(tmp_path / "s", ColourModel()) as searcher:
        assert len(searcher.search("red", filter="date is not missing", k=50)) == report.added


def test_a_folder_that_cannot_be_read_is_not_forgotten(pics, tmp_path, monkeypatch):
    shut = pics / "shut"
    pictures(shut, 2, start=50)
    index(pics, tmp_path / "s")
    (pics / "0001.png").unlink()
    scandir = os.scandir

    def refuse(folder):
        if os.fspath(folder) == str(shut):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    for file in shut.glob("*"):
        file.unlink()  # who cannot enter a folder cannot see what is in it
    monkeypatch.setattr(os, "scandir", refuse)
    report = index(pics, tmp_path / "s", prune=True)
    assert counts(report) == {"unchanged": 6, "removed": 1}
    assert [skip.reason for skip in report.skipped] == [
        "the folder cannot be read: Permission denied"
    ]


def test_nothing_is_forgotten_when_nothing_could_be_read(pics, tmp_path):
    index(pics, tmp_path / "s")
    (pics / "0001.png").unlink()
    for file in pics.iterdir():
        file.write_bytes(b"no picture")
    report = index(pics, tmp_path / "s", prune=True)
    assert report.failed
    assert counts(report) == {}
    with open_store(str(tmp_path / "s")) as store:
        assert len(store) == 7


def test_nothing_to_index_is_an_error_and_makes_no_store(tmp_path):
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="no images in"):
        index(tmp_path / "bare", tmp_path / "s")
    with pytest.raises(PathError, match="does not exist"):
        index(tmp_path / "absent", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_all_broken_is_a_failure(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_bytes(b"bad")
    report = index(tmp_path / "bad", tmp_path / "s")
    assert report.failed
    assert len(report.skipped) == 1


def test_the_store_inside_the_folder_is_not_walked(pics):
    index(pics, pics / "inner.store")
    assert counts(index(pics, pics / "inner.store")) == {"unchanged": 7}


def test_another_run_is_refused_by_name(pics, tmp_path):
    index(pics, tmp_path / "s", run="runs/one")
    with pytest.raises(StoreMismatchError, match=r"run colours .*runs/one.*--store NEW"):
        index(pics, tmp_path / "s", model=ColourModel(digest="decade"))
    with pytest.raises(StoreMismatchError, match="refinement"):
        index(pics, tmp_path / "s", model=ColourModel(refine="linear"))
    assert len(_ids(tmp_path / "s")) == 7


def test_a_second_writer_is_refused(pics, tmp_path):
    index(pics, tmp_path / "s")
    with (
        open_store(str(tmp_path / "s"), RunIdentity.of(ColourModel(), "")),
        pytest.raises(StoreError, match="being written by another command"),
    ):
        index(pics, tmp_path / "s")


def test_an_interruption_loses_only_what_was_under_way(tmp_path):
    class StopError(Exception):
        pass

    def stop(seen, total, report):
        assert total == 60
        if seen >= 9:
            raise StopError

    pictures(tmp_path / "many", 60)
    with pytest.raises(StopError):
        index(tmp_path / "many", tmp_path / "s", model=ColourModel(pause=0.01), progress=stop)
    left = len(_ids(tmp_path / "s"))
    assert left % 3 == 0
    assert 9 <= left <= 30
    done = {"added": 60 - left, "unchanged": left, "encoded": 60 - left}
    assert counts(index(tmp_path / "many", tmp_path / "s")) == done


def test_content_whose_item_changes_while_it_is_under_way_is_encoded_after_all(tmp_path):
    pics = tmp_path / "pics"
    first = picture(pics / "a.png", 1)
    index(pics, tmp_path / "s")
    first.rename(pics / "z.png")
    picture(pics / "a.png", 2)
    seen = []
    report = index_images(  # z.png is read, and known, before a.png is written
        ColourModel(pause=0.3),
        [pics],
        tmp_path / "s",
        batch_size=1,
        progress=lambda done, total, _: seen.append((done, total)),
    )
    assert counts(report) == {"added": 1, "updated": 1, "encoded": 2}
    assert seen[-1] == (2, 2)
    index(pics, tmp_path / "fresh")
    with open_store(str(tmp_path / "s")) as one, open_store(str(tmp_path / "fresh")) as other:
        assert contents(one) == contents(other)


def test_twins_under_way_are_encoded_once(tmp_path):
    content = picture(tmp_path / "one.png", 1).read_bytes()
    (tmp_path / "pics").mkdir()
    for number in range(40):
        (tmp_path / "pics" / f"{number}.png").write_bytes(content)
    model = ColourModel(pause=0.01)
    assert counts(index(tmp_path / "pics", tmp_path / "s", model=model)) == {
        "added": 40,
        "encoded": 1,
    }
    assert model.encoded == 1
    with open_store(str(tmp_path / "s")) as store:
        assert len({vector for _, _, vector in contents(store).values()}) == 1


def test_many_files_of_one_content_move_as_one(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_TWINS", 0)
    content = picture(tmp_path / "one.png", 1).read_bytes()
    (tmp_path / "pics").mkdir()
    for number in range(80):
        (tmp_path / "pics" / f"{number}.png").write_bytes(content)
    index(tmp_path / "pics", tmp_path / "s")
    (tmp_path / "pics").rename(tmp_path / "there")
    assert counts(index(tmp_path / "there", tmp_path / "s")) == {"moved": 80}
    (tmp_path / "there" / "new.png").write_bytes(content)
    assert counts(index(tmp_path / "there", tmp_path / "s")) == {"added": 1, "unchanged": 80}


def test_what_the_encoder_cannot_make_finite_is_skipped(pics, tmp_path):
    class Broken(ColourModel):
        def encode_image(self, items, batch_size=256):
            vectors = super().encode_image(items, batch_size)
            vectors[0] = float("nan")
            return vectors

    report = index(pics, tmp_path / "s", model=Broken())
    assert counts(report) == {"added": 4, "encoded": 4}
    assert {skip.reason for skip in report.skipped} == {"the encoder gave no finite vector"}


def test_a_disk_that_fills_is_told_at_once(pics, tmp_path, monkeypatch):
    def full(self, changes):
        raise StoreError("is the disk full?")

    monkeypatch.setattr(LocalStore, "apply", full)
    model = ColourModel(pause=0.05)
    pictures(pics, 60, start=100)
    with pytest.raises(StoreError, match="full"):
        index(pics, tmp_path / "s", model=model)
    assert model.encoded <= 12


def manifest(folder, rows, features=None):
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(text, encoding="utf-8")
    if features is not None:
        np.save(folder / "features.npy", features)
    return folder


def feature_rows(count, **more):
    return [
        {
            "image": f"item-{n}",
            "captions": ["a thing"],
            "identity": f"o{n}",
            "split": "val" if n else "train",
            "feature_row": n,
            **more,
        }
        for n in range(count)
    ]


def test_features_of_a_source_are_indexed_with_metadata(tmp_path):
    features = np.random.default_rng(0).standard_normal((4, 12)).astype(np.float32)
    source = manifest(tmp_path / "data", feature_rows(4, year=1960), features)
    model = ColourModel(kind="features")
    assert counts(index(source, tmp_path / "s", model=model)) == {"added": 4, "encoded": 4}
    assert counts(index(source, tmp_path / "s", model=model)) == {"unchanged": 4}
    with open_store(str(tmp_path / "s")) as store:
        assert store.find("item-2").place.metadata == {"object": "o2", "year": 1960}
    features[1] += 1
    manifest(tmp_path / "data", feature_rows(3, year=1961), features)
    report = index(source, tmp_path / "s", model=model, prune=True)
    assert counts(report) == {"updated": 3, "removed": 1, "encoded": 1}
    with open_store(str(tmp_path / "s")) as store:
        assert store.find("item-2").place.metadata["year"] == 1961
        assert store.find("item-3") is None


def test_pictures_of_a_source_carry_metadata_and_missing_ones_are_named(tmp_path):
    pictures(tmp_path / "data", 2)
    rows = [
        {"image": f"000{n}.png", "captions": ["x"], "identity": f"o{n % 2}", "shop": "north"}
        for n in range(3)
    ]
    source = manifest(tmp_path / "data", rows)
    report = index(source, tmp_path / "s")
    assert report.added == 2
    assert [skip.reason for skip in report.skipped] == ["missing"]
    with open_store(str(tmp_path / "s")) as store:
        item = store.find(str(tmp_path / "data" / "0001.png"))
        assert item.place.metadata == {"object": "o1", "shop": "north"}
    assert any("split" in note for note in report.notes)


def test_features_and_pixels_are_not_mixed_up(pics, tmp_path):
    with pytest.raises(DataError, match=r"encodes features, not pixels.*--encoder compact"):
        index(pics, tmp_path / "s", model=ColourModel(kind="features"))
    source = manifest(tmp_path / "data", feature_rows(2), np.ones((2, 12), np.float32))
    with pytest.raises(DataError, match="this run encodes pixels"):
        index(source, tmp_path / "s")


def test_profiles_are_optional(pics, tmp_path):
    index(pics, tmp_path / "s", model=ColourModel(refine=None))
    with open_store(str(tmp_path / "s")) as store:
        assert store.info()["profile_bytes"] == 0
        assert store.candidates(np.eye(12, dtype=np.float32)[0], 3).profiles == {}


def test_digest_of_a_missing_file(tmp_path):
    with pytest.raises(PathError, match="cannot read"):
        file_digest(tmp_path / "absent")


def test_a_change_that_size_and_time_hide_is_found_by_checksum(tmp_path):
    path, store = tmp_path / "p/a.bmp", tmp_path / "s"
    picture(path, 1)
    index(tmp_path / "p", store)
    before = path.stat()
    picture(path, 2)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert counts(index(tmp_path / "p", store)) == {"unchanged": 1}
    assert counts(index(tmp_path / "p", store, checksum=True)) == {"updated": 1, "encoded": 1}
    assert counts(index(tmp_path / "p", store, checksum=True)) == {"unchanged": 1}
