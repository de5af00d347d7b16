"""``features``: precomputed image vectors with a head, and the text tower; trains in minutes."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmref.config import EncoderSettings
from mmref.data.ngrams import NGramVocabulary
from mmref.data.text import CaptionTokeniser
from mmref.encoders.parts import PartsEncoder, read_architecture


class FeaturesEncoder(PartsEncoder):
    """Takes float vectors of one length; standardises them by the training images.

    Args:
        settings: the encoder's settings.
        tokeniser: learnt from the training captions.
        ngrams: likewise.
        feature_length: f.
    """

    kind = "features"
    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        settings: EncoderSettings,
        tokeniser: CaptionTokeniser,
        ngrams: NGramVocabulary,
        feature_length: int,
    ) -> None:
        super().__init__(settings, tokeniser, ngrams, feature_length)
        self.register_buffer("mean", torch.zeros(feature_length))
        self.register_buffer("deviation", torch.ones(feature_length))
        if settings.deep:
            hidden = 2 * settings.deep
            self.net = nn.Sequential(
                nn.Linear(feature_length, hidden),
                nn.GELU(),
                nn.Dropout(settings.dropout),
                nn.Linear(hidden, settings.deep),
            )

    @classmethod
    def build(cls, architecture: dict[str, Any]) -> "FeaturesEncoder":
        """Build from :meth:`architecture`, weights untrained."""
        settings, tokeniser, ngrams = read_architecture(architecture)
        return cls(settings, tokeniser, ngrams, int(architecture["descriptor_length"]))

    @property
    def image_size(self) -> None:
        """It takes no pixels."""
        return

    @property
    def feature_length(self) -> int:
        """Length of the vectors it takes."""
        return self.descriptor_length

    @torch.no_grad()
    def standardise(self, features: Tensor) -> None:
        """Take mean and deviation from the training images' vectors, Tensor[n, f]."""
        self.mean.copy_(features.mean(dim=0))
        # A number that never varies in training says nothing: it must not blow up in test.
        deviation = features.std(dim=0, correction=0)
        constant = deviation <= 1e-6 * self.mean.abs()  # up to rounding; whatever the unit
        self.deviation.copy_(torch.where(constant, torch.inf, deviation))

    def describe(self, images: Tensor) -> Tensor:
        """Standardised vectors of unit length, Tensor[n, f]."""
        return F.normalize((images.float() - self.mean) / self.deviation, dim=1)

    def deep_image(self, images: Tensor) -> Tensor:
        """A two-layer net of the descriptor, Tensor[n, deep]."""
        descriptors = self.describe(images) * self.descriptor_length**0.5
        out: Tensor = self.net(F.dropout(descriptors, self.settings.dropout, self.training))
        return out
