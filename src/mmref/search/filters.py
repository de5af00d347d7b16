"""Filters: what an item's columns must be, parsed from text into a tree of plain values.

::

    camera = 'c3' and date >= 2026-01-01
    not (folder ~ 'holiday' or size < 10000) and label in ('mug', 'cup')
    object is missing

======================  ====================================================================
``= != < <= > >=``      a column and a number, ``'text'``, a date, ``true`` or ``false``
``in (...)``            one of several values; ``not in (...)``
``~ 'text'``            the text is somewhere in the column, in capitals or not
``is missing``          the item has no such column, or null in it; ``is not missing``
``and or not ( )``      ``not`` binds tightest, ``or`` least
``camera``              letters, digits and ``_``; any other name ``"in double quotes"``
``'it''s'``             text in single quotes; a quote in it is doubled, nothing else is special
======================  ====================================================================

Rules (our choice). A missing value passes no test but ``is missing``. Values of different kinds
are never equal, and neither is less: ``=``, ``<`` and ``~`` do not hold, ``!=`` does. True and
false are the numbers 1 and 0. Text is compared letter by letter. A date stands for its whole day
(minute, month): ``date = 2026-01-31`` holds all day long, ``date > 2026-01-31`` from the next
day on; it is compared with text that begins as YYYY-MM-DD, whatever the time zone. Lists and
objects are their JSON text.

Beside an item's metadata there are ``path``, ``name``, ``folder``, ``size`` (bytes) and ``date``
(the metadata's, else the file's last change in UTC); metadata of the same name comes first.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import PurePosixPath
from typing import Any

from mmref.errors import UsageError
from mmref.search.filter_parser import parse, usable
from mmref.search.filter_tree import (
    And,
    Compare,
    Contains,
    Date,
    In,
    Node,
    Or,
    Value,
    moment_of,
    plain_value,
    written,
)
from mmref.search.records import Place

BUILT_IN = ("path", "name", "folder", "size", "date")
_SHOWN, _LISTED = 3, 20  # names of columns in a message
_ALIKE = 0.7  # ratio of difflib from which a name may be meant


@dataclass(frozen=True)
class Filter:
    """A parsed filter.

    Attributes:
        root: the tree (:mod:`mmref.search.filter_tree`).

    Example:
        >>> chosen = Filter.parse("camera = 'c3' and date >= 2026-01-01")
        >>> chosen.matches({"camera": "c3", "date": "2026-02-14T12:30:00"})
        True
        >>> chosen.matches({"camera": "c3"}), chosen.columns()
        (False, ('camera', 'date'))
        >>> str(chosen)
        "camera = 'c3' and date >= 2026-01-01"
        >>> Filter.parse("camera = c3")
        Traceback (most recent call last):
        ...
        mmref.errors.UsageError: a value is expected here; text stands in quotes: 'c3'
          camera = c3
                   ^
    """

    root: Node

    @classmethod
    def parse(cls, text: str) -> "Filter":
        """Read a filter.

        Raises:
            UsageError: it cannot be read; the message shows where.
        """
        return cls(parse(text))

    def matches(self, columns: Mapping[str, Any]) -> bool:
        """Whether an item with these columns passes: the reference for every store.

        Args:
            columns: values by name; :func:`columns_of` gives an item's.
        """
        return self.root.matches(columns)

    def columns(self) -> tuple[str, ...]:
        """The names that it asks for, each once, in order."""
        return tuple(dict.fromkeys(self.root.names()))

    def to_sql(self, column_sql: Callable[[str], str]) -> tuple[str, list[Any]]:
        r"""A condition for SQLite that is 0 or 1, never null, and its bound values.

        No letter of a value is in the text. Columns are written by ``column_sql`` alone, such as
        :func:`items_sql`. ``~`` calls the function of :data:`SQL_FUNCTIONS`.

        Example:
            >>> Filter.parse("year < 2000").to_sql(lambda name: f'"{name}"')
            ('(typeof("year") IN (\'integer\', \'real\') AND "year" < ?)', [2000])
        """
        values: list[Any] = []
        return self.root.sql(column_sql, values), values

    def __str__(self) -> str:
        """The filter as text that parses to the same tree."""
        return self.root.text()


def fold(value: Any) -> Any:
    """Text without regard to capitals; anything else as it is (our ``~`` compares this)."""
    return value.casefold() if isinstance(value, str) else value


SQL_FUNCTIONS: dict[str, Callable[[Any], Any]] = {"mmref_fold": fold}


def columns_of(place: Place) -> dict[str, Any]:
    """What a filter sees of an item: its metadata and the built-in columns.

    Example:
        >>> place = Place("/pics/c3/a.png", 812, 1767225600_000000000, {"object": "mug"}, "/pics")
        >>> columns_of(place)["folder"], columns_of(place)["date"], columns_of(place)["object"]
        ('/pics/c3', '2026-01-01T00:00:00', 'mug')
    """
    path = PurePosixPath(place.path)
    found: dict[str, Any] = {"path": place.path, "name": path.name}
    if "/" in place.path:
        found["folder"] = str(path.parent)
    if place.size:
        found["size"] = place.size
    if place.mtime_ns:
        seconds = place.mtime_ns // 1_000_000_000
        found["date"] = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return found | {name: value for name, value in place.metadata.items() if value is not None}


def items_sql(name: str) -> str:
    r"""A column of the table ``items`` (path, size, mtime_ns, metadata as JSON text) in SQLite.

    It equals :func:`columns_of`. A parsed name holds no double quote, backslash or control letter.

    Example:
        >>> items_sql("camera")
        'json_extract(metadata, \'$."camera"\')'
    """
    if not usable(name):
        raise UsageError(f"{name!r} cannot be the name of a column")
    given = f"""json_extract(metadata, '$."{name.replace("'", "''")}"')"""
    folder = "rtrim(rtrim(path, replace(path, '/', '')), '/')"
    built_in = {
        "path": "path",
        "name": "replace(path, rtrim(path, replace(path, '/', '')), '')",
        "folder": f"CASE WHEN {folder} <> '' THEN {folder} WHEN path LIKE '/%' THEN '/' END",
        "size": "nullif(size, 0)",
        "date": "CASE WHEN mtime_ns <> 0 THEN "
        "strftime('%Y-%m-%dT%H:%M:%S', mtime_ns / 1000000000, 'unixepoch') END",
    }
    return f"coalesce({given}, {built_in[name]})" if name in built_in else given


def unknown_columns(where: Filter, names: Collection[str]) -> str | None:
    """What to say of columns that a filter asks for and no item has; None where there are none.

    Args:
        where: the filter.
        names: the columns that items have.

    Example:
        >>> unknown_columns(Filter.parse("Camra = 'c3' and size > 9"), ["camera", "object"])
        "no item has a column 'Camra': is it camera?"
        >>> unknown_columns(Filter.parse("year > 1999"), ["camera"])
        "no item has a column 'year': there are camera, date, folder, name, path, size"
    """
    said = []
    for name in where.columns():
        if name not in names and name not in BUILT_IN:
            there = suggested_columns(name, {*names, *BUILT_IN})
            said.append(f"no item has a column {name!r}: {there}")
    return "; ".join(said) or None


def unlike_values(where: Filter, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """What to say of values that a filter asks for and that are of another kind than the columns'.

    A number is never equal to text, nor text to a date: such a filter finds nothing.

    Args:
        where: the filter.
        rows: columns of some items.

    Example:
        >>> rows = [{"date": "2026-01-31T12:30:00", "year": 1960, "camera": "c3"}]
        >>> unlike_values(Filter.parse("date >= 2026"), rows)
        "date holds dates such as '2026-01-31T12:30:00': write 2026 as a month or a day, YYYY-MM-DD"
        >>> unlike_values(Filter.parse("year = '1960' and camera = 'c3'"), rows)
        "year holds numbers such as 1960: write '1960' without quotes"
    """
    said = []
    for column, value in _asked_values(where.root):
        found = [v for row in rows if (v := plain_value(row.get(column))) is not None]
        if found and not any(_of_one_kind(v, value) for v in found):
            said.append(f"{column} holds {_kind_and_repair(found[0], value)}")
    return "; ".join(dict.fromkeys(said)) or None


def _asked_values(node: Node) -> Iterator[tuple[str, Value]]:
    """Columns and the values without which the filter may find nothing."""
    if isinstance(node, And | Or):
        for part in node.parts:
            yield from _asked_values(part)
    elif isinstance(node, Compare) and node.sign != "!=":
        yield node.column, node.value
    elif isinstance(node, In) and not node.negated:
        yield from ((node.column, value) for value in node.values)
    elif isinstance(node, Contains):
        yield node.column, node.part


def _of_one_kind(found: float | str, value: Value) -> bool:
    if isinstance(value, Date):
        return moment_of(found) is not None
    return isinstance(found, str) == isinstance(value, str)


def _kind_and_repair(found: float | str, value: Value) -> str:
    asked = written(value)
    if not isinstance(found, str):
        repair = ", no dates" if isinstance(value, Date) else f": write {asked} without quotes"
        return f"numbers such as {written(found)}{repair}"
    if moment_of(found) is not None:
        return f"dates such as {written(found)}: write {asked} as a month or a day, YYYY-MM-DD"
    repair = ", no dates" if isinstance(value, Date) else f": write {asked} in quotes"
    return f"text such as {written(found)}{repair}"


def suggested_columns(name: str, names: Collection[str]) -> str:
    """The columns that may have been meant by a name that no item has; else those that there are.

    Example:
        >>> suggested_columns("dates", ["date", "folder"]), suggested_columns("year", ["date"])
        ('is it date?', 'there are date')
    """
    known = {there.casefold(): there for there in sorted(names)}
    close = get_close_matches(name.casefold(), known, _SHOWN, _ALIKE)
    if close:
        return f"is it {' or '.join(known[folded] for folded in close)}?"
    shown = list(known.values())
    return f"there are {', '.join(shown[:_LISTED])}{', ...' if len(shown) > _LISTED else ''}"


def all_of(parts: Sequence[Filter]) -> Filter | None:
    """The filter that holds when all of several hold; None for none.

    Example:
        >>> str(all_of([Filter.parse("a = 1"), Filter.parse("b = 2 or c = 3")]))
        'a = 1 and (b = 2 or c = 3)'
    """
    if len(parts) < 2:
        return parts[0] if parts else None
    return Filter(And(tuple(part.root for part in parts)))
