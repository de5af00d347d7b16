import numpy as np
import pytest
from tests.evaluation.told import told

from mmref.evaluation.wording import (
    CHANNELS,
    EDGE,
    RARE,
    Wording,
    _told,
    learn_wording,
)


@pytest.fixture(scope="module")
def learnt():
    texts, names, _ = told()
    number = {name: k for k, name in enumerate(dict.fromkeys(names))}
    wording = Wording.read(texts, [number[name] for name in names])
    folds = np.arange(len(number)) % 4
    return wording, folds, *learn_wording(wording, folds)


def ids(wording, word):
    return wording.vocabulary.index(word)


def test_captions_are_taken_apart():
    wording = Wording.read(["a red hat, a bag", "a red bag", "the red bag"], [0, 0, 1])
    said = [wording.vocabulary[i] for i in wording.words]
    known = [word if word in ("red", "bag") else "[rare]" for word in
             ["a", "red", "hat", "a", "bag", "a", "red", "bag", "the", "red", "bag"]]  # fmt: skip
    assert said == known
    assert wording.phrases == ("a red hat", "a bag", "a red bag", "the red bag")
    assert wording.caption.tolist() == [0] * 5 + [1] * 3 + [2] * 3
    assert wording.start.tolist() == [0, 8, 11]
    assert wording.around[1].tolist() == [
        EDGE,
        EDGE,
        RARE,
        RARE,
        EDGE,
        EDGE,
    ]  # ends with the phrase


def test_a_word_is_aligned_with_other_captions_of_its_object_alone(learnt):
    wording, _, alignment, _ = learnt
    used = alignment.weights > 0
    assert used.mean() > 0.1
    for channel in range(len(CHANNELS)):
        rows, kept = np.nonzero(used[channel])
        others = alignment.places[channel][rows, kept]
        assert (wording.caption[others] != wording.caption[rows]).all()
        one, two = wording.objects[wording.caption[others]], wording.objects[wording.caption[rows]]
        assert (one == two).all()


def test_alignment_prefers_the_same_place(learnt):
    wording, _, alignment, _ = learnt
    hats = [row for row in range(len(wording)) if wording.around[row, 3] == ids(wording, "hat")]
    behind = [
        wording.around[alignment.places[0, row, alignment.weights[0, row].argmax()], 3]
        for row in hats
        if alignment.weights[0, row].max() > 0.3
    ]
    assert len(behind) > 20
    head = {ids(wording, "hat"), ids(wording, "cap")}
    assert np.mean([place in head for place in behind]) > 0.9


def test_synonyms_are_translated_and_other_values_are_not(learnt):
    wording, _, _, tables = learnt
    table = tables[0, 0]
    red, crimson, azure = (ids(wording, word) for word in ("red", "crimson", "azure"))
    assert table[red, crimson] > 4 * table[red, azure]
    assert table[red, red] + table[red, crimson] > 0.6


def test_translations_are_distributions_and_ignore_their_own_fold(learnt):
    wording, folds, _, tables = learnt
    assert tables.shape[:2] == (4, len(CHANNELS) + 1)
    assert tables.sum(axis=-1) == pytest.approx(1.0, abs=1e-3)
    changed = [
        text.replace("red", "ruby") if folds[number] == 2 and place % 2 else text
        for place, (text, number) in enumerate(
            zip(wording.captions, wording.objects.tolist(), strict=True)
        )
    ]
    again = Wording.read(changed, wording.objects.tolist())
    _, other = learn_wording(again, folds)
    red, ruby = ids(again, "red"), ids(again, "ruby")
    assert other[0, -1, ruby, red] > 0.15
    assert other[2, -1, ruby, red] < 0.05


def test_translations_of_large_sets_are_learnt_from_some_objects(learnt, monkeypatch):
    wording, folds, alignment, tables = learnt
    assert _told(wording, 0) == list(range(50))
    pairs = int((np.diff(wording.start) ** 2).sum())
    monkeypatch.setattr("mmref.evaluation.wording._LEARNT", pairs // 2)
    some = _told(wording, 0)
    assert 15 < len(some) < 35
    assert some == _told(wording, 0) != _told(wording, 1)
    other, fewer = learn_wording(wording, folds)
    assert other.places.shape == alignment.places.shape
    red, crimson, azure = (ids(wording, word) for word in ("red", "crimson", "azure"))
    assert fewer[0, 0, red, crimson] > 3 * fewer[0, 0, red, azure]
    assert not np.array_equal(fewer, tables)


def test_an_object_without_a_word_is_no_error():
    wording = Wording.read(["...", "!", "a red hat", "a red cap", "the red hat"], [0, 0, 1, 1, 1])
    alignment, _ = learn_wording(wording, np.array([0, 1]))
    assert alignment.places.shape[1] == len(wording) == 9
