"""Splits that are lists of classes (Reed et al. 2016): which lists there are, and what they say."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmref.data.readers.places import shown
from mmref.errors import DataError

TEST = "testclasses.txt"
TRAINVAL, TRAIN, VAL = "trainvalclasses.txt", "trainclasses.txt", "valclasses.txt"
_NUMBER = re.compile(r"(?:class_)?0*(\d+)(?:\.|$)")


def class_number(name: str) -> int | None:
    """The number in a class folder's name.

    Example:
        >>> [class_number(name) for name in ("001.Black_Crow", "class_00017", "17", "Crow")]
        [1, 17, 17, None]
    """
    match = _NUMBER.match(name)
    return int(match[1]) if match else None


@dataclass(frozen=True)
class ClassLists:
    """The split of each class, and notes on the lists that say so."""

    split_of: dict[str, str]
    notes: tuple[str, ...]

    @classmethod
    def read(cls, folders: Iterable[Path], classes: Sequence[str], title: str) -> "ClassLists":
        """Read the lists of the first folder that holds ``testclasses.txt``.

        ``trainclasses.txt`` with ``valclasses.txt`` where there are both, else
        ``trainvalclasses.txt`` (all of it train), else ``trainclasses.txt``.

        Args:
            folders: where the lists may lie, the likeliest first.
            classes: the class folders there are.
            title: the set's name in messages.

        Raises:
            DataError: lists are missing, name unknown classes, or share classes.
        """
        looked = list(dict.fromkeys(folders))
        folder = next((place for place in looked if (place / TEST).is_file()), None)
        if folder is None:
            raise DataError(
                f"{title} has no class lists: put {TEST} and {TRAINVAL} (or {TRAIN} and {VAL}) "
                f"beside the captions (looked in {shown(list(map(str, looked)))}), or name a split "
                "file with --splits FILE"
            )
        present = {name for name in (TRAINVAL, TRAIN, VAL) if (folder / name).is_file()}
        if {TRAIN, VAL} <= present:
            used = {"train": TRAIN, "val": VAL, "test": TEST}
        elif present & {TRAINVAL, TRAIN}:
            used = {"train": TRAINVAL if TRAINVAL in present else TRAIN, "test": TEST}
        else:
            raise DataError(f"{folder} holds {TEST} and neither {TRAINVAL} nor {TRAIN}: add one")
        lists = {split: _read(folder / name, classes) for split, name in used.items()}
        split_of: dict[str, str] = {}
        for split, names in lists.items():
            both = [name for name in names if split_of.get(name, split) != split]
            if both:
                other = used[split_of[both[0]]]
                raise DataError(
                    f"{folder}: {len(both)} classes stand in {other} and in {used[split]} "
                    f"({shown(both)}): the splits must be disjoint; fetch the lists again"
                )
            split_of.update(dict.fromkeys(names, split))
        notes = [_said(used, lists)]
        if TRAINVAL in present and "val" in used:
            whole = set(_read(folder / TRAINVAL, classes))
            parts = {name for name, split in split_of.items() if split != "test"}
            if whole != parts:
                notes.append(
                    f"{TRAINVAL} is not {TRAIN} and {VAL} together ({len(whole ^ parts)} classes "
                    "differ): it is ignored"
                )
        return cls(split_of, tuple(notes))


def _said(used: dict[str, str], lists: dict[str, list[str]]) -> str:
    parts = ", ".join(
        f"{split} {used[split]} ({len(names)}, digest {_digest(names)})"
        for split, names in lists.items()
    )
    return f"class lists: {parts}; other splits go under the same file names"


def _digest(names: Sequence[str]) -> str:
    """The first 8 digits of SHA-256 over the sorted class numbers (or names), one a line."""
    keys = sorted(str(class_number(name) or name) for name in set(names))
    return hashlib.sha256("\n".join(keys).encode()).hexdigest()[:8]


def _read(file: Path, classes: Sequence[str]) -> list[str]:
    by_number = {class_number(name): name for name in classes}
    known = set(classes)
    try:
        lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    found = []
    for number, line in enumerate(lines, start=1):
        text = line.strip().rstrip("/")
        if not text:
            continue
        name = text if text in known else by_number.get(class_number(text))
        if name is None or (text != name and not text.isdigit()):
            raise DataError(
                f"{file} line {number}: there is no class {text[:60]!r} among the {len(classes)} "
                "class folders: is it the list of another set, or are class folders missing?"
            )
        found.append(name)
    if not found:
        raise DataError(f"{file} names no class: fetch it again")
    return found
