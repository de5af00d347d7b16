"""The Milvus store: the same records in a collection of a Milvus server, or of Milvus Lite.

The collection's name is an alias; behind it stands ``NAME__mmref_1``, after a re-encoding
``NAME__mmref_2``, and so on. What is in a collection, and how generations are kept apart, is told
in :mod:`mmref.search.stores.milvus_rows`.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mmref.errors import PathError, StoreError, StoreMismatchError, UsageError
from mmref.search.groups.grouping import Regrouping, group_facts
from mmref.search.records import Changes, RunIdentity
from mmref.search.stores.local_migration import reencoding
from mmref.search.stores.milvus_address import MilvusAddress
from mmref.search.stores.milvus_changes import planned
from mmref.search.stores.milvus_checks import MilvusChecks
from mmref.search.stores.milvus_connection import Connection
from mmref.search.stores.milvus_lock import WriterLock
from mmref.search.stores.milvus_migration import MilvusMigration
from mmref.search.stores.milvus_rows import (
    ALIVE,
    HEAD,
    MilvusHead,
    schema,
)
from mmref.search.stores.milvus_view import MilvusView
from mmref.search.stores.newest import Newest

MARK = "__mmref_"
GRACE = 2.0  # seconds that searches under way have before what they may read is deleted
_BATCH_BYTES = 8 << 20
_ROW_BYTES = 2048  # beside the vector, about
_KEYS = 2000
_SAMPLE = 200
_MANY_DEAD = 1000


class MilvusStore(Newest):
    """A store on a Milvus server; see :class:`mmref.search.stores.base.VectorStore`.

    Args:
        uri: the address (:mod:`mmref.search.stores.milvus_address`).
        writer: the run that is going to write, or None to read only.
        storage: how a new store rounds vectors.

    Raises:
        MissingExtraError: pymilvus is not installed.
        PathError: there is no such store.
        UsageError: the address is of no known form, or the store keeps vectors in another way.
        StoreMismatchError: another run made the store.
        StoreError: the server is down or denies access, the collection belongs to another
            program, or the store is damaged or has another writer.
    """

    def __init__(
        self, uri: str, writer: RunIdentity | None = None, storage: str | None = None
    ) -> None:
        self.address = MilvusAddress.parse(uri)
        self._lock: WriterLock | None = None
        self._unfinished = False
        self._left: list[tuple[str, float]] = []
        self.connection = Connection(self.address)
        try:
            if writer is not None and self._found() is None:
                self._make(writer, storage or "fp32")
            self._collection, self._head = self._require_found()
            self.connection.load(self._collection)
            if storage not in (None, self._head.storage):
                raise UsageError(
                    f"{self.uri} keeps vectors as {self._head.storage}, not {storage}: leave "
                    f"--storage out, or make it anew: mmref index RUN --store {self.uri} "
                    f"--reencode --storage {storage}"
                )
            if writer is not None:
                self._require_same_run(writer)
                self._lock = WriterLock(self.connection, self._properties)
                self._collection, self._head = self._require_found()
                self.clear_away()
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------------ the collection

    def _found(self) -> tuple[str, dict[str, str]] | None:
        found = self.connection.described(self.address.collection)
        if found is not None and HEAD not in found[1]:
            raise StoreError(
                f"{self.uri} belongs to another program (a collection of Milvus that mmref has "
                "not made): name another collection"
            )
        return found

    def _properties(self) -> tuple[str, Mapping[str, str]]:
        found = self._found()
        if found is None:
            raise StoreError(f"{self.uri} was removed meanwhile")
        return found

    def _require_found(self) -> tuple[str, MilvusHead]:
        found = self._found()
        if found is None:
            raise PathError(f"there is no store at {self.uri}: mmref index makes one")
        head = MilvusHead.read(found[1], self.uri)
        assert head is not None
        return found[0], head

    def newest(self) -> tuple[str, MilvusHead]:
        """The true name of the collection, and the head, of now."""
        collection, properties = self._properties()
        head = MilvusHead.read(properties, self.uri)
        assert head is not None
        return collection, head

    def collection_of(self, edition: int) -> str:
        """The true name of an edition's collection."""
        return f"{self.address.collection}{MARK}{edition}"

    def _make(self, run: RunIdentity, storage: str) -> None:
        """Make the first collection, and then its alias: a kill between leaves no store."""
        edition = 1
        self.make_collection(MilvusHead(run, storage, edition), edition)
        alias = self.address.collection
        self.connection.call("create_alias", self.collection_of(edition), alias)

    def make_collection(self, head: MilvusHead, edition: int) -> str:
        """Make an edition's collection anew, with vectors of a run."""
        name = self.collection_of(edition)
        self.connection.drop(name)
        note = f"mmref store of the run {head.run.id}"
        self.connection.create(
            name,
            schema(head.run.dimension, note, head.grouping is not None),
            self._index(head.storage),
            {HEAD: head.text()},
        )
        return name

    def _index(self, storage: str) -> dict[str, Any]:
        if self.address.lite:
            return {"index_type": "FLAT", "metric_type": "IP"}
        if storage == "int8":
            return {"index_type": "IVF_SQ8", "metric_type": "IP", "params": {"nlist": 1024}}
        params = {"M": 24, "efConstruction": 200}
        return {"index_type": "HNSW", "metric_type": "IP", "params": params}

    def _require_same_run(self, run: RunIdentity) -> None:
        difference = self.identity.difference(run)
        if difference is not None:
            made = f"{self.identity.id} ({self.identity.path or 'path unknown'})"
            raise StoreMismatchError(
                f"{self.uri} was made by the run {made}, not by {run.id}: {difference}; index "
                f"with that run, encode it anew (mmref index {run.path or 'RUN'} --store "
                f"{self.uri} --reencode), or make a new store: "
                f"mmref index {run.path or 'RUN'} IMAGES... --store NEW"
            )

    @property
    def uri(self) -> str:
        """The address, without a password."""
        return self.address.shown

    @property
    def identity(self) -> RunIdentity:
        """The run that made the store's vectors."""
        return self._head.run

    @property
    def storage(self) -> str:
        """How vectors are rounded."""
        return self._head.storage

    # ------------------------------------------------------------------ reading

    @contextmanager
    def view(self) -> Iterator[MilvusView]:
        """One generation, the newest, to read from until the block ends."""
        yield self._view()

    def _view(self) -> MilvusView:
        collection, head = self.newest()
        same = head.run.difference(self._head.run) is None and head.storage == self._head.storage
        if not same:
            raise StoreMismatchError(
                f"{self.uri} was encoded anew by the run {head.run.id} meanwhile: open it anew"
            )
        self._collection, self._head = collection, head
        return MilvusView(self.connection, collection, head)

    def info(self) -> dict[str, Any]:
        """Plain facts, for ``mmref store info``."""
        view, head = self._view(), self._head
        rows = self.connection.count(self._collection, "born >= 0")
        return {
            "store": self.uri,
            "images": head.images,
            "dimension": head.run.dimension,
            "run": head.run.as_dict(),
            "storage": head.storage,
            "vector_bytes": 4 * head.run.dimension,
            "profile_bytes": head.profile_bytes,
            "generation": head.generation,
            "groups": self._group_facts(view, head),
            "reencoding": reencoding(head.next),
            "collection": self._collection,
            "rows": rows,
            "bytes": self._bytes(view, rows),
        }

    @staticmethod
    def _group_facts(view: MilvusView, head: MilvusHead) -> dict[str, Any] | None:
        if head.grouping is None:
            return None
        windows = view.windows(("id", "grp"))
        sizes = Counter(row["grp"] for window in windows for row in window if row["grp"])
        return group_facts(head.grouping, np.array(list(sizes.values()), np.int64), len(view))

    def _bytes(self, view: MilvusView, rows: int) -> int:
        """Of the folder of Lite; of a server's rows as they are sent, without indexes."""
        if self.address.lite:
            files = [file for file in Path(self.address.server).rglob("*") if file.is_file()]
            return sum(file.stat().st_size for file in files)
        sample = next(view.windows([name for name in self._head.fields if name != "vector"]), [])[
            :_SAMPLE
        ]
        texts = sum(len(str(value).encode()) for row in sample for value in row.values())
        beside = texts / len(sample) if sample else 0.0
        return round(rows * (4 * self._head.run.dimension + beside))

    # ------------------------------------------------------------------ writing

    def require_writer(self) -> None:
        """Refuse to write where the store was opened for reading, or has another writer now.

        Raises:
            StoreError: it was, or has.
        """
        if self._lock is None:
            raise StoreError(f"{self.uri} was opened for reading")
        self._lock.require()

    @property
    def writes(self) -> bool:
        """Whether the store was opened for writing."""
        return self._lock is not None

    def commit(self, head: MilvusHead) -> None:
        """Make a head that of the store: what it tells of is seen from now on."""
        self.require_writer()
        self.connection.set_property(self._collection, HEAD, head.text())
        self._head = head

    def apply(self, changes: Changes) -> None:
        """Write all of ``changes`` in one transaction.

        Raises:
            ValueError: a vector or profile is not of the run; nothing was written.
            StoreError: the store was opened for reading, or the server does not answer.
        """
        self.require_writer()
        view = self._view()
        if self._unfinished:
            self.clear_away()
        plan = planned(changes, view, self._head)
        head = self._head
        self._unfinished = True
        for part in self.batches(plan.rows):
            head = head.written_at(self.connection.upsert(self._collection, part))
        images = head.images + plan.more
        self.commit(head.following(images=images, next_id=plan.next_id, layout=plan.layout))
        self._unfinished = False

    def batches(self, rows: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
        """Rows in parts that one message can carry."""
        size = max(1, _BATCH_BYTES // (4 * self._head.run.dimension + _ROW_BYTES))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def clear_away(self) -> None:
        """Undo what a transaction that did not come to its end has written."""
        generation, name, fields = self._head.generation, self._collection, self._head.fields
        while rows := self.connection.query(name, f"born > {generation}", ["pk"], -1):
            self.delete_rows([int(row["pk"]) for row in rows])
        dying = f"((died > {generation}) and (died < {ALIVE}))"
        while rows := self.connection.query(name, dying, ["pk"], -1)[:_KEYS]:
            keys = [int(row["pk"]) for row in rows]
            for start in range(0, len(keys), 200):
                whole = self.connection.query(
                    name, f"pk in {keys[start : start + 200]}", fields, -1
                )
                self.connection.upsert(name, [{**row, "died": ALIVE} for row in whole])
        self._unfinished = False
        self._drop_editions()

    def delete_rows(self, keys: Sequence[int]) -> None:
        """Delete rows of the store's collection."""
        for start in range(0, len(keys), _KEYS):
            self.connection.delete(self._collection, keys[start : start + _KEYS])

    def _drop_editions(self) -> None:
        """Drop the collections of other editions than the one that serves and the next."""
        kept = {self._collection}
        if self._head.next is not None:
            kept.add(self.collection_of(int(self._head.next["edition"])))
        start = f"{self.address.collection}{MARK}"
        for name in self.connection.call("list_collections"):
            if name.startswith(start) and name[len(start) :].isdecimal() and name not in kept:
                self.connection.drop(name)

    def finish(self) -> None:
        """Delete what is dead, where it is much."""
        self.require_writer()
        dead = self.connection.count(self._collection, f"died <= {self._view().generation}")
        if dead > max(_MANY_DEAD, len(self) // 4):
            self._forget()

    def _forget(self) -> None:
        head = self._head
        until = head.generation
        if self.connection.count(self._collection, f"died <= {until}") == 0:
            return
        self.commit(head.following(forgotten=until))
        time.sleep(GRACE)
        while rows := self.connection.query(self._collection, f"died <= {until}", ["pk"], -1):
            self.delete_rows([int(row["pk"]) for row in rows])

    def migration(
        self,
        run: RunIdentity,
        storage: str | None = None,
        regrouping: Regrouping | None = None,
    ) -> MilvusMigration:
        """Begin to re-encode for another run, or take it up where it was left; or to regroup."""
        self.require_writer()
        return MilvusMigration(self, run, storage or self.storage, regrouping)

    def changed_over(self, collection: str, head: MilvusHead) -> None:
        """Take note that another collection is the store's now; the old one is dropped later."""
        self._left.append((self._collection, time.monotonic()))
        self._collection, self._head = collection, head

    def writer_text(self) -> str:
        """What the property ``WRITER`` holds."""
        return self._lock.text() if self._lock is not None else "{}"

    def verify(self, content: bool = False, repair: bool = False) -> list[str]:
        """Check all that is stored; one line for each thing that is wrong."""
        if repair:
            self.require_writer()
        return MilvusChecks(self).run(content, repair)

    def compact(self) -> None:
        """Delete what was removed, and have the server give back its room."""
        self.require_writer()
        self._view()
        if self._head.next is not None and reencoding(self._head.next) is None:
            self.commit(replace(self._head, next=None))  # a regrouping that was left
        self._forget()
        self._drop_editions()
        self.connection.call("flush", self._collection)
        with suppress(StoreError):  # it is only a hint: the server compacts of its own
            self.connection.call("compact", self._collection)

    def close(self) -> None:
        """Give the right to write back and end the connection."""
        if self._lock is not None:
            for collection, since in self._left:
                time.sleep(max(0.0, since + GRACE - time.monotonic()))
                with suppress(StoreError):
                    self.connection.drop(collection)
            self._left.clear()
            self._lock.close()
            self._lock = None
        self.connection.close()
