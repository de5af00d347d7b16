"""What ``mmref store verify`` looks at in a local store, and what it can repair."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mmref.errors import StoreError
from mmref.search.records import Changes, Item, content_digest
from mmref.search.stores.base_files import Base, read_base
from mmref.search.stores.cache import PREFIX
from mmref.search.stores.local_groups import LocalGroups
from mmref.search.stores.rows import Head, Rows, item_of

if TYPE_CHECKING:
    from mmref.search.stores.local import LocalStore

UNIT = {"fp32": 1e-3, "fp16": 2e-3, "int8": 1e-3}
_BLOCK_ROWS = 2048
_OWN_SEARCHES = 16
_ALIKE = 1e-3  # cosine
# The arrays that a profile of each form of refinement consists of
_PARTS = {"posterior": {"indices", "values"}}
_DENSE = {"dense"}


class Checks:
    """Looks at every row of a local store and at its cache.

    Args:
        store: an open store.
    """

    def __init__(self, store: "LocalStore") -> None:
        self._store = store
        self._problems: list[str] = []
        self._unusable: list[int] = []
        self._misplaced: list[int] = []
        self._broken_cache = False

    def run(self, content: bool, repair: bool) -> list[str]:
        """Check all; repair what can be; one line for each thing that was wrong."""
        store = self._store
        with store.database.reading() as session:
            head = Head.read(session)
            if head is None:
                raise StoreError(f"{store.uri} is empty")
            rows = Rows(session, head)
            for line in session.query("PRAGMA integrity_check(20)"):
                if line[0] != "ok":
                    self._problems.append(f"database: {line[0]}")
            self._tables(rows, content)
            self._layout(head)
            if not self._unusable:
                self._groups(rows)
                self._cache(rows)
        if repair and self._problems:
            self._repair()
        return self._problems

    def _tables(self, rows: Rows, content: bool) -> None:
        counted = rows.session.query("SELECT count(*) FROM items")[0][0]
        if counted != len(rows):
            self._problems.append(f"database: {counted:,} items where {len(rows):,} are noted")
        for table in dict.fromkeys((rows.table, rows.own_table)):
            orphans = rows.session.query(
                f"SELECT count(*) FROM {table} WHERE id NOT IN (SELECT id FROM items)"
            )[0][0]
            if orphans:
                self._problems.append(f"database: {orphans:,} vectors of no item")
            self._items(rows, table, content and table == rows.table)

    def _items(self, rows: Rows, table: str, content: bool) -> None:
        sql = (
            "SELECT i.id, i.path, i.size, i.mtime_ns, i.metadata, i.source, i.digest, i.generation,"
            f" v.digest, v.vector, v.profile FROM items i LEFT JOIN {table} v ON v.id = i.id "
            "ORDER BY i.id"
        )
        cursor = rows.session.db.execute(sql)
        while part := cursor.fetchmany(_BLOCK_ROWS):
            for row in part:
                reason = _wrong_row(row, rows.head)
                if reason is None and content:
                    reason = wrong_content(item_of(row))
                    if reason is not None:
                        self._problems.append(f"{row[1]}: {reason}")
                elif reason is not None and int(row[0]) not in self._unusable:
                    self._problems.append(f"{row[1]}: {reason}")
                    self._unusable.append(int(row[0]))

    def _groups(self, rows: Rows) -> None:
        if rows.head.grouping is None:
            return
        groups = LocalGroups(rows.session, rows.head, rows.head.grouping)
        found: dict[int, str] = {}
        for number, problem in groups.problems():
            found.setdefault(number, problem)
        for item in rows.get(list(found)):
            self._problems.append(f"{item.place.path}: {found[item.id]}")
            self._misplaced.append(item.id)

    def _layout(self, head: Head) -> None:
        names = {name for name, _, _ in head.layout}
        if not head.known:
            return
        form = head.run.form
        if names != profile_parts(form):
            held = ", ".join(sorted(names)) or "nothing"
            self._problems.append(f"profiles hold {held}, which refinement {form or 'none'} lacks")

    def _cache(self, rows: Rows) -> None:
        for number in self._store.cache.numbers():
            folder = self._store.folder / f"{PREFIX}{number}"
            if number > rows.head.generation or not _is_own(folder, rows.head):
                continue  # a kill left it; nobody reads it
            try:
                base = read_base(folder, rows.head)
                for problem in _differences(base, rows):
                    raise StoreError(f"{folder} is damaged: {problem}")
            except (StoreError, ValueError, IndexError) as error:
                self._problems.append(f"cache: {error}")
                self._broken_cache = True
            return

    def _repair(self) -> None:
        store = self._store
        with store.database.transaction() as session:
            head = Head.read(session)
            assert head is not None
            rows = Rows(session, head)
            for table in {rows.table, rows.own_table}:
                session.db.execute(f"DELETE FROM {table} WHERE id NOT IN (SELECT id FROM items)")
        if self._unusable:
            store.apply(Changes(removed=self._unusable))
        if head.grouping is not None:
            with store.database.transaction() as session:
                generation = session.generation() + 1
                misplaced = Rows(session, head).get(self._misplaced)
                LocalGroups(session, head, head.grouping).mend(misplaced, generation)
                session.set_fact("generation", generation)
        with store.database.transaction() as session:
            session.db.execute("UPDATE totals SET images = (SELECT count(*) FROM items)")
        store.cache.forget()
        store.finish()


def _wrong_row(row: tuple[object, ...], head: Head) -> str | None:
    """Why an item cannot be used, or None."""
    digest, generation, of, vector, profile = row[6:]
    try:
        item = item_of(row)
        if not isinstance(item.place.metadata, dict) or not item.place.path or item.place.size < 0:
            raise ValueError
    except (ValueError, TypeError):
        return "its path, size or metadata cannot be read"
    if not isinstance(generation, int) or generation > head.generation:
        return "it is newer than the store"
    if not isinstance(vector, bytes) or not isinstance(profile, bytes):
        return "it has no vector"
    if of != digest:
        return "its vector is of another content"
    if len(vector) != head.coding.bytes:
        return f"its vector has {len(vector)} bytes, not {head.coding.bytes}"
    numbers = head.coding.vectors(np.frombuffer(vector, head.coding.dtype)[None])[0]
    if not np.isfinite(numbers).all():
        return "its vector is not finite"
    length = float(np.linalg.norm(numbers))
    if abs(length - 1) > UNIT[head.storage]:
        return f"its vector has the length {length:.4g}, not 1"
    if len(profile) != head.profile_bytes:
        return f"its profile has {len(profile)} bytes, not {head.profile_bytes}"
    start = 0
    for name, kind, width in head.layout:
        values = np.frombuffer(profile, np.dtype(kind), width, start)
        start += values.nbytes
        whole = values.dtype.kind in "iu"
        if (values < 0).any() if whole else not np.isfinite(values.astype(np.float32)).all():
            return f"its profile is not usable ({name})"
    return None


def profile_parts(form: str) -> set[str]:
    """The arrays that a profile of a form of refinement consists of; none where it is empty."""
    return _PARTS.get(form, _DENSE) if form else set()


def wrong_content(item: Item) -> str | None:
    """Why a picture is not what was indexed, or None; items of features alone have none."""
    if item.place.size == 0 or not item.place.path.startswith("/"):
        return None
    try:
        found = content_digest(Path(item.place.path).read_bytes())
    except OSError as error:
        return f"the picture cannot be read ({error.strerror}): mmref index --prune forgets it"
    same = found == item.digest
    return None if same else "the picture has changed: mmref index brings it up to date"


def _are_near(found: npt.NDArray[np.float32], vector: npt.NDArray[np.float32]) -> bool:
    """Whether one of these is as good as the vector: of many that are alike not all are found."""
    return bool((found @ vector > vector @ vector - _ALIKE).any())


def _is_own(folder: Path, head: Head) -> bool:
    """Whether a cache folder says that it is of this edition, or says nothing that can be read."""
    try:
        stamp = json.loads((folder / "stamp.json").read_text(encoding="utf-8"))
        return (stamp["edition"], stamp["storage"]) == (head.edition, head.storage)
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _differences(base: Base, rows: Rows) -> Iterator[str]:
    """What the database holds otherwise than a base of an earlier generation, or the same."""
    query = rows.session.query
    newer = {
        row[0] for row in query("SELECT id FROM items WHERE generation > ?", (base.generation,))
    }
    seen = 0
    for block in rows.blocks():
        old = np.flatnonzero([int(number) not in newer for number in block.ids])
        ids = block.ids[old]
        spots = np.searchsorted(base.ids, ids)
        if (spots >= len(base)).any() or not np.array_equal(base.ids[spots], ids):
            yield "it lacks an item"
            return
        same = np.array_equal(base.packed[spots], block.packed[old])
        same = same and all(
            np.array_equal(base.profiles[name][spots], values[old])
            for name, values in block.profiles.items()
        )
        if not same:
            yield "a vector or profile differs"
        for spot, row in zip(spots.tolist(), old.tolist(), strict=True):
            item = {n: v for n, v in block.columns[row].items() if n not in base.columns.left_out}
            if item != base.columns.row(spot):
                yield f"the columns of item {base.ids[spot]} differ"
                return
        seen += len(ids)
    gone = {
        row[0] for row in query("SELECT id FROM removed WHERE generation > ?", (base.generation,))
    }
    left = len(base) - seen - sum(1 for number in base.ids.tolist() if number in gone | newer)
    if left:
        yield f"it holds {left:,} items too many"
    if base.codes is not None:
        for row in np.linspace(0, len(base) - 1, _OWN_SEARCHES).astype(int):
            vector = base.take(row[None])[0]
            found = base.codes.nearest(vector, base.codes.effort.fetch)
            if row not in found and not _are_near(base.take(found), vector):
                yield "its codes do not find a vector by itself"
                return
