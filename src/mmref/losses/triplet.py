"""The bidirectional triplet with the hardest negative of the batch.

Source: VSE++, Faghri et al. BMVC 2018, its max-of-hinges loss:
``[m - s(i, c) + max_c' s(i, c')]_+ + [m - s(i, c) + max_i' s(i', c)]_+``. Our choices: positives
are decided by object, so the hardest negative shows another object; with several positives, the
mean over them; the mean over the batch, not the sum.
"""

import torch
from torch import Tensor

from mmref.losses.contrastive import same_object


def triplet(texts: Tensor, images: Tensor, objects: Tensor, margin: float) -> Tensor:
    """The hinges of both directions, the mean over anchors.

    Args:
        texts: L2-normalised text features, Tensor[n, d].
        images: L2-normalised image features of the same pairs, Tensor[n, d].
        objects: object numbers, Tensor[n].
        margin: m >= 0; 0.2 in the paper.

    Returns:
        A scalar, at least 0; an anchor without a negative adds nothing.

    Raises:
        ValueError: the margin is negative.

    Example:
        >>> x = torch.eye(2)
        >>> round(triplet(x, x.flip(0), torch.tensor([0, 1]), 0.2).item(), 4)  # 1.2 + 1.2
        2.4
    """
    if margin < 0:
        raise ValueError(f"margin must not be negative, not {margin}")
    similarity = (texts @ images.T).float()
    positives = same_object(objects, objects)
    rows = _hinges(similarity, positives, margin)
    return (rows + _hinges(similarity.T, positives, margin)).mean()


def _hinges(similarity: Tensor, positives: Tensor, margin: float) -> Tensor:
    """Each row's mean hinge over its positives, Tensor[n]."""
    floor = torch.finfo(similarity.dtype).min / 4
    hardest = similarity.masked_fill(positives, floor).amax(dim=1, keepdim=True)
    each = (margin - similarity + hardest).clamp(min=0) * positives
    return each.sum(dim=1) / positives.sum(dim=1)
