"""The rows of a local store: items, and the vectors and profiles of one edition."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mmref.errors import StoreError
from mmref.search.filters import columns_of
from mmref.search.groups.grouping import Grouping
from mmref.search.records import Arrays, Item, Place, RunIdentity
from mmref.search.stores.coding import Coding
from mmref.search.stores.database import Session

ITEM = "id, path, size, mtime_ns, metadata, source, digest"
_PLACE = "i.path, i.size, i.mtime_ns, i.metadata, i.source"
_BLOCK_ROWS = 4096
_SQL_VARIABLES = 500

Ids = npt.NDArray[np.int64]
# (name, dtype, numbers per item) of each array that makes up a profile
Layout = list[tuple[str, str, int]]


@dataclass(frozen=True)
class Head:
    """The facts of one generation.

    Attributes:
        store: the store's own id.
        generation: number of write transactions so far.
        run: the run that made the vectors.
        storage: how vectors are kept.
        edition: number of the table of vectors.
        layout: the arrays of a profile; empty when there are none.
        known: whether the layout is decided, by the first item that was written.
        forgotten: what was removed up to this generation is not noted any more.
        grouping: which images share a vector, or None.
    """

    store: str
    generation: int
    run: RunIdentity
    storage: str
    edition: int
    layout: Layout
    known: bool
    forgotten: int = 0
    grouping: Grouping | None = None

    @classmethod
    def read(cls, session: Session) -> Self | None:
        """The head of a session's generation; None of a store that has no run yet."""
        facts = session.facts()
        if "run" not in facts:
            return None
        return cls.of(facts)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """The head that facts describe."""
        layout = facts.get("layout")
        return cls(
            str(facts["store"]),
            int(facts["generation"]),
            RunIdentity.from_dict(facts["run"]),
            str(facts["storage"]),
            int(facts["edition"]),
            as_layout(layout or ()),
            layout is not None,
            int(facts.get("forgotten", 0)),
            Grouping.from_dict(facts.get("grouping")),
        )

    def following(self) -> "Head":
        """The head of the transaction that comes next."""
        return replace(self, generation=self.generation + 1)

    @cached_property
    def coding(self) -> Coding:
        """How vectors become bytes."""
        return Coding(self.storage, self.run.dimension)

    @property
    def profile_bytes(self) -> int:
        """Bytes of one profile."""
        return sum(np.dtype(kind).itemsize * width for _, kind, width in self.layout)


@dataclass(frozen=True)
class Block:
    """Some items by rising id.

    Attributes:
        ids: int64 [n].
        packed: stored vectors, [n, width].
        profiles: arrays [n, ...] by name.
        columns: what a filter sees of each.
    """

    ids: Ids
    packed: npt.NDArray[Any]
    profiles: Arrays
    columns: list[dict[str, Any]]


class Rows:
    """Reads items, vectors and profiles within one session.

    Args:
        session: a transaction.
        head: the facts of its generation, or of the edition to read.
    """

    def __init__(self, session: Session, head: Head) -> None:
        self.session = session
        self.head = head
        self.table = f"vectors_{head.edition}"
        self.own_table = self.table if head.grouping is None else f"own_{head.edition}"

    def __len__(self) -> int:
        """Number of items."""
        return self.session.images()

    def items(self, after: int = 0) -> Iterator[Item]:
        """Every item by rising id."""
        sql = f"SELECT {ITEM} FROM items WHERE id > ? ORDER BY id LIMIT {_BLOCK_ROWS}"
        while rows := self.session.query(sql, (after,)):
            yield from map(item_of, rows)
            after = int(rows[-1][0])

    def get(self, ids: Sequence[int]) -> list[Item]:
        """These items in this order; those that are gone are left out."""
        rows = self._chosen(f"SELECT {ITEM} FROM items WHERE id", ids)
        found = {item.id: item for item in map(item_of, rows)}
        return [found[int(number)] for number in ids if int(number) in found]

    def find(self, name: str) -> Item | None:
        """The item of this path or, for a number, of this id."""
        query = self.session.query
        try:
            rows = query(f"SELECT {ITEM} FROM items WHERE path = ?", (name,))
        except UnicodeEncodeError:  # a name of a file that is not UTF-8; no item has such
            return None
        if not rows and name.isascii() and name.isdecimal() and len(name) < 19:
            rows = query(f"SELECT {ITEM} FROM items WHERE id = ?", (int(name),))
        return item_of(rows[0]) if rows else None

    def at(self, paths: Sequence[str]) -> dict[str, Item]:
        """The items of these paths by path."""
        rows = self._chosen(f"SELECT {ITEM} FROM items WHERE path", paths)
        return {item.place.path: item for item in map(item_of, rows)}

    def find_digest(self, digest: str) -> list[int]:
        """Ids of the items with this content, rising."""
        sql = "SELECT id FROM items WHERE digest = ? ORDER BY id"
        return [int(row[0]) for row in self.session.query(sql, (digest,))]

    def ids_where(self, condition: str, values: Sequence[Any]) -> Ids:
        """Ids of the items for which a condition of SQLite holds, rising."""
        sql = f"SELECT id FROM items WHERE {condition} ORDER BY id"
        cursor = self.session.db.execute(sql, values)
        return np.fromiter((row[0] for row in cursor), np.int64)

    # ------------------------------------------------------------------ vectors

    def stored(self, ids: Sequence[int], own: bool = False) -> tuple[npt.NDArray[Any], Arrays]:
        """Packed vectors [n, width] and profiles of these items in this order.

        Args:
            ids: of the items.
            own: what was encoded of each, not what it shares with its group.

        Raises:
            StoreError: an item is gone.
        """
        table = self.own_table if own else self.table
        sql = f"SELECT id, vector, profile FROM {table} WHERE id"
        rows = {row[0]: row for row in self._chosen(sql, ids)}
        missing = [number for number in ids if int(number) not in rows]
        if missing:
            raise StoreError(f"{self.session.name} holds no item {missing[0]} any more")
        wanted = [rows[int(number)] for number in ids]
        return self.decoded([row[1] for row in wanted], [row[2] for row in wanted])

    def groups(self, ids: Sequence[int]) -> dict[int, str]:
        """The groups of these items by id; items that stand alone are left out."""
        if self.head.grouping is None:
            return {}
        sql = f"SELECT id, grp FROM {self.own_table} WHERE grp IS NOT NULL AND id"
        return {int(row[0]): row[1] for row in self._chosen(sql, ids)}

    def blocks(self, after: int | None = None) -> Iterator[Block]:
        """Items with vectors in blocks, by rising id.

        Args:
            after: only those that were written after this generation.
        """
        since = "" if after is None else "INDEXED BY items_generation"
        where = "" if after is None else f"WHERE i.generation > {after}"
        cursor = self.session.db.execute(
            f"SELECT i.id, v.vector, v.profile, {_PLACE} FROM items i {since} "
            f"JOIN {self.table} v ON v.id = i.id {where} ORDER BY i.id"
        )
        while rows := cursor.fetchmany(_BLOCK_ROWS):
            packed, profiles = self.decoded([row[1] for row in rows], [row[2] for row in rows])
            ids = np.array([row[0] for row in rows], dtype=np.int64)
            yield Block(ids, packed, profiles, [columns_of(_place(row[3:])) for row in rows])

    def joined(self, blocks: Iterable[Block]) -> Block:
        """Blocks as one; zero rows when there are none."""
        empty, none = self.decoded([], [])
        parts = [Block(np.zeros(0, np.int64), empty, none, []), *blocks]
        return Block(
            np.concatenate([part.ids for part in parts]),
            np.concatenate([part.packed for part in parts]),
            {name: np.concatenate([p.profiles[name] for p in parts]) for name in none},
            [columns for part in parts for columns in part.columns],
        )

    def decoded(
        self, vectors: Sequence[bytes], profiles: Sequence[bytes]
    ) -> tuple[npt.NDArray[Any], Arrays]:
        """Blobs as packed vectors and profiles.

        Raises:
            StoreError: a blob has not the length that it should have.
        """
        coding, arrays = self.head.coding, {}
        start = 0
        if any(len(blob) != self.head.profile_bytes for blob in profiles):
            raise self._wrong_length()
        for name, kind, width in self.head.layout:
            dtype = np.dtype(kind)
            end = start + dtype.itemsize * width
            arrays[name] = self._stacked([blob[start:end] for blob in profiles], dtype, width)
            start = end
        return self._stacked(vectors, coding.dtype, coding.width), arrays

    def _stacked(
        self, blobs: Sequence[bytes], dtype: np.dtype[Any], width: int
    ) -> npt.NDArray[Any]:
        if any(len(blob) != dtype.itemsize * width for blob in blobs):
            raise self._wrong_length()
        return np.frombuffer(b"".join(blobs), dtype).reshape(len(blobs), width)

    def _wrong_length(self) -> StoreError:
        name = self.session.name
        return StoreError(
            f"{name} is damaged (a stored vector or profile has a wrong length): find out which "
            f"with mmref store verify {name}, and mend it with --repair"
        )

    def _chosen(self, sql: str, keys: Sequence[Any]) -> Iterator[Any]:
        """Rows whose column, with which ``sql`` ends, has one of these values; in any order."""
        for start in range(0, len(keys), _SQL_VARIABLES):
            part = [
                key if isinstance(key, str) else int(key)
                for key in keys[start : start + _SQL_VARIABLES]
            ]
            yield from self.session.query(f"{sql} IN ({','.join('?' * len(part))})", part)


def as_layout(value: Iterable[Sequence[Any]]) -> Layout:
    """A layout from JSON."""
    return [(str(name), str(kind), int(width)) for name, kind, width in value]


def layout_of(profile: Mapping[str, npt.NDArray[Any]] | None) -> Layout:
    """The arrays of one item's profile, by name."""
    arrays = sorted((profile or {}).items())
    return [(name, array.dtype.str, int(array.size)) for name, array in arrays]


def encoded_profile(profile: Mapping[str, npt.NDArray[Any]] | None, layout: Layout) -> bytes:
    """One item's profile as bytes.

    Raises:
        ValueError: it is not of the store's layout.
    """
    if layout_of(profile) != layout:
        raise ValueError(f"a profile of {layout_of(profile)} does not fit {layout}")
    if not profile:
        return b""
    return b"".join(np.ascontiguousarray(profile[name]).tobytes() for name, _, _ in layout)


def values_of(place: Place) -> tuple[str, int, int, str, str]:
    """A place as the columns path, size, mtime_ns, metadata, source."""
    return (place.path, place.size, place.mtime_ns, _json(place.metadata), place.source)


def _json(value: dict[str, Any]) -> str:
    options: dict[str, Any] = {"ensure_ascii": False, "sort_keys": True, "default": str}
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError:  # no number is not JSON: it is missing
        return json.dumps(_finite(value), **options)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(part) for name, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def _place(row: Sequence[Any]) -> Place:
    path, size, mtime_ns, metadata, source = row
    return Place(path, size, mtime_ns, json.loads(metadata), source)


def item_of(row: Sequence[Any]) -> Item:
    """The item of a row of the columns ``ITEM``."""
    return Item(int(row[0]), _place(row[1:6]), row[6])
