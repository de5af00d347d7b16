"""Ranked lists: the nearest items of a vector, scored again through their profiles, tier by tier.

See :mod:`mmref.search.cursor` for what a tier is. The score of an item depends on nothing but the
query and that item.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mmref.references.refinement import Refiner, reference_scores
from mmref.search.filters import Filter
from mmref.search.records import Arrays, Vector
from mmref.search.stores.base import View

DECIMALS = 6
_DEEPER = 4
_END = -2.0  # below every cosine: nothing is behind


class Scorer:
    """S = cos + weight * S_ref of one query vector; the cosine alone without a refiner.

    Args:
        vector: unit vector of the query, float32 [d].
        modality: ``text`` or ``image``.
        refiner: the refinement, or None.
    """

    def __init__(self, vector: Vector, modality: str, refiner: Refiner | None) -> None:
        self.vector = vector
        self.weight = 0.0
        self.profile: Arrays | None = None
        if refiner is not None:
            with torch.inference_mode():
                given = torch.from_numpy(np.array(vector[None]))
                self.profile = refiner.profiles(given, modality, exact=True).to_arrays()
            self.weight = refiner.weight

    def scores(self, cosines: Vector, profiles: Arrays) -> tuple[Any, Any]:
        """Final scores, rounded, and S_ref (None without refinement), float64 [n]."""
        base = cosines.astype(np.float64)
        if self.profile is None:
            return base.round(DECIMALS), None
        if not len(base):
            return base, base
        reference = reference_scores(self.profile, profiles).astype(np.float64)
        return (base + self.weight * reference).round(DECIMALS), reference


@dataclass
class Ranked:
    """Items in their order: arrays of one length.

    Attributes:
        ids: int64.
        tiers: int64, rising.
        scores: final scores, rounded.
        base: cosines.
        reference: S_ref, or None without refinement.
    """

    ids: npt.NDArray[np.int64]
    tiers: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    base: npt.NDArray[np.float64]
    reference: npt.NDArray[np.float64] | None

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, rows: Any) -> "Ranked":
        """Some rows of it."""
        reference = None if self.reference is None else self.reference[rows]
        return Ranked(
            self.ids[rows], self.tiers[rows], self.scores[rows], self.base[rows], reference
        )

    def then(self, other: "Ranked") -> "Ranked":
        """This and another behind it."""

        def joined(name: str) -> npt.NDArray[Any]:
            return np.concatenate([getattr(self, name), getattr(other, name)])

        plain = self.reference is None or other.reference is None
        reference = None if plain else joined("reference")
        return Ranked(joined("ids"), joined("tiers"), joined("scores"), joined("base"), reference)


class Ranking:
    """The list of one query, made tier by tier.

    Args:
        view: one generation of a store.
        scorer: the query's.
        depth: candidates of the first tier.
        where: a filter, or None.
        leave_out: ids that are not to be in it.
        bounds: the least cosines of the tiers of an earlier page.
    """

    def __init__(
        self,
        view: View,
        scorer: Scorer,
        depth: int,
        where: Filter | None = None,
        leave_out: Collection[int] = (),
        bounds: tuple[float, ...] = (),
    ) -> None:
        self.view, self.scorer, self.where = view, scorer, where
        self.leave_out = np.fromiter(leave_out, np.int64, len(leave_out))
        self.given, self.bounds = bounds, list[float]()
        self.count = depth
        self._fetch()

    def _fetch(self) -> None:
        self.found = self.view.candidates(self.scorer.vector, self.count, self.where)

    def _deeper(self) -> None:
        self.count *= _DEEPER
        self._fetch()

    @property
    def _whole(self) -> bool:
        return len(self.found.ids) < self.count

    @property
    def ended(self) -> bool:
        """Whether there is no tier behind those that were made."""
        return bool(self.bounds) and self.bounds[-1] == _END

    def first(self, enough: Callable[[Ranked], bool]) -> Ranked:
        """The first tier; unless an earlier page has set its bound, as deep as it takes.

        Args:
            enough: whether the tier holds what the page needs.
        """
        made = self.tier()
        while not (self.given or self.ended or enough(made)):
            self._deeper()
            self.bounds.clear()
            made = self.tier()
        return made

    def tier(self) -> Ranked:
        """The next tier, best first; empty at the end."""
        number = len(self.bounds)
        above = self.bounds[-1] if self.bounds else np.inf
        if number < len(self.given):
            bound = self.given[number]
            while not self._whole and float(self.found.scores[-1]) > bound:
                self._deeper()
        else:
            if number:
                self._deeper()
            # the last cosine may be that of further items: the tier ends above it
            while not self._whole and not self._between(float(self.found.scores[-1]), above).any():
                self._deeper()
            bound = _END if self._whole else float(self.found.scores[-1])
        self.bounds.append(bound)
        rows = np.flatnonzero(self._between(bound, above))
        profiles = {name: values[rows] for name, values in self.found.profiles.items()}
        cosines = self.found.scores[rows]
        scores, reference = self.scorer.scores(cosines, profiles)
        ids = self.found.ids[rows]
        tiers = np.full(len(ids), number)
        made = Ranked(ids, tiers, scores, cosines.astype(np.float64), reference)
        made = made.only(np.lexsort((ids, -scores)))
        return made.only(~np.isin(made.ids, self.leave_out)) if len(self.leave_out) else made

    def _between(self, bound: float, above: float) -> npt.NDArray[np.bool_]:
        cosines = self.found.scores.astype(np.float64)
        inside: npt.NDArray[np.bool_] = (cosines > bound) & (cosines <= above)
        return inside
