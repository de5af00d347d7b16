"""A file that says which image or identity belongs to which split.

Four forms, told apart by what is in them:

- JSON ``{"train": [...], "val": [...], "test": [...]}``, lists of identities or image paths;
- JSON ``{"17": "train", ...}``, by identity or image path;
- JSON list of objects with ``split`` and a path (``file_path``, ``img_path``, ``image``) or an
  identity (``id``, ``identity``), such as another release of the set;
- CSV or JSONL with the columns ``split`` and ``image`` or ``identity`` (or those names).
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmref.data.dataset import split_name
from mmref.data.readers.places import image_path
from mmref.data.readers.tables import PARSERS, kind_of
from mmref.errors import DataError, PathError

SPLITS = ("train", "val", "test")
PATH_KEYS = ("file_path", "img_path", "image")
ID_KEYS = ("id", "identity", "image_id")
HOW = (
    '--splits FILE, or "?splits=FILE" behind the path, where FILE is JSON '
    '{"train": [ids], "val": [ids], "test": [ids]}, or a CSV with columns identity, split'
)


def object_name(value: Any) -> str | None:
    """An identity as a string: 17, 17.0, "17" and "0017" are one; None where it is no identity.

    Example:
        >>> [object_name(value) for value in (17, "0017", 17.0, " 001.Crow ", True, "")]
        ['17', '17', '17', '001.Crow', None, None]
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not value.strip():
        return None
    text = value.strip()
    return str(int(text)) if text.isascii() and text.isdigit() and len(text) < 19 else text


def known_split(value: Any) -> str | None:
    """``train``, ``val`` or ``test``, also written ``Training``, ``validation``; else None.

    Example:
        >>> known_split("Validation"), known_split("dev"), known_split(3)
        ('val', None, None)
    """
    name = split_name(value) if isinstance(value, str) else ""
    return name if name in SPLITS else None


def load_json(file: Path) -> tuple[Any, bool]:
    """The content of a JSON file, and whether bytes of it were no UTF-8 (then U+FFFD).

    Raises:
        DataError: it cannot be read, or is no JSON; the message names line and column.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    try:
        text, lossy = data.decode("utf-8-sig"), False
    except UnicodeDecodeError:
        text, lossy = data.decode("utf-8-sig", "replace"), True
    try:
        return json.loads(text), lossy
    except json.JSONDecodeError as error:
        raise DataError(
            f"{file} line {error.lineno} column {error.colno}: broken JSON ({error.msg}): "
            "the file may be cut off; fetch it again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: broken JSON ({error}): fetch it again") from error


@dataclass(frozen=True)
class SplitFile:
    """Splits by identity or image path.

    Attributes:
        path: the file.
        split_of: the split of each key that it names.
    """

    path: Path
    split_of: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> "SplitFile":
        """Read any of the four forms.

        Raises:
            PathError: no such file.
            DataError: it is of none of the forms, or names something in two splits.

        Example:
            >>> import tempfile
            >>> file = Path(tempfile.mkdtemp()) / "splits.json"
            >>> _ = file.write_text('{"train": [1, 2], "val": ["3"], "test": ["cam_a/4.png"]}')
            >>> SplitFile.read(file).split_of
            {'1': 'train', '2': 'train', '3': 'val', 'cam_a/4.png': 'test'}
        """
        if not path.is_file():
            raise PathError(f"the split file {path} does not exist: check the path")
        split_of: dict[str, str] = {}
        for where, key, value in _entries(path):
            split = known_split(value)
            if split is None:
                raise DataError(
                    f"{path}{where}: the split is {kind_of(value)}, not train, val or test"
                )
            name = _key(key)
            if name is None:
                raise DataError(f"{path}{where}: {kind_of(key)} is no identity and no image path")
            if split_of.setdefault(name, split) != split:
                raise DataError(
                    f"{path}{where}: {name!r} stands in {split_of[name]} and in {split}: "
                    "name each identity or image once"
                )
        if not split_of:
            raise DataError(f"{path} names nothing: {HOW}")
        return cls(path, split_of)

    def assign(self, images: Sequence[str], objects: Sequence[str]) -> tuple[list[str], list[str]]:
        """The split of each row, by its image path or else its object, and notes.

        Raises:
            DataError: the file says nothing of some row.
        """
        splits: list[str] = []
        used = set[str]()
        silent: list[int] = []
        for row, (image, name) in enumerate(zip(images, objects, strict=True)):
            for key in (_key(image) or image, object_name(name) or name):
                if key in self.split_of:
                    used.add(key)
                    splits.append(self.split_of[key])
                    break
            else:
                silent.append(row)
        if silent:
            row = silent[0]
            raise DataError(
                f"{self.path} names no split for {len(silent):,} of {len(images):,} images (the "
                f"first: {images[row]}, identity {objects[row]}): name each image or identity"
            )
        notes = [f"splits are those of {self.path}"]
        idle = [key for key in self.split_of if key not in used]
        if idle:
            notes.append(
                f"names in {self.path.name} that the set does not hold: {len(idle):,} "
                f"(the first: {idle[0]})"
            )
        return splits, notes


def _key(value: Any) -> str | None:
    name = object_name(value)
    return name if name is None else image_path(name).removeprefix("imgs/")


def _entries(path: Path) -> Iterator[tuple[str, Any, Any]]:
    """(place in the file, identity or image path, split)."""
    if path.suffix.lower() in (".csv", ".jsonl"):
        for number, record in PARSERS[path.suffix.lower()](path):
            yield _of_record(path, f" line {number}", record)
        return
    content, _ = load_json(path)
    if isinstance(content, list):
        for number, record in enumerate(content, start=1):
            if not isinstance(record, dict):
                raise DataError(f"{path} item {number}: {kind_of(record)}, not an object: {HOW}")
            yield _of_record(path, f" item {number}", record)
    elif isinstance(content, dict) and all(isinstance(v, list) for v in content.values()):
        for split, names in content.items():
            yield from ((f" {split!r}", name, split) for name in _checked(path, split, names))
    elif isinstance(content, dict):
        yield from (("", name, split) for name, split in content.items())
    else:
        raise DataError(f"{path} holds {kind_of(content)}: {HOW}")


def _checked(path: Path, split: str, names: Iterable[Any]) -> Iterable[Any]:
    if known_split(split) is None:
        raise DataError(f"{path}: {split!r} is not train, val or test")
    return names


def _of_record(path: Path, where: str, record: dict[str, Any]) -> tuple[str, Any, Any]:
    if "split" not in record:
        present = ", ".join(map(str, record)) or "none"
        raise DataError(f"{path}{where}: no 'split' (there are {present}): {HOW}")
    key = next((record[name] for name in (*PATH_KEYS, *ID_KEYS) if name in record), None)
    return where, key, record["split"]
