"""Re-encoding of a Milvus store: another run's vectors in a collection beside the one that serves.

The collection of the next edition gets a whole row for each item, with the key of the item's
version, so that what has changed since is known by its key. At the end the rows are brought to
the state of the store, the new collection gets the head, and the alias is put on it: at that
moment readers change over. The old collection is dropped when the writer closes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmref.errors import StoreError
from mmref.search.records import Encoded, Item, RunIdentity
from mmref.search.stores.milvus_lock import WRITER
from mmref.search.stores.milvus_rows import (
    ALIVE,
    ALL,
    HEAD,
    ITEM,
    MilvusHead,
    item_of,
    packed_profile,
    rounded,
)
from mmref.search.stores.milvus_view import WINDOW
from mmref.search.stores.rows import as_layout, layout_of

if TYPE_CHECKING:
    from mmref.search.stores.milvus import MilvusStore

_BESIDE = [name for name in ALL if name not in ("vector", "profile")]
_KEPT = ("pk", "id", "digest")


class MilvusMigration:
    """See :class:`mmref.search.stores.base.Migration`.

    Args:
        store: open for writing.
        run: the new run.
        storage: how the new vectors are rounded.
    """

    def __init__(self, store: "MilvusStore", run: RunIdentity, storage: str) -> None:
        self._store = store
        _, head = store.newest()
        begun = head.next
        if begun is not None and not self._same(begun, run, storage):
            store.connection.drop(store.collection_of(int(begun["edition"])))
            begun = None
        if begun is None:
            begun = {
                "run": run.as_dict(),
                "storage": storage,
                "edition": head.edition + 1,
                "layout": None,
            }
            store.make_collection(_coming(head, begun), int(begun["edition"]))
            store.commit(replace(head, next=begun))
        self._edition = int(begun["edition"])
        self._name = store.collection_of(self._edition)
        store.connection.load(self._name)

    @staticmethod
    def _same(begun: Mapping[str, Any], run: RunIdentity, storage: str) -> bool:
        made = RunIdentity.from_dict(begun["run"])
        return made.difference(run) is None and begun["storage"] == storage

    def _heads(self) -> tuple[MilvusHead, MilvusHead]:
        """The head of the store and what follows it."""
        self._store.require_writer()
        _, head = self._store.newest()
        if head.next is None or int(head.next["edition"]) != self._edition:
            raise StoreError(f"{self._store.uri} is not being encoded anew any more")
        return head, _coming(head, head.next)

    def _made(self, start: int, stop: int) -> list[dict[str, Any]]:
        """The rows of the new run whose ids are from ``start`` to before ``stop``."""
        where = f"((id >= {start}) and (id < {stop}))"
        return self._store.connection.query(self._name, where, _KEPT, -1)

    def _windows(
        self, fields: Sequence[str]
    ) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
        """Rows of the store, and of the new run, by rising ids."""
        with self._store.view() as view:
            _, head = self._store.newest()
            for start in range(1, head.next_id, WINDOW):
                ids = f"((id >= {start}) and (id < {start + WINDOW}))"
                found = sorted(view.rows(ids, fields), key=lambda row: int(row["id"]))
                yield found, self._made(start, start + WINDOW)

    def pending(self) -> Iterator[Item]:
        """The items that have no vector of the new run yet, by rising id."""
        for rows, made in self._windows(ITEM):
            digests = {(int(row["id"]), row["digest"]) for row in made}
            for row in rows:
                if (int(row["id"]), row["digest"]) not in digests:
                    yield item_of(row)

    def write(self, encoded: Sequence[Encoded]) -> None:
        """Write vectors and profiles of the new run.

        Raises:
            ValueError: a vector or profile is not of the run; nothing was written.
            StoreError: the server does not answer.
        """
        if not encoded:
            return
        head, coming = self._heads()
        layout = coming.layout
        if layout is None:
            layout = layout_of(encoded[0].profile)
            assert head.next is not None
            self._store.commit(replace(head, next=head.next | {"layout": layout}))
        if any(one.vector.shape != (coming.run.dimension,) for one in encoded):
            raise ValueError(f"a vector must be {coming.run.dimension} finite numbers")
        vectors = rounded(np.stack([one.vector for one in encoded]), coming.coding)
        fresh = {
            one.id: (one.digest, {"vector": vector, "profile": packed_profile(one.profile, layout)})
            for one, vector in zip(encoded, vectors, strict=True)
        }
        rows = []
        with self._store.view() as view:
            for row in view.rows_of(sorted(fresh), _BESIDE):
                digest, fields = fresh[int(row["id"])]
                if digest == row["digest"]:  # else it has changed since it was read
                    rows.append({**row, **fields, "died": ALIVE})
        for part in self._store.batches(rows):
            self._store.connection.upsert(self._name, part)

    def finish(self) -> None:
        """Change over to the new run at one moment.

        Raises:
            StoreError: an item is still pending; the old vectors serve on.
        """
        store = self._store
        head, coming = self._heads()
        left = sum(1 for _ in self.pending())
        if left:
            raise StoreError(f"{left:,} images of {store.uri} are not encoded anew yet")
        self._bring_up()
        connection = store.connection
        following = coming.following(next=None, forgotten=head.generation, written=self._time())
        connection.set_property(self._name, WRITER, store.writer_text())
        connection.set_property(self._name, HEAD, following.text())
        connection.call("alter_alias", self._name, store.address.collection)
        store.changed_over(self._name, following)

    def _time(self) -> int:
        """The server's time of now, behind all that was written: one row is written again."""
        connection = self._store.connection
        first = next(self._store.items(), None)
        if first is None:
            return -1
        rows = connection.query(self._name, f"id == {first.id}", ALL, -1)
        return connection.upsert(self._name, rows)

    def _bring_up(self) -> None:
        """Give every row of the new run the place, and the key, that its item has now."""
        connection = self._store.connection
        for rows, made in self._windows(_BESIDE):
            current = {int(row["pk"]): row for row in rows}
            by_id = {int(row["id"]): row for row in rows}
            void = [int(row["pk"]) for row in made if int(row["pk"]) not in current]
            if not void:
                continue
            held = {int(row["pk"]) for row in made}
            for start in range(0, len(void), 200):
                keys = void[start : start + 200]
                fields = ("id", "digest", "vector", "profile")
                old = connection.query(self._name, f"pk in {keys}", fields, -1)
                again = []
                for row in old:
                    now = by_id.get(int(row["id"]))
                    same = now is not None and now["digest"] == row["digest"]
                    if now is not None and same and int(now["pk"]) not in held:
                        kept = {"vector": row["vector"], "profile": row["profile"], "died": ALIVE}
                        again.append({**now, **kept})
                for part in self._store.batches(again):
                    connection.upsert(self._name, part)
                connection.delete(self._name, keys)

    def discard(self) -> None:
        """Forget what was made for the new run."""
        head, _ = self._heads()
        self._store.commit(replace(head, next=None))
        self._store.connection.drop(self._name)


def _coming(head: MilvusHead, begun: Mapping[str, Any]) -> MilvusHead:
    """The head with the new run's facts."""
    layout = begun.get("layout")
    return replace(
        head,
        run=RunIdentity.from_dict(begun["run"]),
        storage=str(begun["storage"]),
        edition=int(begun["edition"]),
        layout=None if layout is None else as_layout(layout),
    )
