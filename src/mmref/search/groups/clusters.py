"""Groups found among the vectors themselves: average linkage along nearest neighbours.

Each image's nearest neighbours are found (exactly to ``EXACT_ROWS`` images, then in inverted lists
of FAISS). These pairs are gone through by falling cosine, and two clusters become one when the mean
cosine between their images is at least the threshold. The mean of all pairs is the product of the
clusters' sums, so a step costs one inner product, and a chain of neighbours, each near to the next,
does not become a cluster. Average linkage is Sokal and Michener's (1958); going along nearest
neighbours only is our choice, for a million images.
"""

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from mmref.search.groups.grouping import MOST_IMAGES
from mmref.search.records import Vector

NEIGHBOURS = 32
EXACT_ROWS = 50_000
_BLOCK_ROWS = 4096
_PROBES = 32
_ROWS_PER_LIST = 64  # to train with

Rows = npt.NDArray[np.int64]


def clusters(vectors: Vector, threshold: float, most: int = MOST_IMAGES) -> Rows:
    """The cluster of each image, named by the first row in it, int64 [n].

    Args:
        vectors: unit vectors, float32 [n, d].
        threshold: least mean cosine between the images of two clusters that become one.
        most: images of a cluster at most.

    Example:
        >>> angles = np.radians([0, 50, 10, 60, 180])
        >>> vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        >>> clusters(vectors, 0.95).tolist()
        [0, 1, 0, 1, 4]
    """
    one, other = near_pairs(vectors, threshold)
    parent = list(range(len(vectors)))
    sizes = [1] * len(vectors)
    sums = vectors.copy()

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    for first, second in zip(one.tolist(), other.tolist(), strict=True):
        a, b = sorted((root(first), root(second)))
        pairs = sizes[a] * sizes[b]
        if a == b or sizes[a] + sizes[b] > most or sums[a] @ sums[b] < threshold * pairs:
            continue
        parent[b] = a
        sizes[a] += sizes[b]
        sums[a] += sums[b]
    return np.fromiter(map(root, range(len(vectors))), np.int64, len(vectors))


def near_pairs(
    vectors: Vector, threshold: float, neighbours: int = NEIGHBOURS
) -> tuple[Rows, Rows]:
    """Pairs of which one is among the other's nearest, of a cosine from the threshold on.

    Returns:
        The lower and the higher row of each pair, int64 [p], by falling cosine, then by rows.
    """
    count = len(vectors)
    if count < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    index = _index(vectors)
    pairs, cosines = [], []
    for start in range(0, count, _BLOCK_ROWS):
        block = np.ascontiguousarray(vectors[start : start + _BLOCK_ROWS])
        scores, found = index.search(block, min(count, neighbours + 1))
        rows = np.repeat(np.arange(start, start + len(block)), scores.shape[1])
        found, scores = found.ravel().astype(np.int64), scores.ravel()
        near = (found >= 0) & (found != rows) & (scores >= threshold)
        rows, found = rows[near], found[near]
        pairs.append(np.minimum(rows, found) * count + np.maximum(rows, found))
        cosines.append(scores[near])
    known, first = np.unique(np.concatenate(pairs), return_index=True)
    scores = np.concatenate(cosines)[first]
    known = known[np.lexsort((known, -scores))]
    return known // count, known % count


def _index(vectors: Vector) -> Any:
    """Finds nearest rows: exactly, or in inverted lists."""
    count, dimension = vectors.shape
    index: Any
    if count <= EXACT_ROWS:
        index = faiss.IndexFlatIP(dimension)
    else:
        lists = max(64, int(2 * count**0.5))
        index = faiss.index_factory(dimension, f"IVF{lists},SQfp16", faiss.METRIC_INNER_PRODUCT)
        index.cp.niter = 8
        index.cp.max_points_per_centroid = _ROWS_PER_LIST
        index.nprobe = _PROBES
        rows = np.linspace(0, count - 1, min(count, _ROWS_PER_LIST * lists)).astype(np.int64)
        index.train(np.ascontiguousarray(vectors[rows]))
    for start in range(0, count, _BLOCK_ROWS):
        index.add(np.ascontiguousarray(vectors[start : start + _BLOCK_ROWS]))
    return index
