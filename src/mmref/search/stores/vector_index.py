"""The nearest vectors in memory: a base written to files once, and what changed since.

The base is a folder of arrays in the order of ids: vectors (float32, memory-mapped), profiles,
and for more than ``EXACT_ROWS`` rows a FAISS index of 4-bit product-quantiser codes of the randomly
rotated vectors. All codes are scanned (no lists that could hide a row), twice as many rows as
wanted and at least 400 are fetched, and these are scored again from the float32 vectors, so every
score given is exact. Rows added or changed after the base was written (the delta) are compared one
by one.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from mmref.errors import StoreError
from mmref.search.records import Arrays, Candidates, Vector

EXACT_ROWS = 20_000
TRAINING_ROWS = 20_000
BLOCK_ROWS = 50_000
FETCH_FACTOR = 2
LEAST_FETCH = 400
FORMAT = 1

Ids = npt.NDArray[np.int64]
# (name, dtype, numbers per item) of each array that makes up a profile
Layout = list[tuple[str, str, int]]
Rows = Iterable[tuple[Ids, Vector, Arrays]]


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let FAISS use no helpers; OpenMP keeps this setting for each thread apart."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


class Codes:
    """Small codes of many vectors, scanned as a whole.

    FAISS works on the calling thread alone: its parts are so small that waiting for helpers costs
    more than they bring, on a busy machine ten times more.

    Args:
        index: a FAISS index over rotated vectors; labels are row numbers.
        rotation: orthogonal, float32 [d, d].
    """

    def __init__(self, index: Any, rotation: Vector) -> None:
        self.index = index
        self.rotation = rotation

    @classmethod
    def build(cls, vectors: Vector) -> "Codes":
        """Codes of the rows of ``vectors``, float32 [n, d]."""
        count, dimension = vectors.shape
        drawn = np.random.default_rng(0).standard_normal((dimension, dimension))
        rotation = np.linalg.qr(drawn)[0].astype(np.float32)
        pairs = dimension % 2 == 0 and dimension >= 8
        spec = f"PQ{dimension // 2}x4fs" if pairs else "SQ8"
        index = faiss.index_factory(dimension, spec, faiss.METRIC_INNER_PRODUCT)
        step = max(1, count // TRAINING_ROWS)
        with _one_thread():
            index.train(np.ascontiguousarray(vectors[::step][:TRAINING_ROWS] @ rotation.T))
            for start in range(0, count, BLOCK_ROWS):
                part = vectors[start : start + BLOCK_ROWS] @ rotation.T
                index.add(np.ascontiguousarray(part))
        return cls(index, rotation)

    def nearest(self, vector: Vector, count: int) -> Ids:
        """About the ``count`` rows nearest to a vector, float32 [d]."""
        turned = np.einsum("ij,j->i", self.rotation, vector)
        with _one_thread():
            labels: Ids = self.index.search(turned[None], count)[1][0]
        return labels[labels >= 0]

    def save(self, folder: Path) -> None:
        """Write both parts into a folder."""
        faiss.write_index(self.index, str(folder / "codes.faiss"))
        np.save(folder / "rotation.npy", self.rotation)

    @classmethod
    def load(cls, folder: Path) -> "Codes":
        """The inverse of :meth:`save`."""
        index = faiss.read_index(str(folder / "codes.faiss"))
        return cls(index, np.load(folder / "rotation.npy", allow_pickle=False))


@dataclass(frozen=True)
class Base:
    """The arrays of one base folder, n rows in the order of ids."""

    folder: Path
    generation: int
    ids: Ids
    vectors: Vector
    profiles: Arrays
    codes: Codes | None


def write_base(
    folder: Path,
    store: str,
    generation: int,
    count: int,
    dimension: int,
    layout: Layout,
    rows: Rows,
) -> None:
    """Fill an empty folder with the arrays of ``count`` rows.

    Args:
        folder: where to write.
        store: the store's own id, checked when the base is read.
        generation: the database's generation that the rows are from.
        count: number of rows that ``rows`` gives in all.
        dimension: numbers in one vector.
        layout: the arrays of a profile.
        rows: blocks of (ids, vectors, profiles), ids rising.
    """

    def array(name: str, dtype: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        file = folder / f"{name}.npy"
        if count == 0:  # an empty array cannot be mapped
            np.save(file, np.zeros(shape, dtype))
            return np.zeros(shape, dtype)
        return np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)

    ids = array("ids", np.int64, (count,))
    vectors = array("vectors", np.float32, (count, dimension))
    profiles = {
        name: array(f"profile-{name}", np.dtype(kind), (count, width))
        for name, kind, width in layout
    }
    start = 0
    for block_ids, block_vectors, block_profiles in rows:
        part = slice(start, start + len(block_ids))
        ids[part] = block_ids
        vectors[part] = block_vectors
        for name, values in block_profiles.items():
            profiles[name][part] = values
        start += len(block_ids)
    for written in (ids, vectors, *profiles.values()):
        if isinstance(written, np.memmap):
            written.flush()
    if count > EXACT_ROWS:
        Codes.build(vectors).save(folder)
    stamp = {
        "format": FORMAT,
        "store": store,
        "generation": generation,
        "rows": count,
        "dimension": dimension,
        "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
    }
    (folder / "stamp.json").write_text(json.dumps(stamp, indent=2), encoding="utf-8")


def read_base(folder: Path, store: str, dimension: int, layout: Layout) -> Base:
    """Map the arrays of a base folder.

    Raises:
        StoreError: the folder is damaged, or belongs to another store.
    """
    try:
        stamp = json.loads((folder / "stamp.json").read_text(encoding="utf-8"))
        wanted = (FORMAT, store, dimension)
        if (stamp["format"], stamp["store"], stamp["dimension"]) != wanted:
            raise StoreError(f"{folder} is the cache of another store")
        for name, size in stamp["files"].items():
            if (folder / name).stat().st_size != size:
                raise StoreError(f"{folder / name} is damaged")
        count = int(stamp["rows"])

        def array(name: str) -> npt.NDArray[Any]:
            file = folder / f"{name}.npy"
            values: npt.NDArray[Any] = np.load(file, "r" if count else None, allow_pickle=False)
            return values

        base = Base(
            folder,
            int(stamp["generation"]),
            np.asarray(array("ids"), dtype=np.int64),
            array("vectors"),
            {name: array(f"profile-{name}") for name, _, _ in layout},
            Codes.load(folder) if "codes.faiss" in stamp["files"] else None,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise StoreError(f"{folder} is damaged: {error}") from error
    shapes = {len(base.ids), len(base.vectors), *(len(p) for p in base.profiles.values())}
    if shapes != {count} or (base.codes is not None and base.codes.index.ntotal != count):
        raise StoreError(f"{folder} is damaged: its arrays differ in length")
    return base


def top_rows(scores: Vector, count: int) -> Ids:
    """The rows of the ``count`` best scores; of equal ones those that come first; any order.

    Example:
        >>> top_rows(np.float32([0.5, 0.9, 0.5, 0.1, 0.5]), 3).tolist()
        [1, 0, 2]
    """
    if count >= len(scores):
        return np.arange(len(scores))
    least = np.partition(scores, len(scores) - count)[len(scores) - count]
    above = np.flatnonzero(scores > least)
    level = np.flatnonzero(scores == least)[: count - len(above)]
    return np.concatenate([above, level])


@dataclass(frozen=True)
class Snapshot:
    """All vectors of one generation: a base, less its dead rows, and the delta.

    Attributes:
        generation: the database's generation that this equals.
        base: the rows on disk.
        dead: bool [n] of base rows that were changed or removed since, or None.
        ids: ids of the delta, int64 [m], rising.
        vectors: vectors of the delta, float32 [m, d].
        profiles: profiles of the delta by name, [m, ...].
    """

    generation: int
    base: Base
    dead: npt.NDArray[np.bool_] | None
    ids: Ids
    vectors: Vector
    profiles: Arrays

    @classmethod
    def of(cls, base: Base) -> "Snapshot":
        """The base as it is."""
        empty = {name: values[:0] for name, values in base.profiles.items()}
        return cls(base.generation, base, None, base.ids[:0], base.vectors[:0], empty)

    def __len__(self) -> int:
        dead = 0 if self.dead is None else int(self.dead.sum())
        return len(self.base.ids) - dead + len(self.ids)

    @property
    def stale_rows(self) -> int:
        """Rows that the base lacks or holds in vain."""
        return len(self.ids) + (0 if self.dead is None else int(self.dead.sum()))

    def advanced(
        self, generation: int, gone: Sequence[int], ids: Ids, vectors: Vector, profiles: Arrays
    ) -> "Snapshot":
        """This snapshot after some rows went and others came or changed.

        Args:
            generation: the new generation.
            gone: ids that were removed.
            ids: ids that were added or changed, int64 [m].
            vectors: their vectors, float32 [m, d].
            profiles: their profiles.
        """
        out = np.union1d(np.asarray(gone, dtype=np.int64), ids)
        spots = np.searchsorted(self.base.ids, out)
        known = spots < len(self.base.ids)
        known[known] = self.base.ids[spots[known]] == out[known]
        dead = self.dead
        if known.any():
            dead = np.zeros(len(self.base.ids), bool) if dead is None else dead.copy()
            dead[spots[known]] = True
        stay = ~np.isin(self.ids, out)
        all_ids = np.concatenate([self.ids[stay], ids])
        order = np.argsort(all_ids)
        return Snapshot(
            generation,
            self.base,
            dead,
            all_ids[order],
            np.concatenate([self.vectors[stay], vectors])[order],
            {
                name: np.concatenate([values[stay], profiles[name]])[order]
                for name, values in self.profiles.items()
            },
        )

    def candidates(self, vector: Vector, count: int) -> Candidates:
        """The ``count`` rows nearest to a unit vector, float32 [d], by exact cosine."""
        rows = self._base_rows(vector, count)
        fresh = top_rows(_cosines(self.vectors, vector), count) if len(self.ids) else None
        ids = _gathered(self.base.ids, rows, self.ids, fresh)
        vectors = _gathered(self.base.vectors, rows, self.vectors, fresh)
        scores = _cosines(vectors, vector)
        order = np.lexsort((ids, -scores))[:count]
        profiles = {
            name: _gathered(values, rows, self.profiles[name], fresh, order)
            for name, values in self.base.profiles.items()
        }
        return Candidates(ids[order], scores[order], profiles)

    def _base_rows(self, vector: Vector, count: int) -> Ids:
        total = len(self.base.ids)
        if self.base.codes is None:
            scores = _cosines(self.base.vectors, vector)
            if self.dead is None:
                return top_rows(scores, count)
            alive = np.flatnonzero(~self.dead)
            return alive[top_rows(scores[alive], count)]
        wanted = fetch = min(total, max(LEAST_FETCH, FETCH_FACTOR * count))
        if self.dead is not None:
            fetch = min(total, 2 * fetch)
        while True:
            labels = self.base.codes.nearest(vector, fetch)
            if self.dead is not None:
                labels = labels[~self.dead[labels]]
            if len(labels) >= wanted or fetch >= total:
                return labels
            fetch = min(total, 2 * fetch)


def _cosines(vectors: Vector, vector: Vector) -> Vector:
    """Inner products; every row is added up in the same way, so equal vectors score the same."""
    scores: Vector = np.einsum("ij,j->i", vectors, vector)
    return scores


def _gathered(
    old: npt.NDArray[Any],
    rows: Ids,
    new: npt.NDArray[Any],
    fresh: Ids | None,
    order: Ids | None = None,
) -> npt.NDArray[Any]:
    """Rows of the base, then rows of the delta; of these the ones in ``order``."""
    if fresh is None:
        return old[rows if order is None else rows[order]]
    both = np.concatenate([old[rows], new[fresh]])
    return both if order is None else both[order]
