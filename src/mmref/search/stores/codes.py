"""Small codes of many vectors, in FAISS: what finds the rows that are then scored exactly.

Codes are 4-bit product-quantiser codes of the randomly rotated vectors. Up to ``LISTED_ROWS`` rows
all codes are scanned; beyond, they stand in inverted lists (IVF) and only the lists nearest to the
query are. How many, and how many rows are fetched for exact scoring, is not guessed but measured
when the index is built, on two kinds of queries that are no stored vectors (our choice):

- *near*: a stored vector with a little noise, cosine about 0.9, as another picture would be;
- *far*: half of one stored vector, half of another, and more noise than both, cosine about 0.4
  with either, as a sentence would be: it lies off the surface on which the pictures lie.

The noise is the difference of two stored vectors with random signs: as large as the data vary in
each number, but in directions in which they do not. The least effort is taken at which both kinds
find ``TARGET`` of the ten exactly nearest rows; where the data do not fall into lists, that is all
of them.
"""

import json
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
import numpy.typing as npt

from mmref.search.records import Vector

LISTED_ROWS = 100_000
TRAINING_ROWS = 20_000
ROWS_PER_LIST = 40  # to train with
BLOCK_ROWS = 50_000
LEAST_FETCH = 400
FETCH_FACTOR = 2
TARGET = 0.985
_PROBES = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048, 4096, 1 << 20)
_FETCHES = (LEAST_FETCH, 800, 1600)
_TRIED = 200
_NEAREST = 10
_SAME = 1e-6
_SHARES = {"near": (0.9, 0.0), "far": (0.41, 0.41)}
_faiss: Any = faiss  # more than its type stubs know
_logger = logging.getLogger("mmref")

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Rows(Protocol):
    """Vectors that can be taken row by row."""

    def __len__(self) -> int: ...

    def take(self, rows: Any) -> Vector:
        """Some rows, float32 [n, d]."""


@dataclass(frozen=True)
class Effort:
    """How much is looked at for one query, and what it was measured to find.

    Attributes:
        probes: inverted lists that are scanned; 0 where there are none.
        fetch: rows that are scored exactly, at least.
        recall: share of the ten nearest rows found, by kind of query; empty if not measured.
        trained: number of rows that there were when lists and codes were trained.
    """

    probes: int
    fetch: int
    recall: dict[str, float]
    trained: int


class Codes:
    """The codes of n vectors.

    FAISS works on the calling thread alone: its parts are so small that waiting for helpers costs
    more than they bring, on a busy machine ten times more.

    Args:
        index: a FAISS index over rotated vectors; labels are row numbers.
        rotation: orthogonal, float32 [d, d].
        effort: how much of it to look at.
    """

    def __init__(self, index: Any, rotation: Vector, effort: Effort) -> None:
        self.index = index
        self.rotation = rotation
        self.effort = effort

    @property
    def lists(self) -> int:
        """Number of inverted lists; 0 when all codes are scanned."""
        return int(getattr(self.index, "nlist", 0))

    @property
    def trained(self) -> int:
        """Number of rows that there were when it was trained."""
        return self.effort.trained

    @classmethod
    def build(cls, vectors: Rows) -> "Codes":
        """Codes of all rows."""
        count, dimension = len(vectors), vectors.take(np.arange(1)).shape[1]
        drawn = np.random.default_rng(0).standard_normal((dimension, dimension))
        rotation = np.linalg.qr(drawn)[0].astype(np.float32)
        pairs = dimension % 2 == 0 and dimension >= 8
        spec = f"PQ{dimension // 2}x4fs" if pairs else "SQ8"
        lists = 0
        if count > LISTED_ROWS:
            lists = lists_for(count)
            spec = f"IVF{lists},{spec}"
        index: Any = faiss.index_factory(dimension, spec, faiss.METRIC_INNER_PRODUCT)
        if lists:
            index.cp.niter = 8
            index.cp.max_points_per_centroid = ROWS_PER_LIST
        training = max(TRAINING_ROWS, ROWS_PER_LIST * lists)
        rows = np.linspace(0, count - 1, min(count, training)).astype(np.int64)
        index.train(_turned(vectors, rows, rotation))
        codes = cls(index, rotation, Effort(0, LEAST_FETCH, {}, count))
        codes.extend(vectors)
        return codes

    def extend(self, vectors: Rows) -> None:
        """Add the rows behind those that are in it, and measure again."""
        count = len(vectors)
        for start in range(self.index.ntotal, count, BLOCK_ROWS):
            rows = np.arange(start, min(count, start + BLOCK_ROWS))
            self.index.add(_turned(vectors, rows, self.rotation))
        if self.lists:
            self.effort = _measured(self, vectors)
            _logger.debug("%d rows in %d lists: %s", count, self.lists, self.effort)

    def nearest(
        self, vector: Vector, count: int, chosen: Mask | None = None, probes: int | None = None
    ) -> Ids:
        """About the ``count`` rows nearest to a vector, best first.

        Args:
            vector: float32 [d].
            count: how many.
            chosen: only these rows, bool [n]; kept to where there are lists, else ignored.
            probes: lists to scan; by default what was measured to be enough.
        """
        turned = np.einsum("ij,j->i", self.rotation, vector)
        options: dict[str, Any] = {}
        if self.lists:
            asked = min(self.lists, probes or self.effort.probes)
            bits = None if chosen is None else np.packbits(chosen, bitorder="little")
            selector = None if bits is None else _faiss.IDSelectorBitmap(bits)
            options["params"] = _faiss.SearchParametersIVF(nprobe=asked, sel=selector)
        with _one_thread():
            labels: Ids = self.index.search(turned[None], count, **options)[1][0]
        return labels[labels >= 0]

    def scanned(self, share: float) -> int:
        """How many codes are scanned for a filter that keeps this share of the rows."""
        part = self.effort.probes / share / self.lists if self.lists and share else 1
        return int(self.index.ntotal * min(1, part))

    def save(self, folder: Path) -> None:
        """Write all parts into a folder."""
        faiss.write_index(self.index, str(folder / "codes.faiss"))
        np.save(folder / "rotation.npy", self.rotation)
        (folder / "effort.json").write_text(json.dumps(asdict(self.effort)), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Codes":
        """The inverse of :meth:`save`."""
        index = faiss.read_index(str(folder / "codes.faiss"))
        effort = Effort(**json.loads((folder / "effort.json").read_text(encoding="utf-8")))
        return cls(index, np.load(folder / "rotation.npy", allow_pickle=False), effort)


def lists_for(count: int) -> int:
    """Number of inverted lists for n rows: a power of two near twice the root of n.

    Example:
        >>> lists_for(150_000), lists_for(1_000_000), lists_for(20_000_000)
        (1024, 2048, 8192)
    """
    return min(16_384, max(16, 1 << round(math.log2(2 * math.sqrt(count)))))


def trial_queries(vectors: Rows, count: int, shares: tuple[float, float], seed: int = 17) -> Vector:
    """Unit vectors that are not stored, float32 [count, d].

    Args:
        vectors: the rows.
        count: how many queries.
        shares: weights of two stored vectors; noise is the rest.
        seed: what is drawn.
    """
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, len(vectors), (4, count))
    own, with_it, one, other = (
        vectors.take(np.sort(part))[generator.permutation(count)] for part in rows
    )
    noise = (one - other) * generator.choice(np.array([-1, 1], np.float32), one.shape)
    length = np.linalg.norm(noise, axis=1, keepdims=True)
    noise /= np.where(length > 0, length, 1)
    mixed = own * shares[0] + with_it * shares[1]
    mixed += noise * math.sqrt(1 - shares[0] ** 2 - shares[1] ** 2)
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    found: Vector = (mixed / np.where(length > 0, length, 1)).astype(np.float32)
    return found


def tenth_scores(vectors: Rows, queries: Vector) -> Vector:
    """The score of the tenth nearest row of each query, by comparing all, float32 [q]."""
    best = np.full((len(queries), _NEAREST), -np.inf, dtype=np.float32)
    for start in range(0, len(vectors), BLOCK_ROWS):
        scores = queries @ vectors.take(slice(start, start + BLOCK_ROWS)).T
        both = np.concatenate([best, scores], axis=1)
        best = np.partition(both, both.shape[1] - _NEAREST, axis=1)[:, -_NEAREST:]
    least: Vector = best.min(axis=1)
    return least


def _measured(codes: Codes, vectors: Rows) -> Effort:
    """The least effort that reaches the target, from a few queries and an exact search."""
    kinds = {kind: trial_queries(vectors, _TRIED, shares) for kind, shares in _SHARES.items()}
    least = {kind: tenth_scores(vectors, queries) for kind, queries in kinds.items()}

    def recalls(probes: int, fetch: int, count: int = _TRIED) -> dict[str, float]:
        found = {}
        for kind, queries in kinds.items():
            hits = 0
            for query, enough in zip(queries[:count], least[kind], strict=False):
                rows = codes.nearest(query, fetch, probes=probes)
                scores = vectors.take(np.sort(rows)) @ query
                hits += min(_NEAREST, int((scores >= enough - _SAME).sum()))
            found[kind] = round(hits / (_NEAREST * min(count, len(queries))), 4)
        return found

    recall: dict[str, float] = {}
    probes = codes.lists
    for fetch in _FETCHES:
        if min(recalls(codes.lists, fetch, _TRIED // 4).values()) < TARGET:
            continue  # more lists would not help
        for probes in _PROBES:
            recall = recalls(probes, fetch)
            if min(recall.values()) >= TARGET or probes >= codes.lists:
                break
        if min(recall.values()) >= TARGET:
            break
    return Effort(
        min(probes, codes.lists), fetch, recall or recalls(codes.lists, fetch), codes.trained
    )


def _turned(vectors: Rows, rows: Ids, rotation: Vector) -> Vector:
    return np.ascontiguousarray(vectors.take(rows) @ rotation.T)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let FAISS use no helpers; OpenMP keeps this setting for each thread apart."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
