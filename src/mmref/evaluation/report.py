"""What an evaluation found: figures, intervals and everything needed to read them rightly."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from mmref.evaluation.selection import chosen_on, selection_remarks
from mmref.evaluation.tables import (
    add_figures,
    add_intervals,
    class_table,
    figures_table,
    figures_title,
    published_table,
)
from mmref.metrics.protocols import Figures

if TYPE_CHECKING:
    from rich.table import Table

Metrics = dict[str, float]

CONTROLS = {"k_reciprocal": "k-reciprocal", "dual_softmax": "dual softmax"}
_NAMED = ("mmref", "python", "torch")
TIE_RULES = {
    "pessimistic": "a tied irrelevant image ranks first",
    "expected": "the mean over all orders of tied images",
}


@dataclass(frozen=True)
class Report:
    """One model on one split.

    Attributes:
        dataset: name of the data set.
        split: the split that was evaluated.
        protocol: what was asked and what counts as right, in words.
        queries: captions asked.
        gallery: images ranked.
        objects: distinct objects among the queries.
        t2i: text-to-image, percent; refined where `refinement` names a form.
        i2t: image-to-text, percent, or None when it was not asked for.
        unrefined: text-to-image by the cosine alone; None when `t2i` is unrefined itself.
        ci95: 95 % interval of each figure of `t2i`, by bootstrap over objects; None with fewer
            than two objects, or when it was not asked for.
        gain: refined minus unrefined, paired: figure -> difference, low, high, p_value; or None.
        refinement: form, weight, temperature, kept; the form is None without refinement.
        controls: re-ranking that uses the whole query and gallery set, applied to the cosine; each
            with its figures and what it uses. None when it was not asked for.
        ties: the tie rule.
        tolerance: scores within it count as tied.
        chance: R@1 of a random order, percent.
        chance_map: mAP of a random order, percent.
        skipped: images that could not be read: path and reason.
        skipped_queries: captions left out because none of their object's images could be read.
        seed: of the bootstrap.
        resamples: of the bootstrap.
        model: id, kind, weights digest, and the backbone that the encoders started from.
        fingerprint: of the evaluated rows.
        versions: of mmref and what it stands on.
        machine: what computed the figures.
        i2t_ci95: 95 % interval of each figure of `i2t`, as `ci95`.
        classes: of class sets (CUB, Flowers): "AP@50" with its "AP@50 ceiling", "i2t R@1", their
            intervals by bootstrap over classes, and both "unrefined"; None for other sets.
        selection: how training chose the epoch and the refinement, and on which objects; None
            where it is not recorded.
        published: of the person sets, what papers report of their test split, with what must be
            known to compare; None for other sets.
        notes: sentences that belong beside the figures.
        figures: values of every query by direction ("t2i", "unrefined", "i2t"), for paired tests.
    """

    dataset: str
    split: str
    protocol: str
    queries: int
    gallery: int
    objects: int
    t2i: Metrics
    i2t: Metrics | None
    unrefined: Metrics | None
    ci95: dict[str, list[float]] | None
    gain: dict[str, dict[str, float]] | None
    refinement: dict[str, Any]
    controls: dict[str, dict[str, Any]] | None
    ties: str
    tolerance: float
    chance: float
    chance_map: float
    skipped: list[dict[str, str]]
    skipped_queries: int
    seed: int
    resamples: int
    model: dict[str, Any]
    fingerprint: str
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, Any] = field(default_factory=dict)
    i2t_ci95: dict[str, list[float]] | None = None
    classes: dict[str, Any] | None = None
    selection: dict[str, Any] | None = None
    published: dict[str, Any] | None = None
    notes: list[str] = field(default_factory=list)
    figures: Mapping[str, Figures] = field(default_factory=dict, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the values of single queries, ready for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "figures"}

    def table(self) -> "Table":
        """The figures as a table of at most 80 columns."""
        title = figures_title(
            f"{self.dataset}, {self.split}",
            queries=self.queries,
            gallery=self.gallery,
            objects=self.objects,
        )
        table = figures_table(title)
        refined = self.refinement["form"] is not None
        add_figures(table, "text to image, refined" if refined else "text to image", self.t2i)
        add_intervals(table, self.ci95)
        if self.unrefined is not None:
            add_figures(table, "text to image, unrefined", self.unrefined)
        for name, control in (self.controls or {}).items():
            add_figures(table, f"{CONTROLS[name]} (uses all queries)", control["figures"])
        if self.i2t is not None:
            add_figures(table, "image to text", self.i2t)
            add_intervals(table, self.i2t_ci95)
        return table

    def class_table(self) -> "Table | None":
        """The figures of whole classes as a table of at most 80 columns; None for other sets."""
        return class_table(self.classes) if self.classes else None

    def published_table(self) -> "Table | None":
        """What papers report of this set, and this report last; None for other sets."""
        if self.published is None:
            return None
        own = {
            "method": f"this run ({self.split})",
            "figures": self.t2i,
            "backbone": self.model["backbone"],
            "person_pretraining": "no" if self.model["kind"] == "compact" else "not stated",
            "cross_encoder": "no",
            "epoch": chosen_on(self.selection),
        }
        return published_table(self.published, own)

    def remarks(self) -> list[str]:
        """What the reader of the table must know, in short lines."""
        lines = [
            f"Chance: R@1 {self.chance:.2f}, mAP {self.chance_map:.2f}. "
            f"Ties: {TIE_RULES[self.ties]}."
        ]
        if self.ci95 is not None:
            lines.append(f"95 % interval: bootstrap over objects, {self.resamples:,} resamples.")
        else:
            lines.append("No interval: that takes two objects or more, and resamples.")
        if self.gain is not None:
            gain = self.gain["mAP"]
            lines.append(
                f"Refinement ({self.refinement['form']}): mAP {gain['difference']:+.2f} "
                f"[{gain['low']:+.2f}, {gain['high']:+.2f}], p = {gain['p_value']:.3g}."
            )
        if self.classes:
            lines.append(
                f"AP@50 is the precision of a class's first 50 images (Reed et al. 2016), averaged "
                f"over {self.classes['classes']:,} classes; the smallest has "
                f"{self.classes['smallest_class']:,} images, so no more than "
                f"{self.classes['AP@50 ceiling']:.1f} can be reached."
            )
        if self.controls:
            lines.append("Controls see the whole query and gallery set; one query alone cannot.")
        if self.skipped:
            first = self.skipped[0]
            lines.append(
                f"{len(self.skipped)} unreadable images were left out "
                f"(first: {first['path']}: {first['reason']})."
            )
        if self.skipped_queries:
            lines.append(f"{self.skipped_queries} captions had no readable image: not asked.")
        lines += selection_remarks(self.selection, self.fingerprint)
        lines.append(self._measured_with())
        return [*lines, *self.notes]

    def _measured_with(self) -> str:
        """Versions, machine and data in one line."""
        versions, machine = self.versions, self.machine
        with_what = [f"{name} {versions[name]}" for name in _NAMED if name in versions]
        if machine:
            with_what.append(f"{machine['system']}, {machine['processor']}")
        where = f" ({', '.join(with_what)})" if with_what else ""
        return (
            f"Data {self.fingerprint[:12]}, run {self.model['digest'][:12]}, "
            f"bootstrap seed {self.seed}{where}."
        )
