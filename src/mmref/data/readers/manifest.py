"""The manifest: one JSONL, CSV or Parquet file that describes any collection.

Columns: ``image`` (path relative to the manifest's folder, or absolute), ``captions`` (a list of
strings; in CSV a JSON list) or ``caption`` (one string), ``identity`` (the object), optional
``split``, optional ``feature_row`` (row of ``features.npy`` beside the manifest, counted from 0).
All other columns are metadata.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmref.data.dataset import COLUMNS, RetrievalDataset, build_table, split_name
from mmref.data.readers.base import open_features, require_images, split_by_object
from mmref.data.readers.split_files import SplitFile
from mmref.data.readers.tables import PARSERS, kind_of
from mmref.errors import DataError, PathError

STEM = "manifest"
FEATURES = "features.npy"
_CORE = {"image", "captions", "caption", "identity", "split", "feature_row"}


class ManifestReader:
    """Reads a folder with ``manifest.jsonl``, ``.csv`` or ``.parquet``, or such a file itself.

    Example:
        >>> import json, tempfile
        >>> from pathlib import Path
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "a.png").touch()
        >>> lines = [{"image": "a.png", "caption": "a red flag", "identity": n} for n in (1, 2)]
        >>> text = "".join(json.dumps(line) + chr(10) for line in lines)
        >>> _ = (folder / "manifest.jsonl").write_text(text)
        >>> data = ManifestReader().read(folder, seed=0)
        >>> data.object_names, data.notes
        (['1', '2'], ('no split column: 70/15/15 % of the objects drawn by seed 0',))
    """

    name = "manifest"

    def recognises(self, path: Path) -> bool:
        """A folder that holds a manifest, or a file with one of the three suffixes."""
        if path.is_dir():
            return any((path / f"{STEM}{suffix}").is_file() for suffix in PARSERS)
        return path.suffix.lower() in PARSERS

    def read(self, path: Path, seed: int, splits: Path | None = None) -> RetrievalDataset:
        """Read the manifest; pixels are not touched.

        Args:
            path: the folder or the file.
            seed: draws the split by object when the manifest has none.
            splits: a split file in place of the manifest's column.

        Raises:
            PathError: not a manifest at all.
            DataError: a row, a column or the feature file is unusable.
        """
        file, notes = _find(path)
        rows = _Rows(file)
        for number, record in PARSERS[file.suffix.lower()](file):
            rows.add(number, record)
        return rows.finish(seed, self.name, notes, splits)


def _find(path: Path) -> tuple[Path, list[str]]:
    if path.is_dir():
        found = [path / f"{STEM}{suffix}" for suffix in PARSERS]
        found = [file for file in found if file.is_file()]
        if not found:
            raise DataError(f"{path} holds no manifest.jsonl, manifest.csv or manifest.parquet")
        ignored = ", ".join(file.name for file in found[1:])
        return found[0], [f"{ignored} ignored beside {found[0].name}"] if ignored else []
    if path.suffix.lower() not in PARSERS:
        raise PathError(f"{path} is not a manifest: its name must end in {', '.join(PARSERS)}")
    return path, []


@dataclass
class _Rows:
    """Checks records one by one and gathers them into columns."""

    file: Path
    numbers: list[int] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    captions: list[list[str]] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    splits: list[Any] = field(default_factory=list)
    feature_rows: list[Any] = field(default_factory=list)
    metadata: dict[str, dict[int, Any]] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)

    @property
    def unit(self) -> str:
        return "row" if self.file.suffix.lower() == ".parquet" else "line"

    def fail(self, number: int, what: str) -> DataError:
        return DataError(f"{self.file} {self.unit} {number}: {what}")

    def add(self, number: int, record: dict[str, Any]) -> None:
        self.images.append(self._image(number, record))
        self.captions.append(self._captions(number, record))
        self.objects.append(self._object(number, record))
        self.splits.append(record.get("split"))
        self.feature_rows.append(record.get("feature_row"))
        for name, value in record.items():
            if name not in _CORE:
                if name in COLUMNS:
                    raise self.fail(number, f"the column name {name!r} is taken: rename it")
                self.metadata.setdefault(name, {})[len(self.numbers)] = value
        self.numbers.append(number)

    def _need(self, number: int, record: dict[str, Any], name: str) -> Any:
        if name not in record:
            present = ", ".join(map(str, record)) or "none"
            raise self.fail(number, f"no column {name!r} (columns present: {present})")
        return record[name]

    def _image(self, number: int, record: dict[str, Any]) -> str:
        image = self._need(number, record, "image")
        if not isinstance(image, str):
            raise self.fail(
                number, f"image must be the path of a file as a string, not {kind_of(image)}"
            )
        if not image.strip() or "\0" in image:
            raise self.fail(number, "image is empty or no possible path: give the file's path")
        return image

    def _captions(self, number: int, record: dict[str, Any]) -> list[str]:
        single = record.get("caption")
        if single is not None and record.get("captions") is not None:
            raise self.fail(number, "both caption and captions are given: keep one of them")
        if single is not None:
            if not isinstance(single, str):
                hint = "; use captions for a list" if isinstance(single, list) else ""
                raise self.fail(number, f"caption must be one string, not {kind_of(single)}{hint}")
            captions: Any = [single]
        elif "caption" in record and "captions" not in record:
            captions = []
        else:
            captions = self._need(number, record, "captions")
        if not isinstance(captions, list):
            raise self.fail(number, f"captions must be a list of strings, not {kind_of(captions)}")
        kept = []
        for caption in captions:
            if not isinstance(caption, str):
                raise self.fail(number, f"captions must be strings, but one is {kind_of(caption)}")
            text = caption.strip()
            if text:
                kept.append(text)
            else:
                self.dropped.append(number)
        if not kept:
            raise self.fail(number, "captions is empty: write at least one, or remove the image")
        return kept

    def _object(self, number: int, record: dict[str, Any]) -> str:
        value = self._need(number, record, "identity")
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        if not isinstance(value, str):
            raise self.fail(
                number, f"identity must be a string or a whole number, not {kind_of(value)}"
            )
        if not value.strip():
            raise self.fail(number, "identity is empty: name the object that the image shows")
        return value.strip()

    def finish(
        self, seed: int, format: str, notes: list[str], split_file: Path | None
    ) -> RetrievalDataset:
        if not self.numbers:
            raise DataError(f"{self.file} has no rows: write one for each image")
        if len(set(self.objects)) < 2:
            raise DataError(
                f"{self.file} has one object only ({self.objects[0]!r}): retrieval needs at "
                "least two, and identity must name the object, not the collection"
            )
        if split_file is None:
            splits = self._splits(seed, notes)
        else:
            splits, said = SplitFile.read(split_file).assign(self.images, self.objects)
            notes.extend(said)
        if self.dropped:
            first = f"the first in {self.unit} {self.dropped[0]}"
            notes.append(f"empty captions dropped: {len(self.dropped)} ({first})")
        matrix, rows = self._features(notes)
        metadata = {name: self._column(values) for name, values in self.metadata.items()}
        try:
            table = build_table(
                self.images,
                self.captions,
                self.objects,
                splits,
                feature_rows=rows,
                metadata=metadata,
            )
        except UnicodeEncodeError:
            raise self._not_text() from None
        folder = self.file.parent.absolute()
        named = self.file.stem == STEM and folder.resolve().name
        dataset = RetrievalDataset(
            table=table,
            root=folder,
            name=named or self.file.stem,
            format=format,
            feature_matrix=matrix,
            notes=tuple(notes),
        )
        require_images(dataset)
        return dataset

    def _splits(self, seed: int, notes: list[str]) -> list[str]:
        if all(split is None for split in self.splits):
            notes.append(f"no split column: 70/15/15 % of the objects drawn by seed {seed}")
            return split_by_object(self.objects, seed)
        renamed: dict[str, str] = {}
        for number, value in zip(self.numbers, self.splits, strict=True):
            if not isinstance(value, str) or not value.strip():
                raise self.fail(
                    number,
                    "split is empty or no string: write train, val or test in every row, "
                    "or leave the column out for a split by object",
                )
            renamed[value] = split_name(value)
        notes.extend(
            f"split {old!r} is read as {new!r}" for old, new in renamed.items() if old != new
        )
        return [renamed[value] for value in self.splits]

    def _features(self, notes: list[str]) -> tuple[Any, list[int] | None]:
        path = self.file.parent / FEATURES
        counts = Counter(row is None for row in self.feature_rows)
        if not counts[False]:
            if path.is_file():
                notes.append(f"{FEATURES} ignored: the manifest has no column feature_row")
            return None, None
        for number, row in zip(self.numbers, self.feature_rows, strict=True):
            if not isinstance(row, int) or isinstance(row, bool) or not 0 <= row < 2**48:
                raise self.fail(
                    number,
                    f"feature_row must be a whole number from 0 in every row, not {kind_of(row)}: "
                    "complete the column or leave it out",
                )
        return open_features(path, self.feature_rows), self.feature_rows

    def _column(self, values: dict[int, Any]) -> Any:
        full = [values.get(row) for row in range(len(self.numbers))]
        try:
            return pa.array(full)
        except (pa.ArrowException, OverflowError, UnicodeError):  # mixed kinds: as text
            return pa.array([_as_text(value) for value in full], pa.string())

    def _not_text(self) -> DataError:
        rows = zip(self.images, self.captions, self.objects, self.splits, strict=True)
        for number, (image, captions, name, split) in zip(self.numbers, rows, strict=True):
            try:
                "".join((image, *captions, name, str(split))).encode("utf-8")
            except UnicodeEncodeError:
                return self.fail(number, "holds half a surrogate pair (\\ud800...): not text")
        return DataError(f"{self.file}: a column's name holds half a surrogate pair: rename it")


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.encode("utf-8", "replace").decode("utf-8")
