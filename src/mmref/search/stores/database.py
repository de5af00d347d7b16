"""The SQLite database of a local store: connections, transactions, errors.

Each reading has a connection of its own and one generation; the writer has another. Connections
are kept for the next reading.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmref.errors import PathError, StoreError
from mmref.search.filters import SQL_FUNCTIONS
from mmref.search.stores import schema

FILE = "store.sqlite"
_PAGE_BYTES = 16384
_WAIT_SECONDS = 30


class Database:
    """The connections to one database.

    Args:
        folder: the store's folder.
        name: the store's address, for messages.
        writable: whether this process is the writer.

    Raises:
        PathError: there is no store.
        StoreError: it is damaged, or newer than this version.
    """

    def __init__(self, folder: Path, name: str, writable: bool) -> None:
        self.name = name
        self.guard = threading.RLock()
        self.file = folder / FILE
        self.writable = writable
        self._db: sqlite3.Connection | None = None
        self._idle: list[sqlite3.Connection] = []
        self._closed = False
        if not writable:
            _require_store(folder, self.file)
        self._frozen = not writable and not os.access(folder, os.W_OK)
        try:
            with self.reported():
                self._db = db = self._connect()
                schema.check(db, name)
                self._require_whole(db)
                if schema.version(db) < len(schema.MIGRATIONS):
                    if self._frozen:
                        raise StoreError(
                            f"{name} was made by an older mmref and cannot be written: bring it "
                            "up to date with mmref store info where it can be"
                        )
                    schema.migrate(db, name)
        except BaseException:
            self.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        log = self.file.with_name(f"{self.file.name}-wal")
        folded = not log.exists() or log.stat().st_size == 0
        mode = "mode=rwc" if self.writable else "mode=rw"
        if self._frozen:
            mode = "immutable=1" if folded else "mode=ro"
        db = sqlite3.connect(
            f"{self.file.absolute().as_uri()}?{mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=_WAIT_SECONDS,
        )
        try:
            for function, call in SQL_FUNCTIONS.items():
                db.create_function(function, 1, call, deterministic=True)
            if not self._frozen:
                schema.check(db, self.name)
                db.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # of a new database alone
                db.execute("PRAGMA journal_mode = WAL")
                db.execute("PRAGMA synchronous = FULL")
        except BaseException:
            db.close()
            raise
        return db

    def _require_whole(self, db: sqlite3.Connection) -> None:
        log = self.file.with_name(f"{self.file.name}-wal")
        if not log.exists() or log.stat().st_size == 0:
            pages = db.execute("PRAGMA page_count").fetchone()[0]
            size = self.file.stat().st_size if self.file.exists() else 0
            if pages * db.execute("PRAGMA page_size").fetchone()[0] > size > 0:
                raise sqlite3.DatabaseError("the file is cut short")

    @property
    def db(self) -> sqlite3.Connection:
        """The writer's connection."""
        if self._db is None:
            raise StoreError(f"{self.name} is closed")
        return self._db

    def close(self) -> None:
        """Close the connections; the log is folded into the database."""
        with self.guard:
            self._closed = True
            for db in self._idle:
                db.close()
            self._idle.clear()
            if self._db is not None:
                self._db.close()
                self._db = None

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Turn what SQLite raises into one line that says what to do."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._told(error) from error

    def _told(self, error: sqlite3.Error) -> StoreError | PathError:
        text = str(error)
        if "full" in text or "disk I/O" in text:
            return StoreError(
                f"{self.name} cannot be written, is the disk full? ({text}): make room and "
                "run the same command again; what was written before is safe"
            )
        if "locked" in text or "busy" in text:
            return StoreError(f"{self.name} is busy: try again in a moment")
        if "readonly" in text or "unable to open" in text:
            return PathError(f"{self.name} cannot be opened or written ({text})")
        return StoreError(
            f"{self.name} is damaged ({text}): move that folder away and index again: "
            "mmref index RUN IMAGES... --store NEW"
        )

    @contextmanager
    def transaction(self) -> Iterator["Session"]:
        """A write transaction: all of the block or nothing of it."""
        with self.guard, self.reported():
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield Session(self.db, self.name)
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator["Session"]:
        """A read transaction: all queries of the block see one generation."""
        with self.reported():
            db = self._taken()
            try:
                db.execute("BEGIN")
                yield Session(db, self.name)
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                with self.guard:
                    if self._closed:
                        db.close()
                    else:
                        self._idle.append(db)

    def _taken(self) -> sqlite3.Connection:
        with self.guard:
            if self._closed:
                raise StoreError(f"{self.name} is closed")
            if self._idle:
                return self._idle.pop()
        return self._connect()

    def execute(self, sql: str) -> None:
        """Run one statement outside of a transaction, such as VACUUM."""
        with self.guard, self.reported():
            self.db.execute(sql)


class Session:
    """One transaction.

    Args:
        db: the connection that is in it.
        name: the store's address, for messages.
    """

    def __init__(self, db: sqlite3.Connection, name: str) -> None:
        self.db = db
        self.name = name

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of one query."""
        return self.db.execute(sql, values).fetchall()

    def generation(self) -> int:
        """Number of write transactions so far."""
        rows = self.query("SELECT value FROM facts WHERE name = 'generation'")
        return int(rows[0][0]) if rows else 0

    def facts(self) -> dict[str, Any]:
        """The store's facts: ``store``, ``run``, ``generation``, ``layout`` and so on."""
        rows = self.query("SELECT name, value FROM facts")
        try:
            return {name: json.loads(value) for name, value in rows}
        except ValueError as error:
            raise StoreError(f"{self.name} is damaged: its facts are not JSON") from error

    def set_fact(self, name: str, value: Any) -> None:
        """Write one fact, or forget it (None)."""
        if value is None:
            self.db.execute("DELETE FROM facts WHERE name = ?", (name,))
        else:
            self.db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, json.dumps(value)))

    def images(self) -> int:
        """Number of items."""
        return int(self.query("SELECT images FROM totals")[0][0])


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
