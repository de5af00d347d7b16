"""Files of questions: one sentence a line, or JSON lines.

A line that starts with ``{`` is JSON:

::

    {"text": ["2.0:red coat", "in the rain"], "not": "backpack"}
    {"image": "a.jpg", "text": "but in blue", "filter": "camera = 'c3'", "k": 3}

``text``, ``not`` and ``image`` hold one or several; ``2.0:text`` weighs 2. ``filter`` is added to
the filter of the command. Any other line is one sentence; blank lines are passed over.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmref.errors import PathError, UsageError
from mmref.search.filters import Filter, all_of
from mmref.search.options import Options
from mmref.search.query import Query

_KEYS = {"text", "not", "image", "filter", "k"}


@dataclass(frozen=True, slots=True)
class Asked:
    """One line of a file: a question and how it is to be answered."""

    query: Query
    options: Options


def read_questions(path: str | Path, options: Options) -> list[Asked]:
    r"""All questions of a file; a line that cannot be read refuses the file.

    Args:
        path: a text file in UTF-8.
        options: what holds for every line unless it says otherwise.

    Raises:
        PathError: the file cannot be read.
        UsageError: a line is wrong, or there is none.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "questions.txt"
        >>> lines = 'a red flag\n{"text": "a mug", "not": "blue", "k": 3}\n'
        >>> _ = path.write_text(lines)
        >>> [(one.query.label, one.options.k) for one in read_questions(path, Options())]
        [('a red flag', 10), ('a mug, not: blue', 3)]
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PathError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no text in UTF-8: save it as such") from error
    asked: list[Asked] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            asked.append(_question(line.strip(), options))
        except UsageError as error:
            raise UsageError(f"{path}, line {number}: {error}") from error
    if not asked:
        raise UsageError(f"{path} holds no question: write one a line")
    return asked


def _question(line: str, options: Options) -> Asked:
    if not line.startswith("{"):
        return Asked(Query.parse([line]), options)
    try:
        values = json.loads(line)
    except ValueError as error:
        raise UsageError(f"this is no JSON ({error})") from error
    strange = sorted(set(values) - _KEYS)
    if strange:
        raise UsageError(f"no key {strange[0]!r}: there are {', '.join(sorted(_KEYS))}")
    query = Query.parse(*(_several(values, name) for name in ("text", "image", "not")))
    k = values.get("k", options.k)
    if not isinstance(k, int) or isinstance(k, bool):
        raise UsageError("k must be a whole number")
    where = options.where
    if values.get("filter") is not None:
        own = Filter.parse(str(values["filter"]))
        where = own if where is None else all_of([where, own])
    return Asked(query, replace(options, k=k, where=where))


def _several(values: dict[str, Any], name: str) -> list[str]:
    value = values.get(name)
    several = [] if value is None else value if isinstance(value, list) else [value]
    if not all(isinstance(part, str) for part in several):
        raise UsageError(f"{name!r} must be text or a list of texts")
    return several
