"""The plain cosine ID classifier: the control that references must beat."""

from torch import Tensor
from torch.nn import functional as F

from mmref.losses.contrastive import positive_temperature


def identity(
    features: Tensor, weights: Tensor, objects: Tensor, temperature: float | Tensor
) -> Tensor:
    """Mean cross-entropy of a cosine classifier over the training objects (a standard loss).

    With the weights as references and one temperature, its gradient is that of fusion plus
    guidance: that identity is why it is the mandatory control.

    Args:
        features: L2-normalised features, Tensor[n, d].
        weights: one row an object, normalised here, Tensor[m, d].
        objects: rows of ``weights`` that the features belong to, Tensor[n].
        temperature: tau > 0.

    Returns:
        A scalar.

    Raises:
        ValueError: the temperature is not positive.

    Example:
        >>> import torch
        >>> x = torch.eye(2)
        >>> round(identity(x, 3 * x, torch.tensor([0, 1]), 1.0).item(), 4)
        0.3133
    """
    positive_temperature(temperature)
    logits = features @ F.normalize(weights, dim=-1).T
    return F.cross_entropy(logits.float() / temperature, objects)
