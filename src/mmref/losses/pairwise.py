"""Pairwise InfoNCE: the pair itself is the only positive, whatever object it shows.

Source: van den Oord et al. 2018 (InfoNCE), symmetric over both directions as in CLIP, Radford et
al. ICML 2021, Figure 3. Other pairs of the same object count as negatives: that is the fault which
positives by object mend, and what this baseline is there to show.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from mmref.losses.contrastive import positive_temperature


def pairwise(texts: Tensor, images: Tensor, temperature: float | Tensor) -> Tensor:
    """Mean cross-entropy of each text's own image and of each image's own text.

    Args:
        texts: L2-normalised text features, Tensor[n, d].
        images: L2-normalised image features of the same pairs, Tensor[n, d].
        temperature: tau > 0; CLIP learns it from 0.07, here it is given (our choice).

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: the temperature is not positive.

    Example:
        >>> x = torch.eye(2)
        >>> round(pairwise(x, x, 1.0).item(), 4)
        0.3133
    """
    positive_temperature(temperature)
    logits = (texts @ images.T).float() / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
