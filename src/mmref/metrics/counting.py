"""Exact counts of scores above given cuts, in one pass over a block of scores.

The score axis from a row's lowest to its highest cut is divided into equal cells and one histogram
counts the row in all of them. Rounding is monotone: a score in a higher cell is a higher score. So
only scores that share a cell with a cut need comparing, and the counts are exact for any scores.

Example:
    >>> scores = np.float32([[0.1, 0.4, 0.4, 0.9]])
    >>> count_at_least(scores, np.array([0, 0]), np.float32([0.4, 0.5])).tolist()
    [3, 1]
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

_MOST_CELLS = 4096
_TINY = 1e-30


def row_keys(row: Ints, value: NDArray[Any]) -> NDArray[np.complex128]:
    """Keys that sort by row, then by value (numpy orders complex numbers so)."""
    key = np.empty(len(row), dtype=np.complex128)
    key.real, key.imag = row, value
    return key


class Scratch:
    """Arrays that are used again by the next block: one for each thread that counts.

    Without it, fresh pages from the system cost more than the counting.

    Example:
        >>> scratch = Scratch()
        >>> scratch("x", 3, np.dtype("f4")).base is scratch("x", 2, np.dtype("f4")).base
        True
    """

    def __init__(self) -> None:
        self._held: dict[str, NDArray[Any]] = {}

    def __call__(self, name: str, size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        """An array of this size with any content."""
        held = self._held.get(name)
        if held is None or len(held) < size or held.dtype != dtype:
            held = self._held[name] = np.empty(size, dtype=dtype)
        return held[:size]


def count_at_least(
    scores: NDArray[Any], row: Ints, cut: NDArray[Any], scratch: Scratch | None = None
) -> Ints:
    """Number of scores of the row that are >= the cut.

    Args:
        scores: ``[b, g]``, finite, contiguous.
        row: the row of each cut, ``[t]``, ascending; rows without a cut cost nothing.
        cut: ``[t]``, finite, ascending within a row.
        scratch: arrays to use again.

    Returns:
        int64 ``[t]``.
    """
    b, g = scores.shape
    scratch = scratch or Scratch()
    cells = int(min(max(g // 4, 64), _MOST_CELLS))
    # One cell below all cuts, cells + 1 from the lowest cut to the highest, one above.
    width = cells + 3
    low = np.full(b, np.inf, dtype=scores.dtype)
    high = np.full(b, -np.inf, dtype=scores.dtype)
    starts = np.flatnonzero(np.append(True, row[1:] != row[:-1]))
    stops = np.append(starts[1:], len(row))
    low[row[starts]], high[row[starts]] = cut[starts], cut[stops - 1]
    scale = (cells / np.maximum(high - low, _TINY)).astype(scores.dtype)
    base = np.arange(b) * width

    def to_cells(away: NDArray[Any], factor: NDArray[Any], name: str) -> Ints:
        """Cells from differences to the row's lowest cut, which are overwritten."""
        with np.errstate(over="ignore", invalid="ignore"):
            away *= factor
        np.clip(away, -1, cells + 1, out=away)
        away += 1
        index = scratch(name, away.size, np.dtype(np.intp)).reshape(away.shape)
        np.copyto(index, away, casting="unsafe")
        return index

    # Scores below the lowest cut of their row count for nothing: drop them when they are many.
    flat = scores.ravel()
    alive = scratch("alive", scores.size, np.dtype(bool))
    np.greater_equal(scores, low[:, None], out=alive.reshape(b, g))
    where: Ints | None = None
    if 4 * np.count_nonzero(alive) > scores.size:
        away = scratch("away", scores.size, scores.dtype).reshape(b, g)
        np.subtract(scores, low[:, None], out=away)
        index = to_cells(away, scale[:, None], "index")
        index += base[:, None]
        index = index.ravel()
    else:
        survivors = np.flatnonzero(alive)
        flat, where = flat[survivors], survivors // g
        index = to_cells(flat - low[where], scale[where], "index")
        index += base[where]
    of_cut = to_cells(cut - low[row], scale[row], "of_cut") + base[row]
    shared = np.zeros(b * width, dtype=bool)
    shared[of_cut] = True
    histogram = np.bincount(index, minlength=b * width)
    histogram[shared] = 0
    higher = histogram.reshape(b, width)[:, ::-1].cumsum(1)[:, ::-1].ravel()[of_cut]
    # Scores that share a cell with a cut: compared exactly, with all cuts of their row at once.
    hit = np.take(shared, index, out=scratch("hit", len(index), np.dtype(bool)), mode="clip")
    close = np.flatnonzero(hit)
    close_row = close // g if where is None else where[close]
    fence = row[starts]
    edges = row_keys(np.concatenate([row, fence]), np.append(cut, np.full(len(fence), -np.inf)))
    edges.sort()
    passed = np.searchsorted(edges, row_keys(close_row, flat[close]), side="right")
    reach = np.bincount(passed, minlength=len(edges) + 1)[::-1].cumsum()[::-1]
    # Cut number j of the sorted list has one fence for each row up to its own before it.
    nth = np.repeat(np.arange(len(starts)), stops - starts)
    mine = np.arange(len(cut)) + nth + 1
    end = (stops + np.arange(len(starts)) + 1)[nth]
    counts: Ints = higher + reach[mine + 1] - np.append(reach, 0)[end + 1]
    return counts
