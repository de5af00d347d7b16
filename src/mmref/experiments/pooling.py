"""Runs -> rows: figures over the pooled queries of all units, with intervals and paired tests.

Whole objects are drawn in the bootstrap. Sets that are drawn anew for each seed hold other
objects, which count apart, and a model of their own: there runs are drawn first, then the objects
of each, for what one training happened to learn is common to its objects. On one data set a seed
asks of the same objects again, and all that a drawn object was asked, by whatever seed, comes with
it: more seeds are no more objects.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from mmref.errors import DataError
from mmref.experiments.grid import CONTROL, Plan
from mmref.experiments.scoring import PLAIN, REFINED, Arrays
from mmref.experiments.stages import STAGES
from mmref.metrics.bootstrap import intervals, paired_difference, resampled_means
from mmref.metrics.protocols import METRICS

RESAMPLES, PAIRED_RESAMPLES = 2000, 10_000
Runs = dict[tuple[str, str], tuple[dict[str, Any], Arrays]]
"""(entry, unit) -> facts and arrays of the finished runs."""


@dataclass(frozen=True)
class Row:
    """One line of a table: an entry by one way to rank.

    Attributes:
        name: the entry's, followed by "refined" for the second of the two.
        entry: the entry's name.
        way: ``unrefined`` or ``refined``.
    """

    name: str
    entry: str
    way: str


class Pool:
    """The finished runs of a plan, to be asked for pooled values.

    Args:
        plan: whose runs they are.
        runs: the finished ones.
    """

    def __init__(self, plan: Plan, runs: Runs) -> None:
        self.plan, self.runs = plan, runs
        self._apart = plan.drawn is not None

    def units(self, entry: str) -> list[str]:
        """The units in which an entry is finished, in the plan's order."""
        return [unit.name for unit in self.plan.units if (entry, unit.name) in self.runs]

    def rows(self) -> list[Row]:
        """All rows that there are runs of."""
        found = []
        for entry in self.plan.grid.entries:
            done = self.units(entry.name)
            if done:
                found.append(Row(entry.name, entry.name, PLAIN))
                if any(REFINED in self.runs[entry.name, unit][0]["figures"] for unit in done):
                    found.append(Row(f"{entry.name} refined", entry.name, REFINED))
        return found

    def values(
        self, row: Row, metric: str, units: list[str], sweep: str = ""
    ) -> tuple[np.ndarray, np.ndarray]:
        """Percent of each query, and its object, unit after unit.

        Args:
            row: what is asked for.
            metric: such as ``mAP``.
            units: of which units.
            sweep: the further test set, or nothing for the plain one.
        """
        head = f"{sweep}/" if sweep else ""
        parts, objects = [], []
        for unit in units:
            arrays = self.runs[row.entry, unit][1]
            parts.append(arrays[f"{head}{row.way}/{metric}"])
            objects.append(self.objects(arrays[f"{head}objects"], unit))
        return np.concatenate(parts), np.concatenate(objects)

    def objects(self, names: np.ndarray, unit: str) -> np.ndarray:
        """Names under which objects are pooled."""
        return np.char.add(f"{unit}/", names) if self._apart else names

    def trained(self, objects: np.ndarray) -> np.ndarray | None:
        """The run of each pooled object where every unit has objects of its own, else None."""
        return np.char.partition(objects, "/")[:, 0] if self._apart else None

    def summary(self, row: Row) -> dict[str, Any]:
        """Figures of a row with their 95 % intervals, and what it costs."""
        units = self.units(row.entry)
        values = {metric: self.values(row, metric, units)[0] for metric in METRICS}
        objects = self.values(row, "mAP", units)[1]
        spans = None
        if len(np.unique(objects)) > 1:
            found = intervals(values, objects, resamples=RESAMPLES, runs=self.trained(objects))
            spans = {metric: list(span) for metric, span in found.items()}
        facts = [self.runs[row.entry, unit][0] for unit in units]
        profile = _mean(facts, lambda f: f["index"]["profile"]) if row.way == REFINED else 0.0
        return {
            "entry": row.entry,
            "way": row.way,
            "runs": len(units),
            "queries": len(objects),
            "objects": len(np.unique(objects)),
            "metrics": {metric: float(part.mean()) for metric, part in values.items()},
            "ci95": spans,
            "units": {u: f["figures"][row.way] for u, f in zip(units, facts, strict=True)},
            "seconds": _mean(facts, lambda f: f["run_seconds"]),
            "training_seconds": _mean(facts, lambda f: f["seconds"]),
            "steps": _mean(facts, lambda f: f["steps"]),
            **{
                stage: _mean(facts, itemgetter(stage)) if all(stage in f for f in facts) else None
                for stage in STAGES.values()
            },
            "parameters": _mean(facts, lambda f: f["parameters"]),
            "vector_bytes": _mean(facts, lambda f: f["index"]["vector"]),
            "profile_bytes": profile,
            "bytes_per_image": _mean(facts, lambda f: f["index"]["vector"]) + profile,
        }

    def difference(self, first: Row, second: Row, metric: str = "mAP") -> dict[str, Any] | None:
        """Second minus first over the units that both have, paired by query.

        Returns:
            The difference with its interval and p-value, and ``relative``, in percent of the
            first; None when they share no unit, or fewer than two objects.

        Raises:
            DataError: they asked different queries.
        """
        units = [unit for unit in self.units(second.entry) if unit in self.units(first.entry)]
        if not units:
            return None
        one, objects = self.values(first, metric, units)
        two, others = self.values(second, metric, units)
        if not np.array_equal(objects, others):
            raise DataError(f"{first.name} and {second.name} were asked different queries")
        if len(np.unique(objects)) < 2:
            return None
        found = paired_difference(
            one, two, objects, resamples=PAIRED_RESAMPLES, runs=self.trained(objects)
        )
        mean = float(one.mean())
        return {
            "against": first.name,
            "metric": metric,
            "difference": found.difference,
            "low": found.low,
            "high": found.high,
            "p_value": found.p_value,
            "relative": 100 * found.difference / mean if mean > 0 else None,
            "runs": len(units),
        }

    def table(self) -> dict[str, dict[str, Any]]:
        """Every row's summary with its differences.

        ``to_base``: to the base objective's cosine, or the first recipe's; ``to_identity``: to the
        ID control, ranked in the same way; ``to_control``: to the entry's own control, which has
        the same stages, or to the ID control where that is not in the grid; ``to_unrefined``: of a
        refined row to the same model's cosine.
        """
        rows = {row.name: row for row in self.rows()}
        found: dict[str, dict[str, Any]] = {}
        for name, row in rows.items():
            refined = row.way == REFINED
            own = self.plan.entry(row.entry).control
            own = own if (own, PLAIN) in {(r.entry, r.way) for r in rows.values()} else CONTROL
            against = {
                "to_base": self.plan.grid.base,
                "to_identity": f"{CONTROL} refined" if refined else CONTROL,
                "to_control": f"{own} refined" if refined else own,
                "to_unrefined": row.entry if refined else name,
            }
            differences = {
                other: self.difference(rows[other], row)
                if other in rows and other != name
                else None
                for other in dict.fromkeys(against.values())
            }
            found[name] = self.summary(row) | {
                key: differences[other] for key, other in against.items()
            }
        return found

    def stage_steps(self) -> list[str]:
        """What to say of steps without images, which are beside the budget of image steps."""
        taken: dict[tuple[int, ...], list[str]] = {}
        for entry in self.plan.grid.entries:
            facts = [self.runs[entry.name, unit][0] for unit in self.units(entry.name)]
            if facts and all(name in f for f in facts for name in STAGES.values()):
                most = tuple(max(f[name] for f in facts) for name in STAGES.values())
                taken.setdefault(most, []).append(entry.name)
        if len(taken) < 2:
            return []
        return [
            f"beside the image steps: {', '.join(names)} took {_counted(captions, 'caption step')} "
            f"and {_counted(decoder, 'decoder step')}"
            for (captions, decoder), names in taken.items()
        ]

    def unequal_steps(self) -> list[str]:
        """What to say when the runs of a unit did not take equally many steps with images."""
        notes = []
        for unit in self.plan.units:
            steps = {
                name: run[0]["steps"] for (name, u), run in self.runs.items() if u == unit.name
            }
            if len(set(steps.values())) > 1:
                few, many = min(steps, key=steps.__getitem__), max(steps, key=steps.__getitem__)
                notes.append(
                    f"{unit.name}: {few} took {steps[few]:,} steps with images, {many} "
                    f"{steps[many]:,} (patience, or a refit to its best epoch)"
                )
        return notes


def _counted(count: int, what: str) -> str:
    return f"no {what}" if not count else f"{count:,} {what}{'s' if count > 1 else ''}"


def _mean(facts: list[dict[str, Any]], of: Callable[[dict[str, Any]], float]) -> float:
    return float(np.mean([of(one) for one in facts]))


def joint_quantiles(
    values: Mapping[str, np.ndarray],
    objects: np.ndarray,
    statistic: Callable[[dict[str, np.ndarray]], np.ndarray],
    runs: np.ndarray | None = None,
) -> tuple[float, float]:
    """The 95 % interval of a statistic of several means over the same queries.

    Example:
        >>> values = {"a": np.array([2.0, 2.0]), "b": np.array([1.0, 1.0])}
        >>> joint_quantiles(values, np.array(["x", "y"]), lambda m: m["a"] / m["b"])
        (2.0, 2.0)
    """
    means = resampled_means(values, objects, resamples=RESAMPLES, runs=runs)
    drawn = statistic({name: means[:, k] for k, name in enumerate(values)})
    low, high = np.nanquantile(drawn, (0.025, 0.975))
    return float(low), float(high)
