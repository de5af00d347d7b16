"""The local store: a folder in which SQLite is the truth and all else is a cache.

======================  ===================================================================
``store.sqlite``        items (path, size, time, digest, metadata), vectors, profiles, the run
``lock``                held by the one writer
``cache-GENERATION``    arrays and a FAISS index for quick search; may be deleted at any time
======================  ===================================================================
"""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from mmref.errors import PathError, StoreError, StoreMismatchError, UsageError
from mmref.search.groups.grouping import Regrouping
from mmref.search.records import (
    Changes,
    Record,
    RunIdentity,
)
from mmref.search.stores.cache import Cache
from mmref.search.stores.checks import Checks
from mmref.search.stores.database import Database, Session
from mmref.search.stores.local_folder import prepare_folder, take_lock
from mmref.search.stores.local_groups import LocalGroups
from mmref.search.stores.local_migration import LocalMigration, forget_regrouping, reencoding
from mmref.search.stores.local_view import LocalView
from mmref.search.stores.newest import Newest
from mmref.search.stores.rows import Head, Layout, Rows, encoded_profile, layout_of, values_of

_UPSERT = """
INSERT INTO items (path, size, mtime_ns, metadata, source, digest, generation)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (path) DO UPDATE SET
    size = excluded.size, mtime_ns = excluded.mtime_ns, metadata = excluded.metadata,
    source = excluded.source, digest = excluded.digest, generation = excluded.generation
RETURNING id
"""
# A filter may ask for any of these but the source, so a change of them is one of the item.
_MOVE = """
UPDATE items SET generation = ?, path = ?, size = ?, mtime_ns = ?, metadata = ?, source = ?
WHERE id = ?
"""


class LocalStore(Newest):
    """A store in a folder; see :class:`mmref.search.stores.base.VectorStore`.

    Args:
        uri: the folder.
        writer: the run that is going to write, or None to read only.
        storage: how a new store keeps vectors.

    Raises:
        PathError: there is no store there, or the folder cannot be written.
        UsageError: the store keeps vectors in another way.
        StoreMismatchError: another run made the store.
        StoreError: the store is damaged, of a newer version, or has another writer.

    Example:
        >>> import tempfile
        >>> from mmref.search.records import Place
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
        self.cache = Cache(self.folder)
        try:
            if writer is not None:
                prepare_folder(self.folder)
                self._lock = take_lock(self.folder, uri)
            self._database = Database(self.folder, uri, writer is not None)
            if writer is not None:
                self._introduce(writer, storage or "fp32")
            with self._database.reading() as session:
                head = Head.read(session)
            if head is None:
                raise PathError(f"{self.folder} is an empty store: mmref index fills it")
            self._head = head
            self._identity, self._storage = head.run, head.storage
            if writer is not None:
                self._require_same_run(writer)
            if storage not in (None, head.storage):
                raise UsageError(
                    f"{uri} keeps vectors as {head.storage}, not {storage}: leave --storage out, "
                    f"or make it anew: mmref index RUN --store {uri} --reencode "
                    f"--storage {storage}"
                )
        except BaseException:
            self.close()
            raise

    def _introduce(self, run: RunIdentity, storage: str) -> None:
        """Write the run's identity into a new store."""
        with self.database.reading() as session:
            if session.facts():
                return
        with self.database.transaction() as session:
            session.set_fact("store", uuid.uuid4().hex)
            session.set_fact("run", run.as_dict())
            session.set_fact("storage", storage)
            session.set_fact("edition", 1)
            session.set_fact("generation", 0)

    def _require_same_run(self, run: RunIdentity) -> None:
        difference = self._identity.difference(run)
        if difference is not None:
            made = f"{self._identity.id} ({self._identity.path or 'path unknown'})"
            raise StoreMismatchError(
                f"{self._uri} was made by the run {made}, not by {run.id}: {difference}; index "
                f"with that run, encode it anew (mmref index {run.path or 'RUN'} --store "
                f"{self._uri} --reencode), or make a new store: "
                f"mmref index {run.path or 'RUN'} IMAGES... --store NEW"
            )

    @property
    def database(self) -> Database:
        """The open database."""
        if self._database is None:
            raise StoreError(f"{self._uri} is closed")
        return self._database

    @property
    def uri(self) -> str:
        """The folder as it was given."""
        return self._uri

    @property
    def identity(self) -> RunIdentity:
        """The run that made the store's vectors."""
        return self._identity

    @property
    def storage(self) -> str:
        """How vectors are kept."""
        return self._storage

    # ------------------------------------------------------------------ reading

    @contextmanager
    def view(self) -> Iterator[LocalView]:
        """One generation, the newest, to read from until the block ends."""
        with self.database.reading() as session:
            head = self._head
            if session.generation() != head.generation:
                head = self._newest(session)
            yield LocalView(session, head, self.cache)

    def _newest(self, session: Session) -> Head:
        head = Head.read(session)
        if head is None:
            raise StoreError(f"{self._uri} is empty now: open it anew")
        if head.run.difference(self._identity) is not None or head.storage != self._storage:
            raise StoreMismatchError(
                f"{self._uri} was encoded anew by the run {head.run.id} meanwhile: open it anew"
            )
        self._head = head
        return head

    def info(self) -> dict[str, Any]:
        """Plain facts, for ``mmref store info``."""
        with self.database.reading() as session:
            head, facts, images = self._newest(session), session.facts(), session.images()
            groups = None if head.grouping is None else LocalGroups(session, head, head.grouping)
            grouped = None if groups is None else groups.facts()
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        return {
            "store": self._uri,
            "images": images,
            "dimension": head.run.dimension,
            "run": head.run.as_dict(),
            "storage": head.storage,
            "vector_bytes": head.coding.bytes,
            "profile_bytes": head.profile_bytes,
            "generation": head.generation,
            "groups": grouped,
            "reencoding": reencoding(facts.get("next")),
            "bytes": sum(file.stat().st_size for file in files),
        }

    # ------------------------------------------------------------------ writing

    def _require_writer(self) -> None:
        if self._lock is None:
            raise StoreError(f"{self._uri} was opened for reading")

    def apply(self, changes: Changes) -> None:
        """Write all of ``changes`` in one transaction.

        Raises:
            StoreError: the store was opened for reading, or the disk is full.
        """
        self._require_writer()
        with self.database.transaction() as session:
            head = self._newest(session)
            table, generation = f"vectors_{head.edition}", head.generation + 1
            layout = self._layout(session, head, changes.records)
            head = replace(head, layout=layout)
            groups = None if head.grouping is None else LocalGroups(session, head, head.grouping)
            if groups is not None:
                groups.remove(changes.removed)
            removed = [(int(number), generation) for number in changes.removed]
            for owner in ("items", table):
                session.db.executemany(
                    f"DELETE FROM {owner} WHERE id = ?", [pair[:1] for pair in removed]
                )
            session.db.executemany("INSERT OR REPLACE INTO removed VALUES (?, ?)", removed)
            session.db.executemany(
                _MOVE,
                [(generation, *values_of(place), int(number)) for number, place in changes.placed],
            )
            if groups is not None:
                for number, place in changes.placed:
                    groups.move(int(number), place)
            packed = self._packed(head, changes.records)
            for record, vector in zip(changes.records, packed, strict=True):
                values = (*values_of(record.place), record.digest, generation)
                (number,) = session.query(_UPSERT, values)[0]
                profile = encoded_profile(record.profile, layout)
                session.db.execute(
                    f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?)",
                    (number, record.digest, vector, profile),
                )
                if groups is not None:
                    groups.put(number, record.place, record.digest, vector, profile)
            if groups is not None:
                groups.share(generation)
            session.set_fact("generation", generation)

    def _packed(self, head: Head, records: Sequence[Record]) -> list[bytes]:
        dimension = head.run.dimension
        for record in records:
            if record.vector.shape != (dimension,) or not np.isfinite(record.vector).all():
                raise ValueError(f"a vector must be {dimension} finite numbers")
        if not records:
            return []
        vectors = np.stack([record.vector for record in records]).astype(np.float32)
        return [row.tobytes() for row in head.coding.packed(vectors)]

    def _layout(self, session: Session, head: Head, records: Sequence[Record]) -> Layout:
        if head.known or not records:
            return head.layout
        layout = layout_of(records[0].profile)
        session.set_fact("layout", layout)
        return layout

    def finish(self) -> None:
        """Write the cache anew when too much of it is out of date.

        Raises:
            StoreError: it cannot be written; the items themselves are safe.
        """
        self._require_writer()
        self._rewrite_cache()

    def _rewrite_cache(self, at_least: int | None = None) -> None:
        try:
            with self.database.reading() as session:
                self.cache.rewrite(Rows(session, self._newest(session)), at_least)
        except (OSError, PathError, RuntimeError) as error:
            raise StoreError(
                f"the items are all in {self._uri}, but its search index cannot be written "
                f"({error}): make room and run the same command again"
            ) from error

    def migration(
        self,
        run: RunIdentity,
        storage: str | None = None,
        regrouping: Regrouping | None = None,
    ) -> LocalMigration:
        """Begin to re-encode for another run, or take it up where it was left; or to regroup."""
        self._require_writer()
        return LocalMigration(self, run, storage or self._storage, regrouping)

    def changed_over(self, head: Head) -> None:
        """Take note that the store's vectors are of another run now."""
        self._head, self._identity, self._storage = head, head.run, head.storage

    def verify(self, content: bool = False, repair: bool = False) -> list[str]:
        """Check all that is stored; one line for each thing that is wrong."""
        if repair:
            self._require_writer()
        return Checks(self).run(content, repair)

    def compact(self) -> None:
        """Rewrite the database and the cache without what was removed.

        Raises:
            StoreError: there is no room for a second copy; the store is as it was.
        """
        self._require_writer()
        forget_regrouping(self.database)
        self._rewrite_cache(at_least=0)
        with self.database.transaction() as session:
            cached = self.cache.generation
            session.db.execute("DELETE FROM removed WHERE generation <= ?", (cached,))
            session.set_fact("forgotten", cached)
            session.set_fact("generation", self._newest(session).generation + 1)
        self.database.execute("VACUUM")
        self.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Give back files and locks."""
        self.cache.close()
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
