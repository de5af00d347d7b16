"""What a search answers: hits, and the list of them with where it goes on."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from mmref.search.cut import Confidence


@dataclass(frozen=True, slots=True)
class Other:
    """An image that a hit stands for: a near-duplicate, or one more of its group."""

    id: int
    path: str
    score: float


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer.

    Attributes:
        rank: 1 for the best.
        id: the item's number in the store.
        path: its file, or its name when it has features only.
        score: what the ranking goes by.
        base_score: cosine of query and item; in a grouped store, with the vector that the item
            shares with its group.
        reference_score: similarity through the references, or None without refinement.
        metadata: what the SOURCE said of it.
        group: the group's name, where hits are grouped; the hit is the group's best image.
        others: the further images that it stands for, best first, where hits are folded or grouped.
        sort_value: what it has in the column by which the hits are sorted; hits that differ only in
            this are equal.
    """

    rank: int
    id: int
    path: str
    score: float
    base_score: float
    reference_score: float | None
    metadata: dict[str, Any]
    group: Any = None
    others: tuple[Other, ...] | None = None
    sort_value: Any = field(default=None, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; what was not asked for is left out."""
        values = asdict(self)
        if self.sort_value is None:
            del values["sort_value"]
        if self.others is None:
            del values["group"], values["others"]
        else:
            values["others"] = [asdict(other) for other in self.others]
            if self.group is None:
                del values["group"]
        return values


class Results(list[Hit]):
    """Hits by falling score, equal scores by id: a list, and what else the search found out.

    Attributes:
        query: the question in one line.
        next: the cursor of the page behind this one; None at the end.
        confidence: with ``auto_cut``: whether anything answers the question, and why; else None.
        changed: the store was written to since the first page.
        note: what is odd about the question: a filter on a column that no item has, or that finds
            nothing and asks for values of another kind than the column's; else None.

    Example:
        >>> page = Results([Hit(1, 7, "/pics/a.png", 0.9, 0.9, None, {})], query="a red flag")
        >>> page[0].path, len(page), page.next
        ('/pics/a.png', 1, None)
    """

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        *,
        query: str = "",
        next: str | None = None,
        confidence: Confidence | None = None,
        changed: bool = False,
        note: str | None = None,
    ) -> None:
        super().__init__(hits)
        self.query, self.next = query, next
        self.confidence, self.changed, self.note = confidence, changed, note

    @property
    def no_match(self) -> bool:
        """Whether the automatic cut found no confident match."""
        return self.confidence is not None and not self.confidence.confident

    def as_dict(self) -> dict[str, Any]:
        """The document of ``mmref search --json``."""
        document: dict[str, Any] = {
            "query": self.query,
            "results": [hit.as_dict() for hit in self],
        }
        if self.next is not None:
            document["next"] = self.next
        if self.changed:
            document["changed"] = True
        if self.note is not None:
            document["note"] = self.note
        if self.confidence is not None:
            document["confidence"] = asdict(self.confidence)
        return document
