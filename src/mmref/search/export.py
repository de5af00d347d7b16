"""Hits as a table in a file, and as copies of the pictures."""

import csv
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from mmref.errors import PathError
from mmref.files import atomic_write, require_writable_folder
from mmref.search.hits import Hit, Results

COLUMNS = ("query", "rank", "id", "path", "score", "base_score", "reference_score")
_LONGEST = 120  # letters of a name that are kept


def write_csv(path: str | Path, pages: Sequence[Results]) -> None:
    """Write the hits of one or several questions, a row each, whole or not at all.

    Behind the columns of :data:`COLUMNS` come ``group`` and ``others`` (how many further images
    the hit stands for) and ``sort_value`` where they were asked for, then ``meta.NAME`` for each
    name of metadata.

    Raises:
        PathError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "hits.csv"
        >>> hit = Hit(1, 7, "/pics/a.png", 0.9, 0.9, None, {"camera": "c3"})
        >>> write_csv(path, [Results([hit], query="a mug")])
        >>> print(path.read_text().strip())
        query,rank,id,path,score,base_score,reference_score,meta.camera
        a mug,1,7,/pics/a.png,0.9,0.9,,c3
    """
    hits = [hit for page in pages for hit in page]
    names = sorted({name for hit in hits for name in hit.metadata})
    bunched = ["group", "others"] if any(hit.others is not None for hit in hits) else []
    ordered = ["sort_value"] if any(hit.sort_value is not None for hit in hits) else []
    with (
        atomic_write(path) as partial,
        partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *bunched, *ordered, *(f"meta.{name}" for name in names)])
        for page in pages:
            for hit in page:
                row = [page.query, *(getattr(hit, name) for name in COLUMNS[1:])]
                if bunched:
                    row += [_cell(hit.group), len(hit.others or ())]
                if ordered:
                    row.append(_cell(hit.sort_value))
                writer.writerow([*row, *(_cell(hit.metadata.get(name)) for name in names)])


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def copy_hits(folder: str | Path, pages: Sequence[Results]) -> tuple[list[Path], list[Hit]]:
    """Copy the hits' files into a folder; a file that is there is never overwritten.

    ``0001-NAME`` is the best hit; of several questions, ``003-0001-NAME`` is that of the third. A
    file of that name with the same content is left as it is; with another, the copy's name gets a
    number behind it.

    Returns:
        The copies, and the hits that have no readable file.

    Raises:
        PathError: the folder cannot be written.
    """
    target = require_writable_folder(folder)
    copies: list[Path] = []
    absent: list[Hit] = []
    for number, page in enumerate(pages, start=1):
        lead = f"{number:03d}-" if len(pages) > 1 else ""
        for hit in page:
            source = Path(hit.path)
            if not source.is_file() or not os.access(source, os.R_OK):
                absent.append(hit)
                continue
            stem, suffix = source.stem[:_LONGEST], source.suffix
            name = f"{lead}{hit.rank:04d}-{stem}"
            copies.append(_copied(source, target, name, suffix))
    return copies, absent


def _copied(source: Path, folder: Path, name: str, suffix: str) -> Path:
    number = 1
    while True:
        path = folder / (f"{name}{suffix}" if number == 1 else f"{name}-{number}{suffix}")
        try:
            with path.open("xb") as file, source.open("rb") as content:
                shutil.copyfileobj(content, file)
        except FileExistsError:
            if path.is_file() and _same(path, source):
                return path
            number += 1
            continue
        except OSError as error:
            path.unlink(missing_ok=True)
            raise PathError(f"cannot copy {source} to {path}: {error.strerror}") from error
        return path


def _same(one: Path, other: Path) -> bool:
    return one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()
