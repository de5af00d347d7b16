"""Five folds over objects on real data: base, ID control, MMRef, MMRef refined, and ridge.

    python benchmarks/real_data.py DATA              # DATA holds flags/ and uw-objects/
    python benchmarks/real_data.py DATA --only flags-pixels --fold 0

Every choice (epoch, the parts' shares, refinement, ridge strength) is made on objects drawn from
the fold's training objects; the figures are those of the pooled held-out objects.
"""

import argparse
import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

# One thread a process, one process a core: set before torch is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ridge import ridge

from mmref.config import Settings
from mmref.data.batches import load_inputs
from mmref.data.dataset import RetrievalDataset
from mmref.environment import describe_environment
from mmref.experiments.folds import Pooled, cross_validate, inner_split, object_folds
from mmref.files import write_json
from mmref.metrics.bootstrap import intervals, paired_difference

# name -> folder, settings beyond the default, size (h, w) of ridge's pixels (None: features)
TASKS = {
    "uw-objects": ("uw-objects", {"encoder.kind": "features"}, None),
    "flags-features": ("flags", {"encoder.kind": "features"}, None),
    "flags-pixels": ("flags", {"encoder.kind": "compact"}, (8, 12)),
}
FOLDS, INNER, SEED = 5, 0.2, 0
FULL = "MMRef refined"


def load(data: Path, task: str) -> RetrievalDataset:
    dataset = RetrievalDataset.load(data / TASKS[task][0])
    return dataset.select([i for i, s in enumerate(dataset.splits) if s in ("train", "val")])


def variants(task: str, extra: dict[str, str]) -> dict[str, Settings]:
    settings = Settings().with_values({**TASKS[task][1], **extra})
    return {
        "base": settings.base_objective(),
        "ID control": settings.identity_control(),
        "MMRef": settings,
    }


def one_fold(
    data: Path, task: str, fold: int, extra: dict[str, str], names: list[str]
) -> dict[str, dict]:
    """All methods on one fold, as plain lists."""
    dataset = load(data, task)
    wanted = {n: s for n, s in variants(task, extra).items() if not names or n in names}
    pooled = cross_validate(
        dataset,
        wanted,
        folds=FOLDS,
        inner_share=INNER,
        seed=SEED,
        only=[fold],
        say=lambda line: print(f"{task} {line}", flush=True),
    )
    held = object_folds(dataset.object_names, FOLDS, SEED)[fold]
    rest, test = inner_split(dataset, held, INNER, SEED)
    figures, strength = ridge(rest, vectors(rest, task), test, vectors(test, task))
    pooled["ridge"] = Pooled()
    pooled["ridge"].add(figures, [q.object for q in test.queries()], {"strength": strength})
    return {name: vars(value) for name, value in pooled.items()}


def vectors(dataset: RetrievalDataset, task: str) -> np.ndarray:
    """What ridge predicts: features, or small pixels."""
    size = TASKS[task][2]
    inputs = load_inputs(dataset, size)
    return inputs.tensor.reshape(len(inputs.rows), -1).numpy().astype(np.float32)


def summarise(task: str, folds: list[dict[str, dict]]) -> dict:
    """Pool the folds: figures with intervals, and paired differences."""
    methods = {}
    pooled = {}
    for name in folds[0]:
        values = {
            metric: np.concatenate([np.array(f[name]["values"][metric]) for f in folds])
            for metric in folds[0][name]["values"]
        }
        objects = [o for f in folds for o in f[name]["objects"]]
        pooled[name] = (values, objects)
        ci = intervals(values, objects)
        methods[name] = {
            "figures": {metric: float(v.mean()) for metric, v in values.items()},
            "ci95": {metric: [float(x) for x in pair] for metric, pair in ci.items()},
            "choices": [c for f in folds for c in f[name]["choices"]],
        }
    differences = {}
    for second, first in [
        (FULL, "ridge"),
        (FULL, "base"),
        (FULL, "ID control"),
        (FULL, "ID control refined"),
        (FULL, "MMRef"),
        ("base", "ridge"),
    ]:
        if first in pooled and second in pooled:
            (a, objects), (b, _) = pooled[first], pooled[second]
            found = paired_difference(a["mAP"], b["mAP"], objects)
            differences[f"{second} - {first}"] = {
                "mAP": found.difference,
                "low": found.low,
                "high": found.high,
                "p": found.p_value,
            }
    queries = len(next(iter(pooled.values()))[1])
    return {"task": task, "queries": queries, "methods": methods, "differences": differences}


def show(summary: dict) -> str:
    lines = [
        f"### {summary['task']} ({summary['queries']} queries, {FOLDS} folds over objects)",
        "",
        "| method | R@1 | R@5 | R@10 | mAP (95 %) | mINP |",
        "|---|---|---|---|---|---|",
    ]
    order = ["ridge", "base", "ID control", "ID control refined", "MMRef", "MMRef refined"]
    for name in [n for n in order if n in summary["methods"]]:
        f, ci = summary["methods"][name]["figures"], summary["methods"][name]["ci95"]["mAP"]
        lines.append(
            f"| {name} | {f['R@1']:.1f} | {f['R@5']:.1f} | {f['R@10']:.1f} | "
            f"{f['mAP']:.1f} ({ci[0]:.1f} to {ci[1]:.1f}) | {f['mINP']:.1f} |"
        )
    lines += ["", "| paired difference in mAP | | 95 % | p |", "|---|---|---|---|"]
    for name, d in summary["differences"].items():
        lines.append(
            f"| {name} | {d['mAP']:+.2f} | {d['low']:+.2f} to {d['high']:+.2f} | {d['p']:.4f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", choices=list(TASKS), action="append")
    parser.add_argument("--fold", type=int, action="append", help="only these folds")
    parser.add_argument("--method", action="append", default=[], help="only these methods")
    parser.add_argument("--set", action="append", default=[], help="a setting, for all methods")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    extra = dict(item.split("=", 1) for item in arguments.set)
    folds = arguments.fold or list(range(FOLDS))
    with ProcessPoolExecutor(arguments.jobs) as pool:
        waiting = {
            task: [
                pool.submit(one_fold, arguments.data, task, fold, extra, arguments.method)
                for fold in folds
            ]
            for task in arguments.only or TASKS
        }
        for task, jobs in waiting.items():
            summary = summarise(task, [job.result() for job in jobs])
            print(show(summary), flush=True)
            if folds == list(range(FOLDS)) and not arguments.method and not extra:
                environment = describe_environment()
                write_json(arguments.out / f"real_data_{task}.json", {**summary, **environment})
            print(json.dumps({k: v["figures"]["mAP"] for k, v in summary["methods"].items()}))


if __name__ == "__main__":
    main()
