"""Filters as a user writes them, and their three forms against one another."""

import json
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmref.errors import UsageError
from mmref.search.filter_tree import And, Compare, Contains, Date, In, Missing, Not, Or
from mmref.search.filters import SQL_FUNCTIONS, Filter, all_of, columns_of, items_sql
from mmref.search.records import Place

ITEM = {
    "camera": "c3",
    "date": "2026-01-31T12:30:05",
    "year": 1960,
    "size": 2.5,
    "wet": True,
    "none": None,
    "tags": ["red", "blue"],
    "day": "2026-01-31",
    "Shelf no.": "A'7",
    "straße": "Große Straße",
}


@pytest.mark.parametrize(
    "text",
    [
        "camera = 'c3'",
        "camera == 'c3' and year=1960",
        "camera <> 'c4' AND NOT year in (1, 2)",
        "camera = 'c4' or year > 1959 and size >= 2.5",
        "(camera = 'c4' or year > 1959) and size < 3e0",
        "year = 1960.0 and year > -5 and size = +2.5",
        "camera >= 'c3' and camera < 'c30'",
        "wet = true and wet = 1 and wet != false",
        "none is missing and none is null and nothing is missing",
        "camera is not missing and not camera is missing",
        "date = 2026-01-31 and date = 2026-01 and date = 2026-01-31T12:30",
        "date >= 2026-01-31 and date <= 2026-01-31 and date < 2026-02-01",
        "not date > 2026-01-31 and date > 2026-01-30 and date < 2026-02",
        "date > 2026-01-31T12:30:04 and date <= 2026-01-31T12:30:05",
        "day >= 2026-01-31T00:00 and day < 2026-01-31T00:01",
        "date in ('x', 2026-01-31) and date not in (2026-01-30, 'x')",
        "\"Shelf no.\" = 'A''7'",
        "straße ~ 'STRASSE'",
        "camera ~ 'C'",
        "tags ~ '\"red\"'",
        "year != 'c3' and camera != 3",  # another kind is another value
        "nothing = 1 or not nothing = 1",
    ],
)
def test_what_holds(text):
    assert Filter.parse(text).matches(ITEM)


@pytest.mark.parametrize(
    "text",
    [
        "camera = 'C3'",
        "camera = 3 or camera < 3 or camera > 3",
        "year = '1960' or year ~ '19' or year > '1'",
        "nothing = 1 or nothing != 1 or nothing < 1 or nothing ~ '' or nothing in (1)",
        "nothing not in (1) or none not in (1) or none != 0",
        "camera not in ('c2', 'c3')",
        "year = 2026-01-31 or camera > 2000-01-01",
        "date > 2026-01-31 or date < 2026-01-31 or date != 2026-01-31",
        "not (camera = 'c3')",
        "camera = 'c4' and year > 1959 or size > 3",
        "camera = 'c3'' or ''1''=''1'",
    ],
)
def test_what_does_not_hold(text):
    assert not Filter.parse(text).matches(ITEM)


@pytest.mark.parametrize(
    ("text", "message", "spot"),
    [
        ("camera = c3", "text stands in quotes: 'c3'", 9),
        ('camera = "c3"', "text stands in quotes: 'c3'", 9),
        ("camera", "one of = != <", 6),
        ("camera = ", "a value is expected", 9),
        ("camera = 'c3", "a quote is not closed", 9),
        ("camera = 'it's'", "doubled: 'it''s'", 14),
        ("(a = 1", "')' is expected", 6),
        ("a = 1)", "'and', 'or' or the end", 5),
        ("a = 1 b = 2", "'and', 'or' or the end", 6),
        ("a in 1", "'(' is expected", 5),
        ("a in ()", "a value is expected", 6),
        ("a not 1", "'in' is expected", 6),
        ("a is 1", "'missing' is expected", 5),
        ("a like 'x'", "one of = != <", 2),
        ("a ~ 3", "after ~ stands text", 4),
        ("date > 2026-13-01", "no such date", 7),
        ("date > 2026-02-30", "no such date", 7),
        ("a = 1e999", "too large", 4),
        ("a = 12abc", "no such number", 4),
        ("a = 'x\0'", "no text can hold", 4),
        ("in = 3", "the name of a column", 0),
        ('"a\\b" = 3', "cannot be the name", 0),
        ('"" = 3', "cannot be the name", 0),
        # what an attacker would try
        ("a = 1; drop table items", "cannot hold this letter", 5),
        ("a = 1 -- comment", "no such number", 6),
        ("a = 1 /* x */", "cannot hold this letter", 6),
        ("1 = 1", "the name of a column", 0),
        ("a = 'x' or '1' = '1'", "the name of a column", 11),
        ("a = b", "a value is expected", 4),
        ("a = (select path from items)", "a value is expected", 4),
        ("load_extension('x')", "one of = != <", 14),
        ("a = 'x' union select 1", "'and', 'or' or the end", 8),
        ("a = `x`", "cannot hold this letter", 4),
        ("a = ?", "cannot hold this letter", 4),
        ("a = $x", "cannot hold this letter", 4),
        ("a % 2 = 0", "cannot hold this letter", 2),
        ("a[0] = 1", "cannot hold this letter", 1),
        ("__import__('os')", "one of = != <", 10),
    ],
)
def test_mistakes_are_shown_where_they_are(text, message, spot):
    with pytest.raises(UsageError) as caught:
        Filter.parse(text)
    first, _, caret = str(caught.value).split("\n")
    assert message in first
    assert caret.index("^") == spot + 2


def test_bounds():
    with pytest.raises(UsageError, match="empty"):
        Filter.parse(" \n ")
    with pytest.raises(UsageError, match="nested too deeply"):
        Filter.parse("(" * 3000 + "a = 1" + ")" * 3000)
    with pytest.raises(UsageError, match="nested too deeply"):
        Filter.parse("not " * 2000 + "a = 1")
    with pytest.raises(UsageError, match="more than 500 values"):
        Filter.parse(f"a in ({','.join(map(str, range(501)))})")
    with pytest.raises(UsageError, match="longer than"):
        Filter.parse("a" * 20_000)
    long = Filter.parse(" or ".join(f"a = {n}" for n in range(500)))
    assert long.matches({"a": 499})
    assert _in_sqlite(long, [{"a": 499}, {"a": 500}]) == [True, False]
    with pytest.raises(UsageError) as caught:
        Filter.parse("a = 1 and " * 100 + "!")
    assert max(map(len, str(caught.value).split("\n"))) < 80


def test_columns_and_joining():
    chosen = Filter.parse("b = 1 or (a = 2 and not b = 3)")
    assert chosen.columns() == ("b", "a")
    assert all_of([]) is None
    assert all_of([chosen]) is chosen
    assert str(all_of([chosen, Filter.parse("c = 1")])) == (
        "(b = 1 or (a = 2 and not b = 3)) and c = 1"
    )


# ---------------------------------------------------------------------- against one another

LETTERS = st.characters(exclude_categories=("Cs",), exclude_characters="\0")
TEXTS = st.one_of(
    st.text(LETTERS, max_size=8),
    st.sampled_from(["c3", "C3", "", "it's", "--", "ß", "2026-01-31", "2026-01-31T12:30:05"]),
)
NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(-3, 3), st.sampled_from([0.5, -0.0, 1e10, 2.0])
)
DATES = st.sampled_from(
    [Date(t) for t in ("2026-01-31", "2026-01", "2026-01-31T12:30", "2026-01-31T12:30:05")]
)
VALUES = st.one_of(TEXTS, NUMBERS, st.booleans(), DATES)
NAMES = st.one_of(
    st.sampled_from(["a", "b", "_x1", "é", "and", "two words", "it's", "$.a", "a.b[0]", "%"]),
)
LEAVES = st.one_of(
    st.builds(Compare, NAMES, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), VALUES),
    st.builds(In, NAMES, st.lists(VALUES, min_size=1, max_size=4).map(tuple), st.booleans()),
    st.builds(Contains, NAMES, TEXTS),
    st.builds(Missing, NAMES),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=12,
)
CELLS = st.one_of(
    st.none(),
    TEXTS,
    NUMBERS,
    st.booleans(),
    st.lists(st.integers(0, 3), max_size=2),
    st.sampled_from(["2026-01-31 12:30:05", "2026-01-31T12:30", "2026-02-01", "2026-01-31x"]),
)
ROWS = st.lists(st.dictionaries(NAMES, CELLS, max_size=6), min_size=1, max_size=6)


def _in_sqlite(chosen, rows):
    database = sqlite3.connect(":memory:")
    for name, function in SQL_FUNCTIONS.items():
        database.create_function(name, 1, function, deterministic=True)
    database.execute("CREATE TABLE items (id, metadata, path, size, mtime_ns)")
    database.executemany(
        "INSERT INTO items VALUES (?, ?, '', 0, 0)",
        [(n, json.dumps(row, ensure_ascii=False, sort_keys=True)) for n, row in enumerate(rows)],
    )
    condition, values = chosen.to_sql(items_sql)
    found = database.execute(f"SELECT {condition} FROM items ORDER BY id", values).fetchall()
    database.close()
    assert all(value in (0, 1) for (value,) in found)
    return [bool(value) for (value,) in found]


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_text_gives_the_tree_again(tree):
    assert Filter.parse(str(Filter(tree))).root == tree


@settings(max_examples=250, deadline=None)
@given(TREES, ROWS)
def test_sqlite_agrees(tree, rows):
    chosen = Filter(tree)
    assert _in_sqlite(chosen, rows) == [chosen.matches(row) for row in rows]


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40))
def test_any_text_is_a_filter_or_a_usage_error(text):
    try:
        chosen = Filter.parse(text)
    except UsageError:
        return
    assert Filter.parse(str(chosen)) == chosen


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_no_letter_of_a_value_reaches_the_condition(value):
    plain, _ = Filter(Compare("a", "=", "")).to_sql(items_sql)
    condition, values = Filter(Compare("a", "=", value)).to_sql(items_sql)
    assert condition == plain
    assert values == [value]


@pytest.mark.parametrize(
    "place",
    [
        Place("/pics/c3/a.png", 812, 1767225600_500000000, {"camera": "c3"}, ""),
        Place("/pics/c3/a.png", 812, 1767225600_500000000, {"date": "2020-01-01", "size": 3}, ""),
        Place("/a.png", 1, 1, {"path": "other", "date": None}, ""),
        Place("item-7", 0, 0, {"name": "x"}, ""),
    ],
)
def test_built_in_columns_are_the_same_in_sqlite(place):
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE items (path, size, mtime_ns, metadata)")
    row = (place.path, place.size, place.mtime_ns, json.dumps(place.metadata))
    database.execute("INSERT INTO items VALUES (?, ?, ?, ?)", row)
    columns = columns_of(place)
    for name in ("path", "name", "folder", "size", "date", "camera"):
        (found,) = database.execute(f"SELECT {items_sql(name)} FROM items").fetchone()
        assert found == columns.get(name), name
    database.close()
    with pytest.raises(UsageError, match="name of a column"):
        items_sql('a"')
