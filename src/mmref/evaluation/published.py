"""What papers and public code report on the three person sets, to stand beside a user's figure.

The figures are of the test splits. What their sources do not say is said to be "not stated": a
blank would read as a no. Public code of the field picks its epoch on the test split, which raises
the figure (60.2 on RSTPReid is one such epoch where 58 is normal); mmref picks it on validation.

Example:
    >>> rows = published_for("rstpreid")
    >>> rows[2].method, rows[2].figures["R@1"], rows[3].epoch
    ('MMRef (paper)', 56.2, 'on test')
"""

from dataclasses import dataclass, field
from typing import Any

from mmref.data.published_counts import PUBLISHED, Counts

NOT_STATED = "not stated"
CAUTION = "Public code of the field picks its epoch on the test split, which raises its figures."
COLUMNS = ("R@1", "R@10", "mAP")


SETS = ("cuhk-pedes", "icfg-pedes", "rstpreid")


@dataclass(frozen=True)
class Published:
    """One method's figures on one set's test split, and what must be known to compare them.

    Attributes:
        method: as its paper names it.
        figures: those of R@1, R@10 and mAP that are known, percent.
        backbone: encoders it starts from.
        person_pretraining: whether it saw pictures of persons before the set itself.
        cross_encoder: whether pairs are scored by a network that sees both (slow, stronger).
        epoch: on which split its epoch was picked.
    """

    method: str
    figures: dict[str, float]
    backbone: str
    person_pretraining: str
    cross_encoder: str
    epoch: str


@dataclass(frozen=True)
class _Method:
    """A row of the table: figures of the ``SETS`` in their order."""

    name: str
    recall: tuple[float, float, float]
    mean: tuple[float, float, float] | None = None
    recall_10: tuple[float, float, float] | None = None
    facts: dict[str, str] = field(default_factory=dict)


_METHODS = (
    _Method(
        "CLIP fine-tuned (IRRA's README)",
        (68.19, 56.74, 54.05),
        (61.12, 31.84, 43.41),
        facts={"backbone": "CLIP ViT-B/16"},
    ),
    _Method("CFine", (69.57, 60.83, 50.55)),
    _Method(
        "MMRef (paper)",
        (72.25, 63.50, 56.20),
        recall_10=(92.61, 83.73, 85.80),
        facts={"cross_encoder": "no"},
    ),
    _Method("IRRA", (73.38, 63.46, 60.20), (66.13, 38.06, 47.17), facts={"epoch": "on test"}),
    _Method("TBPS-CLIP", (73.54, 65.05, 61.95), (65.38, 39.83, 48.26)),
    _Method(
        "RDE",
        (75.94, 67.68, 65.35),
        (67.56, 40.06, 50.88),
        facts={"backbone": "CLIP", "person_pretraining": "no", "cross_encoder": "no"},
    ),
    _Method("RaSa", (76.51, 65.28, 66.90), (69.38, 41.29, 52.31), facts={"cross_encoder": "yes"}),
    _Method("APTM", (76.53, 68.51, 67.50), (66.91, 41.22, 52.56), facts={"cross_encoder": "yes"}),
    _Method("MARS", (77.62, 67.60, 67.55), (71.41, 44.93, 52.92)),
    _Method(
        "GA-DMS (5M)",
        (77.60, 69.51, 71.25),
        (69.82, 42.30, 55.43),
        facts={"person_pretraining": "yes"},
    ),
    _Method(
        "Bi-IRRA + LUPerson-MLLM",
        (79.43, 70.36, 72.50),
        (70.51, 43.28, 57.32),
        facts={"person_pretraining": "yes", "cross_encoder": "yes"},
    ),
)


def published_for(format: str) -> list[Published]:
    """The methods with figures on a set, weakest first as the field lists them.

    Args:
        format: name of the reader, such as ``rstpreid``.

    Returns:
        Empty for a set without published figures here.

    Example:
        >>> published_for("manifest"), len(published_for("cuhk-pedes"))
        ([], 11)
    """
    if format not in SETS:
        return []
    place = SETS.index(format)
    rows = []
    for method in _METHODS:
        known = {"R@1": method.recall, "R@10": method.recall_10, "mAP": method.mean}
        rows.append(
            Published(
                method.name,
                {name: values[place] for name, values in known.items() if values is not None},
                *(
                    method.facts.get(fact, NOT_STATED)
                    for fact in ("backbone", "person_pretraining", "cross_encoder", "epoch")
                ),
            )
        )
    return rows


def differences(format: str, split: str, found: Counts) -> list[str]:
    """Why figures of this copy and split are not of what the published ones are of.

    Args:
        format: name of the reader; one of ``SETS``.
        split: the evaluated split.
        found: its size.

    Returns:
        A sentence each; empty for the whole published test split.

    Example:
        >>> differences("rstpreid", "test", Counts(200, 990, 1980))[0][:61]
        'This copy differs from the published test split: 990 images i'
    """
    if split != "test":
        return [f"The published figures are of the test split; this run's are of {split}."]
    wanted = vars(PUBLISHED[format].parts["test"])
    other = [
        f"{mine:,} {name} instead of {wanted[name]:,}"
        for name, mine in vars(found).items()
        if mine != wanted[name]
    ]
    if not other:
        return []
    return [
        f"This copy differs from the published test split: {', '.join(other)}. "
        "Its figures cannot be set beside the published ones."
    ]


def beside(format: str, split: str, found: Counts) -> dict[str, Any] | None:
    """The published rows of a set and what must be said of them (JSON); None for other sets."""
    rows = published_for(format)
    if not rows:
        return None
    return {
        "set": PUBLISHED[format].title,
        "split": "test",
        "rows": [vars(row) for row in rows],
        "remarks": [*differences(format, split, found), CAUTION],
    }
