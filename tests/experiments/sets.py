"""A tiny data set of features, settings that train in a second, and runs made up by hand."""

import json

import numpy as np

from mmref.config import Settings
from mmref.data.synthetic import SyntheticSettings
from mmref.experiments.grid import Entry, Grid, Plan, units

COLOURS = ("red", "green", "blue", "white", "black", "yellow")
SMALL = {
    "encoder.kind": "features",
    "encoder.block": 8,
    "encoder.deep": 8,
    "encoder.kernel_features": 16,
    "encoder.caption_length": 16,
    "references.decoder_width": 16,
    "references.tokens": 2,
    "refinement.kept": 8,
    "training.batch_size": 16,
    "training.epochs": 1,
}
DRAWN = SyntheticSettings(
    objects=8, val_objects=4, test_objects=4, images=2, image_size=(64, 32), contradict=0.15
)


def small(**values):
    """Settings that train in a second; names with ``__`` for the dot."""
    return Settings().with_values(
        {**SMALL, **{name.replace("__", "."): value for name, value in values.items()}}
    )


def write_set(folder, *, objects=18, splits=("train", "train", "val", "test"), seed=0):
    """A manifest of features whose captions name two colours; two images an object."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    lines, features = [], []
    pairs = [(a, b) for a in range(6) for b in range(6)]
    for number, pair in enumerate(rng.permutation(len(pairs))[:objects]):
        hat, shoe = pairs[pair]
        mean = np.concatenate([np.eye(6)[hat], np.eye(6)[shoe]])
        for view in range(2):
            lines.append(
                {
                    "image": f"{number:02d}-{view}.png",
                    "captions": [f"a {COLOURS[hat]} hat, a {COLOURS[shoe]} shoe"]
                    + ([f"{COLOURS[shoe]} shoe and {COLOURS[hat]} hat"] if view else []),
                    "identity": f"object {number:02d}",
                    "split": splits[number % len(splits)],
                    "feature_row": len(features),
                }
            )
            features.append(mean + 0.5 * rng.standard_normal(12))
    np.save(folder / "features.npy", np.array(features, dtype=np.float32))
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "manifest.jsonl").write_text(text, encoding="utf-8")
    return folder


def methods(settings=None):
    """Base, control and full."""
    start = settings or small()
    return (
        Entry("base", "base", start.base_objective()),
        Entry("identity", "control", start.identity_control()),
        Entry("full", "MMRef", start),
    )


def plan_on(source, *, seeds=1, folds=0, entries=None, **options):
    return Plan(
        "mine",
        Grid(entries or methods(), **options),
        units(seeds, folds),
        source=str(source),
    )


def made_run(objects, ways, *, profile=0, **facts):
    """Facts and arrays of a run whose percents of each query are ``ways[way][metric]``."""
    arrays = {"objects": np.asarray(objects, dtype=np.str_)}
    figures = {}
    for way, values in ways.items():
        full = {name: values.get(name, values["mAP"]) for name in METRICS}
        arrays |= {f"{way}/{name}": np.asarray(v, dtype=np.float64) for name, v in full.items()}
        figures[way] = {name: float(np.mean(v)) for name, v in full.items()}
    found = {
        "figures": figures,
        "index": {"vector": 100, "profile": profile},
        "run_seconds": 2.0,
        "seconds": 1.0,
        "steps": 10,
        "caption_steps": 0,
        "decoder_steps": 0,
        "parameters": 1000,
        "split": "test",
        "sweeps": {},
        "notes": [],
        "queries": len(objects),
    }
    return {**found, **facts}, arrays


METRICS = ("R@1", "R@5", "R@10", "mAP", "mINP")
