"""The SQLite database of a local store: opening, transactions, errors, vectors as blobs."""

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmref.errors import PathError, StoreError
from mmref.search.records import Arrays, Vector
from mmref.search.stores import schema
from mmref.search.stores.vector_index import Ids, Layout

FILE = "store.sqlite"
_BLOCK_ROWS = 4096
_SQL_VARIABLES = 500
_PAGE_BYTES = 16384
_WAIT_SECONDS = 30


class Database:
    """One connection, shared by the threads of this process behind a lock.

    Args:
        folder: the store's folder.
        name: the store's address, for messages.
        writable: whether this connection is the writer's.

    Raises:
        PathError: there is no store.
        StoreError: it is damaged, or newer than this version.
    """

    def __init__(self, folder: Path, name: str, writable: bool) -> None:
        self.name = name
        self.guard = threading.RLock()
        self._db: sqlite3.Connection | None = None
        file = folder / FILE
        if not writable:
            _require_store(folder, file)
        try:
            with self.reported():
                self._db = self._connect(file, writable)
                if schema.version(self._db) < len(schema.MIGRATIONS):
                    schema.migrate(self._db, name)
        except BaseException:
            self.close()
            raise

    def _connect(self, file: Path, writable: bool) -> sqlite3.Connection:
        size = file.stat().st_size if file.exists() else 0
        frozen = not writable and not os.access(file.parent, os.W_OK)
        mode = "immutable=1" if frozen else "mode=rwc" if writable else "mode=rw"
        self._db = db = sqlite3.connect(
            f"{file.absolute().as_uri()}?{mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=_WAIT_SECONDS,
        )
        schema.check(db, self.name)
        if not frozen:
            db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # of a new database alone
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
        log = file.with_name(f"{file.name}-wal")
        if not log.exists() or log.stat().st_size == 0:
            pages = db.execute("PRAGMA page_count").fetchone()[0]
            if pages * db.execute("PRAGMA page_size").fetchone()[0] > size > 0:
                raise sqlite3.DatabaseError("the file is cut short")
        return db

    @property
    def db(self) -> sqlite3.Connection:
        """The open connection."""
        if self._db is None:
            raise StoreError(f"{self.name} is closed")
        return self._db

    def close(self) -> None:
        """Close the connection; the log is folded into the database."""
        with self.guard:
            if self._db is not None:
                self._db.close()
                self._db = None

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Turn what SQLite raises into one line that says what to do."""
        try:
            yield
        except sqlite3.Error as error:
            text = str(error)
            if "full" in text or "disk I/O" in text:
                raise StoreError(
                    f"{self.name} cannot be written, is the disk full? ({text}): make room and "
                    "run the same command again; what was written before is safe"
                ) from error
            if "locked" in text or "busy" in text:
                raise StoreError(f"{self.name} is busy: try again in a moment") from error
            if "readonly" in text or "unable to open" in text:
                raise PathError(f"{self.name} cannot be opened or written ({text})") from error
            raise StoreError(
                f"{self.name} is damaged ({text}): move that folder away and index again: "
                "mmref index RUN IMAGES... --store NEW"
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: all of the block or nothing of it."""
        with self._within("BEGIN IMMEDIATE") as db:
            yield db

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A read transaction: all queries of the block see one generation."""
        with self._within("BEGIN") as db:
            yield db

    @contextmanager
    def _within(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self.guard, self.reported():
            self.db.execute(begin)
            try:
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of one query."""
        with self.guard, self.reported():
            return self.db.execute(sql, values).fetchall()

    def by_id(self, columns: str, ids: Sequence[int]) -> Iterator[Any]:
        """Rows of these items, in any order; ``columns`` starts with id."""
        for start in range(0, len(ids), _SQL_VARIABLES):
            part = [int(number) for number in ids[start : start + _SQL_VARIABLES]]
            marks = ",".join("?" * len(part))
            yield from self.query(f"SELECT {columns} FROM items WHERE id IN ({marks})", part)

    # ------------------------------------------------------------------ facts

    def facts(self) -> dict[str, Any]:
        """The store's facts: ``store``, ``run``, ``generation``, ``layout``."""
        rows = self.query("SELECT name, value FROM facts")
        try:
            return {name: json.loads(value) for name, value in rows}
        except ValueError as error:
            raise StoreError(f"{self.name} is damaged: its facts are not JSON") from error

    def generation(self) -> int:
        """Number of write transactions so far."""
        return int(self.query("SELECT value FROM facts WHERE name = 'generation'")[0][0])

    def set_fact(self, name: str, value: Any) -> None:
        """Write one fact."""
        self.db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def layout(self) -> Layout:
        """The arrays of a stored profile; empty when there are none."""
        return [(name, kind, int(width)) for name, kind, width in self.facts()["layout"] or ()]

    # ------------------------------------------------------------------ vectors

    def decoded(self, rows: Sequence[Any], dimension: int, layout: Layout) -> "Block":
        """Rows of (id, vector, profile) as arrays.

        Raises:
            StoreError: a blob has not the length that it should have.
        """
        ids = np.array([row[0] for row in rows], dtype=np.int64)
        vectors = self._stacked([row[1] for row in rows], np.dtype(np.float32), dimension)
        profiles: Arrays = {}
        start = 0
        for name, kind, width in layout:
            dtype = np.dtype(kind)
            end = start + dtype.itemsize * width
            profiles[name] = self._stacked([row[2][start:end] for row in rows], dtype, width)
            start = end
        return ids, vectors, profiles

    def _stacked(self, blobs: list[bytes], dtype: np.dtype[Any], width: int) -> npt.NDArray[Any]:
        if any(len(blob) != dtype.itemsize * width for blob in blobs):
            raise StoreError(
                f"{self.name} is damaged (a stored vector or profile has a wrong length): move "
                "that folder away and index again: mmref index RUN IMAGES... --store NEW"
            )
        return np.frombuffer(b"".join(blobs), dtype).reshape(len(blobs), width)

    def blocks(self, dimension: int, layout: Layout, after: int = -1) -> Iterator["Block"]:
        """All vectors written after a generation, in blocks, by rising id."""
        cursor = self.db.execute(
            "SELECT id, vector, profile FROM items WHERE generation > ? ORDER BY id", (after,)
        )
        while rows := cursor.fetchmany(_BLOCK_ROWS):
            yield self.decoded(rows, dimension, layout)


Block = tuple[Ids, Vector, Arrays]


def _require_store(folder: Path, file: Path) -> None:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise PathError(f"{folder} {what}: a store is a folder that mmref index has made")
    try:
        empty = file.stat().st_size == 0
    except FileNotFoundError:
        raise PathError(f"{folder} is not a store: mmref index makes one") from None
    except OSError as error:
        raise PathError(f"cannot read {file}: {error.strerror}") from error
    if empty:
        raise PathError(f"{folder} is an empty store: mmref index fills it")


def joined(blocks: Iterable[Block], dimension: int, layout: Layout) -> Block:
    """Blocks as one; zero rows when there are none."""
    parts = list(blocks)
    if not parts:
        none = {name: np.zeros((0, width), np.dtype(kind)) for name, kind, width in layout}
        return np.zeros(0, np.int64), np.zeros((0, dimension), np.float32), none
    return (
        np.concatenate([ids for ids, _, _ in parts]),
        np.concatenate([vectors for _, vectors, _ in parts]),
        {name: np.concatenate([p[name] for _, _, p in parts]) for name, _, _ in layout},
    )


def layout_of(profile: Mapping[str, npt.NDArray[Any]] | None) -> Layout:
    """The arrays of one item's profile, by name."""
    arrays = sorted((profile or {}).items())
    return [(name, array.dtype.str, int(array.size)) for name, array in arrays]


def encoded_profile(profile: Mapping[str, npt.NDArray[Any]] | None, layout: Layout) -> bytes:
    """One item's profile as bytes.

    Raises:
        ValueError: it is not of the store's layout.
    """
    if layout_of(profile) != layout:
        raise ValueError(f"a profile of {layout_of(profile)} does not fit {layout}")
    return (
        b"".join(np.ascontiguousarray(profile[name]).tobytes() for name, _, _ in layout)
        if (profile)
        else b""
    )
