"""The tree of a filter: each node matches columns, and writes itself for SQLite.

The rules of comparison are told in :mod:`mmref.search.filters`; ``matches`` is their reference.
"""

import json
import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Column = Callable[[str], str]
_PLAIN = re.compile(r"[^\W\d]\w*")
KEYWORDS = {"and", "or", "not", "in", "is", "missing", "null", "true", "false"}
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DAY_GLOB = "-".join(["[0-9]" * 4, "[0-9]" * 2, "[0-9]" * 2]) + "*"
_MIDNIGHT = "T00:00:00"
_INT64 = 1 << 63
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Date:
    """A day, or a month, or a moment of a day: YYYY-MM[-DD[Thh:mm[:ss]]]; all of it is meant."""

    text: str


Value = int | float | str | bool | Date


class Node(Protocol):
    """One node."""

    def matches(self, columns: Mapping[str, Any]) -> bool:
        """Whether an item with these columns passes."""

    def names(self) -> Iterator[str]:
        """The columns that it asks for."""

    def text(self) -> str:
        """It as a filter."""

    def sql(self, column: Column, values: list[Any]) -> str:
        """It as a condition of SQLite, 0 or 1; appends its values."""


@dataclass(frozen=True, slots=True)
class Compare:
    """A column and one value; ``sign`` is one of = != < <= > >=."""

    column: str
    sign: str
    value: Value

    def matches(self, columns: Mapping[str, Any]) -> bool:
        """Whether the column's value stands so to the value."""
        found = plain_value(columns.get(self.column))
        if self.sign == "!=":
            return found is not None and not _holds(found, "=", self.value)
        return _holds(found, self.sign, self.value)

    def names(self) -> Iterator[str]:
        """The column."""
        yield self.column

    def text(self) -> str:
        """It as a filter."""
        return f"{_name(self.column)} {self.sign} {written(self.value)}"

    def sql(self, column: Column, values: list[Any]) -> str:
        """It as a condition of SQLite."""
        name = column(self.column)
        if self.sign == "!=":
            return f"({name} IS NOT NULL AND NOT {_sql_test(name, '=', self.value, values)})"
        return _sql_test(name, self.sign, self.value, values)


@dataclass(frozen=True, slots=True)
class In:
    """A column and several values: one of them, or (negated) there and none of them."""

    column: str
    values: tuple[Value, ...]
    negated: bool = False

    def matches(self, columns: Mapping[str, Any]) -> bool:
        """Whether the column's value is among them."""
        found = plain_value(columns.get(self.column))
        if found is None:
            return False
        return any(_holds(found, "=", value) for value in self.values) != self.negated

    def names(self) -> Iterator[str]:
        """The column."""
        yield self.column

    def text(self) -> str:
        """It as a filter."""
        inside = ", ".join(map(written, self.values))
        return f"{_name(self.column)} {'not ' if self.negated else ''}in ({inside})"

    def sql(self, column: Column, values: list[Any]) -> str:
        """It as a condition of SQLite."""
        name = column(self.column)
        tests: list[str] = []
        for kinds, types in (((int, float), "('integer', 'real')"), ((str,), "('text')")):
            group = [int(v) if isinstance(v, bool) else v for v in self.values if type(v) in kinds
                     or (isinstance(v, bool) and int in kinds)]  # fmt: skip
            if group:
                marks = ", ".join("?" * len(group))
                tests.append(f"(typeof({name}) IN {types} AND {name} IN ({marks}))")
                values.extend(group)
        dates = [value for value in self.values if isinstance(value, Date)]
        tests += [_sql_test(name, "=", value, values) for value in dates]
        found = " OR ".join(tests)
        return f"({name} IS NOT NULL AND NOT ({found}))" if self.negated else f"({found})"


@dataclass(frozen=True, slots=True)
class Contains:
    """A column and text that is somewhere in it, in capitals or not."""

    column: str
    part: str

    def matches(self, columns: Mapping[str, Any]) -> bool:
        """Whether the text is in the column's text."""
        found = plain_value(columns.get(self.column))
        return isinstance(found, str) and self.part.casefold() in found.casefold()

    def names(self) -> Iterator[str]:
        """The column."""
        yield self.column

    def text(self) -> str:
        """It as a filter."""
        return f"{_name(self.column)} ~ {written(self.part)}"

    def sql(self, column: Column, values: list[Any]) -> str:
        """It as a condition of SQLite."""
        name = column(self.column)
        values.append(self.part.casefold())
        return f"(typeof({name}) = 'text' AND instr(mmref_fold({name}), ?) > 0)"


@dataclass(frozen=True, slots=True)
class Missing:
    """The item has no such column, or null in it."""

    column: str

    def matches(self, columns: Mapping[str, Any]) -> bool:
        """Whether it is missing."""
        return plain_value(columns.get(self.column)) is None

    def names(self) -> Iterator[str]:
        """The column."""
        yield self.column

    def text(self) -> str:
        """It as a filter."""
        return f"{_name(self.column)} is missing"

    def sql(self, column: Column, values: list[Any]) -> str:
        """It as a condition of SQLite."""
        return f"({column(self.column)} IS NULL)"


@dataclass(frozen=True, slots=True)
class Not:
    """What does not pass the part."""

    part: Node

    def matches(self, columns: Mapping[str, Any]) -> bool:
        """Whether the part does not hold."""
        return not self.part.matches(columns)

    def names(self) -> Iterator[str]:
        """Those of the part."""
        yield from self.part.names()

    def text(self) -> str:
        """It as a filter."""
        if isinstance(self.part, Missing):
            return f"{_name(self.part.column)} is not missing"
        return f"not {_inner(self.part)}"

    def sql(self, column: Column, values: list[Any]) -> str:
        """It as a condition of SQLite."""
        return f"(NOT {self.part.sql(column, values)})"


@dataclass(frozen=True, slots=True)
class _Joined:
    """Several parts."""

    parts: tuple[Node, ...]

    def names(self) -> Iterator[str]:
        """Those of all parts."""
        for part in self.parts:
            yield from part.names()

    def text(self) -> str:
        """It as a filter."""
        return f" {self._word()} ".join(map(_inner, self.parts))

    def sql(self, column: Column, values: list[Any]) -> str:
        """It as a condition of SQLite."""
        word = f" {self._word().upper()} "
        return f"({word.join(part.sql(column, values) for part in self.parts)})"

    def _word(self) -> str:
        return type(self).__name__.lower()


class And(_Joined):
    """All of the parts."""

    __slots__ = ()

    def matches(self, columns: Mapping[str, Any]) -> bool:
        """Whether all hold."""
        return all(part.matches(columns) for part in self.parts)


class Or(_Joined):
    """One of the parts or more."""

    __slots__ = ()

    def matches(self, columns: Mapping[str, Any]) -> bool:
        """Whether one holds."""
        return any(part.matches(columns) for part in self.parts)


def _inner(node: Node) -> str:
    return f"({node.text()})" if isinstance(node, And | Or) else node.text()


def _name(name: str) -> str:
    plain = _PLAIN.fullmatch(name) and name.lower() not in KEYWORDS
    return name if plain else f'"{name}"'


def written(value: Value) -> str:
    """A value as a filter holds it."""
    if isinstance(value, Date):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def plain_value(value: Any) -> int | float | str | None:
    """A column's value as text or number, as SQLite takes it out of JSON; None when missing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else float(value)
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)


def moment_of(found: int | float | str | None) -> str | None:
    """The moment that text begins with, to the second, or None; dates are compared with it.

    Example:
        >>> moment_of("2026-01-31 12:30"), moment_of("c3")
        ('2026-01-31T12:30:00', None)
    """
    if not isinstance(found, str) or not _DAY.match(found):
        return None
    start = found[:19].replace(" ", "T")
    return start + _MIDNIGHT[len(start) - 10 :]


def _holds(found: int | float | str | None, sign: str, value: Value) -> bool:
    compare = _COMPARE[sign]
    if isinstance(value, Date):
        moment = moment_of(found)
        return moment is not None and compare(moment[: len(value.text)], value.text)
    if isinstance(found, str) != isinstance(value, str) or found is None:
        return False
    return compare(found, value)


def _sql_test(name: str, sign: str, value: Value, values: list[Any]) -> str:
    if isinstance(value, Date):
        start = f"replace(substr({name}, 1, 19), ' ', 'T')"
        moment = f"{start} || substr('{_MIDNIGHT}', length({start}) - 9)"
        values.append(value.text)
        return (
            f"(typeof({name}) = 'text' AND {name} GLOB '{_DAY_GLOB}' "
            f"AND substr({moment}, 1, {len(value.text)}) {sign} ?)"
        )
    if isinstance(value, str):
        values.append(value)
        return f"(typeof({name}) = 'text' AND {name} {sign} ?)"
    values.append(int(value) if isinstance(value, bool) else value)
    return f"(typeof({name}) IN ('integer', 'real') AND {name} {sign} ?)"
