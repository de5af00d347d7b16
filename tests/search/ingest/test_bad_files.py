"""Files as they are found on real disks: each is indexed or named with a reason, none is fatal."""

import io
import json
import os
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from tests.cli.colours import load, save_run

from mmref.model import MMRef
from mmref.search.ingest.index import index_images, index_listing
from mmref.search.ingest.listing import list_images
from mmref.search.stores.base import open_store

from ..fakes import ColourModel, picture, pictures

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF"}


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def file_of(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def reasons(report):
    return {skip.path.rsplit("/", 1)[1]: skip.reason for skip in report.skipped}


def names(store):
    with open_store(str(store)) as opened:
        assert opened.verify(content=True) == []
        return sorted(item.place.path.rsplit("/", 1)[1] for item in opened.items())


def cut_files(folder):
    """Files of four formats, whole and cut at every 1,024 bytes. Names of the whole, all cuts."""
    folder.mkdir(parents=True)
    whole, cuts = [], []
    for suffix, kind in FORMATS.items():
        content = file_of(Image.fromarray(noise(64, 96)), kind)
        for end in range(0, len(content), 1024):
            cuts.append(f"cut-{end:05d}.{suffix}")
            (folder / cuts[-1]).write_bytes(content[:end])
        whole.append(f"whole.{suffix}")
        (folder / whole[-1]).write_bytes(content)
    return sorted(whole), cuts


def bomb(width, height):
    """A PNG of a few kilobytes that says it is of this size."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + zlib.crc32(name + data).to_bytes(4)

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(4_000_000), 9))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def test_files_cut_short_are_named(tmp_path):
    whole, cuts = cut_files(tmp_path / "pics")
    assert len(cuts) > 30
    report = index_images(ColourModel(), [tmp_path / "pics"], tmp_path / "s")
    assert names(tmp_path / "s") == whole
    found = reasons(report)
    assert sorted(found) == sorted(cuts)
    assert all("\n" not in reason for reason in found.values())
    assert {found[f"cut-00000.{suffix}"] for suffix in FORMATS} == {"empty file"}
    assert "broken or truncated" in found["cut-01024.png"]
    assert index_images(ColourModel(), [tmp_path / "pics"], tmp_path / "s").unchanged == len(whole)


def test_bombs_are_not_decoded(tmp_path):
    pictures(tmp_path / "pics", 1)
    sizes = {"bomb.png": (60_000, 60_000), "warned.png": (10_000, 10_000), "flat.png": (1 << 30, 9)}
    for name, size in sizes.items():
        (tmp_path / "pics" / name).write_bytes(bomb(*size))
        assert (tmp_path / "pics" / name).stat().st_size < 8192
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        report = index_images(ColourModel(), [tmp_path / "pics"], tmp_path / "s")
    assert told == []
    found = reasons(report)
    assert sorted(found) == sorted(sizes)
    assert found["warned.png"] == "too large (100 megapixels, the bound is 64)"
    assert all("too large" in reason for reason in found.values())
    assert names(tmp_path / "s") == ["0000.png"]


def test_suffixes_do_not_matter_and_kinds_of_pixels_do_not_either(tmp_path):
    folder = picture(tmp_path / "pics" / "a.png", 0).parent
    (folder / "png.jpg").write_bytes(file_of(Image.fromarray(noise(9, 9, 1)), "PNG"))
    (folder / "text.png").write_text("no picture at all")
    (folder / "page.jpg").write_text("<html><svg/></html>")
    (folder / "made.pdf.jpg").write_bytes(b"%PDF-1.4\n")
    Image.fromarray(noise(9, 9, 2)).convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(noise(9, 9, 3)).convert("P").save(folder / "palette.gif")
    Image.fromarray(noise(9, 9, 4)[..., 0].astype(np.uint16) * 257).save(folder / "deep.png")
    Image.fromarray(np.dstack([noise(9, 9, 5), noise(9, 9)[..., 0]])).save(folder / "clear.webp")
    frames = [Image.fromarray(noise(9, 9, seed)) for seed in (6, 7, 8)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    Image.fromarray(noise(9, 9, 10)[..., 0].astype(np.float32)).save(folder / "real.tif")
    report = index_images(ColourModel(), [folder], tmp_path / "s")
    found = reasons(report)
    assert found == dict.fromkeys(("text.png", "page.jpg", "made.pdf.jpg"), "not an image")
    assert report.added == 8


def test_names_of_any_kind(tmp_path):
    folder = tmp_path / "pics"
    usable = ["two\nlines.png", "\N{CAT FACE}.png", "na\u0308ive.png", "quo'te\".png", "-rf.png"]
    usable += [" .png", "tab\t.png", "*.png", "[x].png", "n" * 251 + ".png"]
    for seed, name in enumerate(usable):
        picture(folder / name, seed)
    with open(os.fsencode(folder) + b"/caf\xe9.png", "wb") as file:  # noqa: PTH123
        file.write(picture(tmp_path / "b.png", 99).read_bytes())
    report = index_images(ColourModel(), [folder], tmp_path / "s")
    assert names(tmp_path / "s") == sorted(usable)
    assert reasons(report) == {"caf\\udce9.png": "its name is not valid UTF-8: rename it"}
    json.dumps(report.as_dict()).encode()
    again = index_images(ColourModel(), [folder], tmp_path / "s", prune=True)
    assert (again.unchanged, again.removed) == (len(usable), 0)


@pytest.mark.slow
def test_ten_thousand_in_one_folder(tmp_path):
    folder = tmp_path / "pics"
    folder.mkdir()
    content = file_of(Image.new("RGB", (2, 2)), "PNG")
    for number in range(10_000):
        (folder / f"{number}.png").write_bytes(content + b"%d" % (number // 10))
    seen = []
    report = index_images(
        ColourModel(),
        [folder],
        tmp_path / "s",
        batch_size=256,
        progress=lambda done, total, _: seen.append((done, total)),
    )
    assert (report.added, report.encoded, report.skipped) == (10_000, 1000, [])
    assert seen == sorted(seen)
    assert seen[-1] == (10_000, 10_000)
    assert index_images(ColourModel(), [folder], tmp_path / "s").unchanged == 10_000


def test_what_is_no_file_or_cannot_be_reached(tmp_path, monkeypatch):
    folder = pictures(tmp_path / "pics", 2)[0].parent
    pictures(folder / "shut", 2, start=10)
    (folder / "self.png").symlink_to(folder / "self.png")
    (folder / "up").symlink_to(tmp_path)
    (folder / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    scandir = os.scandir

    def refused(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    index_images(ColourModel(), [folder], tmp_path / "s")
    monkeypatch.setattr(os, "scandir", refused)
    (folder / "shut").rename(tmp_path / "away")  # so that no file below it can be seen
    (folder / "shut").mkdir()
    report = index_images(ColourModel(), [folder], tmp_path / "s", prune=True)
    assert (report.unchanged, report.removed) == (2, 0)  # what cannot be seen is not forgotten
    told = {skip.path.removeprefix(f"{folder}/"): skip.reason for skip in report.skipped}
    assert told == {
        "gone.png": "a link to nothing",
        "self.png": "Too many levels of symbolic links",
        "shut/": "the folder cannot be read: Permission denied",
    }


def test_files_that_go_away_or_cannot_be_read_meanwhile(tmp_path, monkeypatch):
    files = pictures(tmp_path / "pics", 4)
    listing = list_images([tmp_path / "pics"], features=False)
    files[1].unlink()
    files[2].write_bytes(b"something else")
    read = type(files[3]).read_bytes

    def failing(path):
        if path == files[3]:
            raise OSError(5, "Input/output error")
        return read(path)

    monkeypatch.setattr(type(files[3]), "read_bytes", failing)
    report = index_listing(ColourModel(), listing, tmp_path / "s", prune=True)
    assert reasons(report) == {
        "0001.png": "it went away while it was read",
        "0002.png": "not an image",
        "0003.png": "Input/output error",
    }
    assert report.added == 1


def test_the_command_line_takes_them_all(run_mmref, tmp_path, monkeypatch):
    monkeypatch.setattr(MMRef, "from_pretrained", load)
    run = save_run(tmp_path / "run")
    folder = tmp_path / "pics"
    whole, cuts = cut_files(folder)
    (folder / "bomb.png").write_bytes(bomb(60_000, 60_000))
    (folder / "warned.png").write_bytes(bomb(10_000, 10_000))
    (folder / "two\nlines.png").write_bytes(b"bad")
    (folder / "loop").symlink_to(folder)
    done = run_mmref("index", run, folder, "--store", tmp_path / "s", "--json")
    assert done.status == 0
    document = json.loads(done.out)
    assert document["added"] == len(whole)
    assert len(document["skipped"]) == len(cuts) + 3
    assert "Warning" not in done.err
    assert "Traceback" not in done.err
    plain = run_mmref("index", run, folder, "--store", tmp_path / "s")
    assert plain.status == 0
    assert f"unchanged 4  skipped {len(cuts) + 3}" in plain.out
    assert "skipped " in plain.err
    for name in whole:
        (folder / name).unlink()
    alone = run_mmref("index", run, folder, "--store", tmp_path / "other")
    assert alone.status == 1
    assert "nothing could be indexed" in alone.err
