import json
import os

import pytest

from mmref.errors import PathError, StoreMismatchError, UsageError
from mmref.search.ingest import watch as module
from mmref.search.ingest.index import index_images
from mmref.search.ingest.watch import watch
from mmref.search.records import RunIdentity
from mmref.search.stores.base import open_store

from ..fakes import ColourModel, picture, pictures


@pytest.fixture
def pics(tmp_path):
    pictures(tmp_path / "pics", 3)
    return tmp_path / "pics"


@pytest.fixture
def store(tmp_path):
    return tmp_path / "s"


def idle():
    pass


def play(sources, store, *steps, **options):
    """Watch while ``steps`` happen, one between two rounds. What was told."""
    waiting = list(steps)

    def sleep(seconds):
        if not waiting:
            raise KeyboardInterrupt
        waiting.pop(0)()

    model = options.pop("model", None) or ColourModel()
    sources = sources if isinstance(sources, list) else [sources]
    told = []
    rounds = watch(model, sources, store, sleep=sleep, **options)
    with pytest.raises(KeyboardInterrupt):
        told.extend(event if isinstance(event, str) else counts(event) for event in rounds)
    return told


def counts(report):
    names = ("added", "updated", "moved", "removed", "encoded")
    found = {name: value for name, value in report.as_dict().items() if name in names and value}
    return found | ({"skipped": len(report.skipped)} if report.skipped else {})


def paths(store):
    with open_store(str(store)) as opened:
        return sorted(item.place.path.rsplit("/", 1)[1] for item in opened.items())


FIRST = {"added": 3, "encoded": 3}
ONE = {"added": 1, "encoded": 1}


def test_what_comes_is_indexed_when_it_has_settled(pics, store):
    def come():
        picture(pics / "new.png", 9)

    def change():
        picture(pics / "new.png", 10)
        os.utime(pics / "new.png", (5, 5))

    assert play(pics, store, come, idle, idle) == [FIRST, ONE]
    assert play(pics, store, change, idle, idle) == [{}, {"updated": 1, "encoded": 1}]
    assert play(pics, store, come) == [{}]


def test_a_file_that_is_being_written_waits(pics, store, tmp_path):
    whole = picture(tmp_path / "whole.png", 9).read_bytes()

    def grow(size):
        return lambda: (pics / "new.png").write_bytes(whole[:size])

    assert play(pics, store, grow(10), grow(20), grow(None), idle) == [FIRST, ONE]


def test_moves_keep_their_vectors_and_what_is_gone_is_forgotten_when_asked(pics, store):
    def move():
        (pics / "0000.png").rename(pics / "moved.png")

    def remove():
        (pics / "0001.png").unlink()

    told = play(pics, store, move, idle, idle, remove, idle, idle, prune=True)
    assert told == [FIRST, {"moved": 1}, {"removed": 1}]
    assert paths(store) == ["0002.png", "moved.png"]
    (pics / "moved.png").unlink()
    assert play(pics, store, idle, idle) == [{}]
    assert paths(store) == ["0002.png", "moved.png"]


def test_a_move_is_one_though_others_are_indexed_meanwhile(pics, store):
    def move():
        (pics / "0000.png").rename(pics / "moved.png")

    def come():
        picture(pics / "new.png", 9)

    told = play(pics, store, come, move, idle, idle, prune=True)
    assert told == [FIRST, ONE, {"moved": 1}]


@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_folder_that_is_not_there_for_a_while_is_told_and_nothing_forgotten(
    pics, store, tmp_path, how
):
    other = pictures(tmp_path / "other", 1, start=20)[0].parent

    def unmount():
        pics.rename(tmp_path / "away")
        if how == "empty":
            pics.mkdir()

    def mount():
        if how == "empty":
            pics.rmdir()
        (tmp_path / "away").rename(pics)

    def come():
        picture(other / "new.png", 9)

    told = play([pics, other], store, unmount, idle, come, idle, mount, idle, idle, prune=True)
    assert told[0] == {"added": 4, "encoded": 4}
    assert "nothing is forgotten" in told[1] or "does not exist" in told[1]
    assert told[2:] == [ONE]
    assert paths(store) == ["0000.png", "0001.png", "0002.png", "0020.png", "new.png"]


def test_a_disk_below_that_is_not_mounted_for_a_while(pics, store, monkeypatch):
    pictures(pics / "disk", 2, start=50)
    listed, lost = module.list_images, []

    def two_disks(*sources, **options):
        listing = listed(*sources, **options)
        listing.devices = {1: str(pics)} | ({} if lost else {2: str(pics / "disk")})
        return listing

    monkeypatch.setattr(module, "list_images", two_disks)

    def unmount():
        lost.append(True)
        for file in (pics / "disk").iterdir():
            file.unlink()
        (pics / "0000.png").unlink()

    told = play(pics, store, unmount, idle, idle, idle, lost.clear, idle, prune=True)
    assert told[0] == {"added": 5, "encoded": 5}
    assert f"{pics}/disk held images" in told[1]
    assert len(told) == 2
    assert len(paths(store)) == 5


def test_a_busy_store_is_told_and_tried_again(pics, store):
    index_images(ColourModel(), [pics], store)
    held = []

    def take():
        held.append(open_store(str(store), RunIdentity.of(ColourModel(), "")))
        picture(pics / "new.png", 9)

    def give_back():
        held.pop().close()

    told = play(pics, store, take, idle, idle, give_back, idle)
    assert told[0] == {}
    assert "being written by another command" in told[1]
    assert told[2:] == [ONE]


def test_others_may_write_between_rounds(pics, store, tmp_path):
    pictures(tmp_path / "other", 2, start=30)

    def other():
        assert index_images(ColourModel(), [tmp_path / "other"], store).added == 2

    assert play(pics, store, other, idle) == [FIRST]
    assert len(paths(store)) == 5


def test_an_empty_folder_is_waited_on_and_bad_files_are_told_once(tmp_path, store):
    (tmp_path / "in").mkdir()

    def come():
        (tmp_path / "in" / "bad.png").write_bytes(b"bad")
        (tmp_path / "in" / "gone.png").symlink_to("nowhere")

    told = play(tmp_path / "in", store, come, idle, idle, idle)
    assert told == [{}, {"skipped": 1}, {"skipped": 1}]


def test_mistakes_end_it_at_once(pics, store, tmp_path):
    def first(model=None, sources=(pics,), **options):
        return next(watch(model or ColourModel(), sources, store, **options))

    with pytest.raises(PathError, match="does not exist"):
        first(sources=[tmp_path / "absent"])
    with pytest.raises(UsageError, match="above 0"):
        first(every=0)
    first()
    with pytest.raises(StoreMismatchError):
        first(ColourModel(digest="decade"))
    rows = [{"image": f"000{n}.png", "captions": ["x"], "identity": f"o{n}"} for n in range(2)]
    (pics / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(UsageError, match="not SOURCEs"):
        first()


def test_it_rests_longer_than_it_works(pics, store, monkeypatch):
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        raise KeyboardInterrupt

    clock = iter([0.0, 30.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock, 60.0))
    with pytest.raises(KeyboardInterrupt):
        list(watch(ColourModel(), [pics], store, sleep=sleep, every=2))
    assert slept == [120.0]
