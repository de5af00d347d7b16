"""One generation of a local store."""

from collections.abc import Iterator, Sequence

import numpy as np

from mmref.search.filters import Filter
from mmref.search.groups.grouping import Grouping
from mmref.search.records import Arrays, Candidates, Item, Vector
from mmref.search.stores.cache import BehindError, Cache
from mmref.search.stores.database import Session
from mmref.search.stores.rows import Head, Rows
from mmref.search.stores.vector_index import Snapshot


class LocalView:
    """See :class:`mmref.search.stores.base.View`.

    Args:
        session: an open read transaction.
        head: the facts of its generation.
        cache: the store's cache.
    """

    def __init__(self, session: Session, head: Head, cache: Cache) -> None:
        self._session = session
        self._cache = cache
        self._rows = Rows(session, head)
        self._snapshot: Snapshot | None = None
        self._read = False  # once something was read, the generation cannot change any more

    @property
    def _reading(self) -> Rows:
        self._read = True
        return self._rows

    @property
    def generation(self) -> int:
        """Number of write transactions behind what is read here."""
        return self._reading.head.generation

    def __len__(self) -> int:
        """Number of items."""
        return len(self._reading)

    def items(self, after: int = 0) -> Iterator[Item]:
        """Every item with an id above ``after``, by rising id."""
        return self._reading.items(after)

    def get(self, ids: Sequence[int]) -> list[Item]:
        """These items in this order; those that are gone are left out."""
        return self._reading.get(ids)

    def find(self, name: str) -> Item | None:
        """The item of this path or, for a number, of this id."""
        return self._reading.find(name)

    def at(self, paths: Sequence[str]) -> dict[str, Item]:
        """The items of these paths by path."""
        return self._reading.at(paths)

    def find_digest(self, digest: str) -> list[int]:
        """Ids of the items with this content, rising."""
        return self._reading.find_digest(digest)

    def vectors(self, ids: Sequence[int]) -> Vector:
        """Stored vectors in this order, float32 [n, d]."""
        return self._reading.head.coding.vectors(self._reading.stored(ids)[0])

    def profiles(self, ids: Sequence[int]) -> Arrays:
        """Stored profiles in this order, arrays [n, ...] by name."""
        return self._reading.stored(ids)[1]

    @property
    def grouping(self) -> Grouping | None:
        """Which images share a vector, or None."""
        return self._reading.head.grouping

    def own(self, ids: Sequence[int]) -> tuple[Vector, Arrays]:
        """What was encoded of these items, before their groups shared it."""
        packed, profiles = self._reading.stored(ids, own=True)
        return self._reading.head.coding.vectors(packed), profiles

    def groups(self, ids: Sequence[int]) -> dict[int, str]:
        """The groups of these items by id."""
        return self._reading.groups(ids)

    def snapshot(self) -> Snapshot:
        """All vectors of this generation."""
        if self._snapshot is None:
            try:
                self._snapshot = self._cache.snapshot(self._rows, may_restart=not self._read)
            except BehindError:
                self._restart()
                self._snapshot = self._cache.snapshot(self._rows)
        self._read = True
        self._cache.warm(self._snapshot.base)
        return self._snapshot

    def _restart(self) -> None:
        """Go on to the newest generation: nothing was read of the old one."""
        self._session.db.execute("ROLLBACK")
        self._session.db.execute("BEGIN")
        head = Head.read(self._session)
        if head is not None:
            self._rows = Rows(self._session, head)

    def column_names(self) -> set[str]:
        """The names of the columns that items have."""
        return self.snapshot().column_names()

    def candidates(self, vector: Vector, count: int, where: Filter | None = None) -> Candidates:
        """The items nearest to a unit vector by cosine, with their profiles."""
        contiguous = np.ascontiguousarray(vector, dtype=np.float32)
        snapshot = self.snapshot()
        masks = None if where is None else snapshot.masks(where, self._rows.ids_where)
        return snapshot.candidates(contiguous, count, masks)
