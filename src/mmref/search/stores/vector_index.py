"""The nearest vectors in memory: a base written to files once, and what changed since.

The base is a folder of arrays in the order of ids: vectors as they are stored (memory-mapped),
profiles, the columns that filters ask for, and for more than ``EXACT_ROWS`` rows the codes of
:mod:`mmref.search.stores.codes`. What the codes find is scored again from the stored vectors, so
every score given is exact. Rows added or changed after the base was written (the delta) are
compared one by one.

A filter restricts the rows before any is ranked: where few are left all of these are compared,
else the codes are searched among them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mmref.search.filters import Filter, items_sql
from mmref.search.records import Candidates, Vector
from mmref.search.stores.base_files import Base
from mmref.search.stores.codes import FETCH_FACTOR
from mmref.search.stores.columns import Columns, Mask, columns_from
from mmref.search.stores.rows import Block, Ids

CODE_COST = 1 / 40  # time to scan a row's code, in that to compare the row itself
_MASKS_KEPT = 8

# Ids of the items for which a condition of SQLite holds, rising
Asked = Callable[[str, Sequence[Any]], Ids]


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
        delta: the rows that the base lacks, by rising id.
    """

    generation: int
    base: Base
    dead: Mask | None
    delta: Block
    _masks: dict[Filter, tuple[Mask, Mask]] = field(default_factory=dict)

    @classmethod
    def of(cls, base: Base) -> "Snapshot":
        """The base as it is."""
        none = {name: values[:0] for name, values in base.profiles.items()}
        return cls(base.generation, base, None, Block(base.ids[:0], base.packed[:0], none, []))

    @cached_property
    def size(self) -> int:
        """Number of items."""
        return len(self.base.ids) - self._dead_rows + len(self.delta.ids)

    def __len__(self) -> int:
        return self.size

    @cached_property
    def _dead_rows(self) -> int:
        return 0 if self.dead is None else int(self.dead.sum())

    @property
    def stale_rows(self) -> int:
        """Rows that the base lacks or holds in vain."""
        return len(self.delta.ids) + self._dead_rows

    @cached_property
    def _fresh(self) -> Vector:
        return self.base.coding.vectors(self.delta.packed)

    @cached_property
    def _delta_columns(self) -> Columns:
        return columns_from(self.delta.columns)

    def advanced(self, generation: int, gone: Sequence[int], changed: Block) -> "Snapshot":
        """This snapshot after some rows went and others came or changed.

        Args:
            generation: the new generation.
            gone: ids that were removed.
            changed: rows that were added or changed.
        """
        out = np.union1d(np.asarray(gone, dtype=np.int64), changed.ids)
        spots = np.searchsorted(self.base.ids, out)
        known = spots < len(self.base.ids)
        known[known] = self.base.ids[spots[known]] == out[known]
        dead = self.dead
        if known.any():
            dead = np.zeros(len(self.base.ids), bool) if dead is None else dead.copy()
            dead[spots[known]] = True
        old = self.delta
        stay = np.flatnonzero(~np.isin(old.ids, out))
        ids = np.concatenate([old.ids[stay], changed.ids])
        order = np.argsort(ids)
        columns = [*(old.columns[row] for row in stay), *changed.columns]
        delta = Block(
            ids[order],
            np.concatenate([old.packed[stay], changed.packed])[order],
            {
                name: np.concatenate([values[stay], changed.profiles[name]])[order]
                for name, values in old.profiles.items()
            },
            [columns[row] for row in order],
        )
        return Snapshot(generation, self.base, dead, delta)

    # ------------------------------------------------------------------ filters

    def column_names(self) -> set[str]:
        """The names of the columns that items have or had."""
        return self.base.columns.names() | self._delta_columns.names()

    def masks(self, where: Filter, asked: Asked) -> tuple[Mask, Mask]:
        """The rows of the base (dead ones too) and of the delta that pass a filter.

        Args:
            where: the filter.
            asked: asks the database of this generation, for columns that the base has not.
        """
        known = self._masks.get(where)
        if known is None:
            known = (
                self.base.columns.mask(where.root, lambda node: self._by_sql(Filter(node), asked)),
                self._delta_columns.mask(where.root),
            )
            if len(self._masks) >= _MASKS_KEPT:
                self._masks.clear()
            self._masks[where] = known
        return known

    def _by_sql(self, where: Filter, asked: Asked) -> Mask:
        ids = asked(*where.to_sql(items_sql))
        found = np.zeros(len(self.base.ids), bool)
        spots = np.searchsorted(self.base.ids, ids)
        spots, ids = spots[spots < len(found)], ids[spots < len(found)]
        found[spots[self.base.ids[spots] == ids]] = True
        return found

    # ------------------------------------------------------------------ searching

    def candidates(
        self, vector: Vector, count: int, masks: tuple[Mask, Mask] | None = None
    ) -> Candidates:
        """The ``count`` rows nearest to a unit vector, float32 [d], by exact cosine.

        Args:
            vector: what to be near to.
            count: how many.
            masks: the rows of base and delta that may be given; None: all.
        """
        chosen = None if masks is None else masks[0]
        if self.dead is not None:
            chosen = ~self.dead if chosen is None else chosen & ~self.dead
        rows = self._base_rows(vector, count, chosen, masks is not None)
        fresh: Ids = np.arange(len(self.delta.ids)) if masks is None else np.flatnonzero(masks[1])
        if len(fresh):
            fresh = fresh[top_rows(_cosines(self._fresh[fresh], vector), count)]
        if len(rows) > count:
            rows = rows[top_rows(self.base.cosines(rows, vector), count)]
        vectors = self.base.take(rows)
        if len(fresh):
            vectors = np.concatenate([vectors, self._fresh[fresh]])
        ids = np.concatenate([self.base.ids[rows], self.delta.ids[fresh]])
        scores = _cosines(vectors, vector)
        order = np.lexsort((ids, -scores))[:count]
        profiles = {
            name: _gathered(values, rows, self.delta.profiles[name], fresh, order)
            for name, values in self.base.profiles.items()
        }
        return Candidates(ids[order], scores[order], profiles)

    def _base_rows(self, vector: Vector, count: int, chosen: Mask | None, filtered: bool) -> Ids:
        codes = self.base.codes
        total = len(self.base.ids)
        if codes is None and chosen is None:
            return top_rows(_cosines(self.base.exact, vector), count)
        if chosen is not None and (codes is None or filtered):
            left = int(np.count_nonzero(chosen))
            wanted = left
            if codes is not None:
                wanted = min(left, max(codes.effort.fetch, FETCH_FACTOR * count))
            if codes is None or left <= wanted + codes.scanned(left / total) * CODE_COST:
                rows = np.flatnonzero(chosen)
                return rows[top_rows(self.base.cosines(rows, vector), count)]
            if codes.lists:
                return self._listed(vector, wanted, chosen, left / total)
            fetch = min(total, int(1.5 * wanted * total / left))
        else:
            assert codes is not None
            wanted = fetch = min(total, max(codes.effort.fetch, FETCH_FACTOR * count))
            if chosen is not None:
                fetch = min(total, fetch + fetch // 4)
        while True:
            labels = codes.nearest(vector, fetch)
            short = len(labels) < fetch  # the lists that are scanned hold no more
            if chosen is not None:
                labels = labels[chosen[labels]]
            if len(labels) >= wanted or fetch >= total:
                break
            if short and codes.lists:
                everything = np.ones(total, bool) if chosen is None else chosen
                return self._listed(vector, min(wanted, int(everything.sum())), everything, 0.5)
            fetch = min(total, 2 * fetch)
        return labels[:wanted]

    def _listed(self, vector: Vector, wanted: int, chosen: Mask, share: float) -> Ids:
        """Rows of inverted lists among those chosen; the fewer these are the more lists."""
        codes = self.base.codes
        assert codes is not None
        probes = int(codes.effort.probes / share) + 1
        while True:
            labels = codes.nearest(vector, wanted, chosen, probes)
            if len(labels) >= wanted or probes >= codes.lists:
                return labels
            probes *= 2


def _cosines(vectors: Vector, vector: Vector) -> Vector:
    """Inner products; every row is added up in the same way, so equal vectors score the same."""
    scores: Vector = np.einsum("ij,j->i", vectors, vector)
    return scores


def _gathered(
    old: npt.NDArray[Any], rows: Ids, new: npt.NDArray[Any], fresh: Ids, order: Ids
) -> npt.NDArray[Any]:
    """Rows of the base, then rows of the delta; of these the ones in ``order``."""
    if len(fresh) == 0:
        return old[rows[order]]
    return np.concatenate([old[rows], new[fresh]])[order]
