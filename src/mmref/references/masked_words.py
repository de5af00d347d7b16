"""Masked words from the caption's own image: the third loss of IRRA.

Source: IRRA, Jiang & Ye CVPR 2023, implicit relation reasoning: some words of a caption are masked
and predicted with cross-attention to *its own image*, so that the image side must encode what
words name. What differs here: the paper attends to the image's patch tokens, we to tokens made
from its one global feature (our encoders have no patches); the paper masks the input of the text
encoder itself and stacks four layers behind the cross-attention, we reuse the decoder of the
reconstruction, with words of its own and depth one. So the gradient reaches the image side alone.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mmref.data.text import mask_words
from mmref.references.reconstruction import ReconstructionDecoder, reconstruction


class MaskedWords(nn.Module):
    """L_mlm: cross-entropy of masked words, given the image that the caption is paired with.

    Args:
        decoder: the only one to be trained by this loss.
        vocabulary: number of token ids.
        rate: share of words masked; every caption has at least one.

    Example:
        >>> decoder = ReconstructionDecoder(vocabulary=20, dimension=8, width=16)
        >>> loss = MaskedWords(decoder, vocabulary=20, rate=0.4)
        >>> words = torch.tensor([[5, 6, 7]])
        >>> loss([torch.randn(1, 3), torch.randn(1, 5)], words, np.random.default_rng(0)).ndim
        0
    """

    def __init__(self, decoder: ReconstructionDecoder, vocabulary: int, rate: float) -> None:
        super().__init__()
        self.decoder, self.vocabulary, self.rate = decoder, vocabulary, rate

    def forward(self, images: Sequence[Tensor], words: Tensor, rng: np.random.Generator) -> Tensor:
        """The loss of a batch.

        Args:
            images: each part's features of the captions' own images, Tensor[n, d_part].
            words: token ids of the captions, padded, Tensor[n, l]; masked here on a copy.
            rng: draws the masks.

        Returns:
            A scalar.
        """
        masked_words, masked = mask_words(words, self.rate, self.vocabulary, rng)
        memory = torch.cat(list(images), dim=1)
        return reconstruction(self.decoder, words, masked_words, masked, memory)
