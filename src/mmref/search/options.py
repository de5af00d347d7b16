"""How a question is to be answered."""

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

from mmref.errors import UsageError
from mmref.search.filters import Filter
from mmref.search.folding import NEAR_DUPLICATE
from mmref.search.query import Query
from mmref.search.records import Vector


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a search, checked.

    Attributes:
        k: how many hits at most.
        where: a filter, or None.
        min_score: least score, or None.
        auto_cut: end the list where scores fall to the noise.
        fold: least cosine of near-duplicates, or None to fold none.
        group_by: a column, or None.
        cursor: where the page before ended, or None.
        refine: refine or not; None for the searcher's own choice.
        sort: a column by which each page is shown, falling with ``-`` before it; None: by score.

    Raises:
        UsageError: a value is out of its range, or two exclude each other.

    Example:
        >>> Options(k=0)
        Traceback (most recent call last):
        ...
        mmref.errors.UsageError: k must be at least 1, not 0
    """

    k: int = 10
    where: Filter | None = None
    min_score: float | None = None
    auto_cut: bool = False
    fold: float | None = None
    group_by: str | None = None
    cursor: str | None = None
    refine: bool | None = None
    sort: str | None = None

    def __post_init__(self) -> None:
        if self.k < 1:
            raise UsageError(f"k must be at least 1, not {self.k}")
        if self.min_score is not None and not math.isfinite(self.min_score):
            raise UsageError("the least score must be a number")
        if self.fold is not None and not 0 < self.fold <= 1:
            raise UsageError(
                f"near-duplicates fold at a cosine above 0 and at most 1, not {self.fold:g}"
            )
        if self.sort is not None and not self.sort.removeprefix("-"):
            raise UsageError("name the column to sort by: --sort date, or --sort -date")
        if self.fold is not None and self.group_by is not None:
            raise UsageError("folding and grouping exclude each other: a group is one hit anyway")

    @classmethod
    def of(
        cls,
        k: int = 10,
        where: str | Filter | None = None,
        min_score: float | None = None,
        auto_cut: bool = False,
        fold: bool | float = False,
        group_by: str | None = None,
        cursor: str | None = None,
        refine: bool | None = None,
        sort: str | None = None,
    ) -> "Options":
        """Options as :meth:`mmref.search.engine.Searcher.search` takes them.

        Example:
            >>> Options.of(where="year < 2000", fold=True).fold
            0.98
        """
        chosen = Filter.parse(where) if isinstance(where, str) else where
        least = None if fold is False else NEAR_DUPLICATE if fold is True else float(fold)
        return cls(k, chosen, min_score, auto_cut, least, group_by, cursor, refine, sort)

    def digest(self, asked: Query | str, vector: Vector, refined: bool, run: str) -> str:
        """What a cursor is bound to: the question and all options but k, sort and the cursor.

        Args:
            asked: the query, or the modality of a plain vector.
            vector: the query's vector; counts for what has no name.
            refined: whether scores are refined.
            run: digest of the weights.
        """
        named: Any = None
        if isinstance(asked, Query) and all(isinstance(i, str | int) for i, _ in asked.images):
            named = [asked.texts, asked.images]
        what = [
            named or hashlib.sha256(vector.tobytes()).hexdigest(),
            None if self.where is None else str(self.where),
            [self.min_score, self.auto_cut, self.fold, self.group_by, refined, run],
        ]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]
