import io
import json
import shutil
import struct

import numpy as np
import pytest
from PIL import Image

from mmref.search.filters import Filter, columns_of
from mmref.search.ingest.index import index_images
from mmref.search.ingest.metadata import taken, with_taken
from mmref.search.stores.base import open_store

from ..fakes import ColourModel, picture

ORIGINAL, CHANGED, OFFSET, BLOCK = 0x9003, 0x0132, 0x9011, 0x8769


def exif_of(original=None, changed=None, offset=None):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    if changed:
        exif[CHANGED] = changed
    block = exif.get_ifd(BLOCK)
    if original:
        block[ORIGINAL] = original
    if offset:
        block[OFFSET] = offset
    return exif


def photo(path, seed=0, kind="JPEG", **moment):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, kind, exif=exif_of(**moment))
    return path


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_the_moment_is_read_of_every_format_that_has_it(tmp_path, kind):
    if kind != "TIFF":  # Pillow writes no such block there
        path = photo(tmp_path / "a", kind=kind, original="2026:01:31 12:30:05", offset="+02:00")
        assert taken(path.read_bytes()) == "2026-01-31T12:30:05+02:00"
    path = photo(tmp_path / "b", kind=kind, changed="2024:02:29 00:00:00")
    assert taken(path.read_bytes()) == "2024-02-29T00:00:00"
    assert taken(photo(tmp_path / "c", kind=kind).read_bytes()) is None


@pytest.mark.parametrize(
    "moment",
    [
        "0000:00:00 00:00:00",
        "    :  :     :  :  ",
        "2026:02:30 00:00:00",
        "yesterday",
        "\0",
        "2026",
    ],
)
def test_a_clock_that_was_not_set_says_nothing(tmp_path, moment):
    content = photo(tmp_path / "a", original=moment).read_bytes()
    assert taken(content) is None
    both = photo(tmp_path / "b", original=moment, changed="2026:01:31 12:30:05").read_bytes()
    assert taken(both) == "2026-01-31T12:30:05"


def test_damaged_blocks_spoil_nothing_and_are_not_warned_of(tmp_path):
    content = photo(tmp_path / "whole.jpg", original="2026:01:31 12:30:05").read_bytes()
    start = content.index(b"Exif\0\0") + 6
    end = content.index(b"2026:01") + 20
    draw = np.random.default_rng(0)
    folder = tmp_path / "pics"
    folder.mkdir()
    for number in range(60):
        harmed = bytearray(content)
        for place in draw.integers(start, end, 6):
            harmed[place] = int(draw.integers(256))
        (folder / f"{number}.jpg").write_bytes(bytes(harmed))
    block = b"\xff\xe1" + struct.pack(">H", 20) + b"Exif\0\0II*\0\xff\xff\xff\xff\0\0\0\0"
    (folder / "short.jpg").write_bytes(content[:2] + block + content[2:])
    report = index_images(ColourModel(), [folder], tmp_path / "s")
    assert report.skipped == []
    assert report.added == 61


def metadata(store):
    with open_store(str(store)) as opened:
        return {item.place.path.rsplit("/", 1)[1]: item.place.metadata for item in opened.items()}


def test_dates_stay_with_pictures_that_are_moved_copied_touched_and_changed(tmp_path):
    pics, store = tmp_path / "pics", tmp_path / "s"
    photo(pics / "a.jpg", 1, original="2026:01:31 12:30:05", offset="+02:00")
    photo(pics / "b.jpg", 2, original="2025:06:01 08:00:00")
    picture(pics / "none.png", 3)
    index_images(ColourModel(), [pics], store)
    a = {"date": "2026-01-31T12:30:05", "taken": "2026-01-31T12:30:05+02:00"}
    b = {"date": "2025-06-01T08:00:00", "taken": "2025-06-01T08:00:00"}
    assert metadata(store) == {"a.jpg": a, "b.jpg": b, "none.png": {}}
    (pics / "a.jpg").rename(pics / "moved.jpg")
    shutil.copy(pics / "b.jpg", pics / "copy.jpg")
    (pics / "none.png").touch()
    report = index_images(ColourModel(), [pics], store, prune=True)
    assert (report.moved, report.added, report.encoded) == (1, 1, 0)
    assert metadata(store) == {"moved.jpg": a, "b.jpg": b, "copy.jpg": b, "none.png": {}}
    photo(pics / "b.jpg", 9)
    index_images(ColourModel(), [pics], store)
    assert metadata(store)["b.jpg"] == {}
    with open_store(str(store)) as opened:
        items = {item.place.path.rsplit("/", 1)[1]: item.place for item in opened.items()}
    january = Filter.parse("date = 2026-01")
    assert [name for name, place in items.items() if january.matches(columns_of(place))] == [
        "moved.jpg"
    ]


def test_a_moment_that_is_given_is_not_mixed_with_that_of_the_camera():
    assert with_taken({"taken": "May"}, "2026-01-31T12:30:05") == {"taken": "May"}


def test_what_a_manifest_says_comes_first_and_is_stable(tmp_path):
    data, store = tmp_path / "data", tmp_path / "s"
    for name in "abc":
        photo(data / f"{name}.jpg", ord(name), original="2026:01:31 12:30:05")
    rows = [
        {"image": "a.jpg", "captions": ["x"], "identity": "o1", "date": "1999-01-01"},
        {"image": "b.jpg", "captions": ["x"], "identity": "o2", "taken": "May", "date": "1960"},
        {"image": "c.jpg", "captions": ["x"], "identity": "o3", "shop": "north"},
    ]

    def write():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (data / "manifest.jsonl").write_text(text, encoding="utf-8")

    write()
    moment = "2026-01-31T12:30:05"
    wanted = {
        "a.jpg": {"object": "o1", "date": "1999-01-01", "taken": moment},
        "b.jpg": {"object": "o2", "taken": "May", "date": "1960"},
        "c.jpg": {"object": "o3", "shop": "north", "date": moment, "taken": moment},
    }
    for changed in (0, 0):
        report = index_images(ColourModel(), [data], store)
        assert report.updated == changed
        assert _without_missing(metadata(store)) == wanted
    del rows[0]["date"]
    rows[2]["shop"] = "south"
    write()
    report = index_images(ColourModel(), [data], store)
    assert (report.updated, report.encoded) == (2, 0)
    wanted["a.jpg"]["date"] = moment
    wanted["c.jpg"]["shop"] = "south"
    assert _without_missing(metadata(store)) == wanted


def _without_missing(found):
    return {
        name: {key: value for key, value in values.items() if value is not None}
        for name, values in found.items()
    }


def test_folder_names_are_columns(tmp_path):
    pics, store = tmp_path / "pics", tmp_path / "s"
    for number, name in enumerate(("2024/Holiday in Rome/a.png", "2024/b.png", "c.png")):
        picture(pics / name, number)
    index_images(ColourModel(), [pics], store)

    def found(text):
        wanted = Filter.parse(text)
        with open_store(str(store)) as opened:
            places = [item.place for item in opened.items()]
        return sorted(p.path.rsplit("/", 1)[1] for p in places if wanted.matches(columns_of(p)))

    assert found("folder ~ 'holiday'") == ["a.png"]
    assert found(f"folder = '{pics}/2024'") == ["b.png"]
    assert found("folder ~ '/2024'") == ["a.png", "b.png"]


def test_content_that_is_no_picture_has_no_moment():
    for content in (b"", b"Exif\0\0", b"II*\0", b"RIFF\0\0\0\0WEBPVP8X", b"\x89PNG\r\n\x1a\neXIf"):
        assert taken(content) is None
    assert taken(io.BytesIO(b"\xff\xd8\xff\xe1\0\x10Exif\0\0MM").getvalue()) is None
