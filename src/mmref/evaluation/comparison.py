"""Two runs on the same questions: a paired test by bootstrap over objects.

Both are asked the same captions over the same images, each ranked as its own validation chose. The
difference is taken query by query, and whole objects are drawn with replacement, as in
`mmref.metrics.bootstrap`. (Our choice; the field compares two figures without a test.)
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mmref.data.dataset import RetrievalDataset, split_name
from mmref.errors import DataError, MMRefError
from mmref.evaluation.classes import evaluate_classes
from mmref.evaluation.encoding import EncodedSplit, Progress, encode_split
from mmref.evaluation.evaluator import (
    PROTOCOLS_IN_WORDS,
    describe_refinement,
    environment_of,
)
from mmref.evaluation.selection import recorded_selection, selection_remarks
from mmref.evaluation.tables import compared_table, figures_title
from mmref.evaluation.vectors import TOLERANCE, Direction, evaluate_vectors
from mmref.metrics.bootstrap import paired_difference
from mmref.metrics.protocols import Figures
from mmref.metrics.ranks import Ties
from mmref.model import MMRef

if TYPE_CHECKING:
    from rich.table import Table

RESAMPLES = 10_000
Compared = dict[str, dict[str, float | None]]


@dataclass(frozen=True)
class Comparison:
    """Two runs on one split; differences are the second's figure minus the first's.

    Attributes:
        dataset: name of the data set.
        split: the split that both were asked.
        protocol: what was asked and what counts as right, in words.
        queries: captions asked.
        gallery: images ranked.
        objects: distinct objects among the queries.
        runs: name, id, kind, digest, refinement and selection of both.
        t2i: figure -> ``first``, ``second``, ``difference``, ``low``, ``high``, ``p_value``; the
            last three are None with fewer than two objects.
        i2t: likewise, or None when it was not asked for.
        classes: likewise for the classes of a class set, by bootstrap over classes; or None.
        ties: the tie rule.
        tolerance: scores within it count as tied.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        left_out: ``images`` that one run or the other could not use, with the reason, and the
            number of ``queries`` that have no image left.
        fingerprint: of the split's rows.
        versions: of mmref and what it stands on.
        machine: what computed the figures.
        notes: sentences that belong beside the figures.
    """

    dataset: str
    split: str
    protocol: str
    queries: int
    gallery: int
    objects: int
    runs: list[dict[str, Any]]
    t2i: Compared
    i2t: Compared | None
    classes: Compared | None
    ties: str
    tolerance: float
    resamples: int
    seed: int
    left_out: dict[str, Any]
    fingerprint: str
    versions: dict[str, str]
    machine: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def table(self) -> "Table":
        """Both runs' figures and their difference, at most 80 columns wide."""
        title = figures_title(
            f"{self.dataset}, {self.split}",
            queries=self.queries,
            gallery=self.gallery,
            objects=self.objects,
        )
        parts = {"text to image": self.t2i, "image to text": self.i2t, "classes": self.classes}
        return compared_table(title, {name: part for name, part in parts.items() if part})

    def remarks(self) -> list[str]:
        """What the reader of the table must know, in short lines."""
        lines = []
        for letter, run in zip("AB", self.runs, strict=True):
            form = run["refinement"]["form"]
            way = f"refined: {form}" if form else "plain cosine"
            lines.append(f"{letter}: {run['name']} ({run['kind']}, {way}, {run['digest'][:12]})")
        one = self.t2i["mAP"]
        if one["p_value"] is None:
            lines.append("No test: that takes two objects or more.")
        else:
            lines.append(_verdict(one))
            lines.append(
                f"Paired bootstrap over {self.objects:,} objects, {self.resamples:,} resamples, "
                f"seed {self.seed}; each p is of its own row, not corrected for the others."
            )
        if self.left_out["images"]:
            first = self.left_out["images"][0]
            lines.append(
                f"{len(self.left_out['images'])} images that one of the runs cannot read were left "
                f"out for both (first: {first['path']}: {first['reason']})."
            )
        if self.left_out["queries"]:
            lines.append(
                f"{self.left_out['queries']} captions had no image that both can read: not asked."
            )
        for letter, run in zip("AB", self.runs, strict=True):
            told = selection_remarks(run["selection"], self.fingerprint)
            lines += [f"{letter}: {line}" for line in told]
        return [*lines, *self.notes]


def _verdict(found: dict[str, float | None]) -> str:
    difference, low, high = (float(found[k] or 0) for k in ("difference", "low", "high"))
    p = float(found["p_value"] or 0)
    span = f"{difference:+.2f} [{low:+.2f}, {high:+.2f}], p = {p:.3g}"
    if low > 0 or high < 0:
        return f"mAP: {'B' if difference > 0 else 'A'} is better: B - A = {span}."
    return f"mAP: no difference that chance could not make: B - A = {span}."


def compare_runs(
    first: MMRef,
    second: MMRef,
    dataset: RetrievalDataset,
    split: str = "val",
    *,
    names: tuple[str, str] = ("A", "B"),
    refine: bool = True,
    i2t: bool = False,
    ties: Ties = "pessimistic",
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Comparison:
    """Ask two runs the same questions and test the difference.

    A run that takes pixels reads the image files and one that takes vectors the features; images
    that one of them cannot use are left out for both.

    Args:
        first: A.
        second: B.
        dataset: all splits of the data set.
        split: the one to ask.
        names: of the runs, for errors, progress and the report.
        refine: rank each run as its own validation chose; by the cosine alone when False.
        i2t: image-to-text too.
        ties: "pessimistic" or "expected".
        resamples: of the bootstrap.
        seed: of the bootstrap.
        progress: called with what is encoded, the number done and the total.

    Raises:
        SplitError: no such split, or it holds no captions.
        DataError: a run cannot use the images (the message names it), or both have none in common.
        ModelError: a run takes vectors of another length (the message names it).

    Example:
        >>> found = compare_runs(one, two, data, "val")               # doctest: +SKIP
        >>> found.t2i["mAP"]["difference"], found.t2i["mAP"]["p_value"]  # doctest: +SKIP
        (1.9, 0.012)
    """
    dataset.split(split)
    models = (first, second)
    encoded = [
        _encode(model, dataset, split, name, progress)
        for model, name in zip(models, names, strict=True)
    ]
    part = encoded[0].part
    common = sorted(set(encoded[0].rows) & set(encoded[1].rows))
    if not common:
        raise DataError(f"{names[0]} and {names[1]} can read no image in common: check the files")
    held, asked = [part.objects[row] for row in common], encoded[0].asked
    images = [_rows_of(one, common) for one in encoded]
    refiners = [model.refiner if refine else None for model in models]

    def figures(direction: Direction) -> tuple[Figures, Figures]:
        one, two = (
            evaluate_vectors(
                encoded[k].texts, images[k], asked, held, refiners[k],
                direction=direction, ties=ties, missing="skip",
            )
            for k in (0, 1)
        )  # fmt: skip
        return one, two

    one, two = figures("t2i")
    back = figures("i2t") if i2t else None
    chances = {"resamples": resamples, "seed": seed}
    classes = None
    if dataset.protocol == "class":
        a, b = (
            evaluate_classes(encoded[k].texts, images[k], asked, held, refiners[k], ties=ties)
            for k in (0, 1)
        )
        mine, theirs = a.values(), b.values()
        classes = {
            name: _paired(mine[name][0], theirs[name][0], mine[name][1], **chances) for name in mine
        }
    return Comparison(
        dataset=dataset.name,
        split=split_name(split),
        protocol=PROTOCOLS_IN_WORDS[dataset.protocol],
        queries=one.queries,
        gallery=one.gallery,
        objects=len(np.unique(one.objects)),
        runs=[
            {
                "name": name,
                "id": model.id,
                "kind": model.kind,
                "digest": model.digest,
                "refinement": describe_refinement(refiner),
                "selection": recorded_selection(getattr(model, "path", None)),
            }
            for name, model, refiner in zip(names, models, refiners, strict=True)
        ],
        t2i=_all_paired(one, two, **chances),
        i2t=_all_paired(*back, **chances) if back else None,
        classes=classes,
        ties=ties,
        tolerance=TOLERANCE,
        resamples=resamples,
        seed=seed,
        left_out={"images": _left_out(encoded, names), "queries": one.skipped},
        fingerprint=part.fingerprint(),
        notes=_notes(models, dataset),
        **environment_of(first),
    )


def _encode(
    model: MMRef, dataset: RetrievalDataset, split: str, name: str, progress: Progress | None
) -> EncodedSplit:
    """`encode_split` whose errors and progress say which run it is."""

    def named(what: str, done: int, total: int) -> None:
        if progress:
            progress(f"{what} by {name}", done, total)

    try:
        return encode_split(model, dataset, split, named)
    except MMRefError as error:
        raise type(error)(f"{name}: {error}") from error


def _rows_of(encoded: EncodedSplit, rows: Sequence[int]) -> Any:
    place = {row: k for k, row in enumerate(encoded.rows)}
    return encoded.images[[place[row] for row in rows]]


def _left_out(encoded: Sequence[EncodedSplit], names: Sequence[str]) -> list[dict[str, str]]:
    """The images that a run could not read, each once."""
    found: dict[str, dict[str, str]] = {}
    for one, name in zip(encoded, names, strict=True):
        for bad in one.skipped:
            found.setdefault(bad["path"], {**bad, "run": name})
    return list(found.values())


def _all_paired(one: Any, two: Any, *, resamples: int, seed: int) -> Compared:
    return {
        name: _paired(values, two.per_query[name], one.objects, resamples=resamples, seed=seed)
        for name, values in one.per_query.items()
    }


def _paired(
    one: NDArray[np.float64],
    two: NDArray[np.float64],
    objects: NDArray[Any],
    *,
    resamples: int,
    seed: int,
) -> dict[str, float | None]:
    found = asdict(paired_difference(one, two, objects, resamples=resamples, seed=seed))
    told = {"first": float(one.mean()), "second": float(two.mean())}
    told["difference"] = found["difference"]
    known = found["objects"] > 1
    return told | {key: found[key] if known else None for key in ("low", "high", "p_value")}


def _notes(models: Sequence[MMRef], dataset: RetrievalDataset) -> list[str]:
    notes = list(dataset.notes)
    if models[0].digest == models[1].digest:
        notes.append("Both are the same model: every difference is 0 by construction.")
    if models[0].kind != models[1].kind:
        notes.append(f"A takes {models[0].kind} inputs, B {models[1].kind} ones.")
    return notes
