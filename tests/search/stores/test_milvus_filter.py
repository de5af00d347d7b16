import re

import pytest

from mmref.search.filters import Filter
from mmref.search.stores.milvus_filter import expression, is_exact, quoted, typed_columns

KEY = re.compile(r'columns\["[ntd]_[A-Za-z0-9_-]*"\]')


def written(text):
    return expression(Filter.parse(text).root)


def test_no_letter_of_a_value_or_a_name_leaves_its_quotes():
    hostile = """'"] or (id >= 0) or columns["x'"""
    assert written(f"camera = {hostile}") == (
        '((exists columns["t_camera"]) and '
        '(columns["t_camera"] == "\\"] or (id >= 0) or columns[\\"x"))'
    )
    made = written('"a] or (id >= 0) or \'b" is missing and "ключ 1" = 2')
    keys = KEY.findall(made)
    assert len(keys) == 4
    assert "id" not in KEY.sub("", made)
    assert made.isascii()


@pytest.mark.parametrize("text", ['"', "\\", '\\"', "\n\r\t\0\x7f\x1f", "é🙂\u2028", "'"])
def test_quoted_text_is_one_literal(text):
    inside = quoted(text)[1:-1]
    assert not re.search(r'(?<!\\)(?:\\\\)*"', inside)
    assert all(letter.isprintable() or letter == "\u2028" for letter in inside)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("n != 3", '((exists columns["t_n"]) or (exists columns["n_n"]))'),
        ("n = true", '((exists columns["n_n"]) and (columns["n_n"] == 1))'),
        ("d = 2026-12", '(columns["d_d"] < "2026-13")'),
        ("d > 9999-12-31", '((exists columns["d_d"]) and (columns["d_d"] >= "9999-12-32"))'),
        ("not d <= 2026-01-31", '(columns["d_d"] >= "2026-01-32")'),
    ],
)
def test_expressions(text, made):
    assert made in written(text)


def test_nothing_undefined_is_negated():
    for text in ("not (a = 1 and b < 2)", "not (a in (1, 'x') or not b is missing)", "a != 'x'"):
        for negated in re.findall(r"not \(([a-z]*)", written(text)):
            assert negated == "exists"


def test_long_lists_do_not_nest_as_deep():
    made = written(f"n in ({', '.join(map(str, range(490)))})")
    depth = deepest = 0
    for letter in made:
        depth += (letter == "(") - (letter == ")")
        deepest = max(deepest, depth)
    assert deepest < 30


def test_what_milvus_cannot_tell():
    assert not is_exact(Filter.parse("a = 1 and not (b = 2 or c ~ 'x')").root)
    assert is_exact(Filter.parse("a = 1 and not (b = 2 or c = 'x')").root)


def test_keys_of_different_names_differ():
    names = ["a", "a b", "a-20-b", "a_b", "A", "é", "e"]
    assert len(typed_columns(dict.fromkeys(names, "x"))) == len(names)
