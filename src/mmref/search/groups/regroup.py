"""``mmref store group``: give a store's images groups, or take them away."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from mmref.errors import UsageError
from mmref.search.filters import columns_of, suggested_columns
from mmref.search.groups.grouping import CLUSTERS, MOST_IMAGES, Grouping, Regrouping
from mmref.search.records import Encoded, Item
from mmref.search.stores.base import VectorStore, View, open_store

_BLOCK_ROWS = 1024
_EXAMPLES = 8
_PATHS = 6

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Groups:
    """What a grouping makes of a store.

    Attributes:
        keys: the group of each image by id; those that stand alone are left out.
        images: number of images.
        sizes: images of each group, falling; groups of one image too.
        examples: (group, its images' number, some of its paths) of groups spread over the sizes.
    """

    keys: Mapping[int, str]
    images: int
    sizes: list[int]
    examples: list[tuple[str, int, list[str]]] = field(default_factory=list)

    @property
    def shared(self) -> list[int]:
        """Sizes of the groups whose images share something."""
        return [size for size in self.sizes if 1 < size <= MOST_IMAGES]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        shared = self.shared
        return {
            "images": self.images,
            "groups": len(shared),
            "grouped": sum(shared),
            "alone": self.images - sum(shared),
            "too_large": sum(size > MOST_IMAGES for size in self.sizes),
            "largest": max(shared, default=0),
            "median": float(np.median(shared)) if shared else 0.0,
            "examples": [
                {"group": key, "images": count, "paths": paths}
                for key, count, paths in self.examples
            ],
        }

    def lines(self) -> list[str]:
        """Some of the groups, a line each, and how many more there are."""
        more = len(self.shared) - len(self.examples)
        shown = [
            f"{key}: {count:,} images, {', '.join(Path(path).name for path in paths)}"
            + (", ..." if count > len(paths) else "")
            for key, count, paths in self.examples
        ]
        return [*shown, f"... and {more:,} more groups"] if more > 0 and shown else shown


def group_sheet(found: Groups, path: str | Path) -> None:
    """Draw some of the groups, a row each.

    Raises:
        PathError: the file cannot be written.
    """
    from mmref.search.sheet import Row, Tile, contact_sheet, tile_for

    rows = [
        Row(f"{key}: {count:,} images", [Tile(picture, [Path(picture).name]) for picture in paths])
        for key, count, paths in found.examples
    ]
    pictures = [picture for _, _, paths in found.examples for picture in paths]
    contact_sheet(rows or [Row("no groups")], path, tile=tile_for(pictures))


def find_groups(view: View, grouping: Grouping) -> Groups:
    """The groups that a store's images would have.

    Raises:
        UsageError: no image has such a column.
    """
    keys: dict[int, str] = {}
    if grouping.by == CLUSTERS:
        keys = _clusters(view, grouping)
    else:
        names: set[str] = set()
        for item in view.items():
            key = grouping.key(item.place)
            if key is not None:
                keys[item.id] = key
            elif len(names) < _BLOCK_ROWS:
                names |= set(columns_of(item.place))
        if not keys and len(view):
            there = suggested_columns(grouping.by, names | {"clusters"})
            raise UsageError(f"no image has a column {grouping.by!r}: {there}")
    sizes = Counter(keys.values())
    falling = sorted(sizes.values(), reverse=True)
    return Groups(keys, len(view), falling, _examples(view, keys, sizes))


def _clusters(view: View, grouping: Grouping) -> dict[int, str]:
    from mmref.search.groups.clusters import clusters

    ids = np.fromiter((item.id for item in view.items()), np.int64)
    vectors = np.empty((len(ids), view.own(ids[:1].tolist())[0].shape[1]), np.float32)
    for start in range(0, len(ids), _BLOCK_ROWS):
        part = slice(start, start + _BLOCK_ROWS)
        vectors[part] = view.own(ids[part].tolist())[0]
    found = ids[clusters(vectors, float(grouping.threshold or 0))]
    return dict(zip(ids.tolist(), map(str, found.tolist()), strict=True))


def _examples(
    view: View, keys: Mapping[int, str], sizes: Mapping[str, int]
) -> list[tuple[str, int, list[str]]]:
    shared = sorted((key for key in sizes if sizes[key] > 1), key=lambda k: (-sizes[k], k))
    if not shared:
        return []
    spots = np.unique(np.linspace(0, len(shared) - 1, _EXAMPLES).astype(int))
    chosen: dict[str, list[int]] = {shared[spot]: [] for spot in spots}
    for number, key in keys.items():
        if key in chosen and len(chosen[key]) < _PATHS:
            chosen[key].append(number)
    return [
        (key, sizes[key], [item.place.path for item in view.get(ids)])
        for key, ids in chosen.items()
    ]


def group_store(
    uri: str,
    grouping: Grouping | None,
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Groups:
    """Group a store's images, or (None) let each stand alone again; nothing is encoded.

    The old vectors serve until the new ones are complete; a kill leaves the store as it was.

    Args:
        uri: the store's address.
        grouping: how.
        dry_run: say what groups there would be, and change nothing.
        progress: called with (images written, images in all).

    Raises:
        UsageError: no image has such a column, the store is empty, or it is not grouped.
        PathError: there is no store, or it cannot be written.
        StoreError: it has another writer, or is being encoded anew.
    """
    with open_store(uri) as reader:
        identity = reader.identity
        if grouping is None and reader.grouping is None:
            raise UsageError(f"{reader.uri} is not grouped")
        if not len(reader):
            raise UsageError(f"{reader.uri} holds no images to group: index some first")
        if dry_run:
            return _found(reader, grouping)
    with open_store(uri, identity) as store:
        found = _found(store, grouping)
        regroup(store, Regrouping(grouping, found.keys), progress)
    return found


def _found(store: VectorStore, grouping: Grouping | None) -> Groups:
    with store.view() as view:
        return Groups({}, len(view), []) if grouping is None else find_groups(view, grouping)


def regroup(store: VectorStore, regrouping: Regrouping, progress: Progress | None = None) -> None:
    """Change the groups of a store over that holds images and is open for writing."""
    migration = store.migration(store.identity, store.storage, regrouping)
    done, images = 0, len(store)
    for block in blocks(migration.pending()):
        vectors, profiles = store.own([item.id for item in block])
        migration.write(
            [
                Encoded(
                    item.id,
                    item.digest,
                    vectors[row],
                    {name: values[row] for name, values in profiles.items()},
                )
                for row, item in enumerate(block)
            ]
        )
        done += len(block)
        if progress is not None:
            progress(done, images)
    migration.finish()


def blocks(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Items in lists of some number."""
    while block := list(islice(items, _BLOCK_ROWS)):
        yield block
