import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluation.told import told

from mmref.data.dataset import RetrievalDataset, build_table
from mmref.data.text import CaptionTokeniser
from mmref.errors import DataError
from mmref.evaluation.detection import detection
from mmref.evaluation.doubtful import (
    MOST_COMPARED,
    caption_doubts,
    find_doubtful,
    known_errors,
    quotation,
)
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


@pytest.mark.parametrize(
    ("caption", "row", "words"),
    [
        ("a T-shirt in off-white on a pale-blue rack by the sea", 10, "pale-blue rack by the sea"),
        ("这个人穿着红色的帽子和黑色的鞋", 6, "着红色的帽子和"),
        ("a  red\that", 1, "a red hat"),
        ("one two three four five six seven eight", 0, "one two three four five"),
    ],
)
def test_a_quotation_holds_its_word(caption, row, words):
    wording = Wording.read([caption], [0])
    assert quotation(wording, row) == words


LETTERS = "ab-_'/ \t。红色がÉéﬁİß·½,.&"


@given(st.lists(st.text(LETTERS, max_size=40), min_size=1, max_size=3))
def test_a_quotation_is_a_piece_of_the_caption_around_its_word(captions):
    wording = Wording.read(captions, [0] * len(captions))
    tokeniser = CaptionTokeniser.learn([])
    for row in range(len(wording)):
        quoted = quotation(wording, row)
        assert quoted in " ".join(captions[wording.caption[row]].split())
        number = wording.phrase[row]
        (whole,) = tokeniser.words([wording.phrases[number]])
        place = row - int(np.searchsorted(wording.phrase, number))
        (words,) = tokeniser.words([quoted])
        assert whole[place] in words
        assert len(words) <= 8  # seven, and the other half of a character that is two words


def test_captions_beyond_those_that_can_be_compared_are_dealt_into_groups():
    texts, names, bad = told(objects=6, captions=120)
    found = find_doubtful(texts, names, visits=20_000)
    many = {name: found.objects.count(name) for name in set(names)}
    assert found.grouped == sum(count > MOST_COMPARED for count in many.values()) > 0
    blocks = np.diff(np.searchsorted(found.wording.objects, np.arange(100)))
    assert blocks.max() <= MOST_COMPARED
    assert blocks[blocks > 0].min() >= MOST_COMPARED // 2
    for block in set(found.wording.objects.tolist()):
        rows = np.flatnonzero(found.wording.objects == block)
        assert len({found.objects[row] for row in rows}) == 1
    truth = {}
    for pair, slip in zip(zip(texts, names, strict=True), bad, strict=True):
        truth[pair] = truth.get(pair, False) or slip
    wrong = [truth[pair] for pair in zip(found.captions, found.objects, strict=True)]
    assert detection(found.scores, wrong)["r_precision"] > 0.7
    assert found.top(1)[0].captions == many[found.top(1)[0].object]


def test_progress_counts_fitting_and_judging():
    texts, names, _ = told(objects=8)
    said = []
    find_doubtful(texts, names, visits=1000, progress=lambda *words: said.append(words))
    assert [done for done, _ in said] == list(range(1, len(said) + 1))
    assert {total for _, total in said} == {len(said)}


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
