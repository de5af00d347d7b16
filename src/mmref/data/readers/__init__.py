"""One file per data set format, behind one Protocol and a small registry.

To add a format, write a class that satisfies ``readers.base.Reader`` and name it in ``READERS``.
"""

from pathlib import Path

from mmref.data.readers.base import Reader
from mmref.data.readers.manifest import ManifestReader
from mmref.errors import DataError, PathError, UsageError

READERS: dict[str, Reader] = {reader.name: reader for reader in (ManifestReader(),)}

_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_HOW_TO_WRITE = (
    'write manifest.jsonl there, one line for each image: {"image": "photo.jpg", '
    '"captions": ["what it shows"], "identity": "name of the object"}'
)


def resolve_source(source: str | Path, format: str | None = None) -> tuple[Reader, Path]:
    """Find the reader and the path that a SOURCE means.

    Args:
        source: a path, or ``format:path``. A path that exists is taken as a path even if it has a
            colon in it.
        format: force this format; then ``source`` is a path alone.

    Raises:
        PathError: the path is missing, or a file of no known format.
        UsageError: there is no such format.
        DataError: a folder in which no reader finds its files.
    """
    text = str(source)
    if not text.strip():
        raise PathError("the data set's path is empty: name a folder or a manifest file")
    if format is None and not _exists(Path(text)):
        head, colon, tail = text.partition(":")
        if colon and head in READERS:
            format, text = head, tail
        elif colon and len(head) > 1 and _exists(Path(tail).expanduser()):
            raise UsageError(f"there is no format {head!r}: {_formats()}")
    if format is not None and format not in READERS:
        raise UsageError(f"there is no format {format!r}: {_formats()}")
    path = Path(text).expanduser()
    if not text or not _exists(path):
        raise PathError(f"{text or 'the path after the colon'} does not exist: check the path")
    if format is not None:
        return READERS[format], path
    for reader in READERS.values():
        if reader.recognises(path):
            return reader, path
    raise _unrecognised(path)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, a null byte, a folder without permission
        return False


def _formats() -> str:
    return f"formats are {', '.join(sorted(READERS))}"


def _unrecognised(path: Path) -> DataError | PathError:
    if not path.is_dir():
        return PathError(
            f"{path} is not a manifest (.jsonl, .csv or .parquet) and not a folder ({_formats()})"
        )
    try:
        names = [entry.name for entry in path.iterdir()]
    except OSError as error:
        return PathError(f"cannot list {path}: {error.strerror}")
    if not names:
        return DataError(f"{path} is an empty folder: {_HOW_TO_WRITE}")
    if _has_images(path):
        return DataError(f"{path} holds images but no manifest: {_HOW_TO_WRITE}")
    return DataError(f"{path} is of no known format ({_formats()}): {_HOW_TO_WRITE}")


def _has_images(folder: Path, limit: int = 2000) -> bool:
    for count, file in enumerate(folder.rglob("*")):
        if file.suffix.lower() in _IMAGE_SUFFIXES:
            return True
        if count >= limit:
            break
    return False
