"""The contrastive function, in which positives are decided by object and never compete.

Source: the paper's Eq. 2 names an L_CL(S+, S-) whose body is not available. The form here is our
choice: the sum over anchors of the mean over the anchor's positives p of
``-log(exp(s_p / tau) / (exp(s_p / tau) + sum over negatives exp(s_k / tau)))``.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def same_object(anchors: Tensor, candidates: Tensor) -> Tensor:
    """Which candidates show the anchor's object.

    Args:
        anchors: object numbers, Tensor[a].
        candidates: object numbers, Tensor[c].

    Returns:
        Booleans, Tensor[a, c].

    Example:
        >>> same_object(torch.tensor([0, 1]), torch.tensor([1, 1, 0])).int().tolist()
        [[0, 0, 1], [1, 1, 0]]
    """
    return anchors[:, None] == candidates[None, :]


def positive_temperature(temperature: float | Tensor) -> None:
    """Raise ValueError unless the temperature, learnt or not, is positive."""
    value = float(temperature.detach() if isinstance(temperature, Tensor) else temperature)
    if not value > 0:
        raise ValueError(f"temperature must be positive, not {value}")


def contrastive(similarity: Tensor, positives: Tensor, temperature: float | Tensor) -> Tensor:
    """L_CL, the sum over anchors (our choice of body for the paper's Eq. 2).

    Args:
        similarity: cosines of anchors (rows) and candidates (columns), Tensor[a, c].
        positives: which candidates are positives of an anchor, boolean Tensor[a, c]. An anchor
            without a positive adds nothing; without a negative, zero.
        temperature: tau > 0.

    Returns:
        A scalar: the *sum* over anchors. Divide by the number of anchors for a mean.

    Raises:
        ValueError: the shapes differ or the temperature is not positive.

    Example:
        One anchor, one positive at cosine 1 and one negative at cosine 0, tau 1:
        log(1 + exp(0 - 1)).

        >>> s = torch.tensor([[1.0, 0.0]])
        >>> round(contrastive(s, torch.tensor([[True, False]]), 1.0).item(), 4)
        0.3133
    """
    if similarity.shape != positives.shape:
        raise ValueError(
            f"similarity {tuple(similarity.shape)} and positives "
            f"{tuple(positives.shape)} must have one shape"
        )
    positive_temperature(temperature)
    logits = similarity.float() / temperature
    # A finite floor, not -inf: an anchor without negatives must keep a finite gradient (zero).
    floor = torch.finfo(logits.dtype).min / 4
    negatives = torch.logsumexp(logits.masked_fill(positives, floor), dim=1, keepdim=True)
    each = F.softplus(negatives - logits) * positives
    return (each.sum(dim=1) / positives.sum(dim=1).clamp(min=1)).sum()


def symmetric_contrastive(
    texts: Tensor, images: Tensor, objects: Tensor, temperature: float | Tensor
) -> Tensor:
    """The base alignment: L_CL over rows plus over columns of cos(T, V), over 2n (our choice).

    Args:
        texts: L2-normalised text features, Tensor[n, d].
        images: L2-normalised image features of the same objects, Tensor[n, d].
        objects: object numbers, Tensor[n].
        temperature: tau > 0.

    Returns:
        A scalar.

    Example:
        >>> x = torch.eye(2)
        >>> round(symmetric_contrastive(x, x, torch.tensor([0, 1]), 1.0).item(), 4)
        0.3133
    """
    similarity = texts @ images.T
    positives = same_object(objects, objects)
    rows = contrastive(similarity, positives, temperature)
    columns = contrastive(similarity.T, positives.T, temperature)
    return (rows + columns) / (2 * len(texts))
