"""Base + fusion + reconstruction + guidance as one training objective with named losses.

``L = L_base + a L_fuse + b L_rec + c L_rgrl``. The four parts are the paper's; the weights, and
that c grows from 0 to its value in the first epochs, are our choice. With a = b = c = 0 it is the
base objective; with ``loss.identity_weight`` instead, the ID control, whose weights then serve as
references.
"""

import numpy as np
import torch
from torch import Tensor, nn

from mmref.config import Settings
from mmref.data.text import mask_words
from mmref.losses.contrastive import symmetric_contrastive
from mmref.losses.identity import identity
from mmref.references.bank import ReferenceBank, fusion, guidance
from mmref.references.reconstruction import ReconstructionDecoder, reconstruction


class Objective(nn.Module):
    """Maps a batch's features to named losses.

    Args:
        settings: weights, temperatures and sizes.
        objects: m, the training objects.
        dimension: d of the features.
        vocabulary: number of token ids.

    Example:
        >>> objective = Objective(Settings(), objects=3, dimension=4, vocabulary=9)
        >>> x = torch.eye(4)[:2]
        >>> words = torch.tensor([[5, 6], [7, 8]])
        >>> losses = objective(x, x, torch.tensor([0, 1]), words, np.random.default_rng(0))
        >>> sorted(losses)
        ['base', 'fusion', 'guidance', 'reconstruction', 'total']
    """

    def __init__(
        self, settings: Settings, *, objects: int, dimension: int, vocabulary: int
    ) -> None:
        super().__init__()
        self.settings, self.vocabulary = settings, vocabulary
        references = settings.references
        needs_bank = references.used or settings.loss.identity_weight > 0
        self.bank = ReferenceBank(objects, dimension) if needs_bank else None
        self.decoder = (
            ReconstructionDecoder(
                vocabulary,
                dimension,
                width=references.decoder_width,
                tokens=references.tokens,
                length=settings.encoder.caption_length,
                dropout=settings.encoder.dropout,
            )
            if references.reconstruction_weight > 0
            else None
        )

    def forward(
        self,
        texts: Tensor,
        images: Tensor,
        objects: Tensor,
        words: Tensor,
        rng: np.random.Generator,
        ramp: float = 1.0,
    ) -> dict[str, Tensor]:
        """The losses of one batch.

        Args:
            texts: L2-normalised, Tensor[n, d].
            images: L2-normalised, of the same objects, Tensor[n, d].
            objects: object numbers, Tensor[n].
            words: token ids of the captions, padded, Tensor[n, l]; masked here on a copy.
            rng: draws the masks.
            ramp: 0 to 1, the share of c in force.

        Returns:
            ``base``, those of ``fusion``, ``guidance``, ``reconstruction`` and ``identity`` that
            are in use, unweighted, and ``total``.
        """
        weights = self.settings.references
        losses = {
            "base": symmetric_contrastive(texts, images, objects, self.settings.loss.temperature)
        }
        total = losses["base"]
        if self.bank is not None:
            references = self.bank()
            features, both = torch.cat([texts, images]), torch.cat([objects, objects])
            if weights.fusion_weight > 0:
                losses["fusion"] = fusion(references, features, both, weights.temperature)
                total = total + weights.fusion_weight * losses["fusion"]
            if weights.guidance_weight > 0:
                losses["guidance"] = guidance(references, features, both, weights.temperature)
                total = total + ramp * weights.guidance_weight * losses["guidance"]
            if self.settings.loss.identity_weight > 0:
                losses["identity"] = identity(features, self.bank.weight, both, weights.temperature)
                total = total + self.settings.loss.identity_weight * losses["identity"]
            if self.decoder is not None:
                masked_words, masked = mask_words(words, weights.mask_rate, self.vocabulary, rng)
                losses["reconstruction"] = reconstruction(
                    self.decoder, words, masked_words, masked, references[objects]
                )
                total = total + weights.reconstruction_weight * losses["reconstruction"]
        losses["total"] = total
        return losses
