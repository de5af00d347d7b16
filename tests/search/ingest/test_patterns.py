import os

import pytest

from mmref.errors import PathError
from mmref.search.ingest.index import index_images
from mmref.search.ingest.listing import list_images
from mmref.search.ingest.patterns import Pattern
from mmref.search.stores.base import open_store

from ..fakes import ColourModel, picture


@pytest.fixture
def tree(tmp_path):
    names = (
        *("a.png", "b.jpg", "2024/a.png", "2024/may/a.png", "2024/may/b.jpg"),
        *("2025/may/c.png", "x[1].png", ".hidden/a.png", "2024/.a.png"),
    )
    for seed, name in enumerate(names):
        picture(tmp_path / name, seed)
    (tmp_path / "2024" / "notes.txt").write_text("no picture")
    (tmp_path / "2024" / "back").symlink_to(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.png", ["a.png", "x[1].png"]),
        ("**/*.png", ["2024/a.png", "2024/may/a.png", "2025/may/c.png", "a.png", "x[1].png"]),
        ("2024/**/a.*", ["2024/a.png", "2024/may/a.png"]),
        ("2024/*", ["2024/a.png", "2024/may/a.png", "2024/may/b.jpg"]),
        ("*/may", ["2024/may/a.png", "2024/may/b.jpg", "2025/may/c.png"]),
        ("*/may/[a-b].*", ["2024/may/a.png", "2024/may/b.jpg"]),
        ("**/may/**/?.png", ["2024/may/a.png", "2025/may/c.png"]),
        ("x[1].png", ["x[1].png"]),  # it exists
    ],
)
def test_patterns_of_files_and_folders(tree, monkeypatch, pattern, found):
    def names(source):
        listing = list_images([source], features=False)
        assert listing.skipped == []
        return sorted(os.path.relpath(one.place.path, tree) for one in listing.found)

    (tree / "2024" / "back").unlink()
    assert names(f"{tree}/{pattern}") == found
    monkeypatch.chdir(tree)
    assert names(pattern) == found


def test_loops_end(tree):
    listing = list_images([f"{tree}/**/*.jpg"], features=False)
    assert sorted(one.place.path for one in listing.found) == [
        str(tree / "2024" / "may" / "b.jpg"),
        str(tree / "b.jpg"),
    ]


@pytest.mark.parametrize("pattern", ["*.gif", "absent/*.png", "**/*.txt"])
def test_what_fits_nothing_is_an_error(tree, pattern):
    with pytest.raises(PathError, match="fits"):
        list_images([f"{tree}/{pattern}"], features=False)


def test_prune_forgets_what_the_pattern_covers_alone(tree):
    index_images(ColourModel(), [tree], tree / "s")
    (tree / "2024" / "a.png").unlink()
    (tree / "2025" / "may" / "c.png").unlink()
    (tree / "b.jpg").unlink()
    report = index_images(ColourModel(), [f"{tree}/2024/**/*.png"], tree / "s", prune=True)
    assert (report.removed, report.unchanged) == (1, 1)
    with open_store(str(tree / "s")) as store:
        assert store.find(str(tree / "2024" / "a.png")) is None
        assert store.find(str(tree / "b.jpg")) is not None
    assert index_images(ColourModel(), [f"{tree}/*"], tree / "s", prune=True).removed == 2


def test_folders_that_cannot_fit_are_not_walked():
    pattern = Pattern("/p/a/*/c.png", "/p/a")
    assert pattern.leads_into("/p/a/b")
    assert not pattern.leads_into("/p/a/b/c")
    assert not pattern.covers("/elsewhere/b/c.png")
    assert not pattern.covers("/p/a/c.png")
