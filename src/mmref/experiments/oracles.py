"""The oracle's figures of drawn sets: what perfect eyes and the true error rates would reach.

They depend on the test captions alone, so they are made once a set and kept in the ablation's
folder.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import SyntheticSettings
from mmref.evaluation.oracle import oracle
from mmref.experiments.drawn import fingerprint, recaptioned
from mmref.experiments.grid import Plan, Unit, plain
from mmref.files import write_json

Oracles = dict[tuple[str, str], dict[str, float]]
"""(unit, sweep) -> mAP, R@1 and queries; the plain test captions are the sweep of no name."""


def oracles_of(
    plan: Plan, units: Sequence[Unit], sets: Mapping[str, Path], folder: Path
) -> Oracles:
    """The oracle on the test captions, and on those of every sweep.

    Args:
        plan: of drawn data; other plans have no oracle.
        units: those that have finished runs.
        sets: the folder of each unit's set, by the unit's name.
        folder: for what was found.
    """
    found: Oracles = {}
    if plan.drawn is None:
        return found
    sweeps: dict[str, Mapping[str, Any]] = {"": {}}
    sweeps |= {name: values for entry in plan.grid.entries for name, values in entry.sweeps}
    for unit in units:
        place = sets[unit.name]
        for name, values in sweeps.items():
            settings = plan.synthetic(unit, values)
            asked = json.dumps([plain(settings), plan.split, fingerprint(place)], sort_keys=True)
            file = folder / f"{hashlib.sha256(asked.encode()).hexdigest()[:16]}.json"
            known = _read(file)
            if known is None and settings is not None:
                dataset = recaptioned(RetrievalDataset.load(place), settings)
                known = oracle_figures(dataset, settings, plan.split or "test")
                write_json(file, known)
            if known is not None:
                found[unit.name, name] = known
    return found


def oracle_figures(
    dataset: RetrievalDataset, settings: SyntheticSettings, split: str
) -> dict[str, float]:
    """The oracle's mAP, R@1 (percent, means over the orders of ties) and the number of queries."""
    found = oracle(dataset, split, settings=settings)
    queries = len(found.images.per_query["mAP"])
    return {"mAP": found.expected["mAP"], "R@1": found.expected["R@1"], "queries": float(queries)}


def _read(file: Path) -> dict[str, float] | None:
    try:
        known: dict[str, float] = json.loads(file.read_text(encoding="utf-8"))
        return known if {"mAP", "R@1", "queries"} <= set(known) else None
    except (OSError, ValueError, TypeError):
        return None


def oracle_mean(found: list[dict[str, float] | None]) -> dict[str, float] | None:
    """Figures over the queries of all units; None unless all are known.

    Example:
        >>> oracle_mean([{"mAP": 10.0, "queries": 1}, {"mAP": 40.0, "queries": 2}])
        {'mAP': 30.0}
        >>> oracle_mean([{"mAP": 10.0, "queries": 1}, None]) is None
        True
    """
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return None
    total = sum(one["queries"] for one in known)
    return {
        name: sum(one[name] * one["queries"] for one in known) / total
        for name in known[0]
        if name != "queries"
    }


def with_oracle(
    rows: dict[str, dict[str, Any]], oracle: dict[str, float] | None
) -> dict[str, dict[str, Any]]:
    """The rows with ``gap_closed``: their share, in percent, of the way from base to oracle.

    Example:
        >>> rows = {"base": {"metrics": {"mAP": 10.0}}, "full": {"metrics": {"mAP": 25.0}}}
        >>> with_oracle(rows, {"mAP": 40.0})["full"]["gap_closed"]
        50.0
    """
    base = rows.get("base")
    gap = oracle["mAP"] - base["metrics"]["mAP"] if oracle and base else 0.0
    return {
        name: row
        | {
            "gap_closed": 100 * (row["metrics"]["mAP"] - base["metrics"]["mAP"]) / gap
            if base and gap > 0
            else None
        }
        for name, row in rows.items()
    }
