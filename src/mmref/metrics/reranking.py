"""Re-ranking controls: reported beside refinement, never part of it.

Both functions are **transductive**: the scores of one query depend on which other queries and
images are in the set. A query that is served alone cannot use them, and their figures change
with the company of the queries. They show what such knowledge of the test set would bring.

They hold whole matrices (``[q, g]``, and ``[g, g]`` for k-reciprocal), so they are for test sets,
not for stores.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmref.errors import DataError
from mmref.metrics.ranks import Vectors, as_float

Matrix = NDArray[np.float32]


def dual_softmax(scores: Vectors, *, temperature: float = 0.05) -> Matrix:
    """Transductive: log of softmax over the gallery times softmax over the queries.

    An image that suits many queries is worth less to each of them: this uses the whole query set.
    The product of both softmaxes is that of Cheng et al. 2021 (CAMoE); the logarithm keeps
    the order and cannot underflow; the temperature is our choice.

    Args:
        scores: ``[q, g]``.
        temperature: above 0; small = sharp.

    Returns:
        float32 ``[q, g]``, at most 0.

    Raises:
        DataError: the scores are not a matrix, or are not finite.

    Example:
        >>> scores = np.float32([[0.90, 0.88], [0.90, 0.10]])  # both like the first
        >>> dual_softmax(scores, temperature=0.1).argmax(1).tolist()
        [1, 0]
    """
    if temperature <= 0:
        raise ValueError(f"temperature is above 0, not {temperature}")
    scaled = torch.from_numpy(_matrix(scores, "scores")) / temperature
    result: Matrix = (scaled.log_softmax(dim=1) + scaled.log_softmax(dim=0)).numpy()
    return result


def k_reciprocal(
    scores: Vectors, gallery_scores: Vectors, *, k1: int = 20, k2: int = 6, weight: float = 0.3
) -> Matrix:
    """Transductive: k-reciprocal re-ranking (Zhong et al. 2017), adapted to text queries.

    In the original, queries and gallery are images and all distances are comparable. Here
    caption-caption and image-image similarities are on other scales than caption-image ones, so
    (our choices): neighbours are always gallery images; an image's neighbour is reciprocal when
    each is among the other's k1 nearest images, as in the original; a caption's neighbour is
    reciprocal when the caption is among that image's nearest captions, the same share of the
    *query set* as k1 is of the gallery (at least k1); distances are scaled to 0..1 within each
    row. Expansion by half-size sets (two thirds overlap), exp(-distance) weights, local query
    expansion over k2, and the Jaccard distance are the original's, as are the defaults.

    Args:
        scores: caption-image, ``[q, g]``.
        gallery_scores: image-image, ``[g, g]``.
        k1: size of neighbour sets.
        k2: size of the local query expansion; 1 = none.
        weight: of the original distance, beside 1 - weight of the Jaccard distance.

    Returns:
        float32 ``[q, g]``: minus the mixed distance, so higher is better.

    Raises:
        DataError: shapes that do not fit, or scores that are not finite.

    Example:
        >>> images = np.float32([[1.0, 0.9, 0.1], [0.9, 1.0, 0.1], [0.1, 0.1, 1.0]])
        >>> scores = np.float32([[0.8, 0.5, 0.52]])  # image 1 resembles the best one, image 0
        >>> (-k_reciprocal(scores, images, k1=1, k2=2)).argsort(1).tolist()
        [[0, 1, 2]]
    """
    cross, within = _matrix(scores, "scores"), _matrix(gallery_scores, "gallery scores").copy()
    queries, gallery = cross.shape
    if within.shape != (gallery, gallery):
        raise DataError(f"gallery scores have shape {within.shape}, not {(gallery, gallery)}")
    if k1 < 1 or k2 < 1 or not 0 <= weight <= 1:
        raise ValueError("k1 and k2 are at least 1, and weight is between 0 and 1")
    np.fill_diagonal(within, within.max() + 1e-3)  # an image is its own nearest
    size = min(k1 + 1, gallery)
    half = min(round(k1 / 2) + 1, gallery)
    near = _nearest(within, size)
    wide = [_mutual(i, near, size) for i in range(gallery)]
    narrow = [_mutual(i, near, half) for i in range(gallery)]
    asked = _nearest(cross, size)
    share = min(queries, max(size, -(-size * queries // gallery)))
    callers = _nearest(cross.T, share)

    image_profiles = np.zeros((gallery, gallery), dtype=np.float32)
    away = _distance(within)
    for i in range(gallery):
        _fill(image_profiles[i], wide[i], away[i], narrow)
    text_profiles = np.zeros((queries, gallery), dtype=np.float32)
    away = _distance(cross)
    for q in range(queries):
        mutual = np.array([i for i in asked[q] if q in callers[i]], dtype=np.int64)
        _fill(text_profiles[q], mutual if len(mutual) else asked[q, :1], away[q], narrow)
    if k2 > 1:
        others = asked[:, : k2 - 1]
        text_profiles = (text_profiles + image_profiles[others].sum(1)) / (1 + others.shape[1])
        image_profiles = image_profiles[near[:, :k2]].mean(1)

    columns = np.ascontiguousarray(image_profiles.T)
    result = np.empty_like(cross)
    for q in range(queries):
        held = np.flatnonzero(text_profiles[q])
        shared = np.minimum(columns[held], text_profiles[q, held, None]).sum(0)
        jaccard = 1 - shared / (2 - shared)  # both profiles sum to 1
        result[q] = -((1 - weight) * jaccard + weight * away[q])
    return result


def _matrix(scores: Vectors, name: str) -> Matrix:
    matrix: NDArray[Any] = as_float(scores).float().cpu().numpy()
    if matrix.ndim != 2 or matrix.size == 0:
        raise DataError(f"{name} have shape {matrix.shape}: a matrix is needed")
    if not np.isfinite(matrix).all():
        raise DataError(f"{name} hold NaN or infinite values")
    return matrix


def _nearest(scores: Matrix, size: int) -> NDArray[np.int64]:
    """Columns of the highest scores of each row, best first; among equals the lower first."""
    order: NDArray[np.int64] = np.argsort(-scores, axis=1, kind="stable")[:, :size]
    return order


def _mutual(i: int, near: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    own = near[i, :size]
    mutual: NDArray[np.int64] = own[(near[own, :size] == i).any(1)]
    return mutual


def _distance(scores: Matrix) -> Matrix:
    """Distances between 0 and 1 within each row."""
    top, low = scores.max(1, keepdims=True), scores.min(1, keepdims=True)
    return np.asarray((top - scores) / np.maximum(top - low, 1e-12))


def _fill(
    row: Matrix, members: NDArray[np.int64], away: Matrix, narrow: list[NDArray[np.int64]]
) -> None:
    """Write the weights of the expanded neighbour set, which sum to 1, into a row of zeros."""
    parts = [members]
    for member in members:
        candidate = narrow[member]
        if 3 * np.isin(candidate, members).sum() > 2 * len(candidate):
            parts.append(candidate)
    expanded = np.unique(np.concatenate(parts))
    weights = np.exp(-away[expanded])
    row[expanded] = weights / weights.sum()
