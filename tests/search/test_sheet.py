import numpy as np
import pytest
from PIL import Image, ImageChops

from mmref.errors import PathError
from mmref.search.engine import Hit
from mmref.search.sheet import PAPER, RIGHT, WRONG, Row, Tile, contact_sheet, tile_of

RED = Image.new("RGB", (40, 20), (255, 0, 0))


def drawn(rows, tmp_path, **options):
    contact_sheet(rows, tmp_path / "s.png", **options)
    with Image.open(tmp_path / "s.png") as image:
        return image.convert("RGB")


def holds(image, colour):
    wanted = Image.new("RGB", (1, 1), colour).getpixel((0, 0))
    return bool((np.asarray(image) == wanted).all(axis=2).any())


def test_marks_pictures_and_margins_are_drawn(tmp_path):
    rows = [("red", [(RED, ["#1  0.9"], True), (RED, ["#2  0.8"], False)])]
    image = drawn(rows, tmp_path)
    assert holds(image, RIGHT)
    assert holds(image, WRONG)
    assert holds(image, (255, 0, 0))
    edges = np.asarray(image)
    for band in (edges[:20], edges[-20:], edges[:, :20], edges[:, -20:]):
        assert (band == 255).all()  # nothing runs over the margin
    unmarked = drawn([("red", [(RED, ["#1"], None)])], tmp_path)
    assert not holds(unmarked, RIGHT)
    assert not holds(unmarked, WRONG)


def test_a_missing_picture_is_a_grey_tile(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"bad")
    image = drawn([("x", [(tmp_path / "bad.png", ["#1"]), (None, ["#2"])])], tmp_path)
    assert holds(image, (230, 232, 235))


@pytest.mark.parametrize(
    "title",
    ["", "word " * 200, "x" * 3000, "two\nlines", "emoji \N{GRINNING FACE} and 中文 characters"],
)
def test_any_title_fits(tmp_path, title):
    image = drawn([Row(title, [Tile(RED, ["y" * 300, "z" * 300])], image=RED)], tmp_path)
    assert image.size[0] == 616
    assert image.size[1] < 500
    pixels = np.asarray(image)
    assert (pixels[:, -20:] == 255).all()


def test_rows_do_not_overlap(tmp_path):
    row = Row("title", [Tile(RED, ["a", "b", "c"])] * 3, subtitle="below")
    one, two = drawn([row], tmp_path), drawn([row, row], tmp_path)
    assert (
        ImageChops.difference(
            one.crop((0, 0, one.width, one.height - 28)),
            two.crop((0, 0, one.width, one.height - 28)),
        ).getbbox()
        is None
    )
    bottom = two.crop((0, two.height - one.height + 28, two.width, two.height))
    assert ImageChops.difference(bottom, one.crop((0, 28, one.width, one.height))).getbbox() is None


def test_no_hits_and_a_heading(tmp_path):
    image = drawn([Row("nothing", [])], tmp_path, heading="three sentences")
    assert not holds(image, RIGHT)
    assert image.getpixel((0, 0)) == Image.new("RGB", (1, 1), PAPER).getpixel((0, 0))


def test_a_subtitle_takes_the_place_of_no_match(tmp_path):
    said = drawn([Row("x", [], None, "no confident match")], tmp_path)
    plain = drawn([Row("x", [])], tmp_path)
    assert said.height > plain.height
    assert (np.asarray(said)[-40:] == 255).all()
    assert not (np.asarray(plain)[-60:] == 255).all()


def test_what_cannot_be_drawn(tmp_path):
    with pytest.raises(ValueError, match="at least one row"):
        contact_sheet([], tmp_path / "s.png")
    (tmp_path / "file").touch()
    with pytest.raises(PathError, match="cannot write"):
        contact_sheet([("x", [])], tmp_path / "file" / "s.png")


def test_a_hit_becomes_a_tile():
    tile = tile_of(Hit(2, 5, "/p/a.png", 0.75, 0.75, None, {}), mark=True)
    assert tile == Tile("/p/a.png", ["#2   0.750", "0.75", "a.png"], True)
