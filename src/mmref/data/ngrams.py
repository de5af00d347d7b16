"""The features of a caption: weighted words, word pairs, and runs of characters inside words.

Runs of characters let "reddish" and "reds", in no training caption, count nearly as "red" does.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from mmref.data.text import MASK, UNKNOWN, CaptionTokeniser

RUNS = (3, 4)  # characters of a run


class UnseenWord(int):
    """The token ``UNKNOWN`` for all who count tokens, which remembers the word's known runs.

    Attributes:
        runs: its features.

    Example:
        >>> word = UnseenWord.of([40, 41])
        >>> word == UNKNOWN, word.runs
        (True, (40, 41))
    """

    runs: tuple[int, ...]

    @classmethod
    def of(cls, runs: Iterable[int]) -> "UnseenWord":
        """A word never seen in training that has these features."""
        word = cls(UNKNOWN)
        word.runs = tuple(runs)
        return word


@dataclass(frozen=True)
class NGramVocabulary:
    """Words, word pairs and runs of 3-4 characters, with inverse document frequencies.

    The TF-IDF vector of words and pairs and that of runs, each of unit length, stand side by side
    (our choice). One-character words, as all are in scripts without spaces, have no runs.

    Attributes:
        words: number of token ids; feature ``i < words`` is the word with id i.
        pairs: the kept word pairs, int64 [p, 2]; feature ``words + k`` is ``pairs[k]``.
        idf: one weight a feature, float32 [words + p + r].
        runs: the kept runs, sorted, ``#`` for a word's ends; feature ``words + p + k`` is
            ``runs[k]``.
        weight: what the squared length of the runs' vector is to that of the words'.
        spellings: the word of each id; empty where there are no runs.

    Example:
        >>> vocabulary = NGramVocabulary.learn([[4, 5], [4, 5, 6]], words=7)
        >>> len(vocabulary), vocabulary.pairs.tolist()
        (8, [[4, 5]])
        >>> spellings = ["", "", "", "", "red", "hats", "a"]
        >>> NGramVocabulary.learn([[4, 5], [4, 5, 6]], 7, spellings).runs[:4]
        ('#ha', '#hat', '#re', '#red')
    """

    words: int
    pairs: np.ndarray
    idf: np.ndarray
    runs: tuple[str, ...] = ()
    weight: float = 1.0
    spellings: tuple[str, ...] = ()
    _pair_index: dict[tuple[int, int], int] = field(init=False, repr=False, compare=False)
    _run_index: dict[str, int] = field(init=False, repr=False, compare=False)
    _inside: dict[int, tuple[int, ...]] = field(init=False, repr=False, compare=False)

    @classmethod
    def learn(
        cls,
        captions: Sequence[Sequence[int]],
        words: int,
        spellings: Sequence[str] = (),
        *,
        weight: float = 1.0,
        least: int = 2,
        most: int = 50_000,
    ) -> "NGramVocabulary":
        """Keep pairs and runs that stand in ``least`` captions, the ``most`` frequent of each.

        Args:
            captions: token ids of the distinct training captions.
            words: number of token ids.
            spellings: the word of each id; without them, or with no weight, there are no runs.
            weight: of the runs.
            least: captions that a pair or run must stand in.
            most: pairs, and runs, kept.
        """
        singles: Counter[int] = Counter()
        pairs: Counter[tuple[int, int]] = Counter()
        runs: Counter[str] = Counter()
        spellings = tuple(spellings) if weight > 0 else ()
        inside = {i: set(word_runs(word)) for i, word in enumerate(spellings) if i > MASK}
        for ids in captions:
            known = [i for i in ids if i > MASK]
            singles.update(set(known))
            pairs.update(set(pairwise(known)))
            if inside:
                runs.update(set().union(*(inside[i] for i in known)))
        kept_pairs, kept_runs = _frequent(pairs, least, most), _frequent(runs, least, most)
        counts = np.array(
            [
                *(singles[i] for i in range(words)),
                *(pairs[p] for p in kept_pairs),
                *(runs[r] for r in kept_runs),
            ],
            dtype=np.float64,
        )
        idf = np.log((1 + len(captions)) / (1 + counts)) + 1
        table = np.array(kept_pairs, dtype=np.int64).reshape(-1, 2)
        spellings = spellings if kept_runs else ()
        return cls(words, table, idf.astype(np.float32), tuple(kept_runs), weight, spellings)

    @classmethod
    def from_json(cls, stored: dict[str, Any], tokeniser: CaptionTokeniser) -> "NGramVocabulary":
        """Rebuild from :meth:`to_json`; what was stored before there were runs has none."""
        runs = tuple(stored.get("runs", ()))
        return cls(
            int(stored["words"]),
            np.array(stored["pairs"], dtype=np.int64).reshape(-1, 2),
            np.array(stored["idf"], dtype=np.float32),
            runs,
            float(stored.get("weight", 1.0)),
            tuple(tokeniser.word(i) for i in range(len(tokeniser))) if runs else (),
        )

    def to_json(self) -> dict[str, Any]:
        """All but the spellings, which the tokeniser knows, as JSON."""
        return {
            "words": self.words,
            "pairs": self.pairs.tolist(),
            "idf": self.idf.tolist(),
            "runs": list(self.runs),
            "weight": self.weight,
        }

    def __post_init__(self) -> None:
        pairs = {(int(a), int(b)): self.words + k for k, (a, b) in enumerate(self.pairs)}
        first = self.words + len(pairs)
        object.__setattr__(self, "_pair_index", pairs)
        object.__setattr__(self, "_run_index", {run: first + k for k, run in enumerate(self.runs)})
        object.__setattr__(self, "_inside", {})

    def __len__(self) -> int:
        return self.words + len(self.pairs) + len(self.runs)

    def run_features(self, word: str) -> tuple[int, ...]:
        """The features of a word's known runs, a repeated one repeatedly."""
        index = self._run_index
        return tuple(index[run] for run in word_runs(word) if run in index)

    def ids(self, tokeniser: CaptionTokeniser, captions: Sequence[str]) -> list[list[int]]:
        """Token ids of captions; a word never seen keeps its runs (:class:`UnseenWord`)."""
        found = tokeniser.ids(captions)
        if self.runs:
            for k, ids in enumerate(found):
                if UNKNOWN in ids:
                    words = tokeniser.words([captions[k]])[0]
                    found[k] = [
                        UnseenWord.of(self.run_features(word)) if i == UNKNOWN else i
                        for i, word in zip(ids, words, strict=True)
                    ]
        return found

    def features(self, ids: Sequence[int]) -> tuple[list[int], list[float]]:
        """Features of one caption and their weights: (1 + log count) * idf, unit L2 norm."""
        known = [i for i in ids if i > MASK]
        found: Counter[int] = Counter(known)
        for pair in pairwise(known):
            feature = self._pair_index.get(pair)
            if feature is not None:
                found[feature] += 1
        features, weights = self._weighted(found)
        if self.runs:
            inside: Counter[int] = Counter()
            for i in ids:
                inside.update(self._runs_of(i))
            run_features, run_weights = self._weighted(inside)
            features += run_features
            weights = np.concatenate([weights, run_weights * self.weight**0.5])
        if not features:
            return [], []
        return features, (weights / np.linalg.norm(weights)).tolist()

    def _weighted(self, found: Counter[int]) -> tuple[list[int], np.ndarray]:
        features = list(found)
        if not features:
            return [], np.zeros(0)
        counts = np.fromiter(found.values(), dtype=np.float64, count=len(found))
        weights = (1 + np.log(counts)) * self.idf[features]
        return features, weights / np.linalg.norm(weights)

    def _runs_of(self, token: int) -> tuple[int, ...]:
        if isinstance(token, UnseenWord):
            return token.runs
        if token <= MASK:
            return ()
        runs = self._inside.get(token)
        if runs is None:
            runs = self._inside[token] = self.run_features(self.spellings[token])
        return runs


def word_runs(word: str) -> list[str]:
    """The runs of 3 and 4 characters of a word, its ends marked; none of a single character.

    Example:
        >>> word_runs("hat"), word_runs("a")
        (['#ha', 'hat', 'at#', '#hat', 'hat#'], [])
    """
    if len(word) < 2:
        return []
    marked = f"#{word}#"
    return [marked[i : i + n] for n in RUNS for i in range(len(marked) - n + 1)]


def _frequent(counts: Counter[Any], least: int, most: int) -> list[Any]:
    """The ``most`` frequent of those counted ``least`` times, ties in order; sorted."""
    frequent = (one for one, n in counts.items() if n >= least)
    return sorted(sorted(frequent, key=lambda one: (-counts[one], one))[:most])
