"""The preset ``refinement``: points of all runs pooled, and which of them are worth their bytes.

Form, lambda and tau_r of the finer tables are those with the best validation mAP, averaged over
the runs; kept entries and depth are then varied, on the reported split, for that one alone.
"""

from typing import Any

import numpy as np

from mmref.experiments.pooling import RESAMPLES, Pool
from mmref.experiments.refining import ALL, smallest_within
from mmref.experiments.worker import REFINEMENTS
from mmref.metrics.bootstrap import resampled_means
from mmref.references.refinement import TEMPERED

_KEY = ("form", "weight", "temperature", "kept", "depth")


def refinement_results(pool: Pool, entry: str) -> dict[str, Any] | None:
    """All points over the pooled queries, with intervals of their gain over the cosine.

    Returns:
        ``unrefined``, ``points``, ``chosen`` (form -> the values that validation favours) and
        ``smallest`` (form -> the cheapest point within 0.1 mAP of all entries, all re-scored);
        None without runs.
    """
    units = pool.units(entry)
    if not units:
        return None
    facts = [pool.runs[entry, unit][0] for unit in units]
    arrays = [pool.runs[entry, unit][1] for unit in units]
    names = [
        pool.objects(a[f"{REFINEMENTS}/objects"], u) for a, u in zip(arrays, units, strict=True)
    ]
    objects = np.concatenate(names)
    found = {
        metric: np.concatenate([a[f"{REFINEMENTS}/points/{metric}"] for a in arrays], axis=1)
        for metric in ("mAP", "R@1")
    }
    plain = {
        metric: np.concatenate([a[f"{REFINEMENTS}/unrefined/{metric}"] for a in arrays])
        for metric in found
    }
    gains = found["mAP"] - plain["mAP"]
    spans = np.full((len(gains), 2), np.nan)
    if len(np.unique(objects)) > 1:
        drawn = resampled_means(
            {str(k): gain for k, gain in enumerate(gains)},
            objects,
            resamples=RESAMPLES,
            runs=pool.trained(objects),
        )
        spans = np.quantile(drawn, (0.025, 0.975), axis=0).T
    points = []
    for k, point in enumerate(facts[0]["refinements"]["points"]):
        row = {key: point[key] for key in _KEY}
        same = [one["refinements"]["points"][k] for one in facts]
        row |= {metric: float(found[metric][k].mean()) for metric in found}
        row |= {
            "gain": float(gains[k].mean()),
            "low": None if np.isnan(spans[k, 0]) else float(spans[k, 0]),
            "high": None if np.isnan(spans[k, 1]) else float(spans[k, 1]),
            "bytes": float(np.mean([one["bytes"] for one in same])),
            "microseconds": float(np.mean([one["microseconds"] for one in same])),
        }
        points.append(row)
    chosen = _chosen(facts)
    return {
        "entry": entry,
        "runs": len(units),
        "queries": len(objects),
        "gallery": [one["gallery"] for one in facts],
        "references": [one["refinements"]["references"] for one in facts],
        "unrefined": {
            **{metric: float(values.mean()) for metric, values in plain.items()},
            "bytes": float(np.mean([f["refinements"]["unrefined"]["bytes"] for f in facts])),
            "microseconds": float(
                np.mean([f["refinements"]["unrefined"]["microseconds"] for f in facts])
            ),
        },
        "points": points,
        "chosen": chosen,
        "smallest": {
            form: _smallest(of_choice(points, form, values)) for form, values in chosen.items()
        },
    }


def _chosen(facts: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """For each form the lambda and tau_r with the best mean validation mAP."""
    means: dict[tuple[str, float, float | None], list[float]] = {}
    for one in facts:
        for row in one.get("refinement_search") or _unknown(one):
            if row["form"] is not None:
                temperature = row["temperature"] if row["form"] in TEMPERED else None
                means.setdefault((row["form"], row["weight"], temperature), []).append(row["mAP"])
    best: dict[str, dict[str, float | None]] = {}
    for (form, weight, temperature), values in means.items():
        value = float(np.mean(values))
        if form not in best or value > float(best[form]["validation_mAP"] or 0):
            best[form] = {
                "weight": weight,
                "temperature": temperature,
                "validation_mAP": value,
            }
    return best


def _unknown(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """A fold's run keeps its choice alone: it stands for its form."""
    choice = facts["refinement"]
    return [] if choice is None else [{**choice, "mAP": 0.0}]


def of_choice(
    points: list[dict[str, Any]], form: str, values: dict[str, float | None]
) -> list[dict[str, Any]]:
    """The points of a form at one lambda and tau_r."""
    return [
        point
        for point in points
        if point["form"] == form
        and point["weight"] == values["weight"]
        and point["temperature"] == values["temperature"]
    ]


def _smallest(points: list[dict[str, Any]]) -> dict[str, Any] | None:
    whole = [p for p in points if p["depth"] == ALL and p["kept"] in (ALL, None)]
    return smallest_within(points, whole[0]["mAP"]) if whole else None
