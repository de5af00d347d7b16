"""Groups from indexing to searching."""

import shutil
from collections import Counter

import numpy as np
import pytest

from mmref.errors import UsageError
from mmref.search.engine import Searcher
from mmref.search.groups.grouping import Grouping
from mmref.search.groups.regroup import Groups, find_groups, group_sheet, group_store
from mmref.search.ingest.index import index_images
from mmref.search.ingest.reencode import reencode
from mmref.search.query import Query
from mmref.search.records import Changes, Place, Record
from mmref.search.stores.base import open_store

from ..fakes import ColourModel, picture, pictures


@pytest.fixture
def pics(tmp_path):
    """Three folders; in the second a red picture is among others."""
    pictures(tmp_path / "pics" / "a", 4)
    pictures(tmp_path / "pics" / "b", 3, start=10)
    picture(tmp_path / "pics" / "b" / "red.png", 0, "red")
    pictures(tmp_path / "pics" / "c", 4, start=20)
    return tmp_path / "pics"


@pytest.fixture
def store(pics, tmp_path):
    index_images(ColourModel(), [pics], tmp_path / "s")
    return str(tmp_path / "s")


def require_sound(store, groups):
    with open_store(store) as opened:
        assert opened.verify() == []
        facts = opened.info()["groups"]
        assert (facts["groups"], facts["grouped"]) == groups


def test_what_one_view_shows_helps_to_find_the_others(store):
    with Searcher.open(store, ColourModel()) as searcher:
        before = {hit.path: hit for hit in searcher.search("red", k=11)}
        group_store(store, Grouping("folder", 0.5))
        hits = searcher.search("red", k=11)
        after = {hit.path: hit for hit in hits}
        assert hits[0].path.endswith("red.png")
        mates = [path for path in before if "/b/" in path and "red" not in path]
        assert all(after[path].base_score > before[path].base_score for path in mates)
        assert sum(after[path].rank for path in mates) < sum(before[path].rank for path in mates)
        shared = searcher.store.vectors([after[mates[0]].id])[0]
        question = searcher.encode(Query.asked("red", None, ()))[0]
        assert after[mates[0]].base_score == pytest.approx(float(shared @ question), abs=1e-5)
        assert searcher.search("red", k=3, group_by="folder")[0].group.endswith("/b")


def test_duplicates_and_pictures_that_are_asked_are_told_by_their_own_vectors(store, pics):
    group_store(store, Grouping("folder", 1.0))
    with Searcher.open(store, ColourModel()) as searcher:
        assert len(searcher.search("red", k=20, fold=True)) == 12
        path = str(pics / "c" / "0021.png")
        (pics / "c" / "0021.png").rename(pics / "gone")
        with open_store(store) as opened:
            own = opened.own([opened.find(path).id])[0][0]
        vector, left_out = searcher.encode(Query.asked(None, path, ()))
        np.testing.assert_allclose(vector, own, atol=1e-6)
        assert len(left_out) == 1


def test_groups_follow_what_is_indexed(store, pics):
    group_store(store, Grouping("folder"))
    require_sound(store, (3, 12))
    picture(pics / "a" / "new.png", 40)
    shutil.copy(pics / "b" / "red.png", pics / "c" / "copy.png")
    (pics / "a" / "0000.png").rename(pics / "d.png")
    picture(pics / "b" / "0010.png", 41)
    report = index_images(ColourModel(), [pics], store)
    assert (report.added, report.updated, report.moved, report.encoded) == (2, 1, 1, 2)
    require_sound(store, (3, 13))
    (pics / "c" / "copy.png").unlink()
    index_images(ColourModel(), [pics], store, prune=True)
    require_sound(store, (3, 12))
    other = ColourModel(refine="hubs", digest="other")
    reencode(other, store)
    require_sound(store, (3, 12))
    with open_store(store) as opened, open_store(store) as again:
        ids = [item.id for item in opened.items()]
        fresh = other.encode_image([picture_of(item.place.path) for item in again.items()])
        np.testing.assert_allclose(opened.own(ids)[0], fresh.numpy(), atol=1e-3)


def picture_of(path):
    from PIL import Image

    return Image.open(path)


def test_a_copy_is_indexed_with_what_was_encoded(store, pics):
    group_store(store, Grouping("folder", 1.0))
    shutil.copy(pics / "b" / "red.png", pics / "single.png")
    report = index_images(ColourModel(), [pics], store)
    assert report.encoded == 0
    with open_store(store) as opened:
        one, other = (opened.find(str(pics / name)).id for name in ("single.png", "b/red.png"))
        np.testing.assert_array_equal(opened.own([one])[0], opened.own([other])[0])
        np.testing.assert_array_equal(opened.vectors([one]), opened.own([one])[0])
        assert opened.verify() == []


def test_a_dry_run_changes_nothing(store, tmp_path):
    with open_store(store) as opened:
        before = opened.generation
        found = group_store(store, Grouping("folder"), dry_run=True)
        assert found.sizes == [4, 4, 4]
        assert Counter(found.keys.values()).most_common(1)[0][1] == 4
        assert opened.generation == before
        assert opened.info()["groups"] is None
        key, count, paths = found.examples[0]
        assert (key.endswith('/a"'), count, len(paths)) == (True, 4, 4)
    group_sheet(found, tmp_path / "groups.png")
    assert (tmp_path / "groups.png").read_bytes().startswith(b"\x89PNG")


def test_groups_that_are_not_shown_are_counted():
    few = Groups({}, 7, [4, 2, 1], [('"a"', 4, ["/a/1.png"]), ('"b"', 2, ["/b/1.png"])])
    assert few.lines() == ['"a": 4 images, 1.png, ...', '"b": 2 images, 1.png, ...']
    many = Groups({}, 1500, [1200, 40, 20, 2, 1], [('"a"', 40, ["/a/1.png"])])
    assert many.lines()[1:] == ["... and 2 more groups"]


def test_there_is_nothing_to_group(store):
    with open_store(store) as reader:
        identity = reader.identity
    with open_store(store, identity) as opened:
        opened.apply(Changes(removed=[item.id for item in opened.items()]))
    with pytest.raises(UsageError, match="holds no images to group"):
        group_store(store, Grouping("folder"))


def test_clusters_of_a_store(store, pics):
    for number in range(3):
        picture(pics / f"white-{number}.png", 0, "white")
    index_images(ColourModel(), [pics], store)
    with open_store(store) as opened:
        found = find_groups(opened, Grouping("clusters", threshold=0.999))
        white = {opened.find(str(pics / f"white-{n}.png")).id for n in range(3)}
        assert {number for number, key in found.keys.items() if key == str(min(white))} == white
        assert len(found.keys) == len(opened) == found.images


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE vectors_2 SET vector = (SELECT vector FROM own_2 WHERE id = 3) WHERE id = 3",
         "not the one that its group shares"),
        ("UPDATE vectors_2 SET profile = (SELECT profile FROM own_2 WHERE id = 3) WHERE id = 3",
         "not the one that its group shares"),
        ("UPDATE own_2 SET grp = '\"x\"' WHERE id = 3", "in a group that is not its own"),
        ("UPDATE vectors_2 SET vector = (SELECT vector FROM own_2 WHERE id = 3) WHERE id = 13",
         "it stands alone, and its vector is another than its own"),
        ("UPDATE own_2 SET vector = zeroblob(48) WHERE id = 3", "has the length 0"),
        ("DELETE FROM own_2 WHERE id = 3", "has no vector"),
        ("INSERT INTO own_2 SELECT 99, digest, vector, profile, grp FROM own_2 WHERE id = 3",
         "1 vectors of no item"),
    ],
)  # fmt: skip
def test_damage_is_found_and_mended(store, pics, sql, message):
    group_store(store, Grouping("folder"))
    with open_store(store) as reader:
        identity = reader.identity
    with open_store(store, identity) as opened:
        lone = Place("lone", 0, 0, {}, "/lone")  # has no folder
        vectors, profiles = opened.own([3])
        profile = {name: values[0] for name, values in profiles.items()}
        opened.apply(Changes([Record(lone, "f" * 32, vectors[0][::-1].copy(), profile)]))
        opened.database.db.execute(sql)
        assert any(message in problem for problem in opened.verify())
        opened.verify(repair=True)
        assert opened.verify() == []
    index_images(ColourModel(), [pics], store)
    require_sound(store, (3, 12))
