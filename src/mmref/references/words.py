"""Word guidance: a feature names the words that all captions of its object use together.

One caption leaves details out and gets some wrong; the words of *all* captions of an object, each
counted by how many captions use it, are nearly complete, and slips die out in them. Each image
and caption of the object must predict that distribution from its deep feature alone. Unlike an
ID, words are shared between objects, so what is learnt carries over to unseen ones. Our choice,
after the paper's idea of fusing all captions of an object.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmref.data.text import MASK


class WordGuidance(nn.Module):
    """L_words: cross-entropy of each object's word distribution from a feature.

    Args:
        objects: m.
        dimension: d of the features.
        vocabulary: number of token ids.

    Example:
        >>> words = WordGuidance(objects=2, dimension=4, vocabulary=6)
        >>> words.count([[3, 4], [4], [5]], torch.tensor([0, 0, 1]), torch.ones(6))
        >>> words.targets.round(decimals=2).tolist()[0][3:]
        [0.33000001311302185, 0.6700000166893005, 0.0]
        >>> words(torch.eye(4)[:2], torch.tensor([0, 1])).ndim
        0
    """

    targets: Tensor

    def __init__(self, objects: int, dimension: int, vocabulary: int) -> None:
        super().__init__()
        self.head = nn.Linear(dimension, vocabulary)
        self.scale = dimension**0.5
        self.register_buffer("targets", torch.zeros(objects, vocabulary), persistent=False)

    @torch.no_grad()
    def count(self, captions: Sequence[Sequence[int]], objects: Tensor, weights: Tensor) -> None:
        """Take the distributions from the training captions.

        Args:
            captions: token ids of each distinct (caption, object) pair.
            objects: the object of each, Tensor[n].
            weights: what a word counts, for instance its idf, Tensor[vocabulary].
        """
        counts = torch.zeros_like(self.targets)
        for ids, number in zip(captions, objects.tolist(), strict=True):
            present = [word for word in set(ids) if word > MASK]
            counts[number, present] += 1
        weighted = counts * weights.to(counts)
        self.targets.copy_(weighted / weighted.sum(dim=1, keepdim=True).clamp(min=1e-12))

    def forward(self, features: Tensor, objects: Tensor) -> Tensor:
        """The mean over features.

        Args:
            features: L2-normalised, Tensor[n, d].
            objects: their objects' numbers, Tensor[n].

        Returns:
            A scalar.
        """
        logits = torch.log_softmax(self.head(features * self.scale).float(), dim=1)
        return -(self.targets[objects] * logits).sum(dim=1).mean()
