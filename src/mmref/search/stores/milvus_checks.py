"""What ``mmref store verify`` looks at in a Milvus store, and what it can repair."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmref.errors import StoreError
from mmref.search.filters import columns_of
from mmref.search.groups.grouping import MOST_IMAGES
from mmref.search.records import Changes
from mmref.search.stores.checks import UNIT, profile_parts, wrong_content
from mmref.search.stores.milvus_filter import FIELD, typed_columns
from mmref.search.stores.milvus_groups import wrong_rows
from mmref.search.stores.milvus_migration import in_parts
from mmref.search.stores.milvus_rows import (
    ALIVE,
    MilvusHead,
    item_of,
    own_vectors_of,
    path_key,
    profiles_of,
)

if TYPE_CHECKING:
    from mmref.search.stores.milvus import MilvusStore


class MilvusChecks:
    """Looks at every row of a Milvus store.

    Args:
        store: an open store.
    """

    def __init__(self, store: "MilvusStore") -> None:
        self._store = store
        self._problems: list[str] = []
        self._unusable: list[int] = []
        self._doubled: list[int] = []
        self._groups: dict[str, list[int]] = {}
        self._misplaced: list[int] = []

    def run(self, content: bool, repair: bool) -> list[str]:
        """Check all; repair what can be; one line for each thing that was wrong."""
        _, head = self._store.newest()
        seen = self._rows(content)
        if seen != head.images:
            self._problems.append(f"{seen:,} items where {head.images:,} are noted")
        self._layout(head)
        if head.grouping is not None and not self._unusable:
            self._shared(head)
        self._unfinished(head)
        if repair and self._problems:
            self._repair()
        return self._problems

    def _rows(self, content: bool) -> int:
        seen, keys = 0, []
        with self._store.view() as view:
            _, head = self._store.newest()
            for window in view.windows(head.fields):
                last = None
                for row in window:
                    if row["id"] == last:
                        self._problems.append(f"{row['path']}: it is there twice")
                        self._doubled.append(int(row["pk"]))
                        continue
                    last = row["id"]
                    seen += 1
                    keys.append(int(row["path_key"]))
                    self._row(row, head, content)
                    if head.grouping is not None:
                        self._groups.setdefault(row["grp"], []).append(int(row["id"]))
        twice = len(keys) - len(np.unique(np.array(keys, dtype=np.int64)))
        if twice:
            self._problems.append(f"{twice:,} paths stand in two items")
        return seen

    def _shared(self, head: MilvusHead) -> None:
        """Compare the vectors of groups with what these make of what was encoded."""
        large = {key for key, ids in self._groups.items() if len(ids) > MOST_IMAGES}
        alone = [number for key in ("", *large) for number in self._groups.pop(key, [])]
        parts = [*([number] for number in alone), *self._groups.values()]
        with self._store.view() as view:
            for ids in in_parts(parts, MOST_IMAGES):
                rows = list(view.rows_of(ids, head.fields))
                for row, reason in wrong_rows(rows, head, self._store.uri, large):
                    self._problems.append(f"{row['path']}: {reason}")
                    self._misplaced.append(int(row["id"]))

    def _row(self, row: Mapping[str, Any], head: MilvusHead, content: bool) -> None:
        reason = _wrong_row(row, head, self._store.uri)
        if reason is not None:
            self._problems.append(f"{row['path']}: {reason}")
            self._unusable.append(int(row["id"]))
        elif content:
            reason = wrong_content(item_of(row))
            if reason is not None:
                self._problems.append(f"{row['path']}: {reason}")

    def _layout(self, head: MilvusHead) -> None:
        if head.layout is None:
            return
        form = head.run.form
        names = {name for name, _, _ in head.layout}
        if names != profile_parts(form):
            held = ", ".join(sorted(names)) or "nothing"
            self._problems.append(f"profiles hold {held}, which refinement {form or 'none'} lacks")

    def _unfinished(self, head: MilvusHead) -> None:
        """Rows of a transaction that has not ended; of a reader's view they may be under way."""
        generation = head.generation
        _, now = self._store.newest()
        where = f"((born > {generation}) or ((died > {generation}) and (died < {ALIVE})))"
        name = self._store.collection_of(head.edition)
        if now.generation == generation and self._store.writes:
            rows = self._store.connection.count(name, where)
            if rows:
                self._problems.append(f"{rows:,} rows of a transaction that did not end")

    def _repair(self) -> None:
        store = self._store
        store.clear_away()
        store.delete_rows(self._doubled)
        store.commit(replace(store.newest()[1], written=-1))  # the deletions are to be seen
        if self._unusable or self._misplaced:
            places = [(item.id, item.place) for item in store.get(self._misplaced)]
            store.apply(Changes(placed=places, removed=sorted(set(self._unusable))))
        with store.view() as view:
            images = sum(len(window) for window in view.windows(("id",)))
        _, head = store.newest()
        store.commit(replace(head, images=images))


def _wrong_row(row: Mapping[str, Any], head: MilvusHead, name: str) -> str | None:
    """Why an item cannot be used, or None."""
    try:
        item = item_of(row)
        place = item.place
        if not isinstance(place.metadata, dict) or not place.path or place.size < 0:
            raise ValueError
    except (ValueError, TypeError):
        return "its path, size or metadata cannot be read"
    if int(row["path_key"]) != path_key(place.path):
        return "it cannot be found by its path"
    if row[FIELD] != typed_columns(columns_of(place)):
        return "filters see other columns than it has"
    vector = np.asarray(row["vector"], dtype=np.float32)
    if vector.shape != (head.run.dimension,) or not np.isfinite(vector).all():
        return "its vector is not finite"
    length = float(np.linalg.norm(vector))
    if abs(length - 1) > UNIT[head.storage]:
        return f"its vector has the length {length:.4g}, not 1"
    try:
        arrays = profiles_of([row["profile"]], head.layout, name)
        if head.grouping is not None:
            own_vectors_of([row], head.coding, name)
            profiles_of([row["own_profile"]], head.layout, name)
    except StoreError:
        return "its profile, or its own vector, has a wrong length"
    for part, values in arrays.items():
        whole = values.dtype.kind in "iu"
        if (values < 0).any() if whole else not np.isfinite(values.astype(np.float32)).all():
            return f"its profile is not usable ({part})"
    return None
