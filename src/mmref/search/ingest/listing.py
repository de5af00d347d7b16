"""What there is to index: folders are walked, files taken, SOURCEs read; nothing is decoded yet.

Folders are walked in the order of names, links are followed (a folder that is reached twice is
taken once, so loops end), hidden files and folders are left out. A file is a picture by its suffix
or, when its suffix says nothing, by its first bytes; whether it can be decoded shows later. A path
that does not exist and holds ``*``, ``?`` or ``[`` is a pattern of files and folders below the part
before it; ``**`` stands for any number of folders.
"""

import math
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmref.data.dataset import RetrievalDataset
from mmref.data.readers import READERS, SPLITS_MARK
from mmref.errors import DataError, PathError
from mmref.search.ingest.patterns import Pattern, is_pattern
from mmref.search.records import Place, Skipped

SUFFIXES = frozenset(
    f".{name}"
    for name in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff"),
        *("avif", "jp2", "ppm", "pgm", "mpo"),
    )
)
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_MOST_TIME = (1 << 63) - 1  # nanoseconds that a store can keep: the years 1677 to 2262
Source = str | Path | RetrievalDataset


@dataclass(frozen=True, slots=True)
class Found:
    """One thing to index: where it is and, for features, its vector."""

    place: Place
    features: npt.NDArray[np.float32] | None = None


@dataclass
class Listing:
    """All that was found.

    Attributes:
        found: what to index, in order; each path once.
        skipped: what cannot be, with reasons.
        folders: folders that were walked, as prefixes of paths.
        patterns: patterns that were looked for.
        sources: names of the folders, files and SOURCEs that were listed.
        devices: the first folder that was walked on each device (disk, mount), by its number.
        notes: what the SOURCEs have to say.
    """

    found: list[Found] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    patterns: list[Pattern] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    devices: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _paths: set[str] = field(default_factory=set)

    def add(self, found: Found) -> None:
        """Add one thing unless its path is there already."""
        path = found.place.path
        try:
            path.encode("utf-8")
        except UnicodeEncodeError:
            self.skip(path, "its name is not valid UTF-8: rename it")
            return
        if path not in self._paths:
            self._paths.add(path)
            self.found.append(found)

    def skip(self, path: str, reason: str) -> None:
        """Note that a path cannot be indexed; the path stays known as present."""
        self._paths.add(path)
        shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
        self.skipped.append(Skipped(shown, reason))

    def spare(self, paths: Iterable[str]) -> None:
        """Take paths as present, so that their items are not forgotten."""
        self._paths.update(paths)

    def covers(self, path: str) -> bool:
        """Whether a path is below a folder that was walked, or fits a pattern."""
        below = path.startswith(tuple(self.folders))
        return below or any(pattern.covers(path) for pattern in self.patterns)

    def __contains__(self, path: object) -> bool:
        """Whether this path was seen, be it usable or not."""
        return path in self._paths


def list_images(
    sources: Sequence[Source], *, features: bool, leave_out: Path | None = None
) -> Listing:
    """List what ``sources`` hold.

    Args:
        sources: folders, files, patterns, SOURCEs (``format:path`` or a path with a manifest) or
            data sets.
        features: list the precomputed vectors of the SOURCEs in the place of pictures.
        leave_out: a folder not to walk into (the store itself).

    Raises:
        PathError: a path does not exist or cannot be listed, or a pattern fits nothing.
        DataError: a SOURCE cannot be used, or does not hold what is asked for.
    """
    listing = Listing()
    for source in sources:
        dataset = source if isinstance(source, RetrievalDataset) else as_dataset(source)
        if dataset is not None:
            _list_dataset(listing, dataset, features)
            continue
        path = whole_path(str(source))
        if features:
            raise DataError(
                f"this run encodes features, not pixels, and {path} has none: name a folder "
                "with a manifest and features.npy, or train a run on pixels (--encoder compact)"
            )
        store = None if leave_out is None else whole_path(str(leave_out))
        if Path(path).is_dir():
            listing.sources.add(path)
            listing.folders.append(path.rstrip(os.sep) + os.sep)
            _walk(listing, path, store)
        elif os.path.lexists(path):
            listing.sources.add(path)
            _list_file(listing, path, path, sure=True)
        elif is_pattern(str(source)):
            _list_pattern(listing, str(source), store)
        else:
            raise PathError(f"{source} does not exist: check the path")
    return listing


def whole_path(path: str) -> str:
    """An absolute path in which only the last name may be a link.

    Example:
        >>> whole_path("/tmp/../a.png")
        '/a.png'
    """
    try:
        full = Path(path).expanduser().absolute()
        return str(full.resolve() if full.is_dir() else full.parent.resolve() / full.name)
    except (OSError, ValueError, RuntimeError) as error:
        raise PathError(f"{path!r} is not a possible path: check it") from error


def _list_pattern(listing: Listing, source: str, leave_out: str | None) -> None:
    pattern = Pattern(source, whole_path(Pattern.folder_of(source)))
    if not Path(pattern.folder).is_dir():
        raise PathError(f"{source} fits nothing: there is no folder {pattern.folder}")
    before = len(listing.found) + len(listing.skipped)
    listing.patterns.append(pattern)
    _walk(listing, pattern.folder, leave_out, pattern)
    if len(listing.found) + len(listing.skipped) == before:
        raise PathError(f"{source} fits no image: check the pattern (** stands for any folders)")


def as_dataset(source: str | Path) -> RetrievalDataset | None:
    """The data set that a source names, or None where it is a plain folder or file."""
    text = str(source)
    path = Path(text).expanduser()
    head, colon, _ = text.partition(":")
    if not os.path.lexists(path):
        named = (colon and head in READERS) or SPLITS_MARK in text
        return RetrievalDataset.load(text) if named else None
    if any(reader.recognises(path) for reader in READERS.values()):
        return RetrievalDataset.load(path)
    return None


def _list_dataset(listing: Listing, dataset: RetrievalDataset, features: bool) -> None:
    root = whole_path(str(dataset.root))
    listing.sources.add(root)
    listing.notes.extend(dataset.notes)
    if features:
        matrix = dataset.features()
    elif dataset.features_only:
        raise DataError(
            f"{dataset.name} has features and no pictures, and this run encodes pixels: use a "
            "run that was trained with --encoder features"
        )
    for row, path in enumerate(dataset.image_paths):
        metadata = _plain({"object": dataset.objects[row], **dataset.metadata(row)})
        if features:
            exists = not dataset.features_only and path.is_file()
            name = whole_path(str(path)) if exists else dataset.images[row]
            listing.add(Found(Place(name, 0, 0, metadata, root), matrix[row]))
        else:
            _list_file(listing, whole_path(str(path)), root, sure=True, metadata=metadata)


def _plain(value: Any) -> Any:
    """What JSON can hold: dates and the like as text, NaN as null."""
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _list_file(
    listing: Listing,
    path: str,
    source: str,
    *,
    sure: bool,
    metadata: dict[str, Any] | None = None,
) -> None:
    try:
        status = os.stat(path)  # noqa: PTH116  (this is done a million times)
    except FileNotFoundError:
        reason = "a link to nothing" if Path(path).is_symlink() else "missing"
        listing.skip(path, reason)
        return
    except OSError as error:
        listing.skip(path, error.strerror or "cannot be read")
        return
    if not stat.S_ISREG(status.st_mode):
        if sure:
            listing.skip(path, "not a regular file")
        return
    if sure or _is_picture(path):
        time = min(max(status.st_mtime_ns, -_MOST_TIME), _MOST_TIME)
        place = Place(path, status.st_size, time, metadata or {}, source)
        listing.add(Found(place))


def _is_picture(path: str) -> bool:
    if os.path.splitext(path)[1].lower() in SUFFIXES:  # noqa: PTH122
        return True
    try:
        with Path(path).open("rb") as file:
            start = file.read(16)
    except OSError:
        return False
    return start.startswith(_STARTS) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")


def _walk(
    listing: Listing, root: str, leave_out: str | None, pattern: Pattern | None = None
) -> None:
    visited: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            listing.devices.setdefault(status.st_dev, folder)
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            if folder == root:
                raise PathError(f"cannot read {root}: {error.strerror}") from error
            listing.skip(folder + os.sep, f"the folder cannot be read: {error.strerror}")
            continue
        inner = []
        for entry in ordered:
            if entry.name.startswith("."):
                continue
            if not _is_folder(entry):
                if pattern is None or pattern.covers(entry.path):
                    _list_file(listing, entry.path, root, sure=False)
            elif (pattern is None or pattern.leads_into(entry.path)) and (
                leave_out is None or os.path.realpath(entry.path) != leave_out
            ):
                inner.append(entry.path)
        waiting.extend(reversed(inner))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
