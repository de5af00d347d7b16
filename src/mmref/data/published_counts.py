"""The counts that were published for the field's sets, and how a copy on disk compares.

Counts of CUHK-PEDES, ICFG-PEDES and RSTPReid are those of their papers; of CUB and Flowers those of
the class splits of Reed et al. 2016, which give no number of captions. A part such as "train+val"
is published as one; a copy may hold it as two (ICFG-PEDES has no val split of its own).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol


class Counted(Protocol):
    """The counts of one split of a copy."""

    @property
    def objects(self) -> int:
        """Distinct objects."""
        ...

    @property
    def images(self) -> int:
        """Distinct images."""
        ...

    @property
    def captions(self) -> int:
        """Captions, repetitions included."""
        ...


@dataclass(frozen=True)
class Counts:
    """Published counts of one part.

    Attributes:
        objects: persons or classes.
        images: images.
        captions: captions, None where none were published.
    """

    objects: int
    images: int
    captions: int | None = None


@dataclass(frozen=True)
class Published:
    """A published set.

    Attributes:
        title: the set's own name.
        parts: counts by split, or by splits joined with ``+``.
        source: where the counts stand.
    """

    title: str
    parts: Mapping[str, Counts]
    source: str


PUBLISHED: dict[str, Published] = {
    "cuhk-pedes": Published(
        "CUHK-PEDES",
        {
            "train": Counts(11_003, 34_054, 68_126),
            "val": Counts(1_000, 3_078, 6_158),
            "test": Counts(1_000, 3_074, 6_156),
        },
        "Li et al. 2017",
    ),
    "icfg-pedes": Published(
        "ICFG-PEDES",
        {"train+val": Counts(3_102, 34_674, 34_674), "test": Counts(1_000, 19_848, 19_848)},
        "Ding et al. 2021",
    ),
    "rstpreid": Published(
        "RSTPReid",
        {
            "train": Counts(3_701, 18_505, 37_010),
            "val": Counts(200, 1_000, 2_000),
            "test": Counts(200, 1_000, 2_000),
        },
        "Zhu et al. 2021",
    ),
    "cub": Published(
        "CUB-200-2011",
        {"train+val": Counts(150, 8_855), "test": Counts(50, 2_933)},
        "Reed et al. 2016",
    ),
    "flowers": Published(
        "Flowers-102",
        {"train+val": Counts(82, 7_034), "test": Counts(20, 1_155)},
        "Reed et al. 2016",
    ),
}


@dataclass(frozen=True)
class Difference:
    """One count that is not the published one.

    Attributes:
        part: a split, or splits joined with ``+``.
        what: ``objects``, ``images`` or ``captions``.
        found: in the copy.
        published: in the paper.
    """

    part: str
    what: str
    found: int
    published: int

    def __str__(self) -> str:
        """For example ``train images 34,050, published 34,054 (4 fewer)``."""
        gap = self.found - self.published
        how = f"{abs(gap):,} {'more' if gap > 0 else 'fewer'}"
        return f"{self.part} {self.what} {self.found:,}, published {self.published:,} ({how})"


@dataclass(frozen=True)
class Comparison:
    """How a copy compares with what was published.

    Attributes:
        name: the published set.
        matches: whether every published count is met.
        differences: the counts that are not.
    """

    name: str
    matches: bool
    differences: tuple[Difference, ...]

    def sentence(self) -> str:
        """One line that says which copy this is."""
        if self.matches:
            return f"matches the published {self.name} in all counts"
        count = len(self.differences)
        return f"differs from the published {self.name} in {count} count{'s' * (count > 1)}"

    def to_json(self) -> dict[str, Any]:
        """As it stands in ``mmref data --json``."""
        return asdict(self)


def compare(format: str, splits: Mapping[str, Counted]) -> Comparison | None:
    """Compare a copy's counts with the published ones; None for a format that has none.

    Args:
        format: name of the reader.
        splits: the counts of each split; objects of different splits are taken to be different.

    Example:
        >>> counts = {"train": Counts(150, 8_855, 88_540), "test": Counts(50, 2_900, 29_000)}
        >>> found = compare("cub", counts)
        >>> found.sentence(), str(found.differences[0])
        ('differs from the published CUB-200-2011 in 1 count', 'test images 2,900, published \
2,933 (33 fewer)')
    """
    published = PUBLISHED.get(format)
    if published is None:
        return None
    differences = []
    named = {split for part in published.parts for split in part.split("+")}
    parts = {**published.parts, **{s: Counts(0, 0, 0) for s in splits if s not in named}}
    for part, wanted in parts.items():
        held = [splits[split] for split in part.split("+") if split in splits]
        for what in ("objects", "images", "captions"):
            goal = getattr(wanted, what)
            found = sum(getattr(split, what) for split in held)
            if goal is not None and found != goal:
                differences.append(Difference(part, what, found, goal))
    return Comparison(published.title, not differences, tuple(differences))
