"""Ranks of the relevant images of every query, block by block, without sorting the gallery.

The usual way builds the whole query x gallery matrix and sorts each row. Only the ranks of the few
relevant images are needed, and the rank of one is one plus the number of images that score at least
as much. So each block of scores is made once and read once: a query's few relevant scores
are sorted and the gallery is counted between all of them in one pass, exactly
(`mmref.metrics.counting`). (Our choice; the paper says nothing about it.)

Example:
    >>> import torch
    >>> gallery = torch.eye(3)
    >>> ranks = relevant_ranks(torch.tensor([[0.1, 0.2, 0.9]]), gallery, ["a"], ["b", "a", "a"])
    >>> ranks.positions.tolist()
    [1.0, 2.0]
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mmref.errors import DataError
from mmref.metrics.counting import Scratch, count_at_least, row_keys

Ties = Literal["pessimistic", "expected"]
Missing = Literal["error", "skip"]
Objects = Sequence[str] | Sequence[int] | NDArray[Any]
Vectors = torch.Tensor | NDArray[Any]
ScoreBlocks = Callable[[int, int], Vectors]
Ints = NDArray[np.int64]

BLOCK_BYTES = 32 << 20
_CHUNK_SCORES = 1 << 19  # scores that one thread bins at a time: they stay in its cache


@dataclass(frozen=True, eq=False)
class Ranks:
    """Where the relevant images of each query stand; the input of all retrieval figures.

    The relevant images of kept query ``i`` are the entries ``offsets[i]:offsets[i + 1]``,
    best first.

    Attributes:
        offsets: int64 ``[q + 1]``.
        above: int64 ``[n]``, irrelevant images that rank before this relevant one. Under the
            pessimistic rule the tied ones are among them.
        tied: int64 ``[n]``, irrelevant images tied with it; 0 under the pessimistic rule.
        first: int64 ``[n]``, position (from 0, within the query) of the first relevant image of
            the same tied group; its own position under the pessimistic rule.
        kept: int64 ``[q]``, the rows of the queries that have a relevant image.
        gallery: number of gallery images.
        skipped: number of queries left out because none of their images is in the gallery.
        ties: the tie rule.
        tolerance: scores that differ by no more than this count as tied.
    """

    offsets: Ints
    above: Ints
    tied: Ints
    first: Ints
    kept: Ints
    gallery: int
    skipped: int
    ties: Ties
    tolerance: float

    def __len__(self) -> int:
        """Number of kept queries."""
        return len(self.kept)

    @property
    def sizes(self) -> Ints:
        """Number of relevant images of each query, int64 ``[q]``."""
        return np.diff(self.offsets)

    @cached_property
    def positions(self) -> NDArray[np.float64]:
        """Rank of each relevant image from 1, float64 ``[n]``; the mean rank among tied ones."""
        index = np.arange(len(self.above)) - np.repeat(self.offsets[:-1], self.sizes)
        if not self.tied.any():
            return (self.above + index + 1).astype(np.float64)
        group = np.repeat(self.offsets[:-1], self.sizes) + self.first
        members = np.bincount(group, minlength=len(group))[group]
        step: NDArray[np.float64] = (members + self.tied + 1) / (members + 1)
        return np.asarray(self.above + self.first + (index - self.first + 1) * step)

    def of(self, query: int) -> NDArray[np.float64]:
        """Ranks of the relevant images of kept query number ``query``, best first."""
        return self.positions[self.offsets[query] : self.offsets[query + 1]]


def relevant_ranks(
    queries: Vectors,
    gallery: Vectors,
    query_objects: Objects,
    gallery_objects: Objects,
    *,
    ties: Ties = "pessimistic",
    tolerance: float = 0.0,
    missing: Missing = "error",
    block_bytes: int = BLOCK_BYTES,
    threads: int | None = None,
) -> Ranks:
    """Ranks by the inner product of vectors (the cosine, when they are normalised).

    Args:
        queries: ``[q, d]``, tensor or array; half precision is computed in float32.
        gallery: ``[g, d]``.
        query_objects: ``q`` object names. Relevant = same object.
        gallery_objects: ``g`` object names.
        ties: "pessimistic" (a tied irrelevant image ranks first) or "expected" (the mean over all
            orders of tied images).
        tolerance: scores within it count as tied. A value just above the rounding of the product
            (1e-6 for cosines) makes the figures the same on every machine.
        missing: what to do with a query that has no relevant image: "error", or "skip" and count.
        block_bytes: memory for one block of scores.
        threads: threads that bin; as many as torch uses by default.

    Raises:
        DataError: shapes that do not fit, scores that are not finite, or a query without a
            relevant image.

    Example:
        >>> import numpy as np
        >>> queries, gallery = np.float32([[1, 0]]), np.float32([[1, 0], [0, 1], [1, 0]])
        >>> relevant_ranks(queries, gallery, [7], [7, 7, 8]).positions.tolist()
        [2.0, 3.0]
        >>> relevant_ranks(queries, gallery, [7], [7, 7, 8], ties="expected").positions.tolist()
        [1.5, 3.0]
    """
    left, right = as_float(queries), as_float(gallery)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise DataError(
            f"query vectors {tuple(left.shape)} and gallery vectors {tuple(right.shape)} do not fit"
        )
    if len(left) != len(query_objects) or len(right) != len(gallery_objects):
        raise DataError(
            f"{len(left)} query and {len(right)} gallery vectors, but {len(query_objects)} and "
            f"{len(gallery_objects)} objects: one object is needed for each vector"
        )
    dtype = torch.promote_types(left.dtype, right.dtype)
    left, right = left.to(dtype), right.to(dtype).T
    buffer: list[torch.Tensor] = []

    def scores(start: int, stop: int) -> torch.Tensor:
        if not buffer:
            buffer.append(
                torch.empty(stop - start, right.shape[1], dtype=dtype, device=right.device)
            )
        return torch.mm(left[start:stop], right, out=buffer[0][: stop - start])

    return ranks_from_scores(
        scores,
        query_objects,
        gallery_objects,
        ties=ties,
        tolerance=tolerance,
        missing=missing,
        block_bytes=block_bytes,
        threads=threads,
    )


def ranks_from_scores(
    scores: ScoreBlocks,
    query_objects: Objects,
    gallery_objects: Objects,
    *,
    ties: Ties = "pessimistic",
    tolerance: float = 0.0,
    missing: Missing = "error",
    block_bytes: int = BLOCK_BYTES,
    threads: int | None = None,
) -> Ranks:
    """Ranks by any score, given in blocks of whole rows (refined similarities, for example).

    Args:
        scores: ``scores(start, stop)`` gives the scores of queries start..stop-1 for the whole
            gallery, ``[stop - start, g]``. Called with blocks in order, each once, the largest
            first; a block is read before the next is asked for and is never changed.
        query_objects: see `relevant_ranks`, as are the other arguments.
        gallery_objects: likewise.
        ties: likewise.
        tolerance: likewise.
        missing: likewise.
        block_bytes: likewise.
        threads: likewise.

    Raises:
        DataError: as `relevant_ranks`.

    Example:
        >>> import numpy as np
        >>> matrix = np.float32([[0.3, 0.9, 0.1], [0.5, 0.5, 0.2]])
        >>> blocks = lambda start, stop: matrix[start:stop]
        >>> ranks_from_scores(blocks, ["a", "b"], ["a", "b", "a"]).positions.tolist()
        [2.0, 3.0, 2.0]
    """
    if ties not in ("pessimistic", "expected"):
        raise ValueError(f"ties is 'pessimistic' or 'expected', not {ties!r}")
    if missing not in ("error", "skip"):
        raise ValueError(f"missing is 'error' or 'skip', not {missing!r}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance is at least 0, not {tolerance}")
    columns, sizes = _relevant_columns(query_objects, gallery_objects)
    queries, gallery = len(query_objects), len(gallery_objects)
    kept = np.flatnonzero(sizes > 0)
    if len(kept) == 0:
        raise DataError("no query has a relevant image in the gallery: nothing can be ranked")
    if len(kept) < queries and missing == "error":
        bad = int(np.flatnonzero(sizes == 0)[0])
        raise DataError(
            f"{queries - len(kept)} of {queries} queries have no relevant image in the gallery "
            f"(first: row {bad}, object {query_objects[bad]!r}): leave them out or skip them"
        )
    rows = max(1, min(queries, block_bytes // (4 * gallery)))
    step = max(1, _CHUNK_SCORES // max(gallery, 64))
    parts: list[tuple[Ints, Ints, Ints]] = []
    local = threading.local()

    def rank(job: tuple[NDArray[Any], list[Ints]]) -> tuple[Ints, Ints, Ints]:
        if not hasattr(local, "scratch"):
            local.scratch = Scratch()
        return _rank_rows(*job, ties, tolerance, local.scratch)

    with ThreadPoolExecutor(threads or max(1, torch.get_num_threads())) as pool:
        for start in range(0, queries, rows):
            stop = min(start + rows, queries)
            block = _as_block(scores(start, stop), stop - start, gallery)
            jobs = (
                (block[a - start : b - start], [columns(i) for i in range(a, b)])
                for a, b in _spans(start, stop, step)
            )
            parts += pool.map(rank, jobs)
    above, tied, first = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Ranks(
        offsets=np.concatenate([[0], np.cumsum(sizes[kept])]).astype(np.int64),
        above=above,
        tied=tied,
        first=first,
        kept=kept,
        gallery=gallery,
        skipped=queries - len(kept),
        ties=ties,
        tolerance=float(tolerance),
    )


def as_float(vectors: Vectors) -> torch.Tensor:
    """A float32 or float64 tensor without gradient, not copied where that is possible."""
    tensor = vectors.detach() if isinstance(vectors, torch.Tensor) else torch.as_tensor(vectors)
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _spans(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    for a in range(start, stop, step):
        yield a, min(a + step, stop)


def _relevant_columns(
    query_objects: Objects, gallery_objects: Objects
) -> tuple[Callable[[int], Ints], Ints]:
    """A function from a query's row to its gallery columns, and their number for each query."""
    if len(query_objects) == 0 or len(gallery_objects) == 0:
        raise DataError("no queries, or an empty gallery: nothing can be ranked")
    names, codes = np.unique(_as_names(gallery_objects), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    ends = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(names)))])
    wanted = _as_names(query_objects)
    if names.dtype.kind != wanted.dtype.kind:
        raise DataError("the objects of queries and gallery must be of one type: both text or int")
    place = np.minimum(np.searchsorted(names, wanted), len(names) - 1)
    found = names[place] == wanted
    sizes = np.where(found, ends[place + 1] - ends[place], 0).astype(np.int64)

    def columns(row: int) -> Ints:
        return order[ends[place[row]] : ends[place[row]] + sizes[row]]

    return columns, sizes


def _as_names(objects: Objects) -> NDArray[Any]:
    names = np.asarray(objects)
    return names.astype(np.int64) if names.dtype.kind in "iu" else names.astype(str)


def _as_block(scores: Vectors, rows: int, gallery: int) -> NDArray[Any]:
    block: NDArray[Any] = as_float(scores).cpu().numpy()
    if block.shape != (rows, gallery):
        raise DataError(f"a block of scores has shape {block.shape}, not {(rows, gallery)}")
    return np.ascontiguousarray(block)


def _rank_rows(
    scores: NDArray[Any], columns: list[Ints], ties: Ties, tolerance: float, scratch: Scratch
) -> tuple[Ints, Ints, Ints]:
    """Fields above, tied and first of `Ranks` for a few rows of scores ``[b, g]``."""
    if not np.isfinite(scores.sum()) and not np.isfinite(scores).all():
        raise DataError("scores hold NaN or infinite values: look at the vectors they are made of")
    sizes = np.array([len(c) for c in columns])
    row = np.repeat(np.arange(len(columns)), sizes)
    if len(row) == 0:
        return row, row, row
    own = scores[row, np.concatenate(columns)]
    own = own[np.lexsort((-own, row))]  # within each row the best first
    margin = scores.dtype.type(tolerance)
    position = np.arange(len(row)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    if ties == "pessimistic":
        return _irrelevant(scores, row, own, own - margin, scratch), np.zeros_like(row), position
    # Relevant images closer than two margins form one group, so that no image ties with two groups.
    opens = (position == 0) | np.append(True, own[:-1] - own[1:] > 2 * margin)
    heads = np.flatnonzero(opens)
    group = np.cumsum(opens) - 1
    tails = np.append(heads[1:], len(row)) - 1
    over = np.nextafter(own + margin, scores.dtype.type(np.inf))
    both = np.concatenate([over, own - margin])
    higher, reached = _irrelevant(scores, np.tile(row, 2), own, both, scratch).reshape(2, -1)
    above = higher[heads][group]
    return above, reached[tails][group] - above, position[heads][group]


def _irrelevant(
    scores: NDArray[Any], row: Ints, own: NDArray[Any], cut: NDArray[Any], scratch: Scratch
) -> Ints:
    """Number of irrelevant scores of the row that are >= the cut, for each (row, cut)."""
    order = np.lexsort((cut, row))
    counts = np.empty(len(cut), dtype=np.int64)
    counts[order] = count_at_least(scores, row[order], cut[order], scratch)
    mine = np.sort(row_keys(row[: len(own)], own))
    keys = row_keys(row, cut)
    ends = np.searchsorted(mine, row_keys(row, np.full(len(row), np.inf)))
    return counts - (ends - np.searchsorted(mine, keys))
