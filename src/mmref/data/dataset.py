"""RetrievalDataset: one Arrow table of image rows; lazy, no pixels held.

Each row is one image with the captions that describe it, the object that it shows and its split.
Image files stay on disk; precomputed image vectors stay in a memory-mapped ``features.npy``.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmref.errors import DataError, SplitError

COLUMNS = ("image", "captions", "object", "split", "feature_row")
_SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("object", pa.string()),
        ("split", pa.string()),
        ("feature_row", pa.int64()),
    ]
)
_SPLIT_ORDER = {"train": 0, "val": 1, "test": 2}
_SPLIT_ALIASES = {"training": "train", "validation": "val", "valid": "val", "testing": "test"}
_HASH_ROWS = 4096
PROTOCOLS = ("manifest", "person", "class")


class Query(NamedTuple):
    """One question of a split: a caption and the object that answers it."""

    caption: str
    object: str


def split_name(name: str) -> str:
    """The name under which a split is kept: ``validation`` is ``val``, ``Train`` is ``train``.

    Other names are kept as they are.

    Example:
        >>> split_name(" Validation"), split_name("train"), split_name("Zero-Shot")
        ('val', 'train', 'Zero-Shot')
    """
    kept = name.strip()
    folded = _SPLIT_ALIASES.get(kept.lower(), kept.lower())
    return folded if folded in _SPLIT_ORDER else kept


def build_table(
    images: Sequence[str],
    captions: Sequence[Sequence[str]],
    objects: Sequence[str],
    splits: Sequence[str],
    *,
    feature_rows: Sequence[int] | None = None,
    metadata: dict[str, Any] | None = None,
) -> Any:
    """The Arrow table of a data set, columns in the order of ``COLUMNS`` and then the metadata.

    Args:
        images: path relative to the root (or absolute), or an id where there are features only.
        captions: the captions of each row.
        objects: the object of each row.
        splits: the split of each row.
        feature_rows: row of each image in the feature matrix, or None when there is no matrix.
        metadata: further columns, each a list or an Arrow array with one value for each row.

    Raises:
        DataError: a metadata column has the name of one of ``COLUMNS``.

    Example:
        >>> table = build_table(["a.png"], [["a red flag"]], ["x"], ["train"])
        >>> table.num_rows, table.column_names
        (1, ['image', 'captions', 'object', 'split', 'feature_row'])
    """
    rows: Sequence[int | None] = [None] * len(images) if feature_rows is None else feature_rows
    columns = [images, captions, objects, splits, rows]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=_SCHEMA)
    for name, values in (metadata or {}).items():
        if name in COLUMNS:
            raise DataError(f"the column name {name!r} is taken: rename that metadata column")
        column = pa.array(values) if isinstance(values, list) else values
        table = table.append_column(name, column)
    return table


@dataclass(frozen=True, eq=False)
class RetrievalDataset:
    """Images, captions and objects in splits.

    Attributes:
        table: columns ``image`` (str), ``captions`` (list of str), ``object`` (str), ``split``
            (str), ``feature_row`` (int64, null where there is none), then the metadata columns.
        root: folder to which the image paths are relative.
        name: short name for tables and model cards.
        format: name of the reader.
        feature_matrix: float matrix ``[rows of the file, f]``, memory-mapped, or None.
        notes: sentences that a command says aloud (a split that was drawn, captions dropped).
        protocol: how the set is asked and scored, one of ``PROTOCOLS``. ``manifest``: each distinct
            (caption, object) pair of a split once, since a caption may belong to the object.
            ``person`` (CUHK-PEDES, ICFG-PEDES, RSTPReid): every caption of every image row,
            repetitions included, as the field counts. ``class`` (CUB, Flowers): the object is a
            class; also every caption, and AP@50 by class (Reed et al. 2016).

    Example:
        >>> from pathlib import Path
        >>> table = build_table(
        ...     ["a.png", "b.png"], [["red"], ["blue", "red"]], ["x", "y"], ["train", "val"])
        >>> data = RetrievalDataset(table, Path("/data"), "two", "manifest")
        >>> len(data), data.split_names, data.split("val").queries()
        (2, ['train', 'val'], [Query(caption='blue', object='y'), Query(caption='red', object='y')])
    """

    table: Any
    root: Path
    name: str
    format: str
    feature_matrix: npt.NDArray[np.floating[Any]] | None = None
    notes: tuple[str, ...] = ()
    protocol: str = "manifest"

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol {self.protocol!r} is none of {', '.join(PROTOCOLS)}")

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        format: str | None = None,
        seed: int = 0,
        splits: str | Path | None = None,
    ) -> "RetrievalDataset":
        """Read a data set from disk.

        Args:
            source: a path whose format is recognised, or ``format:path``, either with
                ``?splits=FILE`` behind it.
            format: force this format.
            seed: seed of the split by object when the source gives none.
            splits: a file that says which image or identity belongs to which split, in place of
                what the set says (its forms: ``mmref.data.readers.split_files``).

        Raises:
            PathError: the path is missing, or of no known format.
            UsageError: there is no such format.
            DataError: the data set cannot be used; the message names the file and the line.
        """
        from mmref.data.readers import resolve_source

        found = resolve_source(source, format, splits)
        return found.reader.read(found.path, seed, found.splits)

    def __len__(self) -> int:
        """Number of image rows."""
        return int(self.table.num_rows)

    @cached_property
    def images(self) -> list[str]:
        """The image of each row as the source writes it."""
        return list(self.table["image"].to_pylist())

    @cached_property
    def image_paths(self) -> list[Path]:
        """The absolute path of each row's image; the file need not exist."""
        return [self.root / image for image in self.images]

    @cached_property
    def captions(self) -> list[list[str]]:
        """The captions of each row."""
        return list(self.table["captions"].to_pylist())

    @cached_property
    def objects(self) -> list[str]:
        """The object of each row."""
        return list(self.table["object"].to_pylist())

    @cached_property
    def object_names(self) -> list[str]:
        """The distinct objects, sorted."""
        return sorted(set(self.objects))

    @cached_property
    def splits(self) -> list[str]:
        """The split of each row."""
        return list(self.table["split"].to_pylist())

    @cached_property
    def split_names(self) -> list[str]:
        """The distinct splits: train, val and test first, then others by name."""
        return sorted(set(self.splits), key=lambda name: (_SPLIT_ORDER.get(name, 3), name))

    def split(self, name: str) -> "RetrievalDataset":
        """The rows of one split.

        Raises:
            SplitError: there is no such split; the message lists those present.
        """
        wanted = split_name(name)
        if wanted not in self.split_names:
            present = ", ".join(self.split_names) or "none"
            raise SplitError(f"{self.name} has no split {name!r}: it has {present}")
        return self.select(np.flatnonzero(np.asarray(self.splits, dtype=object) == wanted))

    def select(self, indices: Sequence[int] | npt.NDArray[np.integer[Any]]) -> "RetrievalDataset":
        """These rows, in this order.

        Args:
            indices: row numbers, each in [0, len).

        Raises:
            IndexError: a row number is out of range.
        """
        rows = np.asarray(indices, dtype=np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"row numbers must lie in 0..{len(self) - 1}")
        return replace(self, table=self.table.take(pa.array(rows)))

    def with_objects(self, names: Iterable[str]) -> "RetrievalDataset":
        """The rows of these objects, in row order.

        Raises:
            DataError: an object is not in the data set.
        """
        wanted = set(names)
        unknown = sorted(wanted.difference(self.object_names))
        if unknown:
            raise DataError(f"{self.name} has no object {unknown[0]!r} ({len(unknown)} unknown)")
        return self.select([row for row, name in enumerate(self.objects) if name in wanted])

    def with_split(self, splits: Sequence[str]) -> "RetrievalDataset":
        """The same rows under other splits (folds, a held-out part).

        Args:
            splits: the new split of each row.

        Raises:
            ValueError: there is not exactly one split name for each row.
        """
        if len(splits) != len(self):
            raise ValueError(f"{len(splits)} split names for {len(self)} rows")
        column = self.table.column_names.index("split")
        array = pa.array([split_name(name) for name in splits], pa.string())
        return replace(self, table=self.table.set_column(column, "split", array))

    def queries(self) -> list[Query]:
        """The questions of these rows by the data set's protocol, in row order.

        Protocol ``manifest``: each distinct (caption, object) pair once, where it is first seen.
        Protocols ``person`` and ``class``: every caption of every row, repetitions included.
        """
        pairs = zip(self.captions, self.objects, strict=True)
        asked = [Query(text, name) for texts, name in pairs for text in texts]
        return list(dict.fromkeys(asked)) if self.protocol == "manifest" else asked

    @cached_property
    def metadata_names(self) -> list[str]:
        """Names of the metadata columns."""
        return [name for name in self.table.column_names if name not in COLUMNS]

    def metadata(self, row: int) -> dict[str, Any]:
        """The metadata of one row, a value (or None) for each metadata column."""
        return {name: self.table[name][row].as_py() for name in self.metadata_names}

    @property
    def has_features(self) -> bool:
        """Whether there is a precomputed vector for each image."""
        return self.feature_matrix is not None

    @cached_property
    def features_only(self) -> bool:
        """Whether there are features and not one of the image files exists."""
        return self.has_features and not any(map(file_exists, self.image_paths))

    def features(self) -> npt.NDArray[np.float32]:
        """The precomputed vectors, float32 ``[rows, f]`` in row order (a copy).

        Raises:
            DataError: the data set has no features.
        """
        if self.feature_matrix is None:
            raise DataError(
                f"{self.name} has no features: add a features.npy and a column feature_row, "
                "or use an encoder that reads pixels"
            )
        return np.asarray(self.feature_matrix[self._feature_rows], dtype=np.float32)

    @cached_property
    def _feature_rows(self) -> npt.NDArray[np.int64]:
        return np.asarray(self.table["feature_row"].to_numpy(), dtype=np.int64)

    @cached_property
    def closed_set(self) -> bool:
        """Whether all objects of the other splits are training objects too.

        False for a part that has no train split, or nothing but a train split.
        """
        train, others = set[str](), set[str]()
        for name, split in zip(self.objects, self.splits, strict=True):
            (train if split == "train" else others).add(name)
        return bool(others) and others <= train

    def fingerprint(self) -> str:
        """SHA-256 over what the rows say, as 64 hexadecimal digits.

        Covers, in row order, image names, captions, objects, splits and metadata; then the feature
        vectors as float32 where there are features, else the size in bytes of each image file
        (-1 when it is missing). It does not read pixels, and it does not depend on the folder, the
        data set's name, or the place of a vector in the feature file.
        """
        digest = hashlib.sha256()
        for name in self.table.column_names:
            if name != "feature_row":
                column = self.table[name].to_pylist()
                text = json.dumps([name, column], ensure_ascii=True, default=str)
                digest.update(text.encode("ascii"))
        if self.feature_matrix is not None:
            digest.update(f"features {self.feature_matrix.shape[1]}".encode("ascii"))
            for start in range(0, len(self), _HASH_ROWS):
                rows = self._feature_rows[start : start + _HASH_ROWS]
                block = np.ascontiguousarray(self.feature_matrix[rows], dtype="<f4")
                digest.update(block.tobytes())
        else:
            sizes = [_file_size(path) for path in self.image_paths]
            digest.update(np.asarray(sizes, dtype="<i8").tobytes())
        return digest.hexdigest()


def file_exists(path: Path) -> bool:
    """Whether ``path`` is a file; False, never an error, for names that cannot be one."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return -1
