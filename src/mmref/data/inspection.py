"""What a data set holds, and what is wrong with it."""

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mmref.data.dataset import RetrievalDataset
from mmref.data.images import Progress, default_workers, image_fault
from mmref.data.published_counts import Comparison, compare

SHOWN_ITEMS = 20
_CHUNK = 128
_WORD = re.compile(r"[\w'-]+")


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a data set.

    Attributes:
        kind: a stable short name, such as ``missing-image``.
        message: one sentence.
        items: the first 20 images or objects concerned.
        count: how many there are.
    """

    kind: str
    message: str
    items: tuple[str, ...]
    count: int


@dataclass(frozen=True)
class SplitSummary:
    """Counts of one split.

    Attributes:
        objects: distinct objects.
        images: distinct images.
        captions: captions over all rows, repetitions included.
        queries: the questions of an evaluation by the set's protocol: distinct (caption, object)
            pairs, or every caption of a person or class set.
        words: distinct words, without regard to case.
        words_per_caption: mean over the queries.
    """

    objects: int
    images: int
    captions: int
    queries: int
    words: int
    words_per_caption: float


@dataclass(frozen=True)
class Inspection:
    """The result of ``inspect_dataset``.

    Attributes:
        name: of the data set.
        format: name of the reader.
        splits: counts for each split.
        closed_set: whether the objects of val and test are training objects.
        features_only: whether there are vectors and no image files.
        feature_dimension: length of the precomputed vectors, or None.
        problems: what is wrong.
        notes: what is worth knowing and not wrong.
        readable: images that decode (all of them where there are features only).
        protocol: how the set is asked and scored (see ``RetrievalDataset``).
        published: how the counts compare with those of the published set, None for other sets.
    """

    name: str
    format: str
    splits: dict[str, SplitSummary]
    closed_set: bool
    features_only: bool
    feature_dimension: int | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    readable: int
    protocol: str = "manifest"
    published: Comparison | None = None

    @property
    def usable(self) -> bool:
        """Whether there is something to train on: features, or an image that decodes."""
        return self.feature_dimension is not None or self.readable > 0

    def to_json(self) -> dict[str, Any]:
        """The document of ``mmref data --json``."""
        return asdict(self)


class _File(NamedTuple):
    digest: bytes | None  # of the content; None where it cannot be read
    reason: str | None  # why it cannot be decoded


def inspect_dataset(
    dataset: RetrievalDataset, *, workers: int | None = None, progress: Progress | None = None
) -> Inspection:
    """Count, look for leaks and duplicates, and decode every image file.

    Args:
        dataset: any data set.
        workers: decoding threads; by default one for each core, at most 8.
        progress: called with (files done, files in all) now and then.

    Returns:
        Counts, problems and notes. Nothing is changed, and no problem is raised as an error.

    Example:
        >>> from mmref.data.dataset import build_table
        >>> import numpy as np
        >>> table = build_table(list("1234"), [["red"], ["blue"], ["red"], ["sky"]],
        ...     ["x", "y", "x", "y"], ["train", "train", "val", "val"], feature_rows=range(4))
        >>> data = RetrievalDataset(table, Path("/d"), "two", "manifest", np.eye(4))
        >>> found = inspect_dataset(data)
        >>> found.closed_set, found.features_only, found.problems
        (True, True, ())
        >>> found.splits["val"].queries, found.notes[0]
        (2, 'captions in more than one split: 1')
    """
    features_only = dataset.features_only
    files = {} if features_only else _read_files(dataset, workers, progress)
    if features_only:
        contents: list[Hashable] = [row.tobytes() for row in dataset.features()]
    else:
        contents = [files[image].digest for image in dataset.images]
    problems = [
        *_file_problems(files, dataset.has_features),
        *_leaks(dataset, contents),
        *_duplicates(dataset, contents),
        *_thin_splits(dataset),
    ]
    matrix = dataset.feature_matrix
    splits = {name: _summary(dataset.split(name)) for name in dataset.split_names}
    return Inspection(
        name=dataset.name,
        format=dataset.format,
        splits=splits,
        closed_set=dataset.closed_set,
        features_only=features_only,
        feature_dimension=None if matrix is None else int(matrix.shape[1]),
        problems=tuple(problems),
        notes=(*dataset.notes, *_caption_notes(dataset)),
        readable=len(set(dataset.images))
        if features_only
        else sum(file.reason is None for file in files.values()),
        protocol=dataset.protocol,
        published=compare(dataset.format, splits),
    )


def _summary(part: RetrievalDataset) -> SplitSummary:
    queries = part.queries()
    words: Counter[str] = Counter()
    for query in queries:
        words.update(_WORD.findall(query.caption.lower()))
    return SplitSummary(
        objects=len(part.object_names),
        images=len(set(part.images)),
        captions=sum(map(len, part.captions)),
        queries=len(queries),
        words=len(words),
        words_per_caption=round(words.total() / max(1, len(queries)), 1),
    )


def _read_files(
    dataset: RetrievalDataset, workers: int | None, progress: Progress | None
) -> dict[str, _File]:
    paths = dict(zip(dataset.images, dataset.image_paths, strict=True))
    names = list(paths)
    found: dict[str, _File] = {}
    with ThreadPoolExecutor(workers or default_workers(), "mmref-inspect") as pool:
        for start in range(0, len(names), _CHUNK):
            chunk = names[start : start + _CHUNK]
            found.update(zip(chunk, pool.map(_read_file, [paths[n] for n in chunk]), strict=True))
            if progress is not None:
                progress(len(found), len(names))
    return found


def _read_file(path: Path) -> _File:
    reason = image_fault(path)
    if reason is not None:
        return _File(None, reason)
    try:
        with path.open("rb") as file:
            return _File(hashlib.file_digest(file, "sha256").digest(), None)
    except OSError as error:  # it went away in between
        return _File(None, error.strerror or "cannot be read")


def _problem(kind: str, message: str, items: Iterable[str]) -> list[Problem]:
    """One problem, or none where there are no items; ``{n}`` in the message is their number."""
    known = list(items)
    if not known:
        return []
    text = message.replace("{n}", f"{len(known):,}")
    return [Problem(kind, text, tuple(known[:SHOWN_ITEMS]), len(known))]


def _file_problems(files: dict[str, _File], has_features: bool) -> list[Problem]:
    missing = [name for name, file in files.items() if file.reason == "missing"]
    broken = [f"{n}: {f.reason}" for n, f in files.items() if f.reason not in {None, "missing"}]
    rest = "their features can still be used" if has_features else "they will be skipped"
    return [
        *_problem("missing-image", f"missing image files: {{n}} ({rest})", missing),
        *_problem("broken-image", f"image files that cannot be decoded: {{n}} ({rest})", broken),
    ]


def _leaks(dataset: RetrievalDataset, contents: Sequence[Hashable]) -> list[Problem]:
    found: list[Problem] = []
    if not dataset.closed_set:
        shared = _in_several_splits(dataset, dataset.objects)
        found += _problem(
            "object-leak",
            "objects in more than one split: {n} (figures would be too good)",
            (f"{name} ({', '.join(splits)})" for name, splits in shared.items()),
        )
    images = _in_several_splits(dataset, dataset.images)
    found += _problem(
        "image-leak",
        "images in more than one split: {n}",
        (f"{name} ({', '.join(splits)})" for name, splits in images.items()),
    )
    same = _in_several_splits(dataset, contents)
    groups = _groups(dataset, [key if key in same else None for key in contents])
    labels = [f"{n} ({split})" for n, split in zip(dataset.images, dataset.splits, strict=True)]
    found += _problem(
        "content-leak",
        "images in more than one split under different names: {n}",
        (_listed(_one_of_each(rows, dataset.splits), labels) for rows in groups),
    )
    return found


def _in_several_splits(
    dataset: RetrievalDataset, keys: Sequence[Hashable]
) -> dict[Hashable, list[str]]:
    splits: defaultdict[Hashable, set[str]] = defaultdict(set)
    for key, split in zip(keys, dataset.splits, strict=True):
        if key is not None:
            splits[key].add(split)
    order = dataset.split_names.index
    return {key: sorted(names, key=order) for key, names in splits.items() if len(names) > 1}


def _groups(dataset: RetrievalDataset, contents: Sequence[Hashable]) -> list[list[int]]:
    """Rows of the same content under different image names, one row for each name."""
    rows: defaultdict[Hashable, dict[str, int]] = defaultdict(dict)
    for row, (key, image) in enumerate(zip(contents, dataset.images, strict=True)):
        if key is not None:
            rows[key].setdefault(image, row)
    return [list(names.values()) for names in rows.values() if len(names) > 1]


def _one_of_each(rows: Sequence[int], splits: Sequence[str]) -> list[int]:
    return sorted({splits[row]: row for row in reversed(rows)}.values())


def _listed(rows: Sequence[int], names: Sequence[str]) -> str:
    more = f" and {len(rows) - 4} more" if len(rows) > 4 else ""
    return " = ".join(names[row] for row in rows[:4]) + more


def _duplicates(dataset: RetrievalDataset, contents: Sequence[Hashable]) -> list[Problem]:
    times = Counter(dataset.images)
    repeated = [f"{name} ({count} rows)" for name, count in times.items() if count > 1]
    groups = _groups(dataset, contents)
    mixed = [rows for rows in groups if len({dataset.objects[row] for row in rows}) > 1]
    plain = [rows for rows in groups if len({dataset.objects[row] for row in rows}) == 1]
    return [
        *_problem(
            "repeated-image",
            "images in more than one row: {n} (put their captions into one row)",
            repeated,
        ),
        *_problem(
            "duplicate-objects",
            "images of one content under different objects: {n}",
            (_listed(rows, dataset.images) for rows in mixed),
        ),
        *_problem(
            "duplicate-image",
            "images of one content under several names: {n}",
            (_listed(rows, dataset.images) for rows in plain),
        ),
    ]


def _thin_splits(dataset: RetrievalDataset) -> list[Problem]:
    objects: defaultdict[str, set[str]] = defaultdict(set)
    described = set[str]()
    for name, split, captions in zip(
        dataset.objects, dataset.splits, dataset.captions, strict=True
    ):
        objects[split].add(name)
        if captions:
            described.add(name)
    alone = [split for split in dataset.split_names if len(objects[split]) == 1]
    return [
        *_problem(
            "one-object", "splits of one object: {n} (there is nothing to tell apart)", alone
        ),
        *_problem(
            "object-without-captions",
            "objects without a caption: {n}",
            (name for name in dataset.object_names if name not in described),
        ),
    ]


def _caption_notes(dataset: RetrievalDataset) -> list[str]:
    splits: defaultdict[str, set[str]] = defaultdict(set)
    objects: defaultdict[str, set[str]] = defaultdict(set)
    for texts, name, split in zip(dataset.captions, dataset.objects, dataset.splits, strict=True):
        for text in texts:
            splits[text].add(split)
            objects[text].add(name)
    shared = sum(len(names) > 1 for names in splits.values())
    vague = sum(len(names) > 1 for names in objects.values())
    notes = []
    if shared:
        notes.append(f"captions in more than one split: {shared:,}")
    if vague:
        notes.append(f"captions of more than one object: {vague:,}")
    if dataset.closed_set:
        notes.append("closed set: the objects of the other splits are training objects too")
    return notes
