"""The automatic cut: is there an answer at all, and where do the scores fall to the noise?

Our choice, measured by ``benchmarks/auto_cut.py``. Nothing is fitted to a data set: what noise
looks like is asked of the run and the store themselves, by *nonsense*, sentences of eight words
drawn at random from the run's vocabulary.

- *floor*: the median score of nonsense and any image of the store;
  *peak*: the median of nonsense's best scores.
- *fit* of a question: (its best score - floor) / (peak - floor); 1 for nonsense.
- *familiarity*: the same of its cosines with the references (floor: the median, peak: the mean of
  the five nearest), where the run has references.
- *known*: the share of its words that the run has seen; 1 for encoders that came pre-trained.

A sentence is answered when ``known ** 4 * mean(fit, familiarity)`` is at least 0.35. A hit then
stays when it is above the floor by 0.1 of what the best hit is. Pictures alone are always
answered.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float64]

LEAST_EVIDENCE = 0.35
LEAST_SHARE = 0.1
SHARPNESS = 4
SENTENCES, WORDS, NEAREST = 64, 8, 5
_LEAST_SPREAD = 1e-6
_PLAIN = """
angle bread cloud dance engine fabric garden hammer island jacket kitchen ladder market needle
orange pencil queue river school ticket under village window yellow zebra above bottle carry doctor
early forest glass heavy insect jump kettle large money north open paper quick round small table
"""


@dataclass(frozen=True, slots=True)
class Confidence:
    """Whether anything in the store answers a question.

    Attributes:
        confident: the evidence reaches what is needed.
        evidence: known ** 4 * mean(fit, familiarity).
        needed: 0.35.
        known: share of the words that the run has seen.
        fit: the best score between the noise's floor (0) and peak (1); above 1 for real questions.
        familiarity: the same of the references; None without references.
    """

    confident: bool
    evidence: float
    needed: float
    known: float
    fit: float
    familiarity: float | None

    @classmethod
    def unknown(cls) -> "Confidence":
        """That of a question without a word that the run knows."""
        return cls(False, 0.0, LEAST_EVIDENCE, 0.0, 0.0, None)


@dataclass(frozen=True, slots=True)
class Noise:
    """What nonsense scores.

    Attributes:
        floor: median score of nonsense and any image.
        peak: median of nonsense's best scores.
        near_floor: median cosine of nonsense and any reference; None without references.
        near_peak: median of nonsense's mean cosine with the five nearest references.

    Example:
        >>> noise = Noise(floor=0.1, peak=0.3, near_floor=None, near_peak=None)
        >>> noise.confidence(0.5, None, known=1.0)
        Confidence(confident=True, evidence=2.0, needed=0.35, known=1.0, fit=2.0, familiarity=None)
        >>> noise.confidence(0.5, None, known=0.5).confident
        False
        >>> noise.least(0.5)
        0.14
    """

    floor: float
    peak: float
    near_floor: float | None
    near_peak: float | None

    def confidence(self, best: float, near: float | None, known: float) -> Confidence:
        """The evidence of a question.

        Args:
            best: its best score in the store.
            near: its mean cosine with the five nearest references.
            known: share of its words that the run has seen.
        """
        fit = _ratio(best, self.floor, self.peak)
        familiarity = None
        if near is not None and self.near_floor is not None and self.near_peak is not None:
            familiarity = _ratio(near, self.near_floor, self.near_peak)
        mean = fit if familiarity is None else (fit + familiarity) / 2
        evidence = float(known**SHARPNESS * mean)
        return Confidence(
            evidence >= LEAST_EVIDENCE,
            round(evidence, 4),
            LEAST_EVIDENCE,
            round(known, 4),
            round(fit, 4),
            None if familiarity is None else round(familiarity, 4),
        )

    def least(self, best: float) -> float:
        """The score at which the list ends when its best hit has ``best``."""
        return round(self.floor + LEAST_SHARE * max(best - self.floor, 0.0), 6)


def _ratio(value: float, floor: float, peak: float) -> float:
    """Where a value stands between floor (0) and peak (1); 1 where noise has no spread."""
    if peak - floor < _LEAST_SPREAD:
        return 1.0
    return float((value - floor) / (peak - floor))


def nearest_mean(cosines: Scores) -> float:
    """The mean of the five highest.

    Example:
        >>> nearest_mean(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]))
        3.0
    """
    return float(np.sort(cosines)[-NEAREST:].mean())


def nonsense(words: Sequence[str], count: int = SENTENCES) -> list[str]:
    """Sentences of words drawn at random, always the same ones.

    Args:
        words: the run's vocabulary; words of a short list are taken where it is too small.
        count: how many sentences.

    Example:
        >>> nonsense(["red", "flag"] * 50, 1) == nonsense(["flag", "red"] * 50, 1)
        True
    """
    usable = sorted({word for word in words if word.isalpha()})
    chosen = usable if len(usable) >= WORDS else _PLAIN.split()
    draw = random.Random(0)
    return [" ".join(draw.choice(chosen) for _ in range(WORDS)) for _ in range(count)]


def known_share(texts: Sequence[str], unknown: Sequence[str]) -> float:
    """The share of words that are not among the unknown; 1 without words.

    Example:
        >>> known_share(["a red bandersnatch"], ["bandersnatch"]).__round__(3)
        0.667
    """
    words = [word for text in texts for word in re.findall(r"\w+", text.lower())]
    strange = set(unknown)
    return 1.0 if not words else sum(word not in strange for word in words) / len(words)
