"""Paging, filters, folding, groups and the automatic cut, as ``Searcher.search`` gives them."""

import itertools
import os
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmref.errors import UsageError
from mmref.search import engine
from mmref.search.engine import Searcher
from mmref.search.hits import Hit
from mmref.search.ingest.index import index_images
from mmref.search.pages import in_order
from mmref.search.query import Query
from mmref.search.records import Changes, Item, Place
from mmref.search.stores.base import open_store

from .fakes import COLOURS, ColourModel, picture, pictures


@pytest.fixture(params=["posterior", None], ids=["refined", "plain"])
def model(request):
    made = ColourModel(refine=request.param)
    made.unknown_words = lambda text: [
        word for word in text.split() if word not in (*COLOURS, "a", "and", "card")
    ]
    return made


@pytest.fixture
def shallow(monkeypatch):
    """Tiers of five, so that lists go on behind the first."""
    monkeypatch.setattr(engine, "CANDIDATES", 5)


def opened(model, folder, store):
    index_images(model, [folder], store)
    return Searcher.open(store, model)


def pages(searcher, *words, k, between=lambda: None, **options):
    """All pages of one question."""
    found = [searcher.search(*words, k=k, **options)]
    while found[-1].next is not None:
        assert len(found[-1]) == k
        assert len(found) < 100
        between()
        found.append(searcher.search(*words, k=k, cursor=found[-1].next, **options))
    return found


def ids(found):
    return [hit.id for page in found for hit in page]


@pytest.mark.parametrize("k", [1, 2, 7])
def test_pages_hold_every_item_once(model, tmp_path, shallow, k):
    pictures(tmp_path / "pics", 40)
    with opened(model, tmp_path / "pics", tmp_path / "s") as searcher:
        found = pages(searcher, "red", k=k)
        assert sorted(ids(found)) == list(range(1, 41))
        hits = [hit for page in found for hit in page]
        assert [hit.rank for hit in hits] == list(range(1, 41))
        if searcher.refine:
            return
        order = [(-hit.score, hit.id) for hit in hits]
        assert order == sorted(order)
        assert hits == searcher.search("red", k=100)


def test_equal_scores_are_paged_by_id(model, tmp_path, shallow):
    for number in range(30):
        picture(tmp_path / "pics" / f"{number:02d}.png", 0, "red")
    with opened(model, tmp_path / "pics", tmp_path / "s") as searcher:
        assert ids(pages(searcher, "red", k=4)) == list(range(1, 31))
        assert searcher.search("red", k=4, auto_cut=True).confidence is not None


def test_a_store_that_changes_between_pages(model, tmp_path, shallow):
    pictures(tmp_path / "pics", 30)
    numbers = itertools.count(1000, 10)

    def grow():
        start = next(numbers)
        if start < 1050:
            index_images(model, [*pictures(tmp_path / "more", 6, start)], tmp_path / "s")

    with opened(model, tmp_path / "pics", tmp_path / "s") as searcher:
        found = pages(searcher, "green and blue", k=4, between=grow)
        seen = ids(found)
        assert len(seen) == len(set(seen))
        assert set(range(1, 31)) <= set(seen)
        assert not found[0].changed
        assert all(page.changed for page in found[1:])


def test_a_cursor_is_of_one_question(model, tmp_path):
    pictures(tmp_path / "pics", 12)
    with opened(model, tmp_path / "pics", tmp_path / "s") as searcher:
        token = searcher.search("red", k=2, filter="size > 0").next
        assert searcher.search("red", k=5, filter="size>0", cursor=token)[0].rank == 3
        for other in (
            {"query": "blue", "filter": "size > 0"},
            {"query": "red"},
            {"query": "red", "filter": "size > 0", "min_score": -9.0},
            {"query": "2.0:red", "filter": "size > 0", "fold": True},
        ):
            with pytest.raises(UsageError, match="another question"):
                searcher.search(**other, cursor=token)
        with pytest.raises(UsageError, match="damaged"):
            searcher.search("red", cursor="nonsense")


def test_filters_hold_before_the_cut(model, tmp_path, shallow):
    pictures(tmp_path / "pics" / "many", 60)
    picture(tmp_path / "pics" / "one" / "black.png", 0, "black")
    with opened(model, tmp_path / "pics", tmp_path / "s") as searcher:
        hits = searcher.search("white", k=3, filter="folder ~ '/one'")
        assert [hit.path.rsplit("/", 1)[1] for hit in hits] == ["black.png"]
        assert searcher.search("white", filter="camera = 'c3'") == []
        rest = ids(pages(searcher, "white", k=9, filter="name != 'black.png'"))
        assert len(rest) == len(set(rest)) == 60
        with pytest.raises(UsageError, match="text stands in quotes"):
            searcher.search("white", filter="camera = c3")


def test_min_score_ends_deep_lists(model, tmp_path, shallow):
    pictures(tmp_path / "pics", 40)
    with opened(model, tmp_path / "pics", tmp_path / "s") as searcher:
        whole = searcher.search("red", k=100, refine=False)
        least = whole[20].score
        found = pages(searcher, "red", k=3, refine=False, min_score=least)
        assert [hit.id for page in found for hit in page] == [hit.id for hit in whole[:21]]


def test_folding(model, tmp_path):
    folder = tmp_path / "pics"
    pictures(folder, 10)
    picture(folder / "red.png", 0, "red")
    (folder / "sub").mkdir()
    (folder / "sub" / "red copy.png").write_bytes((folder / "red.png").read_bytes())
    Image.new("RGB", (10, 12), (222, 31, 30)).save(folder / "red again.png")
    with opened(model, folder, tmp_path / "s") as searcher:
        plain = searcher.search("red", k=20)
        assert len(plain) == 13
        assert plain[0].others is None
        assert "others" not in plain[0].as_dict()
        hits = searcher.search("red", k=20, fold=0.999)
        names = {hit.path.rsplit("/", 1)[1] for hit in (hits[0], *hits[0].others)}
        assert names == {"red.png", "red copy.png", "red again.png"}
        assert len(hits) == 11
        assert [other.score for other in hits[0].others] <= [hits[0].score] * 2
        exact = searcher.search("red", k=20, fold=1.0)
        assert len(exact) in (11, 12)  # the copy always folds
        assert sorted(ids(pages(searcher, "red", k=2, fold=0.999))) == sorted(h.id for h in hits)
        assert hits[0].as_dict()["others"][0]["path"] == hits[0].others[0].path
        for wrong in (0.0, 1.5, float("nan")):
            with pytest.raises(UsageError, match="fold at a cosine"):
                searcher.search("red", fold=wrong)


def test_groups(model, tmp_path, shallow):
    for group in range(8):
        pictures(tmp_path / "pics" / f"g{group}", 7, start=10 * group)
    with opened(model, tmp_path / "pics", tmp_path / "s") as searcher:
        whole = searcher.search("green", k=100, refine=False)
        hits = searcher.search("green", k=8, group_by="folder", refine=False)
        assert len(hits) == 8
        assert len({hit.group for hit in hits}) == 8
        for hit in hits:
            own = [one for one in whole if one.path.rsplit("/", 1)[0] == hit.group]
            assert (hit.id, hit.score) == (own[0].id, own[0].score)
            assert {other.id for other in hit.others} <= {one.id for one in own[1:]}
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        found = pages(searcher, "green", k=3, group_by="folder", refine=False)
        assert ids(found) == [hit.id for hit in hits]
        with pytest.raises(UsageError, match=r"no image has a column 'colour': there are date, fo"):
            searcher.search("green", group_by="colour")
        with pytest.raises(UsageError, match="exclude each other"):
            searcher.search("green", group_by="folder", fold=True)


def test_what_the_run_does_not_know_has_no_confident_match(model, tmp_path):
    pictures(tmp_path / "pics", 30)
    with opened(model, tmp_path / "pics", tmp_path / "s") as searcher:
        sure = searcher.search("a red card", auto_cut=True)
        assert sure
        assert not sure.no_match
        assert sure.confidence.known == 1.0
        assert sure == searcher.search("a red card", k=30)[: len(sure)]
        unsure = searcher.search("a red bandersnatch in borogoves", auto_cut=True)
        assert unsure == []
        assert unsure.no_match
        assert unsure.confidence.known == pytest.approx(0.4)
        assert unsure.as_dict()["confidence"]["confident"] is False
        assert searcher.search("xyzzy", auto_cut=True).no_match
        with pytest.raises(UsageError, match="knows no word"):
            searcher.search("xyzzy")
        assert searcher.search("a red bandersnatch in borogoves").confidence is None
        first = next(tmp_path.glob("pics/*.png"))
        by_picture = searcher.search(image=first, auto_cut=True, k=30)
        assert by_picture.confidence is None  # pictures alone are always answered
        assert 0 < len(by_picture) < 30


def test_words_of_a_pretrained_encoder_are_not_counted(tmp_path):
    model = ColourModel(kind="clip", refine=None)
    model.unknown_words = str.split
    pictures(tmp_path / "pics", 5)
    with opened(model, tmp_path / "pics", tmp_path / "s") as searcher:
        assert searcher.search("a red card")
        assert searcher.search("a red card", auto_cut=True).confidence.known == 1.0


def test_weights_in_words(model, tmp_path):
    pictures(tmp_path / "pics", 20)
    with opened(model, tmp_path / "pics", tmp_path / "s") as searcher:
        said = searcher.search(["2.0:red", "blue"], without="0.5:green", k=20)
        given = Query((("red", 2.0), ("blue", 1.0), ("green", -0.5)))
        assert said == searcher.search(given, k=20)
        assert said.query == "2:red + blue, not: 0.5:green"
        text = model.encode_text(["red", "blue", "green"]).numpy()
        vector = 2 * text[0] + text[1] - 0.5 * text[2]
        vector /= np.linalg.norm(vector)
        assert said == searcher.search_vector(vector, k=20)
        with pytest.raises(UsageError, match="inside the Query"):
            searcher.search(given, without="white")


def test_threads_that_ask_everything_while_a_writer_adds(model, tmp_path):
    pictures(tmp_path / "pics", 30)
    with opened(model, tmp_path / "pics", tmp_path / "s") as searcher:
        failures = []

        def ask():
            try:
                for _ in range(10):
                    hits = searcher.search("red", auto_cut=True, fold=True, filter="size > 0")
                    assert len({hit.id for hit in hits}) == len(hits)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        pictures(tmp_path / "more", 12, start=500)
        index_images(model, [tmp_path / "more"], tmp_path / "s", batch_size=3)
        for thread in threads:
            thread.join()
        assert failures == []


# ---------------------------------------------------------------------- sorted


def test_the_best_are_shown_by_a_column_and_keep_their_ranks(model, tmp_path):
    for row in range(6):
        path = picture(tmp_path / f"p/{row}.png", "red", "blue" if row % 2 else "white")
        os.utime(path, (1_700_000_000 - 86400 * row, 1_700_000_000 - 86400 * row))
    with opened(model, tmp_path / "p", tmp_path / "s") as searcher:
        ranked = searcher.search("red blue", k=3)
        shown = searcher.search("red blue", k=3, sort="date")
        newest = searcher.search("red blue", k=3, sort="-date")
        assert [hit.rank for hit in ranked] == [1, 2, 3]
        assert sorted(shown, key=lambda hit: hit.rank) == list(ranked)
        assert [hit.path for hit in shown] == [str(tmp_path / f"p/{n}.png") for n in (5, 3, 1)]
        assert list(newest) == list(shown)[::-1]
        # a page goes on behind the best, however it is shown
        following = searcher.search("red blue", k=3, sort="-date", cursor=newest.next)
        assert sorted(hit.rank for hit in following) == [4, 5, 6]
        with pytest.raises(UsageError, match="no image has a column 'year'"):
            searcher.search("red", sort="-year")
        with pytest.raises(UsageError, match="name the column to sort by"):
            searcher.search("red", sort="-")


def test_a_column_that_only_other_images_have(model, tmp_path):
    for row in range(4):
        picture(tmp_path / f"p/{row}.png", "red", "blue" if row % 2 else "white")
    with opened(model, tmp_path / "p", tmp_path / "s") as searcher:
        last = searcher.search("red blue", k=4)[-1]
        identity = searcher.store.identity
    with open_store(str(tmp_path / "s"), identity) as store:
        (item,) = store.get([last.id])
        store.apply(Changes(placed=[(item.id, replace(item.place, metadata={"year": 1999}))]))
    with Searcher(open_store(str(tmp_path / "s")), model) as searcher:
        first = searcher.search("red blue", k=3, sort="year")
        assert [hit.rank for hit in first] == [1, 2, 3]
        following = searcher.search("red blue", k=3, sort="year", cursor=first.next)
        assert [hit.id for hit in following] == [last.id]
        alone = searcher.search("red blue", filter="year is missing", group_by="year")
        assert [hit.group for hit in alone] == [None] * 3
        with pytest.raises(UsageError, match="no image has a column 'yeer'"):
            searcher.search("red blue", k=3, sort="yeer")


def test_what_lacks_the_column_is_shown_last_in_either_direction():
    values = [None, 2, "b", 10, None, "a", 2]
    items = [
        Item(n, Place(f"/{n}.png", 0, 0, {} if v is None else {"v": v}, ""), "")
        for n, v in enumerate(values)
    ]
    hits = [Hit(n + 1, n, f"/{n}.png", 1.0, 1.0, None, {}) for n in range(7)]
    assert [hit.id for hit in in_order(hits, items, "v")] == [1, 6, 3, 5, 2, 0, 4]
    assert [hit.id for hit in in_order(hits, items, "-v")] == [2, 5, 3, 1, 6, 0, 4]
