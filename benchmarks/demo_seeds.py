"""MMRef against the base objective on the demonstration's drawn set, over several seeds.

    python benchmarks/demo_seeds.py [--seeds 5] [--epochs 6]

Every seed draws other figures and captions and trains both methods for the same number of
optimiser steps, one core each; choices are made on val objects, figures are of test objects. The
paired interval is a bootstrap over the pooled test objects of all seeds. Also: how often masked
words of held-out captions of training objects are named with the right reference, with another
object's, and with none.
"""

import argparse
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import numpy as np

from mmref.config import Settings
from mmref.environment import describe_environment
from mmref.evaluation.evaluator import evaluate
from mmref.evaluation.reconstruction import masked_word_accuracy
from mmref.experiments.demo import FIGURE_VALUES, draw
from mmref.files import write_json
from mmref.metrics.bootstrap import intervals, paired_difference
from mmref.training.trainer import Trainer

METHODS = ("base", "MMRef")


def settings_of(method: str, seed: int, epochs: int) -> Settings:
    settings = Settings().with_values(
        {**FIGURE_VALUES, "training.epochs": epochs, "training.seed": seed}
    )
    return settings.base_objective() if method == "base" else settings


def one(method: str, seed: int, epochs: int) -> dict:
    """Train one method on one seed's set and score it on the test objects."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = draw(Path(folder) / "data", seed)
        outcome = Trainer(dataset, settings_of(method, seed, epochs)).run()
        report = evaluate(outcome.model, dataset, "test", bootstrap=0)
        found = {
            "method": method,
            "seed": seed,
            "chance": report.chance,
            "best_epoch": outcome.best_epoch,
            "refinement": report.refinement,
            "refined": rows(report.figures["t2i"], seed),
            "unrefined": rows(report.figures.get("unrefined", report.figures["t2i"]), seed),
            "seconds": outcome.seconds,
        }
        if method == "MMRef":
            train = dataset.split("train")
            pairs = [
                (caption, name)
                for row, name in enumerate(train.objects)
                for caption in train.metadata(row)["held_out_captions"]
            ]
            found["masked_words"] = masked_word_accuracy(
                outcome.model, [c for c, _ in pairs], [n for _, n in pairs]
            )
        print(method, seed, f"mAP {np.mean(found['refined']['mAP']):.2f}", flush=True)
        return found


def rows(figures, seed: int) -> dict:
    """Per-query figures with object names that are unique over seeds."""
    values = {name: [float(v) for v in figures.per_query[name]] for name in figures.per_query}
    return {**values, "objects": [f"{seed}/{name}" for name in figures.objects]}


def pooled(found: list[dict], way: str, metric: str) -> tuple[np.ndarray, list[str]]:
    values = np.concatenate([np.array(f[way][metric]) for f in found])
    return values, [name for f in found for name in f[way]["objects"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.jobs) as pool:
        jobs = [
            pool.submit(one, method, seed, arguments.epochs)
            for seed in range(arguments.seeds)
            for method in METHODS
        ]
        found = [job.result() for job in jobs]
    by = {method: [f for f in found if f["method"] == method] for method in METHODS}
    ways = {
        "base": (by["base"], "unrefined"),
        "MMRef": (by["MMRef"], "unrefined"),
        "MMRef refined": (by["MMRef"], "refined"),
    }
    table = {}
    print(
        "\n| method | R@1 | R@5 | R@10 | mAP (95 %) | mAP of each seed |\n|---|---|---|---|---|---|"
    )
    for name, (runs, way) in ways.items():
        columns = {m: pooled(runs, way, m) for m in ("R@1", "R@5", "R@10", "mAP")}
        means = {m: float(v.mean()) for m, (v, _) in columns.items()}
        low, high = intervals({"mAP": columns["mAP"][0]}, columns["mAP"][1])["mAP"]
        seeds = [float(np.mean(r[way]["mAP"])) for r in runs]
        table[name] = {**means, "ci95": [float(low), float(high)], "seeds": seeds}
        each = " ".join(f"{s:.1f}" for s in seeds)
        print(
            f"| {name} | {means['R@1']:.1f} | {means['R@5']:.1f} | {means['R@10']:.1f} | "
            f"{means['mAP']:.1f} ({low:.1f} to {high:.1f}) | {each} |"
        )
    differences = {}
    print("\n| paired difference in mAP | | 95 % | p |\n|---|---|---|---|")
    for first in ("base", "MMRef"):
        b, objects = pooled(*ways["MMRef refined"], "mAP")
        d = paired_difference(pooled(*ways[first], "mAP")[0], b, objects)
        differences[f"MMRef refined - {first}"] = {
            "mAP": d.difference,
            "low": d.low,
            "high": d.high,
            "p": d.p_value,
        }
        print(
            f"| MMRef refined - {first} | {d.difference:+.2f} | "
            f"{d.low:+.2f} to {d.high:+.2f} | {d.p_value:.4f} |"
        )
    words = {
        key: float(np.mean([f["masked_words"][key] for f in by["MMRef"]]))
        for key in ("right", "shuffled", "none")
    }
    chance = float(np.mean([f["chance"] for f in found]))
    print(f"\nChance R@1 {chance:.2f}. Masked words named: {words}")
    write_json(
        arguments.out / "demo_seeds.json",
        {
            "epochs": arguments.epochs,
            "chance": chance,
            "methods": table,
            "differences": differences,
            "masked_words": words,
            "seconds": {m: [f["seconds"] for f in by[m]] for m in METHODS},
            **describe_environment(),
        },
    )


if __name__ == "__main__":
    main()
