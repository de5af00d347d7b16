"""Masked-word accuracy: how much a reference says about captions that training never saw.

Measured on held-out captions of *training* objects, because on training captions it would measure
memory. The right reference is compared with another object's and with none at all.

Most words of a caption say nothing of its object ("a", "wearing"); context alone gives them. So the
figures are also taken over the *attribute words*: those that another caption of the same object
repeats at least half again as often as chance would have it.
"""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmref.data.text import MASK, mask_words, pad
from mmref.encoders.base import TrainableEncoder
from mmref.errors import DataError, ModelError
from mmref.model import MMRef
from mmref.references.reconstruction import ReconstructionDecoder, masked_accuracy

_BATCH = 256
_NO_WORDS = "not one of these captions holds a word of the training captions"
_LIFT = 1.5
_LEAST = 20  # pairs of captions that must speak for a word's lift


def masked_word_accuracy(
    model: MMRef,
    captions: Sequence[str],
    objects: Sequence[str],
    *,
    mask_rate: float = 0.4,
    seed: int = 0,
) -> dict[str, float]:
    """Predict masked words with the right reference, a shuffled one, and none.

    The same words are masked in all three; each is shown as the mask itself (never left or
    replaced, unlike in training). The shuffled references are another object's for every caption.

    Args:
        model: trained with local reconstruction.
        captions: captions that were not trained on.
        objects: the training object of each.
        mask_rate: share of words masked, in (0, 1); at least one a caption.
        seed: draws the masks and the shuffle.

    Returns:
        ``right``, ``shuffled`` and ``none`` in percent of the ``words`` masked, and the same of the
        ``attribute_words`` among them as ``attribute_right`` and so on (0 where there are none).

    Raises:
        ModelError: the model was trained without reconstruction.
        DataError: an object is no training object, or no caption holds a known word.

    Example:
        >>> masked_word_accuracy(model, ["a red hat"], ["figure 7"])  # doctest: +SKIP
        {'right': 61.5, ..., 'words': 1048, 'attribute_right': 48.0, ..., 'attribute_words': 402}
    """
    decoder, memory, number = _decoder(model)
    if not captions:
        raise DataError(_NO_WORDS)
    unknown = sorted(set(objects).difference(number))
    if unknown:
        raise DataError(f"{unknown[0]!r} is no training object: it has no reference")
    if len(captions) != len(objects):
        raise DataError(f"{len(captions)} captions, but {len(objects)} objects")
    rng = np.random.default_rng(seed)
    right = torch.tensor([number[name] for name in objects], dtype=torch.long)
    other = _deranged(len(memory), rng)[right]
    vocabulary, length = decoder.embedding.num_embeddings, model.settings.encoder.caption_length
    tokeniser = cast(TrainableEncoder, model.encoder).tokeniser  # of words, for clip too
    ids = tokeniser.ids(list(captions))
    attribute = torch.from_numpy(attribute_words(ids, right.numpy(), vocabulary))
    hits: dict[str, list[Tensor]] = {"right": [], "shuffled": [], "none": []}
    telling: list[Tensor] = []
    for start in range(0, len(captions), _BATCH):
        rows = slice(start, start + _BATCH)
        words = pad(ids[rows], longest=length)
        _, masked = mask_words(words, mask_rate, vocabulary, rng)
        hidden = words.masked_fill(masked, MASK)
        telling.append(attribute[words[masked]])
        given = {"right": memory[right[rows]], "shuffled": memory[other[rows]], "none": None}
        for name, references in given.items():
            hits[name].append(masked_accuracy(decoder, words, hidden, masked, references))
    among = torch.cat(telling) if telling else torch.zeros(0, dtype=torch.bool)
    if len(among) == 0:
        raise DataError(_NO_WORDS)
    found: dict[str, float] = {}
    for prefix, chosen in (("", torch.ones_like(among)), ("attribute_", among)):
        for name, each in hits.items():
            right_ones = torch.cat(each)[chosen]
            found[prefix + name] = (
                100.0 * float(right_ones.double().mean()) if len(right_ones) else 0.0
            )
        found[prefix + "words"] = int(chosen.sum())
    return found


def attribute_words(
    captions: Sequence[Sequence[int]], objects: npt.NDArray[np.integer[Any]], vocabulary: int
) -> npt.NDArray[np.bool_]:
    """Which words depend on the object: others of its captions repeat them more than by chance.

    A word's lift is the share of the other captions of an object that hold it, given that one
    does, over the share of all captions that do; 1.5 and more counts. Our choice.

    Args:
        captions: token ids of each caption.
        objects: object number of each, int[n].
        vocabulary: number of token ids.

    Returns:
        bool[vocabulary]; special tokens and words seen too seldom are not among them.

    Example:
        >>> said = [[5, 7], [5, 7], [5, 8], [5, 8]] * 10
        >>> attribute_words(said, np.array([0, 0, 1, 1] * 10), 9).nonzero()[0].tolist()
        [7, 8]
    """
    present = np.zeros((len(captions), vocabulary), dtype=np.float32)
    for row, ids in enumerate(captions):
        present[row, list(ids)] = 1.0
    size = int(objects.max()) + 1 if len(objects) else 0
    told = np.zeros((size, vocabulary))
    np.add.at(told, objects, present)
    others = np.bincount(objects, minlength=size)[:, None] - 1.0
    pairs = (told * others).sum(axis=0)
    again = (told * (told - 1)).sum(axis=0)
    chance = pairs * present.mean(axis=0)
    lift = np.divide(again, chance, out=np.zeros(vocabulary), where=chance > 0)
    found: npt.NDArray[np.bool_] = (lift >= _LIFT) & (pairs >= _LEAST)
    found[: MASK + 1] = False
    return found


def _decoder(model: MMRef) -> tuple[ReconstructionDecoder, Tensor, dict[str, int]]:
    """The decoder with its weights, what it reads of each reference, and the objects' numbers."""
    references = model.references
    if references is None or not references.decoder or not references.parts:
        raise ModelError(
            "this run was trained without reconstruction: set references.decoder_epochs > 0"
        )
    settings, weights = model.settings, references.decoder
    memory = torch.cat(list(references.parts), dim=1).float()
    decoder = ReconstructionDecoder(
        len(weights["out_bias"]),
        memory.shape[1],
        width=settings.references.decoder_width,
        tokens=settings.references.tokens,
        length=settings.encoder.caption_length,
    )
    decoder.load_state_dict(weights)
    decoder.eval()
    return decoder, memory, {name: k for k, name in enumerate(references.objects)}


def _deranged(count: int, rng: np.random.Generator) -> Tensor:
    """For each of ``count`` objects another one, none twice."""
    order = torch.from_numpy(rng.permutation(count))
    other = torch.empty_like(order)
    other[order] = order.roll(1)
    return other
