"""Similarity distribution matching: softmaxed cosines against the distribution of true matches.

Source: IRRA, Jiang & Ye CVPR 2023, its section on similarity distribution matching: p is the
softmax of cosines over tau, q spreads one evenly over the candidates of the anchor's identity, and
the loss is KL(p || q), image to text plus text to image, each the mean over anchors.
"""

import torch
from torch import Tensor

from mmref.losses.contrastive import positive_temperature, same_object

EPSILON = 1e-8  # as the authors set it


def matching_divergence(logits: Tensor, positives: Tensor, epsilon: float = EPSILON) -> Tensor:
    """Mean over anchors of ``sum_j p_j log(p_j / (q_j + epsilon))``.

    Args:
        logits: of anchors (rows) and candidates (columns), Tensor[a, c].
        positives: the candidates of each anchor's object, boolean Tensor[a, c], at least one a
            row; q is one over their number.
        epsilon: keeps log q finite; a negative's probability p costs about p log(1 / epsilon).

    Returns:
        A scalar, at least ``-log(1 + c * epsilon)``: not below 0 but for the epsilon.

    Raises:
        ValueError: epsilon is not positive.

    Example:
        >>> round(matching_divergence(torch.zeros(1, 2), torch.tensor([[True, True]])).item(), 4)
        0.0
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, not {epsilon}")
    found = torch.log_softmax(logits.float(), dim=1)
    wanted = positives / positives.sum(dim=1, keepdim=True)
    return (found.exp() * (found - (wanted + epsilon).log())).sum(dim=1).mean()


def sdm(
    texts: Tensor,
    images: Tensor,
    objects: Tensor,
    temperature: float | Tensor,
    epsilon: float = EPSILON,
) -> Tensor:
    """L_sdm = L_i2t + L_t2i (a sum, not a mean: as in the paper).

    Args:
        texts: L2-normalised text features, Tensor[n, d].
        images: L2-normalised image features of the same pairs, Tensor[n, d].
        objects: object numbers, Tensor[n].
        temperature: tau > 0; the paper's is 0.02.
        epsilon: see :func:`matching_divergence`.

    Returns:
        A scalar.

    Raises:
        ValueError: the temperature or epsilon is not positive.

    Example:
        >>> x = torch.eye(2)
        >>> sdm(x, x, torch.tensor([0, 1]), 0.02).item() < 1e-6
        True
        >>> round(sdm(x, x.flip(0), torch.tensor([0, 1]), 0.02).item(), 2)  # 2 log(1 / epsilon)
        36.84
    """
    positive_temperature(temperature)
    logits = (texts @ images.T).float() / temperature
    positives = same_object(objects, objects)
    return matching_divergence(logits, positives, epsilon) + matching_divergence(
        logits.T, positives, epsilon
    )
