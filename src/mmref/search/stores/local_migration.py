"""Re-encoding of a local store: another run's vectors in a table beside those that serve.

The table is filled item by item; a kill costs what was not written yet. At the end the new cache is
written first, and then one transaction makes the new table, run and storage those of the store, so
that readers find either the old vectors with the old cache or the new ones with the new.

Of a grouped store what was encoded is written into ``own_E`` too, and before the cache is written
the groups' vectors are made of it; that can be done again and again.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmref.errors import PathError, StoreError
from mmref.search.groups.grouping import Grouping, Regrouping
from mmref.search.records import Encoded, Item, RunIdentity
from mmref.search.stores import schema
from mmref.search.stores.database import Database, Session
from mmref.search.stores.local_groups import LocalGroups
from mmref.search.stores.rows import ITEM, Head, Rows, encoded_profile, item_of, layout_of

if TYPE_CHECKING:
    from mmref.search.stores.local import LocalStore

_BLOCK_ROWS = 512
_GROUPS_AT_ONCE = 512
_PENDING = """
FROM items i LEFT JOIN {table} v ON v.id = i.id AND v.digest = i.digest
WHERE v.id IS NULL AND i.id > ?
"""


class LocalMigration:
    """See :class:`mmref.search.stores.base.Migration`.

    Args:
        store: open for writing.
        run: the new run.
        storage: how the new vectors are kept.
        regrouping: other groups.
    """

    def __init__(
        self,
        store: "LocalStore",
        run: RunIdentity,
        storage: str,
        regrouping: Regrouping | None = None,
    ) -> None:
        self._store = store
        self._keys = None if regrouping is None else regrouping.keys
        with store.database.transaction() as session:
            facts = session.facts()
            begun = facts.get("next")
            grouping = facts.get("grouping")
            if regrouping is not None:
                require_no_reencoding(begun, store.uri)
                grouping = regrouping.grouping and regrouping.grouping.as_dict()
            wanted = {"storage": storage, "grouping": grouping, "groups": regrouping is not None}
            if begun is not None and (regrouping or not resumes(begun, run, wanted)):
                _drop_edition(session, int(begun["edition"]))
                begun = None
            if begun is None:
                edition = 1 + max(_editions(session))
                session.db.execute(schema.edition_table(edition))
                for statement in schema.own_table(edition) if grouping else ():
                    session.db.execute(statement)
                begun = {"run": run.as_dict(), "edition": edition, **wanted}
                session.set_fact("next", begun)
            self._edition = int(begun["edition"])
            self._grouping = Grouping.from_dict(grouping)

    def _head(self, session: Session) -> Head:
        facts = session.facts()
        begun = facts.get("next")
        if begun is None or begun["edition"] != self._edition:
            raise StoreError(f"{self._store.uri} is not being encoded anew any more")
        return Head.of({**facts, "layout": None} | begun)

    @property
    def _table(self) -> str:
        return f"vectors_{self._edition}"

    @property
    def _own(self) -> str:
        return f"own_{self._edition}"

    def pending(self) -> Iterator[Item]:
        """The items that have no vector of the new run yet, by rising id."""
        columns = ", ".join(f"i.{name}" for name in ITEM.split(", "))
        sql = f"SELECT {columns} {_PENDING.format(table=self._table)} ORDER BY i.id LIMIT ?"
        after = 0
        while True:
            with self._store.database.reading() as session:
                rows = session.query(sql, (after, _BLOCK_ROWS))
            if not rows:
                return
            yield from map(item_of, rows)
            after = int(rows[-1][0])

    def write(self, encoded: Sequence[Encoded]) -> None:
        """Write vectors and profiles of the new run, all or none.

        Raises:
            ValueError: a vector or profile is not of the run.
            StoreError: the disk is full.
        """
        if not encoded:
            return
        with self._store.database.transaction() as session:
            head = self._head(session)
            layout = head.layout
            if not head.known:
                layout = layout_of(encoded[0].profile)
                session.set_fact("next", session.facts()["next"] | {"layout": layout})
            vectors = np.stack([one.vector for one in encoded]).astype(np.float32)
            if vectors.shape[1:] != (head.run.dimension,) or not np.isfinite(vectors).all():
                raise ValueError(f"a vector must be {head.run.dimension} finite numbers")
            rows = [
                (one.id, one.digest, row.tobytes(), encoded_profile(one.profile, layout))
                for one, row in zip(encoded, head.coding.packed(vectors), strict=True)
            ]
            insert = "INSERT OR REPLACE INTO"
            session.db.executemany(f"{insert} {self._table} VALUES (?, ?, ?, ?)", rows)
            if self._grouping is not None:
                session.db.executemany(f"{insert} {self._own} VALUES (?, ?, ?, ?, NULL)", rows)

    def finish(self) -> None:
        """Change over to the new run at one moment.

        Raises:
            StoreError: an item is still pending, or there is no room for the new index; the old
                vectors serve on.
        """
        store, table = self._store, self._table
        with store.database.transaction() as session:
            head = self._head(session)
            left = session.query(f"SELECT count(*) {_PENDING.format(table=table)}", (0,))[0][0]
            if left:
                raise StoreError(f"{left:,} images of {store.uri} are not encoded anew yet")
            session.db.execute(f"DELETE FROM {table} WHERE id NOT IN (SELECT id FROM items)")
        if self._grouping is not None:
            self._share(self._grouping)
        coming = head.following()
        try:
            with store.database.reading() as session:
                base = store.cache.write(Rows(session, coming), coming)
        except (OSError, PathError, RuntimeError) as error:
            raise StoreError(
                f"the new search index of {store.uri} cannot be written ({error}): make room and "
                "run the same command again; the old one serves on"
            ) from error
        with store.database.transaction() as session:
            facts = session.facts()
            for name in ("run", "storage", "edition", "grouping"):
                session.set_fact(name, facts["next"][name])
            session.set_fact("layout", facts["next"].get("layout"))
            session.set_fact("next", None)
            session.set_fact("generation", coming.generation)
            _drop_edition(session, int(facts["edition"]))
        store.changed_over(coming)
        store.cache.tidy(base)

    def discard(self) -> None:
        """Forget what was made for the new run."""
        with self._store.database.transaction() as session:
            session.set_fact("next", None)
            _drop_edition(session, self._edition)

    def _share(self, grouping: Grouping) -> None:
        """Make the groups' vectors of what was encoded."""
        database = self._store.database
        with database.transaction() as session:
            self._assign(session, grouping)
            groups = LocalGroups(session, self._head(session), grouping)
            alone = f"SELECT id FROM {self._own} WHERE grp IS NULL"
            groups.part(row[0] for row in session.query(alone))
            keys = groups.keys()
        for start in range(0, len(keys), _GROUPS_AT_ONCE):
            with database.transaction() as session:
                groups = LocalGroups(session, self._head(session), grouping)
                for key in keys[start : start + _GROUPS_AT_ONCE]:
                    groups.share_group(key)

    def _assign(self, session: Session, grouping: Grouping) -> None:
        """Give each item its group: the one that it has in the edition that serves, or another."""
        execute = session.db.execute
        execute(f"DELETE FROM {self._own} WHERE id NOT IN (SELECT id FROM items)")
        if self._keys is not None:
            session.db.executemany(
                f"UPDATE {self._own} SET grp = ? WHERE id = ?",
                ((key, int(number)) for number, key in self._keys.items()),
            )
        else:
            serving = f"own_{session.facts()['edition']}"
            held = f"SELECT grp FROM {serving} s WHERE s.id = o.id"
            execute(f"UPDATE {self._own} AS o SET grp = ({held})")


def require_no_reencoding(begun: Mapping[str, Any] | None, uri: str) -> None:
    """Refuse to regroup a store while it is being encoded anew.

    Raises:
        StoreError: it is.
    """
    run = reencoding(begun)
    if run is not None:
        raise StoreError(
            f"{uri} is being encoded anew for {run}: complete that first (run the "
            "same mmref index RUN --reencode again)"
        )


def reencoding(begun: Mapping[str, Any] | None) -> str | None:
    """The run that a store is being encoded anew for; None also where it is only regrouped.

    Example:
        >>> reencoding({"run": {"id": "flags"}}), reencoding({"run": {}, "groups": True})
        ('flags', None)
    """
    return None if begun is None or begun.get("groups") else str(begun["run"]["id"])


def forget_regrouping(database: Database) -> None:
    """Give back the room of a regrouping that was left."""
    with database.transaction() as session:
        begun = session.facts().get("next")
        if begun is not None and reencoding(begun) is None:
            session.set_fact("next", None)
            _drop_edition(session, int(begun["edition"]))


def resumes(begun: Mapping[str, Any], run: RunIdentity, wanted: Mapping[str, Any]) -> bool:
    """Whether what was begun is what is wanted now."""
    if RunIdentity.from_dict(begun["run"]).difference(run) is not None:
        return False
    return all((begun.get(name) or None) == (value or None) for name, value in wanted.items())


def _drop_edition(session: Session, edition: int) -> None:
    for name in ("vectors", "own"):
        session.db.execute(f"DROP TABLE IF EXISTS {name}_{edition}")


def _editions(session: Session) -> list[int]:
    names = session.query("SELECT name FROM sqlite_master WHERE name GLOB 'vectors_*'")
    numbers = [row[0].removeprefix("vectors_") for row in names]
    return [int(number) for number in numbers if number.isdecimal()]
