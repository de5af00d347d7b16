import pytest

from mmref.data.dataset import RetrievalDataset
from mmref.errors import DataError, PathError
from mmref.search.captions.listing import MOST_BYTES, MOST_LETTERS, list_captions

from ..fakes import picture
from .sources import write_source


def said(listing):
    return {path.rsplit("/", 1)[-1]: list(one.sentences) for path, one in listing.described.items()}


def reasons(listing):
    return {skip.path.rsplit("/", 1)[-1]: skip.reason for skip in listing.skipped}


def test_captions_of_a_source(tmp_path):
    rows = {"red": ["a red card", "red"], "blue": ["a blue card", "a blue card"]}
    source = write_source(tmp_path, rows)
    for given in (str(source), f"manifest:{source}", RetrievalDataset.load(source)):
        listing = list_captions([given])
        assert said(listing) == {"red.png": ["a red card", "red"], "blue.png": ["a blue card"]}
        assert len(listing) == 3
        assert listing.sources == {str(tmp_path)}
        assert listing.described[str(tmp_path / "red.png")].source == str(tmp_path)


def test_text_files_beside_pictures(tmp_path):
    for name in ("a", "b", "c", "d", "e", "sub/f"):
        picture(tmp_path / f"{name}.png", 1, "red")
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa red card\r\n\r\n  red, all of it \n")
    (tmp_path / "b.txt").write_bytes(b"no \xff text")
    (tmp_path / "c.txt").write_text("x" * (MOST_LETTERS + 1) + "\nshort\n" * 2)
    (tmp_path / "d.txt").write_bytes(b"x\n" * MOST_BYTES)
    (tmp_path / "e.txt").mkdir()
    (tmp_path / "sub" / "f.txt").write_text("pölsa \N{AVOCADO}")
    (tmp_path / "lonely.txt").write_text("beside no picture")
    listing = list_captions([tmp_path])
    assert said(listing) == {
        "a.png": ["a red card", "red, all of it"],
        "c.png": ["short"],
        "f.png": ["pölsa \N{AVOCADO}"],
    }
    assert reasons(listing) == {
        "b.txt": "no text in UTF-8: save it as such",
        "c.txt": "a caption of more than 8,192 letters",
        "d.txt": "captions of more than 64 KB",
    }


def test_no_captions_is_an_error(tmp_path):
    picture(tmp_path / "a.png", 1)
    with pytest.raises(DataError, match=r"no captions in .*: name a SOURCE .*a.txt beside a.jpg"):
        list_captions([tmp_path])
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"1 skipped, the first in .*a.txt: no text in UTF-8"):
        list_captions([tmp_path])
    with pytest.raises(PathError, match="does not exist"):
        list_captions([tmp_path / "absent"])


def test_what_no_store_can_keep_is_left_out(tmp_path):
    from mmref.data.dataset import build_table

    images = ["a.png", "b-\udcff.png"]
    captions = [["red \ud800", " ", "red"], ["blue"]]
    table = build_table(["a.png", "b.png"], [["x"], ["y"]], ["x", "y"], ["train", "val"])
    data = RetrievalDataset(table, tmp_path, "two", "manifest")
    vars(data).update(images=images, captions=captions)  # as a reader might give them
    listing = list_captions([data])
    assert said(listing) == {"a.png": ["red"]}
    assert reasons(listing) == {"a.png": "a caption that is no valid Unicode"}
