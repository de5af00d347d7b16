"""The base of a local store's cache: arrays and codes in one folder, written once."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from mmref.errors import StoreError
from mmref.search.records import Arrays, Vector
from mmref.search.stores.codes import LISTED_ROWS, Codes
from mmref.search.stores.coding import Coding
from mmref.search.stores.columns import Columns, ColumnsBuilder
from mmref.search.stores.rows import Block, Head, Ids

EXACT_ROWS = 20_000
FORMAT = 2
_BLOCK_ROWS = 4096
_faiss: Any = faiss  # more than its type stubs know


@dataclass(frozen=True)
class Base:
    """The arrays of one base folder, n rows in the order of ids.

    Attributes:
        folder: where it was read from.
        generation: the database's generation that it equals.
        edition: number of the table that the vectors are of.
        ids: int64 [n].
        packed: stored vectors, [n, width].
        coding: how these become numbers.
        profiles: arrays [n, ...] by name.
        columns: what filters ask of the items.
        codes: of more than ``EXACT_ROWS`` rows.
    """

    folder: Path
    generation: int
    edition: int
    ids: Ids
    packed: npt.NDArray[Any]
    coding: Coding
    profiles: Arrays
    columns: Columns
    codes: Codes | None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Any) -> Vector:
        """Some vectors, float32 [n, d]."""
        return self.coding.vectors(self.packed[rows])

    @cached_property
    def exact(self) -> Vector:
        """All vectors, float32 [n, d]; of small stores alone."""
        return self.coding.vectors(self.packed)

    def cosines(self, rows: Ids, vector: Vector) -> Vector:
        """Cosines of some rows with a vector, float32 [len(rows)]."""
        if self.coding.storage == "fp32" and len(rows):
            return _cosines_in_place(self.packed, rows, vector)
        scores = np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            scores[part] = np.einsum("ij,j->i", self.take(rows[part]), vector)
        return scores


def _cosines_in_place(vectors: Vector, rows: Ids, vector: Vector) -> Vector:
    """Inner products with some rows, which are not copied."""
    scores = np.empty(len(rows), dtype=np.float32)
    arrays = (scores, np.ascontiguousarray(vector), np.asarray(vectors), rows)
    pointers = [faiss.swig_ptr(array) for array in arrays]
    _faiss.fvec_inner_products_by_idx(*pointers, len(vector), 1, len(rows))
    return scores


def write_base(
    folder: Path,
    head: Head,
    count: int,
    blocks: Iterable[Block],
    earlier: Base | None = None,
) -> None:
    """Fill an empty folder with the arrays of ``count`` rows.

    Args:
        folder: where to write.
        head: the facts of the generation that the rows are from.
        count: number of rows that ``blocks`` give in all.
        blocks: all rows, ids rising.
        earlier: a base whose codes are extended when its rows are the first of these.
    """

    def array(name: str, dtype: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        file = folder / f"{name}.npy"
        if 0 in shape:  # an empty array cannot be mapped
            np.save(file, np.zeros(shape, dtype))
            return np.zeros(shape, dtype)
        return np.lib.format.open_memmap(file, mode="w+", dtype=dtype, shape=shape)

    coding = head.coding
    ids = array("ids", np.int64, (count,))
    packed = array("vectors", coding.dtype, (count, coding.width))
    profiles = {
        name: array(f"profile-{name}", np.dtype(kind), (count, width))
        for name, kind, width in head.layout
    }
    builder = ColumnsBuilder()
    start = 0
    for block in blocks:
        part = slice(start, start + len(block.ids))
        ids[part], packed[part] = block.ids, block.packed
        for name, values in block.profiles.items():
            profiles[name][part] = values
        for item in block.columns:
            builder.add(item)
        start += len(block.ids)
    for written in (ids, packed, *profiles.values()):
        if isinstance(written, np.memmap):
            written.flush()
    columns = builder.columns()
    columns.save(folder)
    if count > EXACT_ROWS:
        base = Base(
            folder, head.generation, head.edition, ids, packed, coding, profiles, columns, None
        )
        codes = _extended(earlier, base)
        (codes or Codes.build(base)).save(folder)
    stamp = {
        "format": FORMAT,
        "store": head.store,
        "edition": head.edition,
        "storage": head.storage,
        "generation": head.generation,
        "rows": count,
        "dimension": head.run.dimension,
        "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
    }
    (folder / "stamp.json").write_text(json.dumps(stamp, indent=2), encoding="utf-8")


def _extended(earlier: Base | None, base: Base) -> Codes | None:
    """The codes of an earlier base with the other rows added, if its rows are the first of these.

    Lists and codes are trained anew once there are half as many rows again.
    """
    if earlier is None or earlier.codes is None or not earlier.folder.is_dir():
        return None
    if earlier.coding.storage != base.coding.storage:
        return None
    count = len(earlier)
    grown = len(base) > 1.5 * earlier.codes.trained
    listed = bool(earlier.codes.lists) == (len(base) > LISTED_ROWS)
    if grown or not listed or not np.array_equal(earlier.ids, base.ids[:count]):
        return None
    for start in range(0, count, _BLOCK_ROWS):
        part = slice(start, min(count, start + _BLOCK_ROWS))
        if not np.array_equal(earlier.packed[part], base.packed[part]):
            return None
    codes = Codes.load(earlier.folder)
    codes.extend(base)
    return codes


def read_base(folder: Path, head: Head) -> Base:
    """Map the arrays of a base folder.

    Raises:
        StoreError: the folder is damaged, or belongs to another store or edition.
    """
    try:
        stamp = json.loads((folder / "stamp.json").read_text(encoding="utf-8"))
        found = [stamp[name] for name in ("format", "store", "edition", "storage", "dimension")]
        if found != [FORMAT, head.store, head.edition, head.storage, head.run.dimension]:
            raise StoreError(f"{folder} is the cache of another store")
        for name, size in stamp["files"].items():
            if (folder / name).stat().st_size != size:
                raise StoreError(f"{folder / name} is damaged")
        count = int(stamp["rows"])

        def array(name: str) -> npt.NDArray[Any]:
            file = folder / f"{name}.npy"
            values: npt.NDArray[Any] = np.load(file, "r" if count else None, allow_pickle=False)
            return values

        base = Base(
            folder,
            int(stamp["generation"]),
            head.edition,
            np.asarray(array("ids"), dtype=np.int64),
            np.asarray(array("vectors")),
            head.coding,
            {name: np.asarray(array(f"profile-{name}")) for name, _, _ in head.layout},
            Columns.load(folder, count),
            Codes.load(folder) if "codes.faiss" in stamp["files"] else None,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise StoreError(f"{folder} is damaged: {error}") from error
    shapes = {len(base.ids), len(base.packed), *(len(p) for p in base.profiles.values())}
    if shapes != {count} or (base.codes is not None and base.codes.index.ntotal != count):
        raise StoreError(f"{folder} is damaged: its arrays differ in length")
    return base
