"""Groups of a Milvus store: rows of a grouped edition keep what was encoded beside what is shared.

An image whose group has changed gets a new version, as any other change makes one.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mmref.search.groups.grouping import MOST_IMAGES, Grouping
from mmref.search.groups.sharing import shared_profiles, shared_vectors
from mmref.search.stores.coding import Coding
from mmref.search.stores.local_groups import TOLERANCE
from mmref.search.stores.milvus_connection import MOST_ROWS
from mmref.search.stores.milvus_filter import quoted
from mmref.search.stores.milvus_rows import (
    MilvusHead,
    item_of,
    own_vectors_of,
    packed_profile,
    packed_vector,
    profiles_of,
    rounded,
)
from mmref.search.stores.milvus_view import MilvusView
from mmref.search.stores.rows import Layout

Row = dict[str, Any]
_KEYS = 200  # in one expression


def own_fields(row: Mapping[str, Any], coding: Coding) -> Row:
    """The fields of a row whose vector and profile are those that were encoded."""
    vector = np.asarray(row["vector"], dtype=np.float32)
    return {"own": packed_vector(vector, coding), "own_profile": row["profile"]}


def group_of(
    grouping: Grouping, row: Mapping[str, Any], before: Mapping[str, Any] | None = None
) -> str:
    """The group of a row; another content than ``before`` leaves its cluster."""
    held = before["grp"] if before and before["digest"] == row["digest"] else None
    return grouping.key(item_of(row).place, held or None) or ""


def regrouped(
    old: dict[int, Row], fresh: dict[int, Row], view: MilvusView, head: MilvusHead, layout: Layout
) -> dict[int, Row]:
    """Make the groups' vectors after a change.

    Args:
        old: the versions that the change ends, by id.
        fresh: the versions that it makes; these get their groups and their vectors.
        view: the generation of now.
        head: its head.
        layout: of profiles.

    Returns:
        The versions of now of the other images whose groups have changed; those whose vectors are
        others now are added to ``fresh``, with ``pk`` and ``born`` as they were.
    """
    grouping = head.grouping
    assert grouping is not None
    touched = {row["grp"] for row in old.values()}
    for number, row in fresh.items():
        row["grp"] = group_of(grouping, row, old.get(number))
        touched.add(row["grp"])
    keys = touched - {""}
    members = _members(sorted(keys), view)
    for row in (*old.values(), *fresh.values()):
        members.setdefault(row["grp"], set())
    large = set()
    for key in keys:
        now = members[key] - old.keys() | {n for n, row in fresh.items() if row["grp"] == key}
        if min(len(members[key]), len(now)) > MOST_IMAGES:
            large.add(key)  # its images stand alone before and after
    wanted = set().union(*(members[key] for key in keys - large)) - old.keys()
    mates = {int(row["id"]): row for row in view.rows_of(sorted(wanted), head.fields)}
    made = shared_rows([*mates.values(), *fresh.values()], head, layout, view.name, large)
    for number, fields in made.items():
        if number in fresh:
            fresh[number] |= fields
        elif _differs(mates[number], fields):
            fresh[number] = mates[number] | fields
    return {number: row for number, row in mates.items() if number in fresh}


def _members(keys: Sequence[str], view: MilvusView) -> dict[str, set[int]]:
    """The images of groups; of one with more than a query gives, as many as that."""
    found: dict[str, set[int]] = {key: set() for key in keys}
    for start in range(0, len(keys), _KEYS):
        part = keys[start : start + _KEYS]
        rows = view.rows(f"grp in [{', '.join(map(quoted, part))}]", ("id", "grp"))
        if len(rows) >= MOST_ROWS:
            rows = [
                row for key in part for row in view.rows(f"grp == {quoted(key)}", ("id", "grp"))
            ]
        for row in rows:
            found[row["grp"]].add(int(row["id"]))
    return found


def _differs(row: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    vector = np.asarray(row["vector"], dtype=np.float32)
    return row["profile"] != fields["profile"] or not np.array_equal(vector, fields["vector"])


def shared_rows(
    rows: Iterable[Row],
    head: MilvusHead,
    layout: Layout,
    name: str,
    large: Collection[str] = (),
) -> dict[int, dict[str, Any]]:
    """The vector and profile, by id, that images of whole groups are to be found by.

    Args:
        rows: all images of each group, with what was encoded; others stand alone.
        head: of the edition.
        layout: of profiles.
        name: the store's, for messages.
        large: groups that share nothing.
    """
    groups: dict[str, list[Row]] = {}
    for row in rows:
        alone = row["grp"] in ("", *large)
        key = f"id {row['id']}" if alone else row["grp"]  # which is JSON, or a number
        groups.setdefault(key, []).append(row)
    return {
        number: fields
        for members in groups.values()
        for number, fields in _shared(members, head, layout, name)
    }


def _shared(
    members: Sequence[Row], head: MilvusHead, layout: Layout, name: str
) -> Iterator[tuple[int, dict[str, Any]]]:
    members = sorted(members, key=lambda row: int(row["id"]))
    vectors = own_vectors_of(members, head.coding, name)
    texts = [row["own_profile"] for row in members]
    if head.grouping is not None and 1 < len(members) <= MOST_IMAGES:
        share = head.grouping.share
        vectors = rounded(shared_vectors(vectors, share), head.coding)
        profiles = shared_profiles(profiles_of(texts, layout, name), share, head.run.form)
        texts = [
            packed_profile({part: values[row] for part, values in profiles.items()}, layout)
            for row in range(len(members))
        ]
    for row, vector, text in zip(members, vectors, texts, strict=True):
        yield int(row["id"]), {"vector": vector, "profile": text}


def wrong_rows(
    rows: Sequence[Row], head: MilvusHead, name: str, large: Collection[str] = ()
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The rows, of whole groups, that are not what their groups make of them, and why."""
    grouping = head.grouping
    assert grouping is not None
    near = TOLERANCE[head.storage]
    made = shared_rows(rows, head, head.layout or [], name, large)
    for row in rows:
        vector = np.asarray(row["vector"], dtype=np.float32)
        if row["grp"] != group_of(grouping, row, row):
            yield row, "it is in a group that is not its own"
        elif not np.allclose(vector, made[int(row["id"])]["vector"], atol=near):
            yield row, "its vector is not the one that its group shares"
