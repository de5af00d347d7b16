"""Searching among captions: an image finds its sentences, a sentence similar ones."""

import numpy as np
import pytest
import torch

from mmref.errors import PathError
from mmref.search import engine
from mmref.search.engine import Searcher
from mmref.search.ingest.index import index_images
from mmref.search.pages import listed
from mmref.search.query import Query
from mmref.search.ranking import Ranking, Scorer

from ..fakes import ColourModel
from .sources import index_both, write_source

ROWS = {
    "red": ["a red card", "red and white"],
    "red-2": ["a red card"],
    "blue": ["a blue card", "blue and white"],
    "white": ["a white card"],
    "green": ["a green card", "green and yellow"],
}


@pytest.fixture(params=["posterior", "hubs", "centred", None])
def model(request):
    return ColourModel(refine=request.param)


@pytest.fixture
def source(tmp_path):
    return write_source(tmp_path / "data", ROWS)


@pytest.fixture
def searcher(model, source, tmp_path):
    index_both(model, [source], tmp_path / "s")
    with Searcher.open(tmp_path / "s", model, captions=True) as opened:
        yield opened


def sentences(hits):
    return [hit.metadata["caption"] for hit in hits]


def test_an_image_finds_its_own_sentences(searcher, source):
    for name, rows in ROWS.items():
        hits = searcher.search(image=source / f"{name}.png", k=2)
        assert sentences(hits)[0] == rows[0]
    first = searcher.search(image=source / "red.png", k=1)[0]
    assert first.path == str(source / "red.png#1")
    assert [other.path for other in first.others] == [str(source / "red-2.png#1")]
    by_number = searcher.search(image=searcher.pictures.find(str(source / "red.png")).id)
    assert by_number == searcher.search(image=source / "red.png")


def test_scores_are_those_of_evaluation(searcher, model, source):
    from mmref.evaluation.vectors import refined_blocks

    hits = searcher.search(image=source / "red.png", k=20)
    pictures, captions = searcher.pictures, searcher.store
    image = pictures.vectors([pictures.find(str(source / "red.png")).id])
    items = [captions.find(hit.path) for hit in hits]
    texts = model.encode_text([item.place.metadata["caption"] for item in items])
    wanted = image @ texts.numpy().T
    if model.refiner is not None:
        block = refined_blocks(
            torch.from_numpy(np.array(image)), texts, model.refiner, ("image", "text")
        )
        wanted = block(0, 1).numpy()
    np.testing.assert_allclose([hit.score for hit in hits], wanted[0], atol=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert (hits[0].reference_score is None) == (model.refiner is None)


def test_a_sentence_finds_similar_ones(searcher):
    assert sentences(searcher.search("a blue sheet", k=1)) == ["a blue card"]
    hits = searcher.search("blue", without="white", k=20)
    assert sentences(hits)[-1] != "a blue card"


def test_equal_sentences_are_one_hit_unless_told(searcher, source):
    assert sentences(searcher.search("red", k=20)).count("a red card") == 1
    grouped = searcher.search("red", k=20, group_by="object")
    assert sorted(hit.group for hit in grouped) == ["blue", "green", "red", "white"]
    folded = searcher.search("red", k=20, fold=True)
    assert sentences(folded).count("a red card") == 1
    assert sum(1 + len(hit.others) for hit in folded) == 8


def test_filters_pages_and_cuts_hold(searcher, source):
    image = source / "red.png"
    hits = searcher.search(image=image, filter="object = 'blue' and caption ~ 'white'")
    assert sentences(hits) == ["blue and white"]
    hits = searcher.search(image=image, filter=f"image = '{source}/white.png'")
    assert sentences(hits) == ["a white card"]
    whole = searcher.search(image=image, k=20)
    paged, cursor = [], None
    while cursor is not None or not paged:
        page = searcher.search(image=image, k=3, cursor=cursor)
        paged += page
        cursor = page.next
    assert sentences(paged) == sentences(whole)
    cut = searcher.search(image=image, k=20, auto_cut=True)
    assert sentences(cut)[0] == "a red card"
    assert cut.confidence is None
    assert len(cut) < len(whole)
    assert sentences(searcher.search(image=image, min_score=whole[1].score)) == sentences(whole)[:2]


def test_a_store_without_captions_says_what_to_do(model, source, tmp_path):
    index_images(model, [source], tmp_path / "bare")
    wanted = r"holds no captions: add them with mmref index RUN SOURCE --store .*bare --captions"
    with pytest.raises(PathError, match=wanted):
        Searcher.open(tmp_path / "bare", model, captions=True)
    with Searcher.open(tmp_path / "bare", model) as pictures:
        assert not pictures.captions
        assert pictures.pictures is pictures.store


def test_pictures_are_searched_as_before(searcher, model, source, tmp_path):
    with Searcher.open(tmp_path / "s", model) as pictures:
        hits = pictures.search(image=source / "red.png", k=9)
        assert len(hits) == 3  # less itself and its copy
        assert all(hit.path.endswith(".png") for hit in hits)


def test_many_captions_of_few_sentences_are_one_tier(model, tmp_path, monkeypatch):
    tiers = []

    def spied(view, ranking, *rest):
        found = listed(view, ranking, *rest)
        tiers.append(len(ranking.bounds))
        return found

    monkeypatch.setattr(engine, "listed", spied)
    rows = {
        f"{name}-{n}": [f"a {name} card"] for name in ("red", "blue", "white") for n in range(90)
    }
    rows["green"] = ["a green card", "green and yellow"]
    index_both(model, [write_source(tmp_path / "data", rows)], tmp_path / "s")
    with Searcher.open(tmp_path / "s", model, captions=True) as searcher:
        hits = searcher.search("red and white", k=3)
        assert tiers == [1]
        assert [len(hit.others) for hit in hits[:2]] == [89, 89]
        scores = [hit.score for hit in hits]
        assert scores == sorted(scores, reverse=True)
        vector, _ = searcher.encode(Query.of("red and white"))
        with searcher.store.view() as view:
            ranking = Ranking(view, Scorer(vector, "text", model.refiner), 50)
            tier = ranking.first(lambda tier: len(tier) > 200)
            assert len(tier) > 200
            assert len(ranking.bounds) == 1
            assert tier.scores.tolist() == sorted(tier.scores.tolist(), reverse=True)
            whole = Ranking(view, Scorer(vector, "text", model.refiner), 50)
            assert len(whole.first(lambda tier: False)) == len(searcher) == 272
            assert whole.ended


class Apart(ColourModel):
    """A run whose sentences lie near one another and far from pictures, as those of CLIP do."""

    def encode_text(self, texts, batch_size=256):
        gap = 3 * torch.ones(12) / 12**0.5
        return torch.nn.functional.normalize(super().encode_text(texts) + gap, dim=1)


def test_the_cut_of_a_picture_is_by_pictures(source, tmp_path):
    model = Apart(refine=None)
    index_both(model, [source], tmp_path / "s")
    with Searcher.open(tmp_path / "s", model, captions=True) as searcher:
        hits = searcher.search(image=source / "blue.png", k=20)
        cut = searcher.search(image=source / "blue.png", k=20, auto_cut=True)
    assert hits[0].score < 0.9  # sentences among themselves score more
    assert sentences(cut) == sentences(hits)[: len(cut)]
    assert 1 <= len(cut) < len(hits)
