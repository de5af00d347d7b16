"""The references: one learnable vector for each training object.

Source: the paper's multi-modal reference construction (MMRC). That they are trained by gradient
(not a moving average) follows from its text; normalisation, initialisation and the learning rate
are our choices.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmref.losses.contrastive import positive_temperature


class ReferenceBank(nn.Module):
    """R in R^{m x d}: a parameter, L2-normalised wherever it is used.

    Args:
        objects: m, the number of training objects.
        dimension: d, the features' dimension.

    Example:
        >>> bank = ReferenceBank(3, 4)
        >>> bank().shape, bank().norm(dim=1).round(decimals=4).tolist()
        (torch.Size([3, 4]), [1.0, 1.0, 1.0])
    """

    def __init__(self, objects: int, dimension: int) -> None:
        super().__init__()
        if objects < 1:
            raise ValueError(f"a bank needs at least one object, not {objects}")
        self.weight = nn.Parameter(F.normalize(torch.randn(objects, dimension), dim=-1))

    def forward(self) -> Tensor:
        """The normalised references, Tensor[m, d]."""
        return F.normalize(self.weight, dim=-1)

    def start_from(self, features: Tensor, objects: Tensor) -> None:
        """Set each reference to the mean of its object's features (our choice).

        Args:
            features: L2-normalised features of both modalities, Tensor[n, d].
            objects: their objects' numbers, Tensor[n]. A reference without a feature stays.
        """
        means = object_means(features, objects, len(self.weight))
        present = torch.bincount(objects, minlength=len(self.weight)) > 0
        with torch.no_grad():
            self.weight[present] = means[present].to(self.weight)


def object_means(features: Tensor, objects: Tensor, count: int) -> Tensor:
    """Normalised mean feature of each object: the prototype that references are compared with.

    Args:
        features: Tensor[n, d].
        objects: object numbers below ``count``, Tensor[n].
        count: m.

    Returns:
        Tensor[m, d]; zero where an object has no feature.

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
        >>> object_means(x, torch.tensor([0, 1, 1]), 3).tolist()
        [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    """
    sums = torch.zeros(count, features.shape[1], dtype=features.dtype, device=features.device)
    sums.index_add_(0, objects, features)
    return F.normalize(sums, dim=-1)


def fusion(
    references: Tensor, features: Tensor, objects: Tensor, temperature: float | Tensor
) -> Tensor:
    """Global fusion: L_fuse = (1/2n) L_CL of cos(R, sg(E)); the gradient reaches R alone.

    Source: the paper's global fusion; anchors are the 2n features and candidates the m
    references (deduced).

    Args:
        references: normalised, Tensor[m, d].
        features: normalised text and image features, Tensor[2n, d].
        objects: their objects' numbers, Tensor[2n].
        temperature: tau > 0.

    Returns:
        A scalar.
    """
    return _anchored(features.detach(), references, objects, temperature)


def guidance(
    references: Tensor, features: Tensor, objects: Tensor, temperature: float | Tensor
) -> Tensor:
    """Reference-guided learning: L_rgrl = (1/2n) L_CL of cos(E, sg(R)); encoders alone learn.

    Source: the paper's RGRL; the form, symmetric to fusion, is our choice.

    Args:
        references: normalised, Tensor[m, d].
        features: normalised text and image features, Tensor[2n, d].
        objects: their objects' numbers, Tensor[2n].
        temperature: tau > 0.

    Returns:
        A scalar.
    """
    return _anchored(features, references.detach(), objects, temperature)


def _anchored(
    features: Tensor, references: Tensor, objects: Tensor, temperature: float | Tensor
) -> Tensor:
    positive_temperature(temperature)
    # An anchor has one positive among the references, and then L_CL is the cross-entropy.
    return F.cross_entropy((features @ references.T).float() / temperature, objects)
