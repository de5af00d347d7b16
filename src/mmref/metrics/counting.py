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


def count_at_least(scores: NDArray[Any], row: Ints, cut: NDArray[Any]) -> Ints:
    """Number of scores of the row that are >= the cut.

    Args:
        scores: ``[b, g]``, finite.
        row: the row of each cut, ``[t]``, ascending; rows without a cut cost nothing.
        cut: ``[t]``, finite, ascending within a row.

    Returns:
        int64 ``[t]``.
    """
    b, g = scores.shape
    cells = int(min(max(g // 4, 64), _MOST_CELLS))
    width = (
        cells + 3
    )  # one cell below all cuts, cells + 1 from the lowest to the highest, one above
    low = np.full(b, np.inf, dtype=scores.dtype)
    high = np.full(b, -np.inf, dtype=scores.dtype)
    starts = np.flatnonzero(np.append(True, row[1:] != row[:-1]))
    stops = np.append(starts[1:], len(row))
    low[row[starts]], high[row[starts]] = cut[starts], cut[stops - 1]
    with np.errstate(over="ignore", invalid="ignore"):
        scale = (cells / np.maximum(high - low, _TINY)).astype(scores.dtype)

    flat = scores.ravel()
    survivors = np.flatnonzero(scores >= low[:, None])
    dense = 2 * len(survivors) > scores.size
    if not dense:
        flat = flat[survivors]
        where = survivors // g

    def cell(values: NDArray[Any], rows: Ints | None) -> NDArray[np.int32]:
        with np.errstate(over="ignore", invalid="ignore"):
            if rows is None:
                place = values.reshape(b, g) - low[:, None]
                place *= scale[:, None]
            else:
                place = values - low[rows]
                place *= scale[rows]
        np.clip(place, -1, cells + 1, out=place)
        place += 1
        index = place.astype(np.int32)
        base = np.arange(b, dtype=np.int32) * np.int32(width)
        index += base[:, None] if rows is None else base[rows]
        return index.ravel()

    index = cell(flat, None if dense else where)
    of_cut = cell(cut, row)
    shared = np.zeros(b * width, dtype=bool)
    shared[of_cut] = True
    histogram = np.bincount(index, minlength=b * width)
    histogram[shared] = 0
    higher = histogram.reshape(b, width)[:, ::-1].cumsum(1)[:, ::-1].ravel()[of_cut]
    # Scores that share a cell with a cut: compared exactly, with all cuts of their row at once.
    close = np.flatnonzero(shared[index])
    close_row = close // g if dense else where[close]
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
