"""Captions that most contradict what is said of their object: likely annotation errors.

A caption is doubted for its phrases. Each word of a phrase has a likelihood ratio: how much the
object's other captions speak for it or against it (:mod:`mmref.evaluation.expectation`), judged by
its whole context, by one side of it and without any. A phrase is as good as its worst word,
and a caption's score is that of "at least one phrase is wrong", with phrases independent: the sum
of ``log(1 + odds / ratio)``. Our choice.

Each caption is compared with at most 47 others of its object: an object with more captions has
them dealt at random into groups that are compared within, so the time grows with the captions and
not with their square.

With less than three captions of an object nobody can say which of them is wrong; such captions are
left out and counted.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from mmref.data.dataset import RetrievalDataset
from mmref.errors import DataError
from mmref.evaluation.expectation import (
    Evidence,
    Progress,
    fit,
    judging_batches,
    log_ratios,
)
from mmref.evaluation.wording import ORDINARY, Alignment, Wording, learn_wording

Truth = dict[tuple[str, str], tuple[str, ...]]
"""(caption, object) -> what it gets wrong."""

LEAST_CAPTIONS = 3
MOST_COMPARED = 48
TRUTH = "contradicted"

_ODDS = 0.1  # that a phrase is wrong, before anything is known
_WEIGHTS = (2.0, 1.0, 1.0, 1.0)  # of the views: the whole context counts twice
_FOLDS = 8
_SHOWN = 3
_SUPPORTED = 0.5
_QUOTED = 6  # words of a quotation


@dataclass(frozen=True)
class Doubt:
    """One doubtful caption.

    Attributes:
        rank: from 1, the most doubtful.
        object: its object.
        caption: its text.
        score: grows with the doubt.
        phrase: the phrase that contradicts most.
        word: its worst word.
        instead: what the object's other captions say in that place, most often said first.
        captions: how many distinct captions the object has.
        wrong: names of what is wrong, where the data set knows; else None.
    """

    rank: int
    object: str
    caption: str
    score: float
    phrase: str
    word: str
    instead: tuple[str, ...]
    captions: int
    wrong: tuple[str, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {**asdict(self), "instead": list(self.instead),
                "wrong": None if self.wrong is None else list(self.wrong)}  # fmt: skip


@dataclass(frozen=True, eq=False)
class DoubtfulCaptions:
    """All captions with their doubt.

    Attributes:
        captions: the distinct captions that can be compared, those of one object side by side.
        objects: the object of each.
        scores: the doubt of each, float[n]; 0 where it was not judged.
        judged: which captions were judged, bool[n].
        left_out: distinct captions of objects that were asked for and have too few of them.
        worst: the row of the wording of each caption's worst word; -1 where none is against it.
        wording: the captions taken apart; None when there is nothing to compare.
        alignment: of the wording's words.
        grouped: how many of the objects asked for have more captions than are compared at a time.
    """

    captions: tuple[str, ...]
    objects: tuple[str, ...]
    scores: npt.NDArray[np.float64]
    judged: npt.NDArray[np.bool_]
    left_out: int
    worst: npt.NDArray[np.int64]
    wording: Wording | None = None
    alignment: Alignment | None = None
    grouped: int = 0

    def top(self, count: int, truth: Truth | None = None) -> list[Doubt]:
        """The most doubtful captions, worst first.

        Args:
            count: at most so many.
            truth: from :func:`known_errors`.
        """
        return [
            self._doubt(row, rank, truth)
            for rank, row in enumerate(self._ranked()[:count], start=1)
        ]

    def of(self, caption: str, name: str, truth: Truth | None = None) -> Doubt | None:
        """The doubt about one caption of an object; None where there is none."""
        for rank, row in enumerate(self._ranked(), start=1):
            if self.captions[row] == caption and self.objects[row] == name:
                return self._doubt(row, rank, truth)
        return None

    def _ranked(self) -> list[int]:
        """Rows of doubted captions, worst first."""
        doubted = np.flatnonzero(self.worst >= 0)
        found: list[int] = doubted[np.argsort(-self.scores[doubted], kind="stable")].tolist()
        return found

    def _doubt(self, row: int, rank: int, truth: Truth | None) -> Doubt:
        assert self.wording is not None and self.alignment is not None  # else nothing is doubted
        place, name, text = int(self.worst[row]), self.objects[row], self.captions[row]
        return Doubt(
            rank=rank,
            object=name,
            caption=text,
            score=round(float(self.scores[row]), 4),
            phrase=quotation(self.wording, place),
            word=self.wording.vocabulary[self.wording.words[place]],
            instead=said_instead(self.wording, self.alignment, place),
            captions=self.objects.count(name),
            wrong=truth.get((text, name)) if truth is not None else None,
        )


def find_doubtful(
    captions: Sequence[str],
    objects: Sequence[str],
    *,
    among: Collection[str] | None = None,
    visits: int = 600_000,
    seed: int = 0,
    progress: Progress | None = None,
) -> DoubtfulCaptions:
    """Score captions by how much their object's other captions contradict them.

    Only the captions are read. A few thousand take about a minute of one core.

    Args:
        captions: the captions of all objects: the more, the better is learnt how things are said.
        objects: the object of each.
        among: the objects whose captions are judged; None for all.
        visits: words seen in the fit, repeats counted.
        seed: of the fit, and of the groups into which many captions are dealt.
        progress: called with the number of batches fitted or judged, and the total.

    Example:
        >>> said = ["a red cap", "a red hat", "a blue cap", "one caption"]
        >>> found = find_doubtful(said, ["x", "x", "x", "y"], visits=100)
        >>> len(found.captions), found.left_out
        (3, 1)
    """
    distinct = sorted(dict.fromkeys(zip(objects, captions, strict=True)), key=lambda pair: pair[0])
    many = Counter(name for name, _ in distinct)
    kept, block = _in_groups(
        [(name, text) for name, text in distinct if many[name] >= LEAST_CAPTIONS], seed
    )
    names, texts = tuple(name for name, _ in kept), tuple(text for _, text in kept)
    scores, worst = np.zeros(len(kept)), np.full(len(kept), -1, dtype=np.int64)
    asked = set(names) if among is None else set(among)
    judged = np.array([name in asked for name in names], dtype=bool)
    left_out = sum(
        many[name] < LEAST_CAPTIONS and (among is None or name in asked) for name, _ in distinct
    )
    wording = Wording.read(texts, block) if kept else None
    if wording is None or not np.any(wording.words >= ORDINARY):
        return DoubtfulCaptions(texts, names, scores, judged, left_out, worst)
    number = {name: k for k, name in enumerate(dict.fromkeys(names))}
    fold_of = np.random.default_rng(seed).integers(0, min(_FOLDS, len(number)), len(number))
    objects_of = dict(zip(block, names, strict=True))
    folds = np.array([fold_of[number[name]] for name in objects_of.values()])
    alignment, tables = learn_wording(wording, folds, seed=seed)
    evidence = Evidence.of(wording, alignment, tables, folds)
    rows = np.flatnonzero(judged[wording.caption])
    say = progress or (lambda done, total: None)
    asked_batches, fitted = judging_batches(evidence, rows), 0

    def fitting(done: int, total: int) -> None:
        nonlocal fitted
        fitted = total
        say(done, total + asked_batches)

    model = fit(evidence, visits=visits, seed=seed, progress=fitting)
    ratios = log_ratios(
        model, evidence, rows, lambda done, total: say(fitted + done, fitted + total)
    )
    words = word_doubts(ratios)
    scores, worst = caption_doubts(wording, words)
    scores[~judged], worst[~judged] = 0.0, -1
    grouped = sum(many[name] > MOST_COMPARED for name in asked & set(names))
    return DoubtfulCaptions(
        texts, names, scores, judged, left_out, worst, wording, alignment, grouped
    )


def _in_groups(pairs: list[tuple[str, str]], seed: int) -> tuple[list[tuple[str, str]], list[int]]:
    """Objects' captions in groups that are compared within, and the group of each, from 0."""
    found, groups = list[tuple[str, str]](), list[int]()
    for number, (_, same) in enumerate(groupby(pairs, key=lambda pair: pair[0])):
        own = list(same)
        count = -(-len(own) // MOST_COMPARED)
        if count > 1:
            order = np.random.default_rng((seed, number)).permutation(len(own))
            own = [own[i] for i in order]
        first = groups[-1] + 1 if groups else 0
        found += own
        groups += [first + k * count // len(own) for k in range(len(own))]
    return found, groups


def word_doubts(ratios: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """One number a word: minus the weighted sum of its views' log ratios, float[n].

    Example:
        >>> word_doubts(np.array([[-2.0, -1.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])).tolist()
        [5.0, -1.5]
    """
    doubts: npt.NDArray[np.float64] = -(ratios.astype(np.float64) @ np.array(_WEIGHTS))
    return doubts


def caption_doubts(
    wording: Wording, words: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Scores of captions, and each one's worst word.

    Args:
        wording: the captions.
        words: doubt of each word, float[n].

    Returns:
        float[captions], and row numbers int[captions], -1 where no word is doubted.
    """
    phrases = np.full(len(wording.phrases), -np.inf)
    np.maximum.at(phrases, wording.phrase, words)
    caption_of = np.zeros(len(wording.phrases), dtype=np.int64)
    caption_of[wording.phrase] = wording.caption
    odds = np.log1p(_ODDS * np.exp(np.where(np.isfinite(phrases), phrases, -50.0)))
    scores = np.zeros(len(wording.captions))
    np.add.at(scores, caption_of, odds)
    worst = np.full(len(wording.captions), -1, dtype=np.int64)
    for row in np.argsort(words, kind="stable").tolist():
        if words[row] > 0:
            worst[wording.caption[row]] = row
    return scores, worst


def said_instead(wording: Wording, alignment: Alignment, row: int) -> tuple[str, ...]:
    """What the other captions say in the place of a word, best first: up to three quotations.

    What has less than half of the support of the first is left out.
    """
    place, weights = alignment.places[0, row], alignment.weights[0, row]
    support: defaultdict[str, float] = defaultdict(float)
    best: dict[int, tuple[float, int]] = {}
    for other, weight in zip(place.tolist(), weights.tolist(), strict=True):
        caption = int(wording.caption[other])
        if weight > best.get(caption, (0.0, 0))[0]:
            best[caption] = (weight, other)
    for weight, other in best.values():
        support[quotation(wording, other).lower()] += weight
    ranked = sorted(support.items(), key=lambda item: (-item[1], item[0]))
    least = ranked[0][1] * _SUPPORTED if ranked else 0.0
    return tuple(text for text, weight in ranked[:_SHOWN] if weight >= least)


def quotation(wording: Wording, row: int) -> str:
    """The phrase of a word; of a long phrase the words around it.

    Example:
        >>> wording = Wording.read(["he has a long red coat on the left of him, a hat"], [0])
        >>> quotation(wording, 4)
        'a long red coat on the left'
    """
    number = wording.phrase[row]
    first, behind = np.searchsorted(wording.phrase, (number, number + 1)).tolist()
    text = wording.phrases[number]
    if behind - first > _QUOTED + 1:
        start, last = max(first, row - 2), min(behind - 1, row + _QUOTED - 2)
        text = text[wording.spans[start, 0] : wording.spans[last, 1]]
    return " ".join(text.split())


def known_errors(dataset: RetrievalDataset) -> Truth | None:
    """What a drawn set knows of its captions' errors, by (caption, object); else None.

    It is read from the metadata column ``contradicted``: for each caption of a row the list of
    attributes that it gets wrong. It is for measuring alone: no score uses it.

    Raises:
        DataError: the column does not fit the captions.
    """
    if TRUTH not in dataset.metadata_names:
        return None
    found: dict[tuple[str, str], set[str]] = {}
    column = dataset.table[TRUTH].to_pylist()
    for texts, name, wrong in zip(dataset.captions, dataset.objects, column, strict=True):
        if not isinstance(wrong, list) or len(wrong) != len(texts):
            raise DataError(
                f"the column {TRUTH!r} of {dataset.name} holds no list for each caption: "
                "rename it if it means something else"
            )
        for text, names in zip(texts, wrong, strict=True):
            found.setdefault((text, name), set()).update(map(str, names or ()))
    return {key: tuple(sorted(names)) for key, names in found.items()}
