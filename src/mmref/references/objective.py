"""Base + fusion + reconstruction + guidance + words as one objective with named losses.

``L = L_base + a L_fuse + b L_rec + c L_rgrl + e L_words``. The first four are the paper's; the
weights, that c grows from 0 in the first epochs, and L_words (``words.py``) are our choices. With
a = b = c = e = 0 it is the base objective; with ``loss.identity_weight`` instead, the ID control,
whose weights then serve as references.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mmref.config import Settings
from mmref.data.text import mask_words
from mmref.losses.contrastive import symmetric_contrastive
from mmref.losses.identity import identity
from mmref.references.bank import ReferenceBank, fusion, guidance
from mmref.references.reconstruction import ReconstructionDecoder, reconstruction
from mmref.references.words import WordGuidance


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
        ['base', 'fusion', 'guidance', 'reconstruction', 'total', 'words']
    """

    def __init__(
        self, settings: Settings, *, objects: int, dimensions: Sequence[int], vocabulary: int
    ) -> None:
        super().__init__()
        self.settings, self.vocabulary = settings, vocabulary
        references = settings.references
        needs_banks = references.used or settings.loss.identity_weight > 0
        self.banks = nn.ModuleList(
            ReferenceBank(objects, dimension) for dimension in dimensions if needs_banks
        )
        self.words = (
            WordGuidance(objects, dimensions[-1], vocabulary)
            if references.words_weight > 0 and settings.encoder.deep
            else None
        )
        self.decoder = (
            ReconstructionDecoder(
                vocabulary,
                sum(dimensions),
                width=references.decoder_width,
                tokens=references.tokens,
                length=settings.encoder.caption_length,
                dropout=settings.encoder.dropout,
            )
            if references.reconstruction_weight > 0
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
            ``base``, those of ``fusion``, ``guidance``, ``reconstruction``, ``words`` and
            ``identity`` that are in use, unweighted, and ``total``.
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
        weights = self._weights(ramp)
        losses["total"] = torch.stack([weights[n] * loss for n, loss in losses.items()]).sum()
        return losses

    def _part(
        self, text: Tensor, image: Tensor, objects: Tensor, references: Tensor | None
    ) -> dict[str, Tensor]:
        weights, tau = self.settings.references, self.settings.references.temperature
        losses = {
            "base": symmetric_contrastive(text, image, objects, self.settings.loss.temperature)
        }
        if references is None:
            return losses
        features, both = torch.cat([text, image]), torch.cat([objects, objects])
        if weights.fusion_weight > 0:
            losses["fusion"] = fusion(references, features, both, tau)
        if weights.guidance_weight > 0:
            losses["guidance"] = guidance(references, features, both, tau)
        if self.settings.loss.identity_weight > 0:
            losses["identity"] = identity(features, references, both, tau)
        return losses

    def _weights(self, ramp: float) -> dict[str, float]:
        references = self.settings.references
        return {
            "base": 1.0,
            "fusion": references.fusion_weight,
            "guidance": ramp * references.guidance_weight,
            "identity": self.settings.loss.identity_weight,
            "words": references.words_weight,
            "reconstruction": references.reconstruction_weight,
        }
