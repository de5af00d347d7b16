"""What a reference says: the captions and images nearest to it, and the words it predicts alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from mmref.data.text import MASK, pad
from mmref.encoders.base import TrainableEncoder
from mmref.errors import DataError, ModelError
from mmref.evaluation.reconstruction import _decoder
from mmref.model import MMRef
from mmref.references.kept import References

_FRAMES = 48
_AVERAGED = 128  # references that stand for all
_HIDDEN = 0.5  # share of a frame's words that are asked for


@dataclass(frozen=True)
class Neighbour:
    """A caption or an image near a reference.

    Attributes:
        what: the caption, or the image's name.
        cosine: with the reference.
        object: the object that it belongs to.
        own: whether that is the reference's own.
    """

    what: str
    cosine: float
    object: str
    own: bool


@dataclass(frozen=True)
class PredictedWord:
    """A word that the reconstruction predicts from a reference.

    Attributes:
        word: the word.
        probability: in the mean over slots.
        lift: that, over the mean of all references.
    """

    word: str
    probability: float
    lift: float


@dataclass(frozen=True)
class Saying:
    """What one reference says.

    Attributes:
        object: its object.
        captions: the nearest captions, best first.
        images: the nearest images, best first.
        words: the words that lead, None without a reconstruction decoder.
    """

    object: str
    captions: tuple[Neighbour, ...]
    images: tuple[Neighbour, ...]
    words: tuple[PredictedWord, ...] | None

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def require_references(model: MMRef) -> References:
    """The model's references.

    Raises:
        ModelError: it has none.
    """
    if model.references is None:
        raise ModelError(
            "this run was trained without references: train with references.fusion_weight > 0"
        )
    return model.references


def reference_numbers(model: MMRef, names: Sequence[str]) -> list[int]:
    """The reference of each object.

    Raises:
        DataError: an object is no training object of the run.
        ModelError: the run has no references.
    """
    number = {name: k for k, name in enumerate(require_references(model).objects)}
    unknown = [name for name in names if name not in number]
    if unknown:
        raise DataError(
            f"{unknown[0]!r} is no training object of this run, which has {len(number)} references "
            f"({', '.join(sorted(number)[:3])} ...)"
        )
    return [number[name] for name in names]


def nearest(
    references: Tensor,
    vectors: Tensor,
    names: Sequence[str],
    objects: Sequence[str],
    owner: str,
    count: int,
) -> tuple[Neighbour, ...]:
    """The vectors nearest to one reference.

    Args:
        references: one reference, normalised, Tensor[d].
        vectors: Tensor[n, d], normalised.
        names: what each is, n of them.
        objects: the object of each.
        owner: the reference's object.
        count: at most so many.

    Example:
        >>> found = nearest(torch.tensor([1.0, 0.0]), torch.eye(2), ["a", "b"], ["x", "y"], "x", 1)
        >>> found[0].what, found[0].own
        ('a', True)
    """
    cosines = vectors @ references
    best = torch.argsort(cosines, descending=True, stable=True)[:count].tolist()
    return tuple(
        Neighbour(names[i], round(float(cosines[i]), 4), objects[i], objects[i] == owner)
        for i in best
    )


@torch.no_grad()
def predicted_words(
    model: MMRef,
    names: Sequence[str],
    frames: Sequence[str],
    *,
    count: int = 10,
    seed: int = 0,
) -> list[tuple[PredictedWord, ...]] | None:
    """The words that the reconstruction decoder predicts from each reference alone.

    The decoder fills half of the words of neutral frames, captions drawn from all objects, and its
    probabilities are averaged over all those slots. What the frames themselves suggest is the
    same for every reference, and is divided out: words are ranked by ``p log(p / mean p)``, their
    part of the divergence from the mean reference, so common words and chance do not lead.

    Args:
        model: with references.
        names: training objects.
        frames: captions; at most 48 are drawn from them.
        count: words for each object.
        seed: draws frames, slots, and the references that are averaged.

    Returns:
        The words of each object, best first; None when the run has no reconstruction decoder.

    Raises:
        DataError: an object is no training object, or no frame holds a known word.
    """
    chosen = reference_numbers(model, names)
    try:
        decoder, memory, _ = _decoder(model)
    except ModelError:
        return None
    rng = np.random.default_rng(seed)
    drawn = [frames[i] for i in rng.permutation(len(frames))[:_FRAMES]]
    tokeniser = cast(TrainableEncoder, model.encoder).tokeniser  # of words, for clip too
    words = pad(tokeniser.ids(drawn), longest=model.settings.encoder.caption_length)
    asked = (words > MASK) & torch.from_numpy(rng.random(tuple(words.shape)) < _HIDDEN)
    if not asked.any():
        raise DataError("not one of these captions holds a word of the training captions")
    hidden = words.masked_fill(asked, MASK)
    sample = rng.permutation(len(memory))[:_AVERAGED].tolist()

    def mean_over_slots(number: int) -> Tensor:
        logits: Tensor = decoder(hidden, asked, memory[number].expand(len(hidden), -1))
        logits[:, : MASK + 1] = -torch.inf
        return logits.softmax(dim=1).mean(dim=0)

    average = torch.stack([mean_over_slots(number) for number in sample]).mean(dim=0)
    found = []
    for number in chosen:
        own = mean_over_slots(number)
        part = torch.nan_to_num(own * torch.log(own / average), nan=-1.0)
        best = torch.argsort(part, descending=True, stable=True)[:count].tolist()
        found.append(
            tuple(
                PredictedWord(
                    tokeniser.word(i), round(float(own[i]), 5), round(float(own[i] / average[i]), 3)
                )
                for i in best
                if part[i] > 0
            )
        )
    return found
