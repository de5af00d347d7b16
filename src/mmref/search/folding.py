"""Hits that stand for others: near-duplicates folded into one, or one hit a group.

Folding (our choice): going down the list, an item joins the first hit before it that has the same
bytes, or whose vector's cosine with its own is at least the threshold, vectors being those that
were encoded, not those that groups share; else it is a hit itself.
Grouping: an item joins its group's best image, whose score is the group's (the maximum over its
images); an item without that column stands alone.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmref.errors import UsageError
from mmref.search.filters import columns_of, suggested_columns
from mmref.search.records import Item, Vector

NEAR_DUPLICATE = 0.98
Known = Callable[[], bool]


def unknown() -> bool:
    """Of a column that none of some items has: nothing is known of others."""
    return False


@dataclass
class Bunch:
    """A row of a ranked list, and the rows that it stands for."""

    row: int
    group: Any = None
    others: list[int] = field(default_factory=list)


def folded(digests: Sequence[str], vectors: Vector, threshold: float) -> list[Bunch]:
    """Fold the rows of a ranked list.

    Args:
        digests: of the rows' contents, best first.
        vectors: their unit vectors, float32 [n, d].
        threshold: least cosine of near-duplicates.

    Example:
        >>> vectors = np.float32([[1, 0], [0, 1], [0.995, 0.0999], [0, -1]])
        >>> [(b.row, b.others) for b in folded(["a", "b", "c", "a"], vectors, 0.98)]
        [(0, [2, 3]), (1, [])]
    """
    bunches: list[Bunch] = []
    by_digest: dict[str, Bunch] = {}
    kept = np.empty_like(vectors)
    for row, digest in enumerate(digests):
        bunch = by_digest.get(digest)
        if bunch is None and bunches:
            near = np.flatnonzero(kept[: len(bunches)] @ vectors[row] >= threshold)
            bunch = bunches[int(near[0])] if len(near) else None
        if bunch is None:
            kept[len(bunches)] = vectors[row]
            bunch = Bunch(row)
            bunches.append(bunch)
        else:
            bunch.others.append(row)
        by_digest.setdefault(digest, bunch)
    return bunches


def grouped(items: Sequence[Item], column: str, known: Known = unknown) -> list[Bunch]:
    """Group the rows of a ranked list by a column of theirs.

    Args:
        items: best first.
        column: a name of :func:`mmref.search.filters.columns_of`.
        known: as for :func:`column_values`.

    Raises:
        UsageError: none of the items has such a column.

    Example:
        >>> from mmref.search.records import Place
        >>> rows = [Place(f"/{c}/{n}.png", 1, 1, {}, "") for n, c in enumerate("aba")]
        >>> found = grouped([Item(n, place, "") for n, place in enumerate(rows)], "folder")
        >>> [(b.group, b.row, b.others) for b in found]
        [('/a', 0, [2]), ('/b', 1, [])]
    """
    bunches: list[Bunch] = []
    by_key: dict[str, Bunch] = {}
    for row, value in enumerate(column_values(items, column, known)):
        key = None if value is None else json.dumps(value, sort_keys=True, default=str)
        bunch = None if key is None else by_key.get(key)
        if bunch is not None:
            bunch.others.append(row)
            continue
        bunch = Bunch(row, value)
        bunches.append(bunch)
        if key is not None:
            by_key[key] = bunch
    return bunches


def column_values(items: Sequence[Item], column: str, known: Known = unknown) -> list[Any]:
    """What each item has in a column, None where it has nothing.

    Args:
        items: any.
        column: a name of :func:`mmref.search.filters.columns_of`.
        known: called where none has such a column: whether other items have it.

    Raises:
        UsageError: no item has such a column.
    """
    rows = [columns_of(item.place) for item in items]
    values = [row.get(column) for row in rows]
    if rows and all(value is None for value in values) and not known():
        names = {name for row in rows for name in row}
        raise UsageError(f"no image has a column {column!r}: {suggested_columns(column, names)}")
    return values
