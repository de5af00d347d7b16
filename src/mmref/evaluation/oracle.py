"""The ceiling of a generated set: the figures of those who know how its captions were made.

The *oracle* knows the true attributes of every object and the error rates of the captions, and
ranks by P(object | caption). The *visible oracle* knows of each image what it shows and ranks
images by P(caption | what shows), so it cannot know what is hidden either. Both read the
statements of a caption, of which the words may say a little less ("hat" may stand for a vague
word or for a hat whose kind was left out).

Objects that differ in nothing that a caption says have the same probability. Under the usual rule
such ties count against the oracle; who breaks them by luck is better. ``expected`` is the mean
over all orders of tied images: no way of ranking by the captions alone can expect more R@1.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import SyntheticSettings, domains
from mmref.data.synthetic.annotations import Annotations, annotations, read_settings
from mmref.data.synthetic.attributes import Ambiguity
from mmref.data.synthetic.oracle import CaptionModel, shown
from mmref.data.synthetic.visible_oracle import VisibleOracle
from mmref.errors import DataError
from mmref.metrics.protocols import Figures, figures
from mmref.metrics.ranks import Ranks, ranks_from_scores

Values = NDArray[np.float64]
Scores = Callable[[int, int], Values]
ORACLE, VISIBLE = "oracle", "visible oracle"
_IMPOSSIBLE = 1e6  # how far below all others what cannot be is ranked
_TOLERANCE = 1e-9  # of log probabilities: above rounding, below any difference that is meant


class Ceiling(NamedTuple):
    """The figures of one oracle.

    Attributes:
        images: the gallery is every image once; ties count against the oracle.
        expected: R@1, R@5, R@10, mAP and mINP in percent as means over the orders of tied images.
        objects: the gallery is every object once, by its best image; its mAP is the MRR.
        expected_objects: R@1 and MRR over objects as means over the orders of tied objects.
    """

    images: Figures
    expected: dict[str, float]
    objects: Figures
    expected_objects: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Percent by name, and the number of queries, images and objects."""
        kept = ("R@1", "R@5", "R@10", "mAP")
        return {
            **{name: self.images.metrics[name] for name in kept},
            "object R@1": self.objects.metrics["R@1"],
            "object MRR": self.objects.metrics["mAP"],
            "expected": {
                **{name: self.expected[name] for name in kept},
                "object R@1": self.expected_objects["R@1"],
                "object MRR": self.expected_objects["MRR"],
            },
            "queries": self.images.queries,
            "gallery": self.images.gallery,
            "objects": self.objects.gallery,
        }


@dataclass(frozen=True, eq=False)
class _Part:
    """A split of a generated set, as the oracles see it."""

    notes: Annotations
    ambiguity: Ambiguity
    settings: SyntheticSettings
    asked: list[str]
    images: list[str]

    @cached_property
    def names(self) -> list[str]:
        """The distinct objects, in order."""
        return list(dict.fromkeys(self.images))

    @cached_property
    def place(self) -> NDArray[np.int64]:
        """The number of each image's object."""
        number = {name: n for n, name in enumerate(self.names)}
        return np.asarray([number[name] for name in self.images])


def ceilings(
    dataset: RetrievalDataset, split: str = "test", *, settings: SyntheticSettings | None = None
) -> dict[str, Ceiling]:
    """The figures of both oracles on the queries of a split.

    Args:
        dataset: a generated set.
        split: its captions are the queries, its images the gallery.
        settings: with which the captions were made; by default those in settings.json beside the
            manifest.

    Returns:
        ``oracle`` and ``visible oracle`` -> figures in percent.

    Raises:
        DataError: not a generated set, or its captions were made with other settings.
        SplitError: there is no such split.

    Example:
        >>> import tempfile
        >>> from mmref.data.synthetic.generate import generate
        >>> made = SyntheticSettings(objects=2, test_objects=6, omit=0, contradict=0, occlude=0)
        >>> found = ceilings(RetrievalDataset.load(generate(made, tempfile.mkdtemp() + "/set")))
        >>> found["oracle"].images.metrics["R@1"], found["oracle"].objects.metrics["mAP"]
        (100.0, 100.0)
    """
    part = _part(dataset, split, settings)
    return {ORACLE: _oracle(part), VISIBLE: _visible_oracle(part)}


def oracle(
    dataset: RetrievalDataset, split: str = "test", *, settings: SyntheticSettings | None = None
) -> Ceiling:
    """The figures of the oracle alone; see `ceilings`."""
    return _oracle(_part(dataset, split, settings))


def visible_oracle(
    dataset: RetrievalDataset, split: str = "test", *, settings: SyntheticSettings | None = None
) -> Ceiling:
    """The figures of the visible oracle alone; see `ceilings`."""
    return _visible_oracle(_part(dataset, split, settings))


def _part(dataset: RetrievalDataset, split: str, settings: SyntheticSettings | None) -> _Part:
    known = read_settings(dataset.root) if settings is None else settings
    part = dataset.split(split)
    notes = annotations(part)
    asked = [query.object for query in notes.queries]
    return _Part(notes, known.ambiguity(split), known, asked, part.objects)


def _oracle(part: _Part) -> Ceiling:
    model = CaptionModel(domains()[part.settings.domain], part.ambiguity)
    first = {name: row for row, name in reversed(list(enumerate(part.images)))}
    truths = [part.notes.attributes[first[name]] for name in part.names]
    by_object = _finite(model.log_likelihood(part.notes.stated, truths))
    place = part.place
    _check(part, by_object, part.names)
    return _ceiling(part, lambda start, stop: by_object[start:stop][:, place], by_object)


def _visible_oracle(part: _Part) -> Ceiling:
    notes = part.notes
    sights = [shown(a, v) for a, v in zip(notes.attributes, notes.visible, strict=True)]
    model = VisibleOracle(domains()[part.settings.domain], part.ambiguity, sights)
    order = np.argsort(part.place, kind="stable")
    heads = np.searchsorted(part.place[order], np.arange(len(part.names)))
    best = np.empty((len(part.asked), len(part.names)))

    def scores(start: int, stop: int) -> Values:
        found = _finite(model.log_likelihood(notes.stated[start:stop]))
        best[start:stop] = np.maximum.reduceat(found[:, order], heads, axis=1)
        return found

    found = _ceiling(part, scores, best)
    _check(part, best, part.names)
    return found


def _finite(scores: Values) -> Values:
    """Log probabilities with what is impossible below all that is not, instead of -inf."""
    possible = np.isfinite(scores)
    lowest = scores[possible].min() if possible.any() else 0.0
    return np.where(possible, scores, min(float(lowest), 0.0) - _IMPOSSIBLE)


def _check(part: _Part, scores: Values, names: list[str]) -> None:
    """Every caption must be possible for its own object."""
    number = {name: n for n, name in enumerate(names)}
    own = scores[np.arange(len(scores)), [number[name] for name in part.asked]]
    if len(bad := np.flatnonzero(own < -_IMPOSSIBLE / 2)):
        said = ", ".join(part.notes.stated[bad[0]])
        raise DataError(
            f"{len(bad)} captions cannot be of their objects (the first says {said}): "
            "settings.json and manifest are of different sets, generate the set again"
        )


def _ceiling(part: _Part, scores: Scores, by_object: Values) -> Ceiling:
    shared = ranks_from_scores(
        scores, part.asked, part.images, ties="expected", tolerance=_TOLERANCE
    )
    objects = ranks_from_scores(
        lambda start, stop: by_object[start:stop],
        part.asked, part.names, ties="expected", tolerance=_TOLERANCE,
    )  # fmt: skip
    expected = figures(objects, part.asked).metrics
    return Ceiling(
        images=figures(_against(shared), part.asked),
        expected=figures(shared, part.asked).metrics,
        objects=figures(_against(objects), part.asked),
        expected_objects={"R@1": expected["R@1"], "MRR": expected["mAP"]},
    )


def _against(ranks: Ranks) -> Ranks:
    """The same ranks with ties that count against the query, without scoring again."""
    place = np.arange(len(ranks.above)) - np.repeat(ranks.offsets[:-1], ranks.sizes)
    return replace(
        ranks,
        above=ranks.above + ranks.tied,
        tied=np.zeros_like(ranks.tied),
        first=place,
        ties="pessimistic",
    )
