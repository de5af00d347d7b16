import json

import numpy as np
import pytest
import torch
from tests.evaluation.told import told

from mmref.data.dataset import RetrievalDataset, build_table
from mmref.errors import DataError
from mmref.evaluation.detection import detection
from mmref.evaluation.doubtful import caption_doubts, find_doubtful, known_errors
from mmref.evaluation.wording import Wording

VISITS = 60_000


@pytest.fixture(scope="module")
def found():
    texts, names, bad = told()
    truth: dict[tuple[str, str], bool] = {}
    for text, name, slip in zip(texts, names, bad, strict=True):
        truth[text, name] = truth.get((text, name), False) or slip
    return find_doubtful(texts, names, visits=VISITS), truth


def wrong_of(found, truth):
    return [truth[pair] for pair in zip(found.captions, found.objects, strict=True)]


def test_wrong_captions_lead(found):
    doubtful, truth = found
    figures = detection(doubtful.scores, wrong_of(doubtful, truth))
    assert figures["r_precision"] > 0.75
    assert figures["lift"] > 4


def test_a_doubt_names_the_phrase_and_what_the_others_say(found):
    doubtful, truth = found
    known = {pair: ("colour",) for pair, slip in truth.items() if slip}
    top = doubtful.top(5, known)
    assert [doubt.rank for doubt in top] == [1, 2, 3, 4, 5]
    assert [doubt.score for doubt in top] == sorted((d.score for d in top), reverse=True)
    for doubt in top:
        assert doubt.phrase in doubt.caption
        assert doubt.word in doubt.phrase
        assert doubt.instead and all(doubt.word not in text.split() for text in doubt.instead[:1])
        others = [c for c, o in zip(doubtful.captions, doubtful.objects, strict=True)
                  if o == doubt.object]  # fmt: skip
        assert all(any(text in caption for caption in others) for text in doubt.instead)
    assert sum(doubt.wrong is not None for doubt in top) >= 4
    json.dumps([doubt.to_dict() for doubt in top])


def test_the_same_again_and_the_random_state_untouched(found):
    texts, names, _ = told(objects=8)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one = find_doubtful(texts, names, visits=1000)
    assert torch.equal(before, torch.get_rng_state())
    order = np.random.default_rng(0).permutation(len(texts))
    two = find_doubtful([texts[i] for i in order], [names[i] for i in order], visits=1000)
    assert sorted(zip(one.objects, one.captions, strict=True)) == sorted(
        zip(two.objects, two.captions, strict=True)
    )
    again = find_doubtful(texts, names, visits=1000)
    assert np.array_equal(one.scores, again.scores)


def test_too_few_captions_are_left_out_and_counted():
    found = find_doubtful(["a red hat", "a blue hat", "a cap"], ["x", "x", "y"])
    assert (found.captions, found.left_out, found.top(5)) == ((), 3, [])


def test_repeated_captions_count_once():
    found = find_doubtful(["a red hat"] * 9 + ["a blue hat"] * 9, ["x"] * 18)
    assert (found.captions, found.left_out) == ((), 2)


def test_only_the_objects_asked_for_are_judged():
    texts, names, _ = told(objects=8)
    found = find_doubtful([*texts, "alone"], [*names, "p"], among={"o001", "p"}, visits=1000)
    judged = {name for name, yes in zip(found.objects, found.judged, strict=True) if yes}
    assert judged == {"o001"}
    assert {doubt.object for doubt in found.top(50)} <= {"o001"}
    assert found.left_out == 1


def test_captions_without_a_word_in_common_are_no_error():
    found = find_doubtful(["one", "two", "three", "..."], ["x"] * 4)
    assert found.scores.tolist() == [0.0] * 4
    assert found.top(3) == []


def test_a_caption_is_as_doubtful_as_its_phrases():
    wording = Wording.read(["a hat, a bag", "a hat", "a bag, a hat"], [0, 0, 0])
    words = np.array([0.0, 5.0, -1.0, 1.0, 0.0, -3.0, 0.0, -3.0, 0.0, 5.0])[: len(wording)]
    scores, worst = caption_doubts(wording, words)
    assert scores[0] == pytest.approx(np.log1p(0.1 * np.exp(5)) + np.log1p(0.1 * np.exp(1)))
    assert scores[1] == pytest.approx(np.log1p(0.1))
    assert worst.tolist() == [1, -1, 9]


def dataset(tmp_path, metadata):
    table = build_table(
        ["a", "b"], [["red", "blue"], ["red"]], ["x", "x"], ["train"] * 2, metadata=metadata
    )
    return RetrievalDataset(table, tmp_path, "two", "manifest")


def test_known_errors(tmp_path):
    assert known_errors(dataset(tmp_path, {})) is None
    known = known_errors(dataset(tmp_path, {"contradicted": [[["hat"], []], [["bag"]]]}))
    assert known == {("red", "x"): ("bag", "hat"), ("blue", "x"): ()}
    with pytest.raises(DataError, match="contradicted"):
        known_errors(dataset(tmp_path, {"contradicted": [["hat"], ["bag"]]}))
