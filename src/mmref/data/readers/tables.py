"""The three kinds of table file, each read as (line or row number, record) pairs."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mmref.errors import DataError

Record = tuple[int, dict[str, Any]]

_TEXT_COLUMNS = {"image", "caption", "identity", "split"}
_FIELD_LIMIT = 16 * 1024 * 1024
# No leading zeros: "007" is a name, not a number.
_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def kind_of(value: Any) -> str:
    """What a value is, in the words of JSON, with a short look at it."""
    if value is None:
        return "null"
    names = {bool: "true/false", int: "the number", float: "the number", str: "the string"}
    if isinstance(value, list | dict | bytes):
        return {list: "a list", dict: "an object", bytes: "binary data"}[type(value)]
    text = repr(value)
    return f"{names.get(type(value), type(value).__name__)} {text[:40]}"


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{file} line {line}: byte {error.start} is not UTF-8: save the file as UTF-8"
        ) from error
    if not text.strip():
        raise DataError(f"{file} is empty: write one line for each image")
    return text


def _read_jsonl(file: Path) -> Iterator[Record]:
    for number, line in enumerate(_text(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            what = getattr(error, "msg", None) or str(error)
            where = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            raise DataError(
                f"{file} line {number}: broken JSON{where} ({what}): each line is one JSON object"
            ) from error
        if not isinstance(record, dict):
            raise DataError(f"{file} line {number}: {kind_of(record)}, but each line is an object")
        yield number, record


def _read_csv(file: Path) -> Iterator[Record]:
    old_limit = csv.field_size_limit(_FIELD_LIMIT)
    try:
        reader = csv.reader(io.StringIO(_text(file), newline=""), strict=True)
        header = [name.strip() for name in next(reader)]
        double = [name for name, count in Counter(header).items() if count > 1]
        if double:
            raise DataError(f"{file} line 1: column {double[0]!r} stands twice: rename one")
        if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
            raise DataError(f"{file} line 1: one column {header[0]!r}: separate columns by commas")
        rows = []
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(
                    f"{file} line {reader.line_num}: {len(cells)} cells for {len(header)} "
                    "columns: put cells with commas in double quotes"
                )
            rows.append((reader.line_num, cells))
    except csv.Error as error:
        raise DataError(f"{file} line {reader.line_num}: broken CSV ({error})") from error
    finally:
        csv.field_size_limit(old_limit)
    converters = [
        _converter(name, [cells[i] for _, cells in rows]) for i, name in enumerate(header)
    ]
    if not rows:
        _check_header(file, header)
    for number, cells in rows:
        try:
            values = [convert(cell) for convert, cell in zip(converters, cells, strict=True)]
        except ValueError as error:
            raise DataError(f"{file} line {number}: {error}") from error
        yield number, dict(zip(header, values, strict=True))


def _check_header(file: Path, names: list[str]) -> None:
    missing = [name for name in ("image", "identity") if name not in names]
    if not {"captions", "caption"} & set(names):
        missing.append("captions")
    if missing:
        raise DataError(
            f"{file}: no column {missing[0]!r} (columns present: {', '.join(names) or 'none'})"
        )


def _converter(name: str, cells: list[str]) -> Callable[[str], Any]:
    """How a CSV column's cells become values: numbers only where the whole column is numbers."""
    if name == "captions":
        return _caption_list
    if name in _TEXT_COLUMNS:
        return str
    filled = [cell.strip() for cell in cells if cell.strip()]
    if filled and all(_WHOLE.fullmatch(cell) for cell in filled):
        return lambda cell: int(cell) if cell.strip() else None
    if filled and all(_NUMBER.fullmatch(cell) for cell in filled):
        return lambda cell: float(cell) if cell.strip() else None
    return lambda cell: cell or None


def _caption_list(cell: str) -> list[Any]:
    try:
        value = json.loads(cell) if cell.strip() else []
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"captions must be a JSON list ({cell[:30]!r} is not): write "
            '"[""one"", ""two""]", or call the column caption for one'
        ) from error
    if not isinstance(value, list):
        raise ValueError(f"captions must be a JSON list of strings, not {kind_of(value)}")
    return value


def _read_parquet(file: Path) -> Iterator[Record]:
    try:
        table = pq.read_table(file)
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{file} is not a readable Parquet file ({reason})") from error
    _check_header(file, table.column_names)
    yield from enumerate(table.to_pylist(), start=1)


PARSERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
}
