import os

import pytest

from mmref.errors import DataError, PathError
from mmref.search.ingest.listing import list_images, whole_path

from ..fakes import pictures, unprivileged


def found(listing, root):
    return [one.place.path.removeprefix(f"{root}/") for one in listing.found]


def test_folders_are_walked_in_order_once(tmp_path):
    for name in ("b", "a/deep", "a"):
        pictures(tmp_path / name, 2)
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    (tmp_path / "twice").symlink_to(tmp_path / "b")
    (tmp_path / ".hidden").mkdir()
    pictures(tmp_path / ".hidden", 1)
    listing = list_images([tmp_path], features=False)
    assert found(listing, tmp_path) == [
        *("a/0000.png", "a/0001.png", "a/deep/0000.png", "a/deep/0001.png"),
        *("b/0000.png", "b/0001.png"),
    ]
    assert listing.skipped == []
    assert str(tmp_path / "b" / "0001.png") in listing


def test_files_and_folders_may_overlap(tmp_path):
    pictures(tmp_path, 3)
    listing = list_images([tmp_path / "0001.png", tmp_path, str(tmp_path)], features=False)
    assert found(listing, tmp_path) == ["0001.png", "0000.png", "0002.png"]


def test_a_pipe_is_no_picture(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert list_images([tmp_path], features=False).found == []
    (skip,) = list_images([tmp_path / "pipe.png"], features=False).skipped
    assert skip.reason == "not a regular file"


@pytest.mark.skipif(not unprivileged(), reason="permissions do not bind root")
def test_a_folder_that_cannot_be_read_is_named(tmp_path):  # pragma: no cover
    pictures(tmp_path, 1)
    (tmp_path / "shut").mkdir(mode=0)
    listing = list_images([tmp_path], features=False)
    assert len(listing.found) == 1
    assert "cannot be read" in listing.skipped[0].reason


@pytest.mark.parametrize("name", ["absent", "x\0y", "n" * 5000])
def test_impossible_paths(tmp_path, name):
    with pytest.raises(PathError):
        list_images([f"{tmp_path}/{name}"], features=False)


def test_a_source_that_is_asked_for_by_format(tmp_path):
    pictures(tmp_path, 1)
    with pytest.raises(DataError):
        list_images([f"manifest:{tmp_path}"], features=False)


def test_whole_paths(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert whole_path(f"{tmp_path}/link") == str(tmp_path / "real")
    assert whole_path(f"{tmp_path}/link/a.png") == str(tmp_path / "real" / "a.png")
