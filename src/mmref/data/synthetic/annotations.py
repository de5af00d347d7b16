"""What a generated set tells of itself, read back: settings, true attributes, statements.

Example:
    >>> import tempfile
    >>> from mmref.data.dataset import RetrievalDataset
    >>> from mmref.data.synthetic.generate import generate
    >>> folder = generate(SyntheticSettings(objects=4, images=1), Path(tempfile.mkdtemp()) / "set")
    >>> notes = annotations(RetrievalDataset.load(folder).split("train"))
    >>> len(notes.queries), len(notes.attributes), read_settings(folder).objects
    (8, 4, 4)
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from mmref.data.dataset import Query, RetrievalDataset
from mmref.data.synthetic.generate import MANIFEST, SETTINGS, SyntheticSettings
from mmref.errors import DataError, MMRefError

T = TypeVar("T")


@dataclass(frozen=True)
class Annotations:
    """The truth about the rows and queries of a generated set.

    Attributes:
        queries: each distinct (caption, object) pair, in the order of ``dataset.queries()``.
        stated: for each query the records of its statements (those of its first occurrence).
        contradicts: for each query whether a statement is wrong.
        attributes: for each row the true attributes of its object.
        visible: for each row the names of the attributes that its image shows.
    """

    queries: list[Query]
    stated: list[list[str]]
    contradicts: list[bool]
    attributes: list[dict[str, str | None]]
    visible: list[list[str]]


def annotations(dataset: RetrievalDataset) -> Annotations:
    """Read the columns that ``generate`` wrote.

    Raises:
        DataError: a column is missing or holds something else: not a generated set.
    """
    column = _columns(dataset)
    stated = column("stated", _is_lists)
    wrong = column("contradicted", _is_lists)
    first: dict[Query, tuple[list[str], bool]] = {}
    for row, texts in enumerate(dataset.captions):
        if not len(texts) == len(stated[row]) == len(wrong[row]):
            raise DataError(
                f"{dataset.name} row {row}: {len(texts)} captions, but statements of "
                f"{len(stated[row])}: generate the set again"
            )
        for text, said, slips in zip(texts, stated[row], wrong[row], strict=True):
            first.setdefault(Query(text, dataset.objects[row]), (said, bool(slips)))
    return Annotations(
        queries=list(first),
        stated=[said for said, _ in first.values()],
        contradicts=[slips for _, slips in first.values()],
        attributes=column("attributes", _is_attributes),
        visible=column("visible", _is_texts),
    )


def summary(dataset: RetrievalDataset) -> dict[str, dict[str, float]]:
    """What each split of a generated set holds.

    Returns:
        Split -> ``objects``, ``images``, ``captions``, ``contradicting`` (percent of the captions
        that get at least one attribute wrong), ``statements`` and ``omitted`` (their mean number,
        and that of the attributes left out, in a caption) and ``hidden`` (mean number of
        attributes that an image does not show).

    Raises:
        DataError: not a generated set.
    """
    found = {}
    for split in dataset.split_names:
        part = dataset.split(split)
        column = _columns(part)
        stated, omitted, wrong = (
            [one for row in column(name, _is_lists) for one in row]
            for name in ("stated", "omitted", "contradicted")
        )
        has = [
            sum(v is not None for v in one.values()) for one in column("attributes", _is_attributes)
        ]
        shown = [len(names) for names in column("visible", _is_texts)]
        found[split] = {
            "objects": len(part.object_names),
            "images": len(part),
            "captions": len(stated),
            "contradicting": 100 * sum(map(bool, wrong)) / len(wrong),
            "statements": sum(map(len, stated)) / len(stated),
            "omitted": sum(map(len, omitted)) / len(omitted),
            "hidden": (sum(has) - sum(shown)) / len(part),
        }
    return found


def _columns(dataset: RetrievalDataset) -> Callable[[str, Callable[[Any], bool]], list[Any]]:
    def column(name: str, fits: Callable[[Any], bool]) -> list[Any]:
        if name not in dataset.table.column_names:
            raise DataError(
                f"{dataset.name} has no column {name!r}: statements and attributes are known of "
                "generated sets alone, make one with mmref synth"
            )
        values: list[Any] = dataset.table[name].to_pylist()
        for row, value in enumerate(values):
            if not fits(value):
                raise DataError(
                    f"{dataset.name} row {row}: column {name!r} is not as mmref synth writes it: "
                    "generate the set again"
                )
        return values

    return column


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_lists(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_texts, value))


def _is_attributes(value: Any) -> bool:
    return isinstance(value, dict) and all(v is None or isinstance(v, str) for v in value.values())


def read_settings(folder: str | Path) -> SyntheticSettings:
    """The settings with which a set was generated.

    Args:
        folder: the set's folder.

    Raises:
        DataError: there are none, or they are of another release.
    """
    file = Path(folder) / SETTINGS
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        known = {field.name for field in fields(SyntheticSettings)}
        values = {name: value for name, value in found.items() if name in known}
        if found.get("format") != 1 or not known <= set(values):
            raise ValueError("of another release")
        values["image_size"] = tuple(values["image_size"])
        return SyntheticSettings(**values)
    except (OSError, ValueError, TypeError, AttributeError, MMRefError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"{file} holds no settings of a generated set ({reason}): generate it with mmref synth"
        ) from error


def is_generated(folder: str | Path) -> bool:
    """Whether a folder is a generated set and nothing else, so that it may be drawn again."""
    try:
        read_settings(folder)
        return {file.name for file in Path(folder).iterdir()} == {MANIFEST, SETTINGS, "images"}
    except (DataError, OSError):
        return False
