"""From ranks to the figures of the field: R@1, R@5, R@10, mAP and mINP, in percent.

The protocol is that of the person sets and of manifests: each distinct caption of an object is a
query, the gallery is every image once, relevant = same object, and no other filter. Image-to-text
is the transpose: each image is a query and the captions are the gallery. Both are the same
functions on ranks, so whoever computes the ranks chooses the direction.

With s_1 <= ... <= s_P the ranks of a query's P relevant images: R@K = 1 if s_1 <= K; AP = mean of
k / s_k over all P (the whole gallery is ranked); INP = P / s_P. mAP and mINP are their means.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmref.errors import DataError
from mmref.metrics.ranks import Objects, Ranks

Values = NDArray[np.float64]
METRICS = ("R@1", "R@5", "R@10", "mAP", "mINP")
_DEPTHS = {"R@1": 1, "R@5": 5, "R@10": 10}


@dataclass(frozen=True, eq=False)
class Figures:
    """The figures of one direction, and what intervals and paired tests need.

    Attributes:
        metrics: name -> percent, the mean over queries.
        per_query: name -> percent of each kept query, float64 ``[q]``.
        objects: object of each kept query, ``[q]``.
        queries: number of queries that were asked, skipped ones left out.
        gallery: number of gallery entries.
        skipped: queries left out because the gallery holds nothing relevant.
        chance: R@1 of a random order, in percent.
        chance_map: mAP of a random order, in percent.
    """

    metrics: dict[str, float]
    per_query: dict[str, Values]
    objects: NDArray[Any]
    queries: int
    gallery: int
    skipped: int
    chance: float
    chance_map: float


def per_query_figures(ranks: Ranks) -> dict[str, Values]:
    """Every figure of every query, in percent, float64 ``[q]`` each.

    Under the "expected" rule each is the exact mean over all orders of the tied images
    (McSherry and Najork 2008 for AP).

    Example:
        >>> from mmref.metrics.ranks import ranks_from_scores
        >>> import numpy as np
        >>> scores = np.float32([[0.9, 0.8, 0.7, 0.6]])
        >>> ranks = ranks_from_scores(lambda a, b: scores[a:b], ["x"], ["y", "x", "y", "x"])
        >>> {name: value.item() for name, value in per_query_figures(ranks).items()}
        {'R@1': 0.0, 'R@5': 100.0, 'R@10': 100.0, 'mAP': 50.0, 'mINP': 50.0}
    """
    starts, sizes, position = ranks.offsets[:-1], ranks.sizes, ranks.positions
    nth = np.arange(len(position)) - np.repeat(starts, sizes) + 1
    values: dict[str, Values] = {
        name: (position[starts] <= depth).astype(np.float64) for name, depth in _DEPTHS.items()
    }
    values["mAP"] = np.add.reduceat(nth / position, starts) / sizes
    values["mINP"] = sizes / position[ranks.offsets[1:] - 1]
    tied = np.add.reduceat(ranks.tied, starts) > 0
    for query in np.flatnonzero(tied):
        one = slice(ranks.offsets[query], ranks.offsets[query + 1])
        expected = _expected(ranks.above[one], ranks.tied[one], ranks.first[one])
        for name, value in expected.items():
            values[name][query] = value
    return {name: 100.0 * values[name] for name in METRICS}


def mean_figures(per_query: Mapping[str, Values]) -> dict[str, float]:
    """Mean of each figure over the queries.

    Example:
        >>> mean_figures({"R@1": np.array([100.0, 0.0])})
        {'R@1': 50.0}
    """
    return {name: float(np.mean(values)) for name, values in per_query.items()}


def figures(ranks: Ranks, query_objects: Objects) -> Figures:
    """All figures of one direction from its ranks.

    Args:
        ranks: of the queries, in their order.
        query_objects: the object of every query, those that were skipped included.

    Raises:
        DataError: the objects are not those that the ranks were made with.

    Example:
        >>> from mmref.metrics.ranks import relevant_ranks
        >>> import torch
        >>> vectors, objects = torch.eye(4), ["a", "b", "c", "d"]
        >>> result = figures(relevant_ranks(vectors, vectors, objects, objects), objects)
        >>> result.metrics["R@1"], result.chance
        (100.0, 25.0)
    """
    if len(query_objects) != len(ranks) + ranks.skipped:
        raise DataError(
            f"{len(query_objects)} query objects, but ranks of {len(ranks) + ranks.skipped} queries"
        )
    per_query = per_query_figures(ranks)
    return Figures(
        metrics=mean_figures(per_query),
        per_query=per_query,
        objects=np.asarray(query_objects)[ranks.kept],
        queries=len(ranks),
        gallery=ranks.gallery,
        skipped=ranks.skipped,
        chance=float(100.0 * np.mean(ranks.sizes / ranks.gallery)),
        chance_map=float(np.mean(random_precision(ranks.sizes, ranks.gallery))),
    )


def random_precision(relevant: NDArray[Any], gallery: int) -> Values:
    """The mean AP over all orders of a gallery, in percent.

    At place i of n, relevant with probability p / n, stand 1 + (i - 1)(p - 1) / (n - 1) relevant
    ones so far; summed over i with the harmonic number H this is
    (H + (p - 1) / (n - 1) (n - H)) / n.

    Args:
        relevant: p, the relevant images of each query, int ``[q]``, each at least 1.
        gallery: n.

    Returns:
        float64 ``[q]``.

    Example:
        >>> random_precision(np.array([1, 2, 3]), 3).round(2).tolist()
        [61.11, 80.56, 100.0]
    """
    harmonic = float(np.sum(1.0 / np.arange(1, gallery + 1)))
    together = (np.asarray(relevant, dtype=np.float64) - 1) / max(gallery - 1, 1)
    return np.asarray(100.0 * (harmonic + together * (gallery - harmonic)) / gallery)


def _expected(above: NDArray[Any], tied: NDArray[Any], first: NDArray[Any]) -> dict[str, float]:
    """Means over all orders of tied images, for one query; arguments as in `Ranks`."""
    heads = np.unique(first)
    total = len(first)
    members = np.diff(np.append(heads, total))
    precision = 0.0
    for head, relevant in zip(heads, members, strict=True):
        size = relevant + tied[head]
        place = np.arange(size)
        before = head + place * ((relevant - 1) / max(size - 1, 1)) + 1
        precision += relevant / size * float(np.sum(before / (above[head] + head + place + 1)))
    values = {"mAP": precision / total}
    for name, depth in _DEPTHS.items():
        size, places = members[0] + tied[0], depth - above[0]
        if places <= 0:
            values[name] = 0.0
        else:
            drawn = np.arange(min(places, size))
            values[name] = 1.0 - float(np.prod(np.maximum(tied[0] - drawn, 0) / (size - drawn)))
    head, relevant = heads[-1], members[-1]
    size = relevant + tied[head]
    # Chance that the last relevant image is at place i of the group, from i = size downwards.
    place = np.arange(size, relevant - 1, -1)
    fall = np.append(1.0, np.cumprod((place[:-1] - relevant) / np.maximum(place[:-1] - 1, 1)))
    chance = relevant / size * fall
    values["mINP"] = float(np.sum(chance * total / (above[head] + head + place)))
    return values
