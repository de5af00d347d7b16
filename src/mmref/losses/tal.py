"""Triplet alignment: a triplet whose negatives are a log-sum-exp, between mean and hardest.

Source: RDE, Qin et al. CVPR 2024, its section on the triplet alignment loss: for each anchor
``[m - S+ + tau log sum over negatives exp(s / tau)]_+`` with S+ the softmax-weighted mean of its
positives' similarities, text to image plus image to text. As tau falls it becomes the triplet
with hardest negatives; it bounds that from above, and all negatives learn. As in the authors'
implementation no gradient flows through the weights of the positives.
"""

import torch
from torch import Tensor

from mmref.losses.contrastive import positive_temperature, same_object


def tal(
    texts: Tensor, images: Tensor, objects: Tensor, margin: float, temperature: float
) -> Tensor:
    """L_tal, the mean over pairs (our choice) of both directions' hinges.

    Args:
        texts: L2-normalised text features, Tensor[n, d].
        images: L2-normalised image features of the same pairs, Tensor[n, d].
        objects: object numbers, Tensor[n]; they decide the positives.
        margin: m >= 0; the paper's is 0.1.
        temperature: tau > 0; the paper's is 0.015.

    Returns:
        A scalar, at least 0; an anchor without a negative adds nothing.

    Raises:
        ValueError: the temperature is not positive or the margin is negative.

    Example:
        One negative at cosine 0 each: the hinge is margin - 1 + 0.

        >>> x = torch.eye(2)
        >>> round(tal(x, x, torch.tensor([0, 1]), 1.5, 0.1).item(), 4)  # 0.5 + 0.5
        1.0
    """
    positive_temperature(temperature)
    if margin < 0:
        raise ValueError(f"margin must not be negative, not {margin}")
    similarity = (texts @ images.T).float()
    positives = same_object(objects, objects)
    rows = _hinges(similarity, positives, margin, temperature)
    return (rows + _hinges(similarity.T, positives, margin, temperature)).mean()


def _hinges(similarity: Tensor, positives: Tensor, margin: float, temperature: float) -> Tensor:
    """The hinge of each row's anchor, Tensor[n]."""
    logits = similarity / temperature
    # A finite floor, not -inf: an anchor without negatives must keep a finite gradient (zero).
    floor = torch.finfo(logits.dtype).min / 4
    weights = torch.softmax(logits.detach().masked_fill(~positives, floor), dim=1)
    near = (weights * similarity).sum(dim=1)
    far = temperature * torch.logsumexp(logits.masked_fill(positives, floor), dim=1)
    return (margin - near + far).clamp(min=0)
