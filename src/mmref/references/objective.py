"""Base + fusion + reconstruction + guidance + words as one objective with named losses.

``L = L_base + a L_fuse + b L_rec + c L_rgrl + e L_words``. The first four are the paper's; the
weights, that c grows from 0 in the first epochs, and L_words (``words.py``) are our choices. With
a = b = c = e = 0 it is the base objective; with ``loss.identity_weight`` instead, the ID control,
whose weights then serve as references, as those of ``loss.cmpc_weight`` do.

L_base is one of ``LOSSES``, by ``loss.kind``. References are learnt or, by ``references.kind``,
prototypes; those that follow the batches move in ``forward`` while training, after the losses.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mmref.config import LossSettings, ReferenceSettings, Settings
from mmref.data.text import mask_words
from mmref.losses.cmpm import cmpc, cmpm
from mmref.losses.contrastive import symmetric_contrastive
from mmref.losses.identity import identity
from mmref.losses.pairwise import pairwise
from mmref.losses.sdm import sdm
from mmref.losses.tal import tal
from mmref.losses.triplet import triplet
from mmref.references.bank import ReferenceBank, fusion, guidance
from mmref.references.masked_words import MaskedWords
from mmref.references.prototypes import PrototypeBank
from mmref.references.reconstruction import ReconstructionDecoder, reconstruction
from mmref.references.words import WordGuidance

Loss = Callable[[Tensor, Tensor, Tensor, LossSettings], Tensor]
"""(texts, images, objects, settings) -> scalar, of one part's L2-normalised features."""

LOSSES: dict[str, Loss] = {
    "contrastive": lambda t, v, o, s: symmetric_contrastive(t, v, o, s.temperature),
    "pairwise": lambda t, v, o, s: pairwise(t, v, s.temperature),
    "sdm": lambda t, v, o, s: sdm(t, v, o, s.temperature),
    "tal": lambda t, v, o, s: tal(t, v, o, s.margin, s.temperature),
    "cmpm": lambda t, v, o, s: cmpm(t, v, o, s.temperature),
    "triplet": lambda t, v, o, s: triplet(t, v, o, s.margin),
}
"""``loss.kind`` -> L_base. A new loss is a line here and a name in the settings."""


class Objective(nn.Module):
    """Maps a batch's features to named losses, the mean over the encoder's parts.

    Args:
        settings: weights, temperatures and sizes.
        objects: m, the training objects.
        dimensions: numbers of each of the encoder's parts.
        vocabulary: number of token ids.

    Example:
        >>> objective = Objective(Settings(), objects=3, dimensions=[4], vocabulary=9)
        >>> x = torch.eye(4)[:2]
        >>> words = torch.tensor([[5, 6], [7, 8]])
        >>> losses = objective([x], [x], torch.tensor([0, 1]), words, np.random.default_rng(0))
        >>> sorted(losses)
        ['base', 'fusion', 'guidance', 'total']
    """

    def __init__(
        self, settings: Settings, *, objects: int, dimensions: Sequence[int], vocabulary: int
    ) -> None:
        super().__init__()
        self.settings, self.vocabulary = settings, vocabulary
        references, loss = settings.references, settings.loss
        needs_banks = references.used or max(loss.identity_weight, loss.cmpc_weight) > 0
        self.banks = nn.ModuleList(
            new_bank(references, objects, dimension) for dimension in dimensions if needs_banks
        )
        self.words = (
            WordGuidance(objects, dimensions[-1], vocabulary)
            if references.words_weight > 0 and settings.encoder.deep
            else None
        )
        self.decoder: ReconstructionDecoder | None = (
            new_decoder(settings, vocabulary, sum(dimensions))
            if references.reconstruction_weight > 0
            else None
        )
        self.masked_words = (
            MaskedWords(
                new_decoder(settings, vocabulary, sum(dimensions)),
                vocabulary,
                references.mask_rate,
            )
            if loss.masked_words_weight > 0
            else None
        )

    def references(self) -> list[Tensor]:
        """The normalised references of each part, Tensor[m, d_part]; empty without any."""
        return [bank() for bank in self.banks]

    def bank(self, number: int) -> ReferenceBank:
        """The references of one part."""
        bank = self.banks[number]
        assert isinstance(bank, ReferenceBank)
        return bank

    def forward(
        self,
        texts: Sequence[Tensor],
        images: Sequence[Tensor],
        objects: Tensor,
        words: Tensor,
        rng: np.random.Generator,
        ramp: float = 1.0,
    ) -> dict[str, Tensor]:
        """The losses of one batch.

        Args:
            texts: each part's L2-normalised text features, Tensor[n, d_part].
            images: each part's image features of the same objects.
            objects: object numbers, Tensor[n].
            words: token ids of the captions, padded, Tensor[n, l]; masked here on a copy.
            rng: draws the masks.
            ramp: 0 to 1, the share of c in force.

        Returns:
            ``base``, those of ``fusion``, ``guidance``, ``reconstruction``, ``words``,
            ``identity``, ``cmpc`` and ``masked_words`` that are in use, unweighted, and
            ``total``.
        """
        references = self.references()
        sums: dict[str, Tensor] = {}
        for number, (text, image) in enumerate(zip(texts, images, strict=True)):
            reference = references[number] if references else None
            for name, loss in self._part(text, image, objects, reference).items():
                sums[name] = sums[name] + loss if name in sums else loss
        losses = {name: loss / len(texts) for name, loss in sums.items()}
        if self.decoder is not None:
            rate = self.settings.references.mask_rate
            masked_words, masked = mask_words(words, rate, self.vocabulary, rng)
            memory = torch.cat(references, dim=1)[objects]
            losses["reconstruction"] = reconstruction(
                self.decoder, words, masked_words, masked, memory
            )
        if self.words is not None:
            features, both = torch.cat([texts[-1], images[-1]]), torch.cat([objects, objects])
            losses["words"] = self.words(features, both)
        if self.masked_words is not None:
            losses["masked_words"] = self.masked_words(images, words, rng)
        weights = self._weights(ramp)
        losses["total"] = torch.stack([weights[n] * loss for n, loss in losses.items()]).sum()
        if self.training:
            self._follow(texts, images, objects)
        return losses

    def _part(
        self, text: Tensor, image: Tensor, objects: Tensor, references: Tensor | None
    ) -> dict[str, Tensor]:
        weights, tau = self.settings.references, self.settings.references.temperature
        loss = self.settings.loss
        losses = {"base": LOSSES[loss.kind](text, image, objects, loss)}
        if references is None:
            return losses
        features, both = torch.cat([text, image]), torch.cat([objects, objects])
        if weights.fusion_weight > 0:
            losses["fusion"] = fusion(references, features, both, tau)
        if weights.guidance_weight > 0:
            losses["guidance"] = guidance(references, features, both, tau)
        if loss.identity_weight > 0:
            losses["identity"] = identity(features, references, both, tau)
        if loss.cmpc_weight > 0:
            losses["cmpc"] = cmpc(text, image, references, objects, tau)
        return losses

    def _follow(self, texts: Sequence[Tensor], images: Sequence[Tensor], objects: Tensor) -> None:
        both = torch.cat([objects, objects])
        for bank, text, image in zip(self.banks, texts, images, strict=False):
            if isinstance(bank, PrototypeBank):
                bank.follow(torch.cat([text, image]), both)

    def _weights(self, ramp: float) -> dict[str, float]:
        references = self.settings.references
        return {
            "base": 1.0,
            "fusion": references.fusion_weight,
            "guidance": ramp * references.guidance_weight,
            "identity": self.settings.loss.identity_weight,
            "cmpc": self.settings.loss.cmpc_weight,
            "masked_words": self.settings.loss.masked_words_weight,
            "words": references.words_weight,
            "reconstruction": references.reconstruction_weight,
        }


def new_bank(settings: ReferenceSettings, objects: int, dimension: int) -> ReferenceBank:
    """The references of one part: learnt, or prototypes by ``references.kind``.

    Example:
        >>> type(new_bank(ReferenceSettings(kind="ema"), 3, 4)).__name__
        'PrototypeBank'
    """
    if settings.learned:
        return ReferenceBank(objects, dimension)
    return PrototypeBank(objects, dimension, settings.momentum if settings.kind == "ema" else None)


def new_decoder(settings: Settings, vocabulary: int, dimension: int) -> ReconstructionDecoder:
    """A decoder of these settings for references of ``dimension`` numbers, all parts together."""
    return ReconstructionDecoder(
        vocabulary,
        dimension,
        width=settings.references.decoder_width,
        tokens=settings.references.tokens,
        length=settings.encoder.caption_length,
        dropout=settings.encoder.dropout,
    )
