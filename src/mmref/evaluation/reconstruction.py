"""Masked-word accuracy: how much a reference says about captions that training never saw.

Measured on held-out captions of *training* objects, because on training captions it would measure
memory. The right reference is compared with another object's and with none at all.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmref.data.text import MASK, mask_words, pad
from mmref.errors import DataError, ModelError
from mmref.model import MMRef
from mmref.references.reconstruction import ReconstructionDecoder, masked_accuracy

_BATCH = 256


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
        ``right``, ``shuffled`` and ``none`` in percent of the ``words`` masked.

    Raises:
        ModelError: the model was trained without reconstruction.
        DataError: an object is no training object, or no caption holds a known word.

    Example:
        >>> masked_word_accuracy(model, ["a red hat"], ["figure 7"])  # doctest: +SKIP
        {'right': 61.5, 'shuffled': 38.2, 'none': 41.0, 'words': 1048}
    """
    decoder, memory, number = _decoder(model)
    unknown = sorted(set(objects).difference(number))
    if unknown:
        raise DataError(f"{unknown[0]!r} is no training object: it has no reference")
    if len(captions) != len(objects):
        raise DataError(f"{len(captions)} captions, but {len(objects)} objects")
    rng = np.random.default_rng(seed)
    right = torch.tensor([number[name] for name in objects], dtype=torch.long)
    other = _deranged(len(memory), rng)[right]
    vocabulary, length = decoder.embedding.num_embeddings, model.settings.encoder.caption_length
    hits = {"right": 0, "shuffled": 0, "none": 0}
    total = 0
    for start in range(0, len(captions), _BATCH):
        rows = slice(start, start + _BATCH)
        words = pad(model.encoder.tokenise(list(captions[rows])), longest=length)
        _, masked = mask_words(words, mask_rate, vocabulary, rng)
        hidden = words.masked_fill(masked, MASK)
        total += int(masked.sum())
        given = {"right": memory[right[rows]], "shuffled": memory[other[rows]], "none": None}
        for name, references in given.items():
            hits[name] += int(masked_accuracy(decoder, words, hidden, masked, references).sum())
    if total == 0:
        raise DataError("not one of these captions holds a word of the training captions")
    return {**{name: 100.0 * count / total for name, count in hits.items()}, "words": total}


def _decoder(model: MMRef) -> tuple[ReconstructionDecoder, Tensor, dict[str, int]]:
    """The decoder with its weights, what it reads of each reference, and the objects' numbers."""
    references = model.references
    if references is None or not references.decoder or not references.parts:
        raise ModelError(
            "this run was trained without reconstruction: set references.reconstruction_weight"
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
