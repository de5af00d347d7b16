import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmref.search.filters import Filter
from mmref.search.stores import columns as module
from mmref.search.stores.columns import Columns, ColumnsBuilder, columns_from

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(-5, 5),
    st.sampled_from([2**63, -(2**70), 1e300, float("inf"), float("nan"), 0, -0.0]),
    st.sampled_from(["2026-01-01", "2026-01-01T12:30:00", "2026-01-01 12:30", "2026-02", "Ab", ""]),
    st.text("ab0-", max_size=3),
    st.lists(st.integers(0, 2), max_size=2),
    st.dictionaries(st.sampled_from("xy"), st.integers(0, 1), max_size=1),
)
ITEMS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "c"]), VALUES), max_size=20)
LEAVES = st.one_of(
    st.builds(
        lambda name, sign, value: f"{name} {sign} {value}",
        st.sampled_from("abcd"),
        st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
        st.sampled_from(
            ["0", "1", "-2.5", "true", "'ab'", "'2026-01-01'", "2026-01-01", "2026-01-01T12:30",
             "2026-01", "9223372036854775807"]
        ),
    ),
    st.sampled_from(
        ["a ~ 'A'", "b in (1, 'ab', 2026-01-01)", "c not in (0, true)", "a is missing",
         "b is not missing", "a ~ '['"]
    ),
)  # fmt: skip
TEXTS = st.recursive(
    LEAVES,
    lambda part: st.tuples(part, st.sampled_from(["and", "or", "and not", "or not"]), part).map(
        lambda three: f"({three[0]}) {three[1]} ({three[2]})"
    ),
    max_leaves=4,
)


@pytest.mark.parametrize("tried", [0, 512])
def test_masks_agree_with_the_reference(tmp_path, monkeypatch, tried):
    monkeypatch.setattr(module, "_TRIED_ONE_BY_ONE", tried)

    @settings(
        max_examples=250,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(ITEMS, TEXTS)
    def agree(items, text):
        where = Filter.parse(text)
        made = columns_from(items)
        wanted = [where.matches(item) for item in items]
        assert made.mask(where.root).tolist() == wanted

    agree()


@pytest.mark.parametrize(
    "text",
    ["t < 'x3'", "t >= 'x99999'", "n = 500", "n != 500", "n in (3, 5000, 'x')", "n not in (1, 2)",
     "d = 2026-01-03", "d > 2026-01-03", "d <= 2026-01", "d = '2026-01-03T00:05:00'", "t ~ '77'",
     "n ~ '7'", "n > 'a'", "t < 3"],
)  # fmt: skip
def test_many_values_are_bisected_and_kept(tmp_path, text):
    items = [
        {"n": n if n % 3 else n / 7, "t": f"x{n * 7 % 1201}"}
        | {"d": f"2026-01-{1 + n % 9:02d}T{n % 24:02d}:{n % 60:02d}:{n * 7 % 60:02d}"}
        | ({} if n % 5 else {"n": None, "t": "x"})
        for n in range(2000)
    ]
    where = Filter.parse(text)
    wanted = [where.matches(item) for item in items]
    made = columns_from(items)
    made.save(tmp_path)
    again = Columns.load(tmp_path, len(items))
    assert made.mask(where.root).tolist() == again.mask(where.root).tolist() == wanted
    assert again.row(7) == items[7]
    assert json.loads((tmp_path / "columns.json").read_text())["names"] == ["t", "d", "n"]


def test_small_columns_take_a_byte_an_item():
    made = columns_from([{"camera": f"c{n % 100}"} for n in range(1000)])
    assert made._columns["camera"].codes.dtype == np.int8


def test_too_many_columns_are_left_to_the_database(monkeypatch):
    monkeypatch.setattr(module, "MOST_COLUMNS", 2)
    builder = ColumnsBuilder()
    for n in range(4):
        builder.add({"a": n, "b": n, f"x{n}": n, "path": "/p", "name": "p"})
    made = builder.columns()
    asked = []

    def otherwise(node):
        asked.append(node.column)
        return np.ones(4, bool)

    assert made.mask(Filter.parse("x1 = 1 and a = 2").root, otherwise).tolist() == [
        *(False, False, True, False)
    ]
    made.mask(Filter.parse("path = '/p' or name = 'p'").root, otherwise)
    assert asked == ["x1", "path", "name"]
    assert made.mask(Filter.parse("never = 1").root, otherwise).tolist() == [False] * 4
    assert asked == ["x1", "path", "name"]
