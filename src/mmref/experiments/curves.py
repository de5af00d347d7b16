"""The preset ``ambiguity``: mAP as captions leave more out, or say more that is wrong."""

from typing import Any

import numpy as np

from mmref.experiments.grid import BASE, Curve
from mmref.experiments.oracles import Oracles, oracle_mean
from mmref.experiments.pooling import Pool, Row, joint_quantiles
from mmref.experiments.scoring import REFINED
from mmref.metrics.bootstrap import intervals

Points = list[dict[str, Any] | None]


def curve_results(pool: Pool, curve: Curve, oracles: Oracles) -> dict[str, Any]:
    """The points of a curve for each method and way to rank, and what is lost along it.

    Args:
        pool: the finished runs.
        curve: of which entries or sweeps.
        oracles: the oracle's figures of a unit's test captions, where they are known.

    Returns:
        ``name``, ``levels``, ``of`` ("training" or "test"), ``lines``: row -> a point for each
        level (mAP, low, high, and for a test curve the oracle's mAP and the share of it) or None
        where a run is missing; ``losses``: row -> mAP lost from the first level to the last, and
        its ratio to the base's loss with an interval.
    """
    lines: dict[str, Points] = {}
    for method, entries in curve.entries.items():
        for row in (Row(method, method, "unrefined"), Row(f"{method} refined", method, REFINED)):
            points = [
                _point(pool, Row(row.name, entry, row.way), sweep, oracles)
                for entry, sweep in _stops(curve, entries)
            ]
            if any(points):
                lines[row.name] = points
    return {
        "name": curve.name,
        "of": "test" if curve.swept else "training",
        "levels": list(curve.levels),
        "lines": lines,
        "losses": _losses(pool, curve, lines),
    }


def _stops(curve: Curve, entries: tuple[str, ...]) -> list[tuple[str, str]]:
    """Entry and sweep of each level."""
    if curve.swept:
        return [(entries[0], sweep) for sweep in curve.swept]
    return [(entry, "") for entry in entries]


def _units(pool: Pool, row: Row) -> list[str]:
    return [u for u in pool.units(row.entry) if row.way in pool.runs[row.entry, u][0]["figures"]]


def _point(pool: Pool, row: Row, sweep: str, oracles: Oracles) -> dict[str, Any] | None:
    units = _units(pool, row)
    if not units:
        return None
    values, objects = pool.values(row, "mAP", units, sweep)
    low = high = None
    if len(np.unique(objects)) > 1:
        runs = pool.trained(objects)
        low, high = intervals({"mAP": values}, objects, runs=runs)["mAP"]
    point: dict[str, Any] = {
        "mAP": float(values.mean()),
        "low": low,
        "high": high,
        "runs": len(units),
    }
    known = oracle_mean([oracles.get((unit, sweep)) for unit in units])
    if known is not None:
        point |= {"oracle": known["mAP"], "share": 100 * point["mAP"] / known["mAP"]}
    return point


def _losses(pool: Pool, curve: Curve, lines: dict[str, Points]) -> dict[str, Any]:
    """Loss from the first level to the last; its ratio to the base's over the same queries."""
    if curve.swept:
        return {}
    losses: dict[str, Any] = {}
    for name, points in lines.items():
        first, last = points[0], points[-1]
        if first is None or last is None:
            continue
        method, way = name.removesuffix(" refined"), "unrefined"
        if name != method:
            way = REFINED
        losses[name] = {"mAP": first["mAP"] - last["mAP"]}
        if BASE in curve.entries and name != BASE:
            ratio = _ratio(pool, curve, method, way)
            if ratio is not None:
                losses[name]["of_base"] = ratio
    return losses


def _ratio(pool: Pool, curve: Curve, method: str, way: str) -> dict[str, float] | None:
    """The method's loss as a share of the base's, with an interval by bootstrap over objects."""
    ends = {
        "base first": Row("", curve.entries[BASE][0], "unrefined"),
        "base last": Row("", curve.entries[BASE][-1], "unrefined"),
        "first": Row("", curve.entries[method][0], way),
        "last": Row("", curve.entries[method][-1], way),
    }
    shared = [
        unit.name
        for unit in pool.plan.units
        if all(unit.name in _units(pool, row) for row in ends.values())
    ]
    if not shared:
        return None
    values = {name: pool.values(row, "mAP", shared) for name, row in ends.items()}
    objects = values["first"][1]
    if len(np.unique(objects)) < 2 or any(len(v) != len(objects) for v, _ in values.values()):
        return None

    def ratio(means: dict[str, np.ndarray]) -> np.ndarray:
        lost = means["base first"] - means["base last"]
        return np.asarray((means["first"] - means["last"]) / np.where(lost == 0, np.nan, lost))

    arrays = {name: part for name, (part, _) in values.items()}
    value = float(ratio({name: part.mean(keepdims=True) for name, part in arrays.items()})[0])
    if not np.isfinite(value):
        return None
    low, high = joint_quantiles(arrays, objects, ratio, pool.trained(objects))
    return {"ratio": value, "low": low, "high": high}
