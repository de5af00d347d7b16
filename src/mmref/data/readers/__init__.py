"""One file per data set format, behind one Protocol and a small registry.

To add a format, write a class that satisfies ``readers.base.Reader`` and name it in ``READERS``.
"""

from pathlib import Path
from typing import NamedTuple

from mmref.data.readers.base import Reader
from mmref.data.readers.cub import CubReader
from mmref.data.readers.cuhk_pedes import CuhkPedesReader
from mmref.data.readers.flowers import FlowersReader
from mmref.data.readers.icfg_pedes import IcfgPedesReader
from mmref.data.readers.manifest import ManifestReader
from mmref.data.readers.rstpreid import RstpReidReader
from mmref.errors import DataError, PathError, UsageError

_ALL: tuple[Reader, ...] = (
    ManifestReader(),
    CuhkPedesReader(),
    IcfgPedesReader(),
    RstpReidReader(),
    CubReader(),
    FlowersReader(),
)
READERS: dict[str, Reader] = {reader.name: reader for reader in _ALL}

SPLITS_MARK = "?splits="
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
_HOW_TO_WRITE = (
    'write manifest.jsonl there, one line for each image: {"image": "photo.jpg", '
    '"captions": ["what it shows"], "identity": "name of the object"}'
)


class Source(NamedTuple):
    """What a SOURCE means.

    Attributes:
        reader: of its format.
        path: the folder or file, which exists.
        splits: the split file, or None.
    """

    reader: Reader
    path: Path
    splits: Path | None


def resolve_source(
    source: str | Path, format: str | None = None, splits: str | Path | None = None
) -> Source:
    """Find the reader, the path and the split file that a SOURCE means.

    Args:
        source: a path, ``format:path``, or either with ``?splits=FILE`` behind it. A path that
            exists is taken as a path even if it has a colon or a question mark in it.
        format: force this format; then ``source`` is a path alone.
        splits: a split file, as with ``?splits=FILE``; relative to the working folder.

    Raises:
        PathError: the path or the split file is missing, or a file of no known format.
        UsageError: there is no such format, or the path holds several sets.
        DataError: a folder in which no reader finds its files.
    """
    text = str(source)
    if not text.strip():
        raise PathError("the data set's path is empty: name a folder or a manifest file")
    if not _exists(Path(text)) and SPLITS_MARK in text:
        text, _, named = text.rpartition(SPLITS_MARK)
        if splits is not None:
            raise UsageError(f"two split files are named, {splits} and {named}: name one")
        splits = named
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
    return Source(_reader(path, format), path, _split_file(splits))


def with_split_file(source: str, splits: str | Path | None) -> str:
    """The SOURCE that names a split file too, so that one string says both.

    Raises:
        PathError: there is no such split file.
        UsageError: the source names one already.

    Example:
        >>> with_split_file("cuhk-pedes:/data/CUHK-PEDES", None)
        'cuhk-pedes:/data/CUHK-PEDES'
    """
    if splits is None:
        return source
    if SPLITS_MARK in source and not _exists(Path(source)):
        raise UsageError(f"{source} names a split file already: leave --splits out")
    return f"{source}{SPLITS_MARK}{_split_file(splits)}"


def _split_file(splits: str | Path | None) -> Path | None:
    if splits is None:
        return None
    file = Path(splits).expanduser()
    if not str(splits).strip() or not _exists(file) or not file.is_file():
        raise PathError(f"the split file {str(splits)!r} does not exist: check the path")
    return file


def _reader(path: Path, format: str | None) -> Reader:
    if format is not None:
        return READERS[format]
    manifest, *others = READERS.values()
    if manifest.recognises(path):
        return manifest
    found = [reader for reader in others if reader.recognises(path)]
    if len(found) > 1:
        names = [reader.name for reader in found]
        raise UsageError(
            f"{path} holds several data sets ({', '.join(names)}): name one, such as "
            f"{names[0]}:{path}, or its own folder"
        )
    if not found:
        raise _unrecognised(path)
    return found[0]


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
            f"{path} is not a manifest (.jsonl, .csv or .parquet), no known set's JSON and not a "
            f"folder ({_formats()}; format:path forces one)"
        )
    try:
        names = [entry.name for entry in path.iterdir()]
    except OSError as error:
        return PathError(f"cannot list {path}: {error.strerror}")
    if not names:
        return DataError(f"{path} is an empty folder: {_HOW_TO_WRITE}")
    derived = sorted(name for name in names if name.endswith("_reid.json"))
    if derived:
        return DataError(
            f"{path} holds {derived[0]}, which may be of several sets: say which, such as "
            f"cuhk-pedes:{path}, icfg-pedes:{path} or rstpreid:{path}"
        )
    if (path / "images.txt").is_file() or (path / "jpg" / "image_00001.jpg").is_file():
        title = "CUB-200-2011" if (path / "images.txt").is_file() else "Flowers-102"
        return DataError(
            f"{path} looks like {title} without captions: put the folder text_c10/ into it (ten "
            "captions an image, Reed et al. 2016; it comes apart from the images)"
        )
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
