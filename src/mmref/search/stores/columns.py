"""What filters ask of items, as arrays: one code per item and column.

The values that a column holds are numbered in order, numbers first, then text, then all else.
A condition is tried on the values that there are, by the rules of ``Node.matches`` itself, and the
codes say which items have them; where values are many and in order, they are bisected. So a filter
over a million items takes about a millisecond and cannot differ from its reference.

``path`` and ``name`` differ from item to item, so they are left to the database.
"""

import json
import math
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmref.search.filter_tree import And, Compare, Contains, Date, In, Node, Not, Or

MOST_COLUMNS = 128
LEFT_OUT = ("path", "name")
_TRIED_ONE_BY_ONE = 512
_RANGES = 4
_DATES = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?)?")
_INT64 = 1 << 63

Mask = npt.NDArray[np.bool_]
# The rows that pass a condition that columns cannot answer.
Otherwise = Callable[[Node], Mask]


class Column:
    """One column of n items.

    Args:
        codes: number of each item's value, -1 where it has none, [n].
        numbers: numbers that occur, rising.
        texts: texts that occur, rising.
        others: truth values, lists and all else, in any order.
        dates: whether all texts are dates written alike, if it is known.
    """

    def __init__(
        self,
        codes: npt.NDArray[Any],
        numbers: list[float],
        texts: list[str],
        others: list[Any],
        dates: bool | None = None,
    ) -> None:
        self.codes = codes
        self.numbers = numbers
        self.texts = texts
        self.others = others
        self.dates = _dates(texts) if dates is None else dates

    def value(self, code: int) -> Any:
        """The value that has a code."""
        for part in (self.numbers, self.texts, self.others):
            if code < len(part):
                return part[code]
            code -= len(part)
        raise IndexError("a code that no value has")

    def mask(self, leaf: Any) -> Mask:
        """The items that pass a condition on this column, bool [n]."""
        table = self._table(leaf)
        edges = np.flatnonzero(np.diff(table[:-1], prepend=False, append=False))
        if len(edges) > 2 * _RANGES:
            passing: Mask = table[self.codes]  # -1 is the last entry: missing
            return passing
        found = (self.codes < 0) if table[-1] else np.zeros(len(self.codes), bool)
        for start, end in edges.reshape(-1, 2).tolist():
            if end == start + 1:
                found |= self.codes == start
            else:
                found |= (self.codes >= start) & (self.codes < end)
        return found

    def _table(self, leaf: Any) -> Mask:
        """Whether each value passes; the last entry is that of a missing one."""
        parts = [self._passing(leaf, self.numbers, True), self._passing(leaf, self.texts, False)]
        tried = (leaf.matches({leaf.column: value}) for value in self.others)
        parts += [np.fromiter(tried, bool, len(self.others)), np.array([leaf.matches({})])]
        return np.concatenate(parts)

    def _passing(self, leaf: Any, values: list[Any], numbers: bool) -> Mask:
        if len(values) > _TRIED_ONE_BY_ONE:
            if isinstance(leaf, In):
                parts = [Compare(leaf.column, "=", value) for value in leaf.values]
                found = np.zeros(len(values), bool)
                for part in parts:
                    found |= self._passing(part, values, numbers)
                return ~found if leaf.negated else found
            if numbers and isinstance(leaf, Contains):
                return np.zeros(len(values), bool)
            if isinstance(leaf, Compare):
                kind = int | float if numbers else (str, Date) if self.dates else str
                if isinstance(leaf.value, kind):
                    return _bisected(leaf, values)
        tried = (leaf.matches({leaf.column: value}) for value in values)
        return np.fromiter(tried, bool, len(values))

    def save(self, stem: Path) -> None:
        """Write the codes and the values."""
        np.save(stem.with_suffix(".npy"), self.codes)
        values = [self.numbers, self.texts, self.others, self.dates]
        text = json.dumps(values, ensure_ascii=True, separators=(",", ":"))
        stem.with_suffix(".json").write_text(text, encoding="utf-8")

    @classmethod
    def load(cls, stem: Path) -> "Column":
        """The inverse of :meth:`save`; the codes stay on disk."""
        values = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        codes = np.load(stem.with_suffix(".npy"), "r", allow_pickle=False)
        return cls(codes, *values)


def _dates(texts: list[str]) -> bool:
    """Whether these are dates written alike: then they stand in the order of the dates."""
    alike = len({(len(text), text[10:11]) for text in texts}) == 1
    return alike and all(map(_DATES.fullmatch, texts))


def _bisected(leaf: Compare, values: list[Any]) -> Mask:
    def first(sign: str) -> int:
        asked = replace(leaf, sign=sign)
        return bisect_left(values, True, key=lambda value: asked.matches({leaf.column: value}))

    found = np.zeros(len(values), bool)
    low, high = first(">="), first(">")
    if leaf.sign in ("=", "!="):
        found[low:high] = True
        return ~found if leaf.sign == "!=" else found
    part = {"<": slice(0, low), "<=": slice(0, high), ">": slice(high, None)}
    found[part.get(leaf.sign, slice(low, None))] = True
    return found


class Columns:
    """The columns of n items.

    Args:
        count: n.
        columns: by name, or what loads one when it is asked for.
        left_out: names that are in no column though items may have them.

    Example:
        >>> from mmref.search.filters import Filter
        >>> columns = columns_from([{"camera": "c3", "year": 1999}, {"camera": "c1"}, {}])
        >>> columns.mask(Filter.parse("camera = 'c3' or year is missing").root).tolist()
        [True, True, True]
        >>> columns.mask(Filter.parse("camera != 'c3'").root).tolist()
        [False, True, False]
    """

    def __init__(
        self,
        count: int,
        columns: Mapping[str, Column | Path],
        left_out: Iterable[str] = (),
    ) -> None:
        self.count = count
        self.left_out = set(left_out)
        self._columns = dict(columns)

    def mask(self, node: Node, otherwise: Otherwise | None = None) -> Mask:
        """The items that pass, bool [n].

        Args:
            node: the tree of a filter.
            otherwise: answers conditions on columns that are left out.
        """
        if isinstance(node, And | Or):
            join = np.logical_and if isinstance(node, And) else np.logical_or
            found = self.mask(node.parts[0], otherwise)
            for part in node.parts[1:]:
                found = join(found, self.mask(part, otherwise))
            return found
        if isinstance(node, Not):
            return ~self.mask(node.part, otherwise)
        name = next(node.names())
        if name in self.left_out and otherwise is not None:
            return otherwise(node)
        column = self._column(name)
        return np.full(self.count, node.matches({})) if column is None else column.mask(node)

    def names(self) -> set[str]:
        """The names of all columns, those left out too."""
        return {*self._columns, *self.left_out}

    def _column(self, name: str) -> Column | None:
        column = self._columns.get(name)
        if isinstance(column, Path):
            column = self._columns[name] = Column.load(column)
        return column

    def row(self, row: int) -> dict[str, Any]:
        """The values of one item by name."""
        found = {}
        for name in self._columns:
            column = self._column(name)
            if column is not None and column.codes[row] >= 0:
                found[name] = column.value(int(column.codes[row]))
        return found

    def load_all(self) -> None:
        """Read the columns that were not asked for yet, while their files are there."""
        for name in self._columns:
            self._column(name)

    def save(self, folder: Path) -> None:
        """Write all columns into a folder."""
        for number, column in enumerate(self._columns.values()):
            if isinstance(column, Column):
                column.save(folder / f"column-{number}")
        index = {"names": list(self._columns), "left_out": sorted(self.left_out)}
        (folder / "columns.json").write_text(json.dumps(index), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, count: int) -> "Columns":
        """The inverse of :meth:`save`; a column is read when it is first asked for."""
        index = json.loads((folder / "columns.json").read_text(encoding="utf-8"))
        stems = {name: folder / f"column-{n}" for n, name in enumerate(index["names"])}
        return cls(count, stems if count else {}, index["left_out"])


class ColumnsBuilder:
    """Takes items one by one and makes their columns.

    Args:
        left_out: names that are not kept.
    """

    def __init__(self, left_out: Iterable[str] = LEFT_OUT) -> None:
        self._left_out = set(left_out)
        self._codes: dict[str, array[int]] = {}
        self._seen: dict[str, dict[Any, int]] = {}
        self._values: dict[str, list[Any]] = {}
        self._count = 0

    def add(self, item: Mapping[str, Any]) -> None:
        """One more item: its values by name."""
        for name, value in item.items():
            if value is None or name in self._left_out:
                continue
            codes = self._codes.get(name)
            if codes is None:
                if len(self._codes) >= MOST_COLUMNS:
                    self._left_out.add(name)
                    continue
                codes = self._codes[name] = array("i")
                self._seen[name], self._values[name] = {}, []
            if len(codes) < self._count:
                codes.extend([-1] * (self._count - len(codes)))
            key = value if _ordered(value) else (json.dumps(value, sort_keys=True, default=str),)
            seen = self._seen[name]
            code = seen.get(key)
            if code is None:
                code = seen[key] = len(seen)
                self._values[name].append(value)
            codes.append(code)
        self._count += 1

    def columns(self) -> Columns:
        """The columns of all items so far."""
        made = {name: self._column(name) for name in self._codes}
        return Columns(self._count, made, self._left_out)

    def _column(self, name: str) -> Column:
        drawn = np.full(self._count, -1, dtype=np.int32)
        drawn[: len(self._codes[name])] = np.asarray(self._codes[name], dtype=np.int32)
        values = self._values[name]
        kinds = [0 if not isinstance(v, str) else 1 for v in values]
        plain = [_ordered(value) for value in values]
        groups = [
            [n for n, good in enumerate(plain) if good and kinds[n] == 0],
            [n for n, good in enumerate(plain) if good and kinds[n] == 1],
            [n for n, good in enumerate(plain) if not good],
        ]
        for group in groups[:2]:
            group.sort(key=values.__getitem__)
        order = [number for group in groups for number in group]
        place = np.full(len(values) + 1, -1, dtype=np.int64)  # its last entry stays: missing
        place[order] = np.arange(len(values))
        size = np.min_scalar_type(-max(len(values), 1))
        numbers, texts, others = ([values[n] for n in group] for group in groups)
        return Column(place[drawn].astype(size), numbers, texts, others)


def columns_from(items: Iterable[Mapping[str, Any]], left_out: Iterable[str] = ()) -> Columns:
    """The columns of some items, in memory."""
    builder = ColumnsBuilder(left_out)
    for item in items:
        builder.add(item)
    return builder.columns()


def _ordered(value: Any) -> bool:
    """Whether a value has its place among numbers or texts."""
    if isinstance(value, str):
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -_INT64 <= value < _INT64 and math.isfinite(value)
