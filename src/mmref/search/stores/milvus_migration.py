"""Re-encoding of a Milvus store: another run's vectors in a collection beside the one that serves.

The collection of the next edition gets a whole row for each item, with the key of the item's
version, so that what has changed since is known by its key. At the end the rows are brought to
the state of the store, the new collection gets the head, and the alias is put on it: at that
moment readers change over. The old collection is dropped when the writer closes.

Of a grouped store the groups' vectors are made of what was encoded before the change; that can be
done again and again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmref.errors import StoreError
from mmref.search.groups.grouping import MOST_IMAGES, Grouping, Regrouping
from mmref.search.records import Encoded, Item, RunIdentity
from mmref.search.stores.local_migration import require_no_reencoding, resumes
from mmref.search.stores.milvus_groups import own_fields, shared_rows
from mmref.search.stores.milvus_lock import WRITER
from mmref.search.stores.milvus_rows import (
    ALIVE,
    ALL,
    HEAD,
    ITEM,
    MilvusHead,
    item_of,
    own_vectors_of,
    packed_profile,
    rounded,
)
from mmref.search.stores.milvus_view import WINDOW
from mmref.search.stores.rows import as_layout, layout_of

if TYPE_CHECKING:
    from mmref.search.stores.milvus import MilvusStore

_BESIDE = [name for name in ALL if name not in ("vector", "profile")]
_KEPT = ("pk", "id", "digest")
_ROWS_AT_ONCE = 500


class MilvusMigration:
    """See :class:`mmref.search.stores.base.Migration`.

    Args:
        store: open for writing.
        run: the new run.
        storage: how the new vectors are rounded.
        regrouping: other groups.
    """

    def __init__(
        self,
        store: "MilvusStore",
        run: RunIdentity,
        storage: str,
        regrouping: Regrouping | None = None,
    ) -> None:
        self._store = store
        self._keys = None if regrouping is None else regrouping.keys
        _, head = store.newest()
        begun, grouping = head.next, head.grouping
        if regrouping is not None:
            require_no_reencoding(begun, store.uri)
            grouping = regrouping.grouping
        wanted = {
            "storage": storage,
            "grouping": None if grouping is None else grouping.as_dict(),
            "groups": regrouping is not None,
        }
        if begun is not None and (regrouping or not resumes(begun, run, wanted)):
            store.connection.drop(store.collection_of(int(begun["edition"])))
            begun = None
        if begun is None:
            begun = {
                "run": run.as_dict(),
                "edition": head.edition + 1,
                "layout": None,
                **wanted,
            }
            store.make_collection(_coming(head, begun), int(begun["edition"]))
            store.commit(replace(head, next=begun))
        self._edition = int(begun["edition"])
        self._name = store.collection_of(self._edition)
        store.connection.load(self._name)

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
            for row in view.rows_of(sorted(fresh), _beside(head)):
                digest, fields = fresh[int(row["id"])]
                if digest == row["digest"]:  # else it has changed since it was read
                    rows.append(self._row({**row, **fields, "died": ALIVE}, coming))
        for part in self._store.batches(rows):
            self._store.connection.upsert(self._name, part)

    def _row(self, row: dict[str, Any], coming: MilvusHead) -> dict[str, Any]:
        """A row of the new edition, from one whose vector and profile are what was encoded."""
        if coming.grouping is None:
            return {name: row[name] for name in coming.fields}
        group = row["grp"] if self._keys is None else self._keys.get(int(row["id"]), "")
        return row | own_fields(row, coming.coding) | {"grp": group}

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
        self._bring_up(head, coming)
        self._share(coming)
        connection = store.connection
        following = coming.following(
            next=None, forgotten=head.generation, written=self._time(coming)
        )
        connection.set_property(self._name, WRITER, store.writer_text())
        connection.set_property(self._name, HEAD, following.text())
        connection.call("alter_alias", self._name, store.address.collection)
        store.changed_over(self._name, following)

    def _time(self, coming: MilvusHead) -> int:
        """The server's time of now, behind all that was written: one row is written again."""
        connection = self._store.connection
        first = next(self._store.items(), None)
        if first is None:
            return -1
        rows = connection.query(self._name, f"id == {first.id}", coming.fields, -1)
        return connection.upsert(self._name, rows)

    def _share(self, coming: MilvusHead) -> None:
        """Make the groups' vectors of what was encoded."""
        if coming.grouping is None:
            return
        store, layout = self._store, coming.layout or []
        groups: dict[str, list[int]] = {}
        for start in range(1, coming.next_id, WINDOW):
            where = f'((id >= {start}) and (id < {start + WINDOW}) and (grp != ""))'
            for row in store.connection.query(self._name, where, ("pk", "grp"), -1):
                groups.setdefault(row["grp"], []).append(int(row["pk"]))
        shared = [keys for keys in groups.values() if 1 < len(keys) <= MOST_IMAGES]
        for keys in in_parts(shared, _ROWS_AT_ONCE):
            rows = store.connection.query(self._name, f"pk in {keys}", coming.fields, -1)
            made = shared_rows(rows, coming, layout, store.uri)
            for part in store.batches([row | made[int(row["id"])] for row in rows]):
                store.connection.upsert(self._name, part)

    def _bring_up(self, head: MilvusHead, coming: MilvusHead) -> None:
        """Give every row of the new run the place, and the key, that its item has now."""
        connection = self._store.connection
        for rows, made in self._windows(_beside(head)):
            current = {int(row["pk"]): row for row in rows}
            by_id = {int(row["id"]): row for row in rows}
            void = [int(row["pk"]) for row in made if int(row["pk"]) not in current]
            if not void:
                continue
            held = {int(row["pk"]) for row in made}
            for start in range(0, len(void), 200):
                keys = void[start : start + 200]
                old = connection.query(self._name, f"pk in {keys}", coming.fields, -1)
                again = []
                for row in self._encoded(old, coming):
                    now = by_id.get(int(row["id"]))
                    same = now is not None and now["digest"] == row["digest"]
                    if now is not None and same and int(now["pk"]) not in held:
                        kept = {"vector": row["vector"], "profile": row["profile"], "died": ALIVE}
                        again.append(self._row({**now, **kept}, coming))
                for part in self._store.batches(again):
                    connection.upsert(self._name, part)
                connection.delete(self._name, keys)

    def _encoded(self, rows: list[dict[str, Any]], coming: MilvusHead) -> list[dict[str, Any]]:
        """Rows of the new edition with what was encoded, where a group's may stand already."""
        if coming.grouping is None:
            return rows
        vectors = own_vectors_of(rows, coming.coding, self._store.uri)
        return [
            {**row, "vector": vector, "profile": row["own_profile"]}
            for row, vector in zip(rows, vectors, strict=True)
        ]

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
        grouping=Grouping.from_dict(begun.get("grouping")),
    )


def _beside(head: MilvusHead) -> list[str]:
    """The fields of the edition that serves that go over into the next."""
    return [*_BESIDE, "grp"] if head.grouping is not None else _BESIDE


def in_parts(groups: Sequence[list[int]], most: int) -> Iterator[list[int]]:
    """The members of whole groups, at most so many together; a larger group alone.

    Example:
        >>> list(in_parts([[1, 2], [3, 4], [5]], 3))
        [[1, 2], [3, 4, 5]]
    """
    part: list[int] = []
    for group in groups:
        if part and len(part) + len(group) > most:
            yield part
            part = []
        part.extend(group)
    if part:
        yield part
