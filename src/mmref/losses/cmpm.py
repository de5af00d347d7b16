"""Cross-modal projection matching and classification.

Source: Zhang & Lu ECCV 2018, *Deep Cross-Modal Projection Learning for Image-Text Matching*.
CMPM: p_ij is the softmax over j of the projection x_i . z_j / |z_j|, q_ij the normalised matches,
and L = KL(p || q) in both directions. CMPC: a softmax classifier over the training identities,
with weights of length 1, of the projection (x_i . z_i / |z_i|) z_i / |z_i| of each feature on its
partner.

The paper's features have learnt lengths; ours are normalised, so 1 / temperature stands for the
length of all of them (our choice). With features of one length CMPM *is* similarity distribution
matching (``sdm.py``), and what this baseline adds to that one is CMPC.
"""

from torch import Tensor
from torch.nn import functional as F

from mmref.losses.contrastive import positive_temperature, same_object
from mmref.losses.sdm import EPSILON, matching_divergence


def cmpm(
    texts: Tensor,
    images: Tensor,
    objects: Tensor,
    temperature: float | Tensor = 1.0,
    epsilon: float = EPSILON,
) -> Tensor:
    """L_cmpm = L_i2t + L_t2i.

    Args:
        texts: text features of any length, Tensor[n, d].
        images: image features of the same pairs, of any length, Tensor[n, d].
        objects: object numbers, Tensor[n].
        temperature: divides the anchors: 1 where features have lengths of their own (the paper).
        epsilon: see :func:`mmref.losses.sdm.matching_divergence`.

    Returns:
        A scalar.

    Raises:
        ValueError: the temperature or epsilon is not positive.

    Example:
        >>> import torch
        >>> x, objects = torch.eye(2), torch.tensor([0, 1])
        >>> cmpm(50 * x, 2 * x, objects) < cmpm(2 * x, 2 * x, objects)
        tensor(True)
    """
    positive_temperature(temperature)
    positives = same_object(objects, objects)
    on_images = texts @ F.normalize(images, dim=1).T
    on_texts = images @ F.normalize(texts, dim=1).T
    return matching_divergence(
        on_texts.float() / temperature, positives, epsilon
    ) + matching_divergence(on_images.float() / temperature, positives, epsilon)


def cmpc(
    texts: Tensor,
    images: Tensor,
    weights: Tensor,
    objects: Tensor,
    temperature: float | Tensor = 1.0,
) -> Tensor:
    """L_cmpc: cross-entropy of images projected on their texts plus of texts on their images.

    Args:
        texts: text features of any length, Tensor[n, d].
        images: image features of the same pairs, of any length, Tensor[n, d].
        weights: one row an object, normalised here, shared by both directions, Tensor[m, d].
        objects: rows of ``weights`` that the pairs belong to, Tensor[n].
        temperature: divides the projected features, as in :func:`cmpm`.

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: the temperature is not positive.

    Example:
        >>> import torch
        >>> x = torch.eye(2)
        >>> round(cmpc(x, x, 3 * x, torch.tensor([0, 1])).item(), 4)
        0.6265
    """
    positive_temperature(temperature)
    classes = F.normalize(weights, dim=1).T
    total = texts.new_zeros((), dtype=classes.dtype)
    for features, partners in ((images, texts), (texts, images)):
        direction = F.normalize(partners, dim=1)
        projected = (features * direction).sum(dim=1, keepdim=True) * direction
        total = total + F.cross_entropy((projected @ classes).float() / temperature, objects)
    return total
