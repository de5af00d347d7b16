"""The local store: a folder in which SQLite is the truth and all else is a cache.

======================  ===================================================================
``store.sqlite``        items (path, size, time, digest, metadata, vector, profile), the run
``lock``                held by the one writer
``cache-GENERATION``    arrays and a FAISS index for quick search; may be deleted at any time
======================  ===================================================================
"""

import fcntl
import json
import uuid
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from mmref.errors import PathError, StoreError, StoreMismatchError
from mmref.files import PARTIAL_MARK, require_writable_folder
from mmref.search.records import Candidates, Changes, Item, Place, Record, RunIdentity, Vector
from mmref.search.stores.cache import Cache
from mmref.search.stores.database import Database, encoded_profile, layout_of
from mmref.search.stores.vector_index import Layout

LOCK = "lock"
_ITEM = "id, path, size, mtime_ns, metadata, source, digest"
_PLACE = "path = ?, size = ?, mtime_ns = ?, metadata = ?, source = ?"
_UPSERT = """
INSERT INTO items
    (path, size, mtime_ns, metadata, source, digest, generation, vector, profile)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET
    size = excluded.size, mtime_ns = excluded.mtime_ns, metadata = excluded.metadata,
    source = excluded.source, digest = excluded.digest, generation = excluded.generation,
    vector = excluded.vector, profile = excluded.profile
"""


class LocalStore:
    """A store in a folder; see :class:`mmref.search.stores.base.VectorStore`.

    Args:
        uri: the folder.
        writer: the run that is going to write, or None to read only.

    Raises:
        PathError: there is no store there, or the folder cannot be written.
        StoreMismatchError: another run made the store.
        StoreError: the store is damaged, of a newer version, or has another writer.

    Example:
        >>> import tempfile
        >>> run = RunIdentity("flags", "ab12", "features", 2, None, None, "runs/flags")
        >>> place = Place("a", 0, 0, {"year": 1960}, "flags")
        >>> with LocalStore(tempfile.mkdtemp(), run) as store:
        ...     store.apply(Changes([Record(place, "d1", np.float32([0.6, 0.8]))]))
        ...     store.finish()
        ...     near = store.candidates(np.float32([0, 1]), 5)
        ...     store.get(near.ids)[0].place.metadata, near.scores.round(2).tolist()
        ({'year': 1960}, [0.800000011920929])
    """

    def __init__(
        self, uri: str, writer: RunIdentity | None = None, storage: str | None = None
    ) -> None:
        self._uri = uri
        self.folder = Path(uri).expanduser()
        self._lock: IO[bytes] | None = None
        self._database: Database | None = None
        self._cache: Cache | None = None
        try:
            if writer is not None:
                self._prepare_folder()
                self._lock = self._take_lock()
            self._database = Database(self.folder, uri, writer is not None)
            if writer is not None:
                self._introduce(writer)
            facts = self.database.facts()
            if "run" not in facts:
                raise PathError(f"{self.folder} is an empty store: mmref index fills it")
            self._identity = RunIdentity.from_dict(facts["run"])
            if writer is not None:
                self._require_same_run(writer)
            self._cache = Cache(
                self.folder, self.database, facts["store"], self._identity.dimension
            )
        except BaseException:
            self.close()
            raise

    def _prepare_folder(self) -> None:
        if self.folder.is_dir():
            try:
                names = sorted(entry.name for entry in self.folder.iterdir())
            except OSError as error:
                raise PathError(f"cannot read {self.folder}: {error.strerror}") from error
            own = ("store.sqlite", "cache-", PARTIAL_MARK)
            foreign = [name for name in names if name != LOCK and not name.startswith(own)]
            if foreign and "store.sqlite" not in names:
                raise PathError(
                    f"{self.folder} is not a store and holds other files ({foreign[0]}): "
                    "name a new or an empty folder"
                )
        require_writable_folder(self.folder)

    def _take_lock(self) -> IO[bytes]:
        try:
            handle = (self.folder / LOCK).open("ab")
        except OSError as error:
            raise PathError(f"cannot write to {self.folder}: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            raise StoreError(
                f"{self._uri} is being written by another command: wait until it ends"
            ) from None
        return handle

    def _introduce(self, run: RunIdentity) -> None:
        """Write the run's identity into a new store."""
        if self.database.facts():
            return
        with self.database.transaction():
            self.database.set_fact("store", uuid.uuid4().hex)
            self.database.set_fact("run", run.as_dict())
            self.database.set_fact("layout", None)
            self.database.set_fact("generation", 0)

    def _require_same_run(self, run: RunIdentity) -> None:
        difference = self._identity.difference(run)
        if difference is not None:
            made = f"{self._identity.id} ({self._identity.path or 'path unknown'})"
            raise StoreMismatchError(
                f"{self._uri} was made by the run {made}, not by {run.id}: {difference}; index "
                f"with that run, or make a new store: mmref index {run.path or 'RUN'} IMAGES... "
                "--store NEW"
            )

    @property
    def database(self) -> Database:
        """The open database."""
        if self._database is None:
            raise StoreError(f"{self._uri} is closed")
        return self._database

    @property
    def cache(self) -> Cache:
        """The cache over the database."""
        if self._cache is None:
            raise StoreError(f"{self._uri} is closed")
        return self._cache

    @property
    def uri(self) -> str:
        """The folder as it was given."""
        return self._uri

    @property
    def identity(self) -> RunIdentity:
        """The run that made the store."""
        return self._identity

    def __len__(self) -> int:
        """Number of items."""
        return int(self.database.query("SELECT count(*) FROM items")[0][0])

    def info(self) -> dict[str, Any]:
        """Plain facts, for ``mmref store info``."""
        facts = self.database.facts()
        layout = self.database.layout()
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        return {
            "store": self._uri,
            "images": len(self),
            "dimension": self._identity.dimension,
            "run": self._identity.as_dict(),
            "vector_bytes": 4 * self._identity.dimension,
            "profile_bytes": sum(np.dtype(kind).itemsize * width for _, kind, width in layout),
            "generation": facts["generation"],
            "bytes": sum(file.stat().st_size for file in files),
        }

    def items(self) -> dict[str, Item]:
        """Every item by its path."""
        rows = self.database.query(f"SELECT {_ITEM} FROM items")
        return {item.place.path: item for item in map(_item, rows)}

    def get(self, ids: Sequence[int]) -> list[Item]:
        """These items in this order; those that are gone are left out."""
        found = {item.id: item for item in map(_item, self.database.by_id(_ITEM, ids))}
        return [found[int(number)] for number in ids if int(number) in found]

    def find(self, name: str) -> Item | None:
        """The item of this path or, for a number, of this id."""
        query = self.database.query
        rows = query(f"SELECT {_ITEM} FROM items WHERE path = ?", (name,))
        if not rows and name.isascii() and name.isdecimal() and len(name) < 19:
            rows = query(f"SELECT {_ITEM} FROM items WHERE id = ?", (int(name),))
        return _item(rows[0]) if rows else None

    def find_digest(self, digest: str) -> list[int]:
        """Ids of the items with this content, rising."""
        sql = "SELECT id FROM items WHERE digest = ? ORDER BY id"
        return [int(row[0]) for row in self.database.query(sql, (digest,))]

    def vectors(self, ids: Sequence[int]) -> Vector:
        """Stored vectors, float32 [n, d].

        Raises:
            StoreError: an item is gone.
        """
        rows = {row[0]: row for row in self.database.by_id("id, vector", ids)}
        missing = [number for number in ids if int(number) not in rows]
        if missing:
            raise StoreError(f"{self._uri} holds no item {missing[0]} any more")
        wanted = [rows[int(number)] for number in ids]
        return self.database.decoded(wanted, self._identity.dimension, [])[1]

    def candidates(self, vector: Vector, count: int) -> Candidates:
        """The ``count`` items nearest to a unit vector by cosine, with their profiles."""
        contiguous = np.ascontiguousarray(vector, dtype=np.float32)
        return self.cache.snapshot().candidates(contiguous, count)

    def apply(self, changes: Changes) -> None:
        """Write all of ``changes`` in one transaction.

        Raises:
            StoreError: the store was opened for reading, or the disk is full.
        """
        if self._lock is None:
            raise StoreError(f"{self._uri} was opened for reading")
        with self.database.transaction() as db:
            generation = self.database.generation() + 1
            layout = self._layout(changes.records)
            removed = [(int(number), generation) for number in changes.removed]
            db.executemany("DELETE FROM items WHERE id = ?", [pair[:1] for pair in removed])
            db.executemany("INSERT OR REPLACE INTO removed VALUES (?, ?)", removed)
            db.executemany(
                f"UPDATE items SET {_PLACE} WHERE id = ?",
                [(*_values(place), int(number)) for number, place in changes.placed],
            )
            db.executemany(
                _UPSERT,
                [
                    (
                        *_values(record.place),
                        record.digest,
                        generation,
                        self._checked(record.vector).tobytes(),
                        encoded_profile(record.profile, layout),
                    )
                    for record in changes.records
                ],
            )
            self.database.set_fact("generation", generation)

    def _checked(self, vector: Vector) -> Vector:
        if vector.shape != (self._identity.dimension,) or not np.isfinite(vector).all():
            raise ValueError(f"a vector must be {self._identity.dimension} finite numbers")
        return np.ascontiguousarray(vector, dtype=np.float32)

    def _layout(self, records: Sequence[Record]) -> Layout:
        known = self.database.facts()["layout"]
        if known is None and records:
            self.database.set_fact("layout", layout_of(records[0].profile))
        return self.database.layout()

    def finish(self) -> None:
        """Write the cache anew when too much of it is out of date.

        Raises:
            StoreError: it cannot be written; the items themselves are safe.
        """
        try:
            self.cache.rewrite()
        except (OSError, PathError, RuntimeError) as error:
            raise StoreError(
                f"the items are all in {self._uri}, but its search index cannot be written "
                f"({error}): make room and run the same command again"
            ) from error

    def close(self) -> None:
        """Give back files and locks."""
        if self._cache is not None:
            self._cache.close()
            self._cache = None
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _values(place: Place) -> tuple[str, int, int, str, str]:
    metadata = json.dumps(place.metadata, ensure_ascii=False, sort_keys=True, default=str)
    return (place.path, place.size, place.mtime_ns, metadata, place.source)


def _item(row: Sequence[Any]) -> Item:
    number, path, size, mtime_ns, metadata, source, digest = row
    return Item(int(number), Place(path, size, mtime_ns, json.loads(metadata), source), digest)
