"""How a store is grouped, and the group of an image."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from mmref.errors import UsageError
from mmref.search.filters import columns_of
from mmref.search.records import Place

CLUSTERS = "clusters"
SHARE = 0.5
THRESHOLD = 0.7
MOST_IMAGES = 1000  # of a group; what is larger shows no one object, and is written too often


@dataclass(frozen=True)
class Grouping:
    """Which images of a store are taken to show one object, and how much they share.

    Attributes:
        by: a column of the images' metadata, ``folder``, or ``clusters``.
        share: g in [0, 1], the part of the group's mean in each image's vector.
        threshold: least mean cosine between the parts of a cluster; None of columns.

    Raises:
        UsageError: a value is out of its range.

    Example:
        >>> Grouping("object").share, Grouping("clusters", threshold=0.9).threshold
        (0.5, 0.9)
    """

    by: str
    share: float = SHARE
    threshold: float | None = None

    def __post_init__(self) -> None:
        if not self.by:
            raise UsageError("name what to group by: a column, folder or clusters")
        if not 0 <= self.share <= 1:
            raise UsageError(f"the share is from 0 to 1, not {self.share:g}")
        if self.by != CLUSTERS and self.threshold is not None:
            raise UsageError(f"a threshold is for clusters: leave it out with {self.by}")
        if self.by == CLUSTERS:
            if self.threshold is None:
                object.__setattr__(self, "threshold", THRESHOLD)
            if not 0 < float(self.threshold or 0) <= 1:
                raise UsageError(f"the threshold is above 0 and at most 1, not {self.threshold}")

    @classmethod
    def from_dict(cls, value: Mapping[str, Any] | None) -> Self | None:
        """The inverse of :meth:`as_dict`; None of None."""
        return None if value is None else cls(**{f.name: value[f.name] for f in fields(cls)})

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def key(self, place: Place, held: str | None = None) -> str | None:
        """The group of an image as stores keep it, or None where it stands alone.

        Args:
            place: where the image is, with its metadata.
            held: its group so far: a cluster is kept until clusters are sought again.

        Example:
            >>> Grouping("object").key(Place("/a.png", 1, 1, {"object": "mug 3"}, "/"))
            '"mug 3"'
            >>> Grouping("clusters").key(Place("/a.png", 1, 1, {}, "/"), "17")
            '17'
        """
        if self.by == CLUSTERS:
            return held
        value = columns_of(place).get(self.by)
        return None if value in (None, "") else json.dumps(value, sort_keys=True, default=str)


@dataclass(frozen=True)
class Regrouping:
    """Another grouping of a store, or none.

    Attributes:
        grouping: how it is to be grouped; None: no more.
        keys: the group of each image by id; images that are not in it stand alone.
    """

    grouping: Grouping | None
    keys: Mapping[int, str]


def group_facts(grouping: Grouping, sizes: npt.NDArray[np.int64], images: int) -> dict[str, Any]:
    """What ``mmref store info`` says of groups.

    Args:
        grouping: the store's.
        sizes: images of each group, those of one image too, int64 [groups].
        images: number of items.

    Example:
        >>> facts = group_facts(Grouping("object"), np.array([1, 3, 2]), 8)
        >>> facts["groups"], facts["grouped"], facts["largest"], facts["without"]
        (2, 5, 3, 2)
    """
    sharing = sizes[(sizes > 1) & (sizes <= MOST_IMAGES)]
    since = "since" if grouping.by == CLUSTERS else "without"
    return {
        **grouping.as_dict(),
        "groups": len(sharing),
        "grouped": int(sharing.sum()),
        "largest": int(sharing.max(initial=0)),
        "too_large": int((sizes > MOST_IMAGES).sum()),
        since: images - int(sizes.sum()),
    }
