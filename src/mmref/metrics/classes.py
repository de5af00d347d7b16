"""The figures of class sets (CUB, Flowers), from ranks: precision of the top, and its ceiling.

AP@50 (Reed et al. 2016): a class asks once, all images are ranked, and the precision among the
first 50 is averaged over classes. It is no average precision, in spite of its name, and it is not
what Cross-Modal Projection Learning calls AP@50. A class of fewer than 50 images cannot reach
100 %, so the ceiling belongs beside it.

Example:
    >>> from mmref.metrics.ranks import ranks_from_scores
    >>> scores = np.float32([[0.9, 0.8, 0.7, 0.6]])
    >>> ranks = ranks_from_scores(lambda a, b: scores[a:b], ["x"], ["x", "y", "x", "y"])
    >>> precision_at(ranks, 2).tolist(), precision_ceiling(ranks, 4)
    ([50.0], 50.0)
"""

import numpy as np
from numpy.typing import NDArray

from mmref.metrics.ranks import Ranks

DEPTH = 50


def precision_at(ranks: Ranks, depth: int = DEPTH) -> NDArray[np.float64]:
    """Share of relevant images among the first ``depth``, in percent of each kept query.

    The divisor is ``depth``, also where fewer images are relevant or ranked. Under the "expected"
    rule it is the mean over all orders of the tied images.

    Args:
        ranks: of queries among the images.
        depth: at least 1.

    Returns:
        float64 ``[q]``.

    Raises:
        ValueError: ``depth`` is below 1.

    Example:
        >>> from mmref.metrics.ranks import ranks_from_scores
        >>> tied = np.zeros((1, 4), dtype=np.float32)
        >>> options = {"query_objects": ["x"], "gallery_objects": ["x", "y", "y", "x"]}
        >>> [precision_at(ranks_from_scores(lambda a, b: tied[a:b], **options, ties=rule), 2).item()
        ...  for rule in ("pessimistic", "expected")]
        [0.0, 50.0]
    """
    if depth < 1:
        raise ValueError(f"depth is at least 1, not {depth}")
    heads = np.repeat(ranks.offsets[:-1], ranks.sizes) + ranks.first
    members = np.bincount(heads, minlength=len(heads))[heads]
    group = members + ranks.tied  # images, relevant or not, that share these places
    places = np.clip(depth - ranks.above - ranks.first, 0, group)
    hits = np.add.reduceat(places / group, ranks.offsets[:-1])
    return np.asarray(100.0 * hits / depth, dtype=np.float64)


def precision_ceiling(ranks: Ranks, depth: int = DEPTH) -> float:
    """What :func:`precision_at` would be if every relevant image ranked first, mean in percent.

    Example:
        >>> from mmref.metrics.ranks import ranks_from_scores
        >>> scores = np.ones((2, 3), dtype=np.float32)
        >>> ranks = ranks_from_scores(lambda a, b: scores[a:b], ["x", "y"], ["x", "y", "x"])
        >>> precision_ceiling(ranks, 2)
        75.0
    """
    return float(100.0 * np.mean(np.minimum(ranks.sizes, depth)) / depth)
