"""Groups of a local store: what was encoded of each image, beside what it is found by.

A grouped edition has two tables: ``own_E`` holds each image's own vector and profile and its group,
``vectors_E`` what searches see, which is made of the group's own vectors
(:mod:`mmref.search.groups.sharing`). Whatever changes a group makes its vectors anew in the same
transaction.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mmref.search.groups.grouping import MOST_IMAGES, Grouping, group_facts
from mmref.search.groups.sharing import shared_profiles, shared_vectors
from mmref.search.records import Arrays, Item, Place
from mmref.search.stores.database import Session
from mmref.search.stores.rows import ITEM, Head, Rows, item_of

TOLERANCE = {"fp32": 1e-5, "fp16": 2e-3, "int8": 2e-2}


class LocalGroups:
    """The groups of an edition, within a transaction.

    Args:
        session: the transaction.
        head: the facts of the edition.
        grouping: the edition's.
    """

    def __init__(self, session: Session, head: Head, grouping: Grouping) -> None:
        self._session = session
        self._head = head
        self._grouping = grouping
        self._rows = Rows(session, head)
        self._own, self._table = self._rows.own_table, self._rows.table
        self._touched: Counter[str] = Counter()  # how many images were put into each

    # ------------------------------------------------------------------ changes

    def remove(self, ids: Iterable[int]) -> None:
        """Forget items."""
        numbers = list(map(int, ids))
        self._touch(*self._rows.groups(numbers).values())
        pairs = [(number,) for number in numbers]
        self._session.db.executemany(f"DELETE FROM {self._own} WHERE id = ?", pairs)

    def put(self, number: int, place: Place, digest: str, vector: bytes, profile: bytes) -> None:
        """Take note of what was encoded of an item; another content leaves its cluster."""
        old = self._session.query(f"SELECT grp, digest FROM {self._own} WHERE id = ?", (number,))
        before, known = old[0] if old else (None, None)
        now = self._grouping.key(place, before if known == digest else None)
        self._touch(before, now, joined=now)
        self._session.db.execute(
            f"INSERT OR REPLACE INTO {self._own} VALUES (?, ?, ?, ?, ?)",
            (number, digest, vector, profile, now),
        )

    def move(self, number: int, place: Place) -> None:
        """An item has another place or other metadata, and so perhaps another group."""
        before = self._rows.groups([number]).get(number)
        now = self._grouping.key(place, before)
        self._touch(before, now, joined=None if now == before else now)
        if now != before:
            sql = f"UPDATE {self._own} SET grp = ? WHERE id = ?"
            self._session.db.execute(sql, (now, number))
            self.part([number])  # a group that is too large shares nothing with it

    def part(self, ids: Iterable[int]) -> None:
        """Let items be found by their own vectors."""
        columns = ("vector", "profile")
        chosen = [f"{c} = (SELECT {c} FROM {self._own} o WHERE o.id = v.id)" for c in columns]
        sql = f"UPDATE {self._table} AS v SET {', '.join(chosen)} WHERE id = ?"
        self._session.db.executemany(sql, [(int(number),) for number in ids])

    def mend(self, items: Iterable[Item], generation: int) -> None:
        """Put items into the groups that they belong to, and make all groups' vectors anew."""
        mended = list(items)
        for item in mended:
            self.move(item.id, item.place)
        self.part(item.id for item in mended)
        self._changed((item.id for item in mended), generation)
        self._touch(*self.keys())
        self.share(generation)

    def _touch(self, *keys: str | None, joined: str | None = None) -> None:
        for key in keys:
            if key is not None:
                self._touched[key] += key == joined

    def share(self, generation: int) -> None:
        """Make the vectors of all groups that were touched, and note whose have changed."""
        for key in sorted(self._touched):
            if self._size(key) - self._touched[key] > MOST_IMAGES:
                continue  # it was too large before, too
            self._changed(self.share_group(key), generation)
        self._touched.clear()

    def _changed(self, ids: Iterable[int], generation: int) -> None:
        self._session.db.executemany(
            "UPDATE items SET generation = ? WHERE id = ?",
            [(generation, int(number)) for number in ids],
        )

    def share_group(self, key: str) -> list[int]:
        """Make one group's vectors; the ids of those that have changed."""
        found = self._members(key)
        made = self._made(found)
        changed = [
            (vector, profile, row[0])
            for row, vector, profile in zip(found, *made, strict=True)
            if (vector, profile) != (row[3], row[4])
        ]
        self._session.db.executemany(
            f"UPDATE {self._table} SET vector = ?, profile = ? WHERE id = ?", changed
        )
        return [int(row[2]) for row in changed]

    def _size(self, key: str) -> int:
        sql = f"SELECT count(*) FROM {self._own} WHERE grp = ?"
        return int(self._session.query(sql, (key,))[0][0])

    def _members(self, key: str) -> list[Any]:
        return self._session.query(
            f"SELECT o.id, o.vector, o.profile, v.vector, v.profile FROM {self._own} o "
            f"JOIN {self._table} v ON v.id = o.id WHERE o.grp = ? ORDER BY o.id",
            (key,),
        )

    def _made(self, members: list[Any]) -> tuple[list[bytes], list[bytes]]:
        """What the members of a group are to be found by."""
        vectors, profiles = [row[1] for row in members], [row[2] for row in members]
        if not 1 < len(members) <= MOST_IMAGES:
            return vectors, profiles
        coding, share = self._head.coding, self._grouping.share
        packed, arrays = self._rows.decoded(vectors, profiles)
        shared = shared_profiles(arrays, share, self._head.run.form)
        made = coding.packed(shared_vectors(coding.vectors(packed), share))
        return [row.tobytes() for row in made], self._packed(shared, len(members))

    def _packed(self, profiles: Arrays, count: int) -> list[bytes]:
        names = [name for name, _, _ in self._head.layout]
        return [b"".join(profiles[name][row].tobytes() for name in names) for row in range(count)]

    # ------------------------------------------------------------------ all of them

    def keys(self) -> list[str]:
        """All groups."""
        sql = f"SELECT DISTINCT grp FROM {self._own} WHERE grp IS NOT NULL ORDER BY grp"
        return [row[0] for row in self._session.query(sql)]

    def facts(self) -> dict[str, Any]:
        """Plain facts, for ``mmref store info``."""
        sizes = np.array(
            self._session.query(
                f"SELECT count(*) FROM {self._own} WHERE grp IS NOT NULL GROUP BY grp"
            ),
            dtype=np.int64,
        ).ravel()
        return group_facts(self._grouping, sizes, len(self._rows))

    def problems(self) -> Iterator[tuple[int, str]]:
        """The id of each item whose group, or whose vector, is not what it should be, and why."""
        columns = ", ".join(f"i.{name}" for name in ITEM.split(", "))
        cursor = self._session.db.execute(
            f"SELECT {columns}, o.grp FROM items i JOIN {self._own} o ON o.id = i.id ORDER BY i.id"
        )
        for row in cursor:
            item = item_of(row[:7])
            if row[7] != self._grouping.key(item.place, row[7]):
                yield item.id, "it is in a group that is not its own"
        alone = self._session.query(
            f"SELECT o.id FROM {self._own} o JOIN {self._table} v ON v.id = o.id "
            "WHERE o.grp IS NULL AND (o.vector <> v.vector OR o.profile <> v.profile)"
        )
        for row in alone:
            yield int(row[0]), "it stands alone, and its vector is another than its own"
        coding = self._head.coding
        near = TOLERANCE[self._head.storage]
        for key in self.keys():
            members = self._members(key)
            vectors, profiles = self._made(members)
            wanted, wanted_profiles = self._rows.decoded(vectors, profiles)
            held, held_profiles = self._rows.decoded(
                [row[3] for row in members], [row[4] for row in members]
            )
            same = np.isclose(coding.vectors(wanted), coding.vectors(held), atol=near).all(axis=1)
            for name, values in wanted_profiles.items():
                if name != "indices":  # equal posteriors may change places
                    same &= np.isclose(values, held_profiles[name], atol=TOLERANCE["fp16"]).all(1)
            for row in np.flatnonzero(~same):
                yield int(members[row][0]), "its vector is not the one that its group shares"
