"""Filters as expressions of Milvus, equal to ``Filter.matches`` on every kind of Milvus.

Servers and Lite differ in what comparing a number with text, a missing key, or ``not`` gives. So
an item's columns are kept typed, in one JSON field: ``n_`` numbers, ``t_`` text, ``d_`` moments
of text that begins as a date. A comparison asks for the key of its own kind first, and negation
is carried down to the comparisons, so that no part of an expression is ever undefined.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmref.search.filter_tree import (
    And,
    Compare,
    Contains,
    Date,
    In,
    Missing,
    Node,
    Not,
    Or,
    Value,
    moment_of,
    plain_value,
)

FIELD = "columns"
_NEVER, _ALWAYS = "(id < 0)", "(id >= 0)"
_OPPOSITE = {"=": "!=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_SIGNS = {"=": "==", "!=": "!=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def typed_columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """An item's columns as the JSON field keeps them.

    Args:
        columns: of :func:`mmref.search.filters.columns_of`.

    Example:
        >>> typed_columns({"n": 3, "day": "2026-01-31", "the camera": "c1", "gone": None})
        {'n_n': 3, 't_day': '2026-01-31', 'd_day': '2026-01-31T00:00:00', 't_the-20-camera': 'c1'}
    """
    found: dict[str, Any] = {}
    for name, value in columns.items():
        plain = plain_value(value)
        if isinstance(plain, str):
            found[_key("t", name)] = plain
            moment = moment_of(plain)
            if moment is not None:
                found[_key("d", name)] = moment
        elif plain is not None:
            found[_key("n", name)] = plain
    return found


def expression(node: Node) -> str:
    r"""A filter's tree as an expression of Milvus.

    ``~`` is written as true: what passes is to be compared with ``matches`` (:func:`is_exact`).

    Example:
        >>> from mmref.search.filters import Filter
        >>> print(expression(Filter.parse("camera = 'it''s \"c3\"'").root))
        ((exists columns["t_camera"]) and (columns["t_camera"] == "it's \"c3\""))
        >>> print(expression(Filter.parse("not n < 3").root))
        ((not (exists columns["n_n"])) or (columns["n_n"] >= 3))
    """
    return _written(node, negated=False)


def is_exact(node: Node) -> bool:
    """Whether the expression says all of the filter."""
    if isinstance(node, And | Or):
        return all(map(is_exact, node.parts))
    if isinstance(node, Not):
        return is_exact(node.part)
    return not isinstance(node, Contains)


def quoted(text: str) -> str:
    r"""Text as a literal of Milvus: quotes, backslashes and control letters are escaped.

    Example:
        >>> print(quoted('a "b" \\ \n é'))
        "a \"b\" \\ \n é"
    """
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def all_of(parts: Sequence[str]) -> str:
    """Expressions joined by ``and``."""
    return _joined("and", list(parts))


def _written(node: Node, negated: bool) -> str:
    if isinstance(node, Not):
        return _written(node.part, not negated)
    if isinstance(node, And | Or):
        word = "and" if isinstance(node, And) != negated else "or"
        return _joined(word, [_written(part, negated) for part in node.parts])
    if isinstance(node, Missing):
        return _absent(node.column, negated)
    if isinstance(node, In):
        equal = [Compare(node.column, "=", value) for value in node.values]
        found = Or(tuple(equal))
        if not node.negated:
            return _written(found, negated)
        return _written(And((Not(Missing(node.column)), Not(found))), negated)
    if isinstance(node, Compare):
        if node.sign == "!=":
            there, equal_to = Not(Missing(node.column)), Compare(node.column, "=", node.value)
            return _written(And((there, Not(equal_to))), negated)
        return _compared(node.column, node.sign, node.value, negated)
    return _ALWAYS


def _compared(name: str, sign: str, value: Value, negated: bool) -> str:
    if isinstance(value, Date):
        return _dated(_column("d", name), sign, value.text, negated)
    if isinstance(value, str):
        column, literal = _column("t", name), quoted(value)
    else:
        column, literal = (
            _column("n", name),
            repr(int(value) if value is True or value is False else value),
        )
    return _guarded(column, [(sign, literal)], negated)


def _dated(column: str, sign: str, text: str, negated: bool) -> str:
    """The moment begins with, or stands before or behind, the letters of a date."""
    first = quoted(text)
    behind = quoted(text[:-1] + chr(ord(text[-1]) + 1))  # what begins with text is less than it
    tests = {
        "=": [(">=", first), ("<", behind)],
        "<": [("<", first)],
        "<=": [("<", behind)],
        ">": [(">=", behind)],
        ">=": [(">=", first)],
    }
    return _guarded(column, tests[sign], negated)


def _guarded(column: str, tests: list[tuple[str, str]], negated: bool) -> str:
    if negated:
        parts = [f"({column} {_SIGNS[_OPPOSITE[sign]]} {literal})" for sign, literal in tests]
        return _joined("or", [f"(not (exists {column}))", *parts])
    parts = [f"({column} {_SIGNS[sign]} {literal})" for sign, literal in tests]
    return _joined("and", [f"(exists {column})", *parts])


def _absent(name: str, negated: bool) -> str:
    keys = [_column("t", name), _column("n", name)]
    if negated:
        return _joined("or", [f"(exists {key})" for key in keys])
    return _joined("and", [f"(not (exists {key}))" for key in keys])


def _joined(word: str, parts: list[str]) -> str:
    """Parts joined as a balanced tree: a list of thousands must not nest as deep."""
    if not parts:
        return _ALWAYS if word == "and" else _NEVER
    while len(parts) > 1:
        pairs = [parts[start : start + 2] for start in range(0, len(parts), 2)]
        parts = [f"({f' {word} '.join(pair)})" if len(pair) == 2 else pair[0] for pair in pairs]
    return parts[0]


def _column(kind: str, name: str) -> str:
    return f'{FIELD}["{_key(kind, name)}"]'


def _key(kind: str, name: str) -> str:
    """A key of ASCII letters, digits, ``_`` and ``-``; different names have different keys."""
    plain: Callable[[str], bool] = lambda one: one.isascii() and (one.isalnum() or one == "_")  # noqa: E731
    return f"{kind}_" + "".join(one if plain(one) else f"-{ord(one):x}-" for one in name)
