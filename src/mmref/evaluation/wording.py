"""How the captions of one object say the same: words in their places, aligned, and translated.

Captions of one object differ in words and in what they mention, so a contradiction cannot be seen
by counting words. Three things make them comparable, all learnt from the captions alone:

- a word's *context*, the words around it in its phrase;
- an *alignment*: the words of the object's other captions that stand in a similar context;
- a *translation* P(w | u): how another caption says u. It is learnt by expectation maximisation
  over aligned words, as IBM Model 1 learns a dictionary from sentence pairs (Brown et al. 1993);
  that the "languages" are other captions of one object, and that contexts are compared after
  translation, is our choice.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from mmref.data.text import CaptionTokeniser, phrases

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

REACH = 3  # words on each side that make a context
VIEWS = ("both", "right", "left", "none")  # which side of the context is looked at
CHANNELS = ("both", "right", "left", "next", "previous")
RARE, EDGE, HIDDEN, NOTHING = range(4)
ORDINARY = 4  # ids of ordinary words start here

_OFFSETS = tuple(d for d in range(-REACH, REACH + 1) if d)
_SIDES = ((0, 1, 2, 3, 4, 5), (3, 4, 5), (0, 1, 2))  # columns of the context in each view
_NEXT, _PREVIOUS = 3, 2
_LEAST = 3  # captions that a word must stand in
_MOST = 1500
_KEPT = 32  # aligned words kept for each word
_FAINT = 0.02  # a weaker alignment is none
_LEARNT = 50_000_000  # pairs of words that translations are learnt from


@dataclass(frozen=True)
class Wording:
    """The words of captions, row by row in the order of the objects.

    Attributes:
        captions: the captions' texts.
        objects: number of each caption's object, from 0, int[captions]; not decreasing.
        phrases: the phrases, of all captions.
        vocabulary: word of each id; the first four stand for rare words, the edge of a phrase, a
            hidden word and nothing.
        words: word ids, int[n].
        caption: caption of each word, int[n].
        phrase: phrase of each word, int[n].
        spans: where each word stands in its phrase, first character and the one behind the last,
            int[n, 2].
        around: ids of the 3 words before and the 3 behind within the phrase, int[n, 6].
        start: first word of each object and, last, n, int[objects + 1].

    Example:
        >>> wording = Wording.read(["a red hat", "red hat, bag", "a red bag"], [0, 0, 0])
        >>> [wording.vocabulary[i] for i in wording.words], wording.phrase.tolist()
        (['[rare]', 'red', '[rare]', 'red', '[rare]', '[rare]', '[rare]', 'red', '[rare]'], \
[0, 0, 0, 1, 1, 2, 3, 3, 3])
    """

    captions: tuple[str, ...]
    objects: Ints
    phrases: tuple[str, ...]
    vocabulary: tuple[str, ...]
    words: Ints
    caption: Ints
    phrase: Ints
    spans: Ints
    around: Ints
    start: Ints
    frequency: npt.NDArray[np.float64] = field(repr=False)

    @classmethod
    def read(cls, captions: Sequence[str], objects: Sequence[int]) -> "Wording":
        """Take captions apart.

        Args:
            captions: captions, those of one object side by side.
            objects: number of each caption's object, from 0 and not decreasing.
        """
        tokeniser = CaptionTokeniser.learn(captions)
        parts = [(number, part) for number, text in enumerate(captions) for part in phrases(text)]
        split = tokeniser.words([part for _, part in parts])
        spans = [span for own in tokeniser.spans([part for _, part in parts]) for span in own]
        stands = Counter[str]()
        seen: list[set[str]] = [set() for _ in captions]
        for (number, _), words in zip(parts, split, strict=True):
            seen[number].update(words)
        for words_of_one in seen:
            stands.update(words_of_one)
        kept = sorted(
            (word for word, count in stands.items() if count >= _LEAST),
            key=lambda word: (-stands[word], word),
        )[:_MOST]
        vocabulary = ("[rare]", "[edge]", "[hidden]", "[nothing]", *kept)
        number_of = {word: number for number, word in enumerate(vocabulary) if number >= ORDINARY}
        ids, caption, phrase = list[int](), list[int](), list[int]()
        for place, ((number, _), words) in enumerate(zip(parts, split, strict=True)):
            ids += [number_of.get(word, RARE) for word in words]
            caption += [number] * len(words)
            phrase += [place] * len(words)
        flat, of_phrase = np.array(ids, dtype=np.int64), np.array(phrase, dtype=np.int64)
        of_caption = np.array(caption, dtype=np.int64)
        numbers = np.asarray(objects, dtype=np.int64)
        count = int(numbers.max()) + 1 if len(numbers) else 0
        frequency = np.bincount(flat, minlength=len(vocabulary)).astype(np.float64)
        return cls(
            captions=tuple(captions),
            objects=numbers,
            phrases=tuple(part for _, part in parts),
            vocabulary=vocabulary,
            words=flat,
            caption=of_caption,
            phrase=of_phrase,
            spans=np.array(spans, dtype=np.int64).reshape(-1, 2),
            around=_around(flat, of_phrase),
            start=np.searchsorted(numbers[of_caption], np.arange(count + 1)),
            frequency=np.maximum(frequency, 1e-3) / max(len(flat), 1),
        )

    def __len__(self) -> int:
        return len(self.words)

    def rows(self) -> "list[slice]":
        """The words of each object."""
        return [slice(int(a), int(b)) for a, b in zip(self.start[:-1], self.start[1:], strict=True)]


def _around(words: Ints, phrase: Ints) -> Ints:
    found = np.full((len(words), len(_OFFSETS)), EDGE, dtype=np.int64)
    for column, offset in enumerate(_OFFSETS):
        other = np.arange(len(words)) + offset
        inside = (other >= 0) & (other < len(words))
        inside[inside] = phrase[other[inside]] == phrase[np.flatnonzero(inside)]
        found[inside, column] = words[other[inside]]
    return found


class Alignment(NamedTuple):
    """For each word the words of the object's other captions in a similar place.

    Attributes:
        places: which words they are, row numbers of the wording, int32 [channels, n, k].
        weights: how similar their context is, in [0, 1], float[channels, n, k]; 0 beyond the last.
    """

    places: npt.NDArray[np.int32]
    weights: Floats


def learn_wording(
    wording: Wording, folds: Ints, *, rounds: int = 2, seed: int = 0
) -> tuple[Alignment, Floats]:
    """Alignments and translations by turns: contexts are compared in translation.

    Every word is aligned; translations are learnt from as many objects, drawn at random, as have
    50 million pairs of words, which is all of them in sets of some thousand captions.

    Args:
        wording: the captions.
        folds: fold of each object, int[objects].
        rounds: how often contexts are translated and words aligned anew.
        seed: draws those objects.

    Returns:
        The alignment; and P(w | u) learnt without the objects of each fold, for each channel from
        words that it aligns and, last, from all, float32 [folds, channels + 1, u, w].
    """
    contexts = [_contexts(wording, side) for side in _SIDES]
    size = len(wording.vocabulary)
    smoother = sp.identity(size, dtype=np.float32, format="csr")
    told = _told(wording, seed)
    both = contexts[0]
    for _ in range(rounds):
        _, everything = _translations(wording, both, folds, told)
        strong = np.where(everything < _PRUNED, 0.0, everything).astype(np.float32)
        alone = sp.identity(size, dtype=np.float32)
        smoother = ((1 - _TRANSLATED) * alone + _TRANSLATED * sp.csr_matrix(strong)).tocsr()
        both = _Product(contexts[0], smoother)
    apart, everything = _translations(wording, both, folds, told)
    smooth = [_Product(context, smoother) for context in contexts]
    alignment = _align(wording, smooth, _unit(smoother))
    tables = _specialised(wording, alignment, folds, apart, everything)
    for fold, table in enumerate(apart):
        for channel in range(tables.shape[1]):
            own = tables[fold, channel]
            tables[fold, channel] = (1 - _TWICE) * own + _TWICE * (own @ table)
    return alignment, tables


class _Product:
    """Unit rows of a product of sparse matrices, made when they are asked for."""

    def __init__(self, left: Any, right: Any) -> None:
        self._left, self._right = left, right

    def __getitem__(self, rows: slice) -> Any:
        return _unit(self._left[rows] @ self._right)


def _told(wording: Wording, seed: int) -> list[int]:
    """The objects from which translations are learnt."""
    pairs = np.diff(wording.start).astype(np.float64) ** 2
    order = np.random.default_rng(seed).permutation(len(pairs))
    many = max(1, int(np.searchsorted(np.cumsum(pairs[order]), _LEARNT, side="right")))
    return sorted(order[:many].tolist())


_PRUNED = 0.01  # translations below are left out of contexts
_TRANSLATED = 0.7  # share of a context that is its translation
_TWICE = 0.3  # share of translations by way of a third word, for rare words
_SHRINKAGE = 5.0  # how much a channel's own translations are drawn to the general ones


def _contexts(wording: Wording, side: Sequence[int]) -> Any:
    """Unit rows: the words around each word, rare and near ones most, sparse [n, vocabulary]."""
    size, n = len(wording.vocabulary), len(wording)
    pairs = np.unique(wording.caption * size + wording.words)
    stands = np.bincount(pairs % size, minlength=size)
    value = np.log((1 + len(wording.captions)) / (1 + stands))
    value[:ORDINARY] = 0.0
    value[EDGE] = 0.3
    near = np.array([1 / abs(_OFFSETS[column]) for column in side])
    around = wording.around[:, list(side)]
    weights = (value[around] * near).astype(np.float32)
    rows = np.repeat(np.arange(n), len(side))
    return _unit(sp.csr_matrix((weights.ravel(), (rows, around.ravel())), shape=(n, size)))


def _unit(matrix: Any) -> Any:
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return (sp.diags((1 / np.where(norms > 0, norms, 1)).astype(np.float32)) @ matrix).tocsr()


def _translations(
    wording: Wording,
    contexts: Any,
    folds: Ints,
    told: Sequence[int],
    *,
    turns: int = 4,
    everywhere: float = 0.02,
    same: float = 0.5,
) -> tuple[Floats, Floats]:
    """P(w | u) by expectation maximisation: [folds, u, w], each fold left out, and of all.

    Args:
        wording: the captions.
        contexts: unit contexts, sparse [n, vocabulary].
        folds: fold of each object.
        told: the objects to learn from.
        turns: of the maximisation.
        everywhere: alignment of words whose contexts share nothing.
        same: at first, the probability that a word stays as it is.
    """
    size, words, often = len(wording.vocabulary), wording.words, wording.frequency
    table = np.tile((1 - same) * often, (size, 1))
    table[np.diag_indices(size)] += same
    counts = np.zeros((int(folds.max()) + 1, size * size))
    blocks, every = [], wording.rows()
    for number in told:
        rows = every[number]
        if rows.start == rows.stop:
            continue
        order = rows.start + np.argsort(words[rows], kind="stable")  # equal words side by side
        own, first, which = np.unique(words[order], return_index=True, return_inverse=True)
        inside = order - rows.start
        near: Floats = everywhere + _near(contexts[rows])[np.ix_(inside, inside)]
        near *= wording.caption[order][:, None] != wording.caption[order][None]
        blocks.append((int(folds[number]), own, first, which, near))
    for _ in range(turns):
        counts[:] = 0
        for fold, own, first, which, near in blocks:
            cells = np.ix_(own, own)
            joint = near * table[cells].T.astype(np.float32)[np.ix_(which, which)]
            joint /= (joint.sum(axis=1) + often[own][which])[:, None]
            summed = np.add.reduceat(np.add.reduceat(joint, first, axis=0), first, axis=1)
            counts[fold].reshape(size, size)[cells] += summed.T
        total = counts.sum(axis=0)
        table = _table(total, often)
    apart = np.stack([_table(total - fold, often) for fold in counts]).astype(np.float32)
    return apart, table.astype(np.float32)


def _near(block: Any) -> Floats:
    """Squared cosines of sparse unit rows, [n, n]."""
    used, column = np.unique(block.indices, return_inverse=True)
    narrow = sp.csr_matrix((block.data, column, block.indptr), shape=(block.shape[0], len(used)))
    full = narrow.toarray()  # a product of full matrices is the faster by far
    near: Floats = full @ full.T
    np.square(near, out=near)
    return near


def _specialised(
    wording: Wording, alignment: Alignment, folds: Ints, apart: Floats, everything: Floats
) -> Floats:
    """One more turn with each channel's aligned words alone, drawn to the general translations."""
    size, words = len(wording.vocabulary), wording.words
    of_fold = folds[wording.objects[wording.caption]]
    found = np.empty((len(apart), len(CHANNELS) + 1, size, size), dtype=np.float32)
    found[:, -1] = apart
    for channel in range(len(CHANNELS)):
        others = words[alignment.places[channel]]
        joint = alignment.weights[channel] * everything[others, words[:, None]]
        joint /= (joint.sum(axis=1) + wording.frequency[words])[:, None]
        cells = others * size + words[:, None]
        counts = np.stack(
            [
                np.bincount(cells[mine].ravel(), joint[mine].ravel(), size * size)
                for mine in (of_fold == fold for fold in range(len(apart)))
            ]
        )
        total = counts.sum(axis=0)
        for fold in range(len(apart)):
            rest = (total - counts[fold]).reshape(size, size)
            whole = rest.sum(axis=1, keepdims=True) + _SHRINKAGE
            found[fold, channel] = (rest + _SHRINKAGE * apart[fold]) / whole
    return found


def _table(counts: npt.NDArray[Any], often: npt.NDArray[Any]) -> npt.NDArray[Any]:
    square = counts.reshape(len(often), len(often))
    table: npt.NDArray[Any] = (square + often) / (square.sum(axis=1, keepdims=True) + 1)
    return table


def _align(wording: Wording, contexts: Sequence[Any], translated: Any) -> Alignment:
    """Each word's best aligned words of other captions, in each channel."""
    kept = _KEPT
    places = np.zeros((len(CHANNELS), len(wording), kept), dtype=np.int32)
    weights = np.zeros((len(CHANNELS), len(wording), kept), dtype=np.float32)
    for rows in wording.rows():
        if rows.start == rows.stop:
            continue
        other = wording.caption[rows][:, None] != wording.caption[rows][None]
        found = [_near(context[rows]) for context in contexts]
        for column in (_NEXT, _PREVIOUS):
            beside = wording.around[rows, column]
            inner = (beside != EDGE) & (beside != RARE)
            distinct, which = np.unique(beside, return_inverse=True)
            near = _near(translated[distinct])[np.ix_(which, which)]
            found.append(near * inner[:, None] * inner[None])
        for channel, similar in enumerate(found):
            near = np.where(other & (similar >= _FAINT), similar, 0)
            k = min(kept, near.shape[1])
            best = np.argpartition(-near, k - 1, axis=1)[:, :k]
            places[channel, rows, :k] = best + rows.start
            weights[channel, rows, :k] = np.take_along_axis(near, best, axis=1)
    return Alignment(places, weights)
