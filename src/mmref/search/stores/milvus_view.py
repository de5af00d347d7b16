"""One generation of a Milvus store."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmref.errors import StoreError
from mmref.search.filters import Filter, columns_of
from mmref.search.groups.grouping import Grouping
from mmref.search.records import Arrays, Candidates, Item, Vector
from mmref.search.stores.milvus_connection import MOST_ROWS, Connection
from mmref.search.stores.milvus_filter import all_of, expression, is_exact, quoted
from mmref.search.stores.milvus_rows import (
    ITEM,
    MilvusHead,
    item_of,
    own_vectors_of,
    path_key,
    profiles_of,
    vectors_of,
)

WINDOW = 2000  # ids of one answer of a stream
_VECTOR_BYTES = 16 << 20  # of one answer with vectors
_KEYS = 2000  # in one expression
_MARGIN = 16
_SAME = 1e-5  # scores of the server that may be equal when they are computed exactly
_EFFORT = 128


class MilvusView:
    """See :class:`mmref.search.stores.base.View`.

    Args:
        connection: to the server.
        collection: the true name of the edition's collection.
        head: the facts of the generation.
    """

    def __init__(self, connection: Connection, collection: str, head: MilvusHead) -> None:
        self._connection = connection
        self._collection = collection
        self._head = head

    @property
    def name(self) -> str:
        """The store's address, for messages."""
        return self._connection.name

    @property
    def generation(self) -> int:
        """Number of write transactions behind what is read here."""
        return self._head.generation

    def __len__(self) -> int:
        """Number of items."""
        return self._head.images

    # ------------------------------------------------------------------ items

    def rows(self, where: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        """Rows of this generation for which an expression holds."""
        both = all_of([self._head.alive, where])
        return self._connection.query(self._collection, both, fields, self._head.written)

    def windows(
        self, fields: Sequence[str], after: int = 0, where: str | None = None
    ) -> Iterator[list[dict[str, Any]]]:
        """All rows by rising id, a window of ids at a time.

        Raises:
            StoreError: the store was compacted meanwhile, so that rows may be missing.
        """
        width = self._window(fields)
        for start in range(after + 1, self._head.next_id, width):
            ids = f"((id >= {start}) and (id < {start + width}))"
            found = self.rows(ids if where is None else all_of([ids, where]), fields)
            self._require_kept()
            if found:
                yield sorted(found, key=lambda row: int(row["id"]))

    def _window(self, fields: Sequence[str]) -> int:
        return self._vectors_at_once if {"vector", "own"} & set(fields) else WINDOW

    def _require_kept(self) -> None:
        found = self._connection.described(self._collection)
        now = None if found is None else MilvusHead.read(found[1], self._connection.name)
        if now is None or now.forgotten > self._head.generation:
            raise StoreError(
                f"{self._connection.name} was compacted or encoded anew meanwhile: run the same "
                "command again"
            )

    def items(self, after: int = 0) -> Iterator[Item]:
        """Every item with an id above ``after``, by rising id."""
        for window in self.windows(ITEM, after):
            yield from map(item_of, window)

    def get(self, ids: Sequence[int]) -> list[Item]:
        """These items in this order; those that are gone are left out."""
        found = {int(row["id"]): item_of(row) for row in self.rows_of(ids, ITEM)}
        return [found[int(number)] for number in ids if int(number) in found]

    def rows_of(self, ids: Sequence[int], fields: Sequence[str]) -> Iterator[dict[str, Any]]:
        """The rows of these items, in any order."""
        step = min(_KEYS, self._window(fields))
        unique = list(dict.fromkeys(map(int, ids)))
        for start in range(0, len(unique), step):
            yield from self.rows(f"id in {unique[start : start + step]}", fields)

    def find(self, name: str) -> Item | None:
        """The item of this path or, for a number, of this id."""
        item = self.at([name]).get(name)
        if item is None and name.isascii() and name.isdecimal() and len(name) < 19:
            item = next(iter(self.get([int(name)])), None)
        return item

    def at(self, paths: Sequence[str]) -> dict[str, Item]:
        """The items of these paths by path."""
        wanted, found = set(paths), {}
        keys = list({path_key(path) for path in wanted})
        for start in range(0, len(keys), _KEYS):
            for row in self.rows(f"path_key in {keys[start : start + _KEYS]}", ITEM):
                if row["path"] in wanted:
                    found[row["path"]] = item_of(row)
        return found

    def find_digest(self, digest: str) -> list[int]:
        """Ids of the items with this content, rising."""
        rows = self.rows(f"digest == {quoted(digest)}", ["id"])
        return sorted(int(row["id"]) for row in rows)

    # ------------------------------------------------------------------ vectors

    @property
    def _vectors_at_once(self) -> int:
        return max(1, min(WINDOW, _VECTOR_BYTES // (4 * self._head.run.dimension)))

    def vectors(self, ids: Sequence[int]) -> Vector:
        """Stored vectors in this order, float32 [n, d]."""
        rows = self._stored(ids, "vector")
        return vectors_of(rows, self._head.run.dimension)

    def profiles(self, ids: Sequence[int]) -> Arrays:
        """Stored profiles in this order, arrays [n, ...] by name."""
        return self._profiles(self._stored(ids, "profile"))

    @property
    def grouping(self) -> Grouping | None:
        """Which images share a vector, or None."""
        return self._head.grouping

    def own(self, ids: Sequence[int]) -> tuple[Vector, Arrays]:
        """What was encoded of these items, before their groups shared it."""
        if self._head.grouping is None:
            return self.vectors(ids), self.profiles(ids)
        rows = self._stored(ids, "own", "own_profile")
        vectors = own_vectors_of(rows, self._head.coding, self._connection.name)
        return vectors, self._profiles(rows, "own_profile")

    def groups(self, ids: Sequence[int]) -> dict[int, str]:
        """The groups of these items by id."""
        if self._head.grouping is None:
            return {}
        rows = self.rows_of(ids, ("id", "grp"))
        return {int(row["id"]): row["grp"] for row in rows if row["grp"]}

    def _profiles(self, rows: Sequence[dict[str, Any]], field: str = "profile") -> Arrays:
        texts = [row[field] for row in rows]
        return profiles_of(texts, self._head.layout, self._connection.name)

    def _stored(self, ids: Sequence[int], *fields: str) -> list[dict[str, Any]]:
        rows = {int(row["id"]): row for row in self.rows_of(ids, ("id", *fields))}
        missing = [number for number in ids if int(number) not in rows]
        if missing:
            raise StoreError(f"{self._connection.name} holds no item {missing[0]} any more")
        return [rows[int(number)] for number in ids]

    # ------------------------------------------------------------------ searching

    def column_names(self) -> None:
        """Not known: every item would have to be read."""

    def candidates(self, vector: Vector, count: int, where: Filter | None = None) -> Candidates:
        """The items nearest to a unit vector by cosine, with their profiles.

        Milvus finds them; scores are computed here from the stored vectors, so that they, and the
        order of equal ones, are those of a local store. Where Milvus cannot tell what passes a
        filter (text within text), or gives no list so long, the items are read one after another.
        """
        unit = np.ascontiguousarray(vector, dtype=np.float32)
        wanted = min(count, len(self))
        if where is not None and not is_exact(where.root):
            return self._best_of(self._passing(where), unit, wanted)
        condition = None if where is None else expression(where.root)
        if wanted + _MARGIN > MOST_ROWS:
            return self._best_of(self._ids(condition), unit, wanted)
        return self._nearest(unit, wanted, condition)

    def _nearest(self, unit: Vector, wanted: int, condition: str | None) -> Candidates:
        parts = [self._head.alive] if condition is None else [self._head.alive, condition]
        expected = all_of(parts)
        limit = wanted + _MARGIN
        while True:
            hits = self._connection.search(
                self._collection,
                unit,
                expected,
                limit,
                ("id", "vector", "profile"),
                self._head.written,
                {"ef": max(_EFFORT, 2 * limit), "nprobe": _EFFORT},
            )
            rows = [hit["entity"] for hit in hits]
            best = self._ranked(rows, unit, wanted)
            # Another item may score as the last one that is given does, and have a lower id.
            ended = len(hits) < limit or len(best.ids) < wanted
            if ended or float(hits[-1]["distance"]) < float(best.scores[-1]) - _SAME:
                return best
            if 2 * limit > MOST_ROWS:
                return self._best_of(self._ids(condition), unit, wanted)
            limit *= 2

    def _ranked(self, rows: list[dict[str, Any]], unit: Vector, wanted: int) -> Candidates:
        ids: npt.NDArray[np.int64] = np.array([int(row["id"]) for row in rows], dtype=np.int64)
        # Every row is added up in the same way, so equal vectors score the same.
        scores: Vector = np.einsum("ij,j->i", vectors_of(rows, len(unit)), unit)
        order = np.lexsort((ids, -scores))[:wanted]
        profiles = self._profiles([rows[row] for row in order])
        return Candidates(ids[order], scores[order], profiles)

    def _best_of(self, ids: Iterator[list[int]], unit: Vector, wanted: int) -> Candidates:
        """The best among these items, read block by block."""
        best: list[dict[str, Any]] = []
        for block in ids:
            for start in range(0, len(block), self._vectors_at_once):
                part = block[start : start + self._vectors_at_once]
                best += self.rows_of(part, ("id", "vector", "profile"))
                if len(best) > 2 * wanted + WINDOW:
                    best = self._kept(best, unit, wanted)
        return self._ranked(best, unit, wanted)

    def _kept(self, rows: list[dict[str, Any]], unit: Vector, wanted: int) -> list[dict[str, Any]]:
        by_id = {int(row["id"]): row for row in rows}
        return [by_id[number] for number in self._ranked(rows, unit, wanted).ids.tolist()]

    def _ids(self, condition: str | None) -> Iterator[list[int]]:
        for window in self.windows(("id",), where=condition):
            yield [int(row["id"]) for row in window]

    def _passing(self, where: Filter) -> Iterator[list[int]]:
        """Ids that pass a filter that Milvus knows in part; it is asked for that part."""
        for window in self.windows(ITEM, where=expression(where.root)):
            items = map(item_of, window)
            yield [item.id for item in items if where.matches(columns_of(item.place))]
