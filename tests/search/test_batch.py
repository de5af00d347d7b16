import pytest

from mmref.errors import PathError, UsageError
from mmref.search.batch import read_questions
from mmref.search.filters import Filter
from mmref.search.options import Options


def asked(tmp_path, text, options=Options()):  # noqa: B008
    (tmp_path / "q.txt").write_bytes(text.encode())
    return read_questions(tmp_path / "q.txt", options)


def test_lines_of_text_and_json(tmp_path):
    text = (
        "\ufeffa red flag\r\n\n  2.0:a star  \n"
        '{"text": ["2.0:red coat", "rain"], "not": "0.5:dog", "filter": "a = 1", "k": 3}\n'
        '{"image": ["a.jpg", "17"]}'
    )
    options = Options(k=7, where=Filter.parse("b = 2 or c = 3"))
    one, two, three, four = asked(tmp_path, text, options)
    assert one.query.texts == (("a red flag", 1.0),)
    assert one.options == options
    assert two.query.texts == (("a star", 2.0),)
    assert three.query.texts == (("red coat", 2.0), ("rain", 1.0), ("dog", -0.5))
    assert three.options.k == 3
    assert str(three.options.where) == "(b = 2 or c = 3) and a = 1"
    assert four.query.images == (("a.jpg", 1.0), ("17", 1.0))
    assert four.query.modality == "image"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: this is no JSON"),
        ('{"texts": "a"}', "line 2: no key 'texts': there are filter, image, k, not, text"),
        ('{"text": 3}', "line 2: 'text' must be text"),
        ('{"text": "a", "k": "3"}', "line 2: k must be a whole number"),
        ('{"text": "a", "k": 0}', "line 2: k must be at least 1"),
        ('{"text": "a", "filter": "a ="}', "line 2: a value is expected"),
        ("{}", "line 2: nothing is asked"),
        ("0:red", "line 2: the weight 0"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, message):
    with pytest.raises(UsageError, match=message):
        asked(tmp_path, f"red\n{line}\n")


def test_files_that_are_none(tmp_path):
    with pytest.raises(PathError, match="cannot read"):
        read_questions(tmp_path / "absent", Options())
    with pytest.raises(UsageError, match="holds no question"):
        asked(tmp_path, "\n \n")
    (tmp_path / "b").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="no text in UTF-8"):
        read_questions(tmp_path / "b", Options())
