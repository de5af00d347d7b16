"""A store as files that other programs read, and back.

======================  ==================================================================
``items.parquet``       path, size, mtime_ns, digest, source, metadata (JSON text), and the
                        group in a grouped store, by row
``vectors.npy``         float32 [n, d], in the same order
``profiles.npz``        the arrays of the profiles, [n, ...]; only where there are profiles
``store.json``          the run, the storage, the number of items, the grouping
======================  ==================================================================

Vectors and profiles are what was encoded, as it is read, so a store that is imported again, and
grouped again by the same groups, answers as the first did; ids are given anew, in the same order.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmref.errors import DataError, PathError, StoreError
from mmref.files import atomic_folder
from mmref.search.groups.grouping import Grouping, Regrouping
from mmref.search.groups.regroup import regroup
from mmref.search.records import Changes, Item, Place, Record, RunIdentity
from mmref.search.stores.base import VectorStore, open_store

FORMAT = 1
_BLOCK_ROWS = 4096
_UNIT = 0.01  # that a vector's length may differ from 1: storage rounds


def export_store(store: VectorStore, folder: str | Path) -> int:
    """Write a store's items, vectors and profiles into a new folder; how many items.

    Raises:
        PathError: the folder is there already, or cannot be written.
    """
    target = Path(folder)
    if target.exists():
        raise PathError(f"{target} exists: name a new folder")
    with store.view() as view, atomic_folder(target) as partial:
        count, items = len(view), view.items()
        vectors: npt.NDArray[Any] | None = None
        profiles: dict[str, npt.NDArray[Any]] = {}
        with _Table(partial / "items.parquet") as table:
            start = 0
            while block := list(islice(items, _BLOCK_ROWS)):
                ids = [item.id for item in block]
                table.write(block, view.groups(ids))
                part = slice(start, start + len(block))
                read, held = view.own(ids)
                if vectors is None:
                    vectors = _array(partial / "vectors.npy", read, count)
                    profiles = {
                        name: _array(partial / f"profile-{name}.npy", values, count)
                        for name, values in held.items()
                    }
                vectors[part] = read
                for name, values in held.items():
                    profiles[name][part] = values
                start += len(block)
        if vectors is None:
            np.save(partial / "vectors.npy", np.zeros((0, store.identity.dimension), np.float32))
        for array in (vectors, *profiles.values()):
            if isinstance(array, np.memmap):
                array.flush()
        _zip(partial, list(profiles))
        facts = {
            "format": FORMAT,
            "images": count,
            "run": store.identity.as_dict(),
            "storage": store.storage,
            "grouping": None if view.grouping is None else view.grouping.as_dict(),
        }
        (partial / "store.json").write_text(json.dumps(facts, indent=2), encoding="utf-8")
    return count


def import_store(folder: str | Path, uri: str) -> int:
    """Make a new store of what :func:`export_store` wrote; how many items.

    A kill leaves a part, which the same command completes.

    Raises:
        PathError: there is no such folder.
        DataError: it does not hold an export, or a damaged one.
        StoreError: the store holds items that are not of this export.
    """
    import pyarrow.parquet as pq

    source = Path(folder)
    if not (source / "store.json").is_file():
        raise PathError(f"{source} is not an export: mmref store export makes one")
    with _damage_told(source):
        facts = json.loads((source / "store.json").read_text(encoding="utf-8"))
        identity, storage = RunIdentity.from_dict(facts["run"]), str(facts["storage"])
        count = int(facts["images"])
        grouping = Grouping.from_dict(facts.get("grouping"))
        vectors = np.load(source / "vectors.npy", "r" if count else None, allow_pickle=False)
        profiles = _profiles(source / "profiles.npz")
        table = pq.ParquetFile(source / "items.parquet")
        lengths = {count, len(vectors), table.metadata.num_rows, *map(len, profiles.values())}
        if lengths != {count} or vectors.shape[1:] != (identity.dimension,):
            raise ValueError("its files differ in length")
    paths = _paths(source, table)
    with open_store(uri, identity, storage=storage) as store:
        held = {item.place.path for item in store.items()}
        if held - paths:
            raise StoreError(f"{store.uri} holds other images: import into a new store")
        groups: dict[str, str] = {}
        for block in _records(source, table, vectors, profiles):
            groups |= {one.place.path: group for one, group in block if group is not None}
            changes = Changes([one for one, _ in block if one.place.path not in held])
            if changes:
                store.apply(changes)
        if grouping is not None and count:
            items = (item for item in store.items() if item.place.path in groups)
            keys = {item.id: groups[item.place.path] for item in items}
            regroup(store, Regrouping(grouping, keys))
        store.finish()
    return count


def _paths(source: Path, table: Any) -> set[str]:
    """The paths of an export's items."""
    with _damage_told(source):
        found = table.read(["path"]).column(0).to_pylist()
        paths = {path for path in found if isinstance(path, str) and path}
        if len(paths) != len(found):
            raise ValueError("a path is missing, or there twice")
    return paths


def _records(
    source: Path, table: Any, vectors: npt.NDArray[Any], profiles: dict[str, npt.NDArray[Any]]
) -> Iterator[list[tuple[Record, str | None]]]:
    """The items of an export with their groups, block by block.

    Raises:
        DataError: it is damaged.
    """
    start = 0
    with _damage_told(source):
        for rows in table.iter_batches(_BLOCK_ROWS):
            yield [
                _record(row, vectors[number], {name: v[number] for name, v in profiles.items()})
                for number, row in enumerate(rows.to_pylist(), start)
            ]
            start += rows.num_rows


def _record(
    row: dict[str, Any], vector: npt.NDArray[Any], profile: dict[str, npt.NDArray[Any]]
) -> tuple[Record, str | None]:
    metadata = json.loads(row["metadata"])
    made = np.array(vector, dtype=np.float32)
    if not isinstance(metadata, dict) or None in (row["digest"], row["source"]):
        raise ValueError(f"what it says of {row['path']} is not whole")
    if not abs(float(np.linalg.norm(made)) - 1) < _UNIT:
        raise ValueError(f"the vector of {row['path']} has not the length 1")
    place = Place(row["path"], int(row["size"]), int(row["mtime_ns"]), metadata, row["source"])
    return Record(place, row["digest"], made, profile), row.get("group")


@contextmanager
def _damage_told(source: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{source} is damaged: {error}") from error


class _Table:
    """Writes items into a Parquet file, block by block."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        numbers = ("size", "mtime_ns")
        names = ("path", "size", "mtime_ns", "digest", "source", "metadata", "group")
        self._schema = pa.schema(
            [pa.field(name, pa.int64() if name in numbers else pa.string()) for name in names]
        )
        self._writer = pq.ParquetWriter(path, self._schema)

    def write(self, items: list[Item], groups: Mapping[int, str]) -> None:
        import pyarrow as pa

        rows = [
            {
                "path": item.place.path,
                "size": item.place.size,
                "mtime_ns": item.place.mtime_ns,
                "digest": item.digest,
                "source": item.place.source,
                "metadata": json.dumps(item.place.metadata, ensure_ascii=False, sort_keys=True),
                "group": groups.get(item.id),
            }
            for item in items
        ]
        self._writer.write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def __enter__(self) -> "_Table":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()


def _array(file: Path, sample: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    return np.lib.format.open_memmap(
        file, mode="w+", dtype=sample.dtype, shape=(count, *sample.shape[1:])
    )


def _zip(folder: Path, names: list[str]) -> None:
    """Put the arrays of the profiles into one .npz, uncompressed."""
    if not names:
        return
    with zipfile.ZipFile(folder / "profiles.npz", "w", zipfile.ZIP_STORED) as target:
        for name in names:
            file = folder / f"profile-{name}.npy"
            target.write(file, f"{name}.npy")
            file.unlink()


def _profiles(file: Path) -> dict[str, npt.NDArray[Any]]:
    if not file.is_file():
        return {}
    with np.load(file, allow_pickle=False) as held:
        return {name: held[name] for name in held.files}
