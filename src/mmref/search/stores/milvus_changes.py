"""The rows that a transaction of a Milvus store writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count as counting
from typing import Any

import numpy as np

from mmref.errors import StoreError
from mmref.search.records import Changes, Record
from mmref.search.stores.milvus_groups import own_fields, regrouped
from mmref.search.stores.milvus_rows import (
    ALIVE,
    MilvusHead,
    key_of,
    packed_profile,
    place_fields,
    rounded,
)
from mmref.search.stores.milvus_view import MilvusView
from mmref.search.stores.rows import Layout, layout_of


@dataclass(frozen=True)
class Planned:
    """What is to be written.

    Attributes:
        rows: new versions of items, and old ones that die, by the generation that follows.
        more: how many items there are more, or less, then.
        next_id: the number of the next new item.
        layout: the arrays of a profile, decided by the first item.
    """

    rows: list[dict[str, Any]]
    more: int
    next_id: int
    layout: Layout | None


def planned(changes: Changes, view: MilvusView, head: MilvusHead) -> Planned:
    """The rows that bring a store from the generation of a head to the next.

    Args:
        changes: what is to change.
        view: the generation of now.
        head: its head.

    Raises:
        ValueError: a vector or profile is not of the run.
        StoreError: a text is longer than Milvus keeps, or a path belongs to another item.
    """
    following = head.generation + 1
    layout = head.layout
    if layout is None and changes.records:
        layout = layout_of(changes.records[0].profile)
    fresh = _fresh_fields(changes.records, head, layout or [])
    numbers, next_id = _numbers(changes, view, head.next_id)
    placed = {int(number): place for number, place in changes.placed}
    touched = {*map(int, changes.removed), *placed, *(n for n in numbers if n < head.next_id)}
    old = {int(row["id"]): row for row in view.rows_of(sorted(touched), head.fields)}
    new = {
        number: {**row, **place_fields(placed[number])}
        for number, row in old.items()
        if number in placed and number not in numbers
    }
    new |= {number: {**fresh[record], "id": number} for number, record in numbers.items()}
    if head.grouping is not None:
        old |= regrouped(old, new, view, head, layout or [])
    rows = [{**row, "died": following} for row in old.values()]
    rows += [{**row, **_born(number, following)} for number, row in new.items()]
    return Planned(rows, len(new) - len(old), next_id, layout)


def _fresh_fields(
    records: Sequence[Record], head: MilvusHead, layout: Layout
) -> list[dict[str, Any]]:
    """The fields of new rows, but for their numbers."""
    if not records:
        return []
    if any(record.vector.shape != (head.run.dimension,) for record in records):
        raise ValueError(f"a vector must be {head.run.dimension} finite numbers")
    vectors = rounded(np.stack([record.vector for record in records]), head.coding)
    rows: list[dict[str, Any]] = [
        {
            **place_fields(record.place),
            "digest": record.digest,
            "profile": packed_profile(record.profile, layout),
            "vector": vector,
        }
        for record, vector in zip(records, vectors, strict=True)
    ]
    if head.grouping is not None:
        rows = [row | own_fields(row, head.coding) for row in rows]
    return rows


def _numbers(changes: Changes, view: MilvusView, next_id: int) -> tuple[dict[int, int], int]:
    """For each item that is written, by id, its record; and the next free id."""
    placed = {place.path: int(number) for number, place in changes.placed}
    paths = [*placed, *(record.place.path for record in changes.records)]
    gone = {*map(int, changes.removed), *placed.values()}
    held = {path: item.id for path, item in view.at(paths).items() if item.id not in gone}
    if taken := held.keys() & placed.keys():
        raise StoreError(f"{min(taken)} is the path of another item: index it again")
    known = held | placed
    numbers: dict[int, int] = {}
    free = counting(next_id)
    for row, record in enumerate(changes.records):
        if record.place.path not in known:
            known[record.place.path] = next_id = next(free)
            next_id += 1
        numbers[known[record.place.path]] = row
    return numbers, next_id


def _born(number: int, generation: int) -> dict[str, Any]:
    return {"pk": key_of(number, generation), "id": number, "born": generation, "died": ALIVE}
