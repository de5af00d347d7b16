"""Tiny data sets whose captions say what their images show."""

import json
import shutil

import numpy as np
from PIL import Image

from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 40, 220),
    "white": (250, 250, 250),
    "black": (5, 5, 5),
    "yellow": (230, 220, 20),
}
THINGS = ("hat", "shoe")
SMALL = {
    "encoder.block": 8,
    "encoder.deep": 8,
    "encoder.kernel_features": 16,
    "encoder.width": 8,
    "encoder.grid": 8,
    "encoder.image_height": 16,
    "encoder.image_width": 16,
    "encoder.caption_length": 16,
    "references.decoder_width": 16,
    "references.tokens": 2,
    "refinement.kept": 8,
    "training.batch_size": 16,
    "training.epochs": 3,
}


def small(kind="features", **values):
    """Settings that train in a second; names with ``__`` for the dot."""
    named = {name.replace("__", "."): value for name, value in values.items()}
    return Settings().with_values({**SMALL, "encoder.kind": kind, **named})


def words(values):
    """``training__epochs=1`` as ``--set training.epochs=1``."""
    return [part for name, value in values.items() for part in ("--set", f"{name}={value}")]


def write_set(
    folder,
    *,
    objects=12,
    images=4,
    captions=3,
    pixels=False,
    split=True,
    held_out=False,
    size=(16, 16),
    noise=0.25,
    seed=0,
):
    """A manifest with features (8 numbers) or pictures; two thirds of the objects are train."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    names = list(COLOURS)
    lines, features = [], []
    pairs = [(a, b) for a in names for b in names]
    for number, pair in enumerate(rng.permutation(len(pairs))[:objects]):
        hat, shoe = pairs[pair]
        mean = np.concatenate([COLOURS[hat], COLOURS[shoe], (0, 255)]) / 255
        said = [f"a {hat} hat, a {shoe} shoe", f"{shoe} shoe and {hat} hat", f"one {hat} hat"]
        for view in range(images):
            name = f"{number:02d}_{view}.png"
            if pixels:
                picture = np.zeros((*size, 3), dtype=np.uint8)
                picture[: size[0] // 2], picture[size[0] // 2 :] = COLOURS[hat], COLOURS[shoe]
                rough = picture + rng.normal(0, 255 * noise / 3, picture.shape)
                Image.fromarray(rough.clip(0, 255).astype(np.uint8)).save(folder / name)
            line = {"image": name, "captions": said[:captions], "identity": f"object {number:02d}"}
            if not pixels:
                line["feature_row"] = len(features)
                features.append(mean + noise * rng.standard_normal(8))
            if split:
                line["split"] = "train" if number < objects * 2 // 3 else "val"
            if held_out:
                line["held_out_captions"] = [f"the {hat} hat goes with a {shoe} shoe"]
            lines.append(line)
    if features:
        np.save(folder / "features.npy", np.array(features, dtype=np.float32))
    write_manifest(folder, lines)
    return folder


def write_manifest(folder, lines):
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "manifest.jsonl").write_text(text, encoding="utf-8")


def read_manifest(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def load_set(folder, **options):
    return RetrievalDataset.load(write_set(folder, **options))


TIMES = ("seconds", "data_wait_share")


def without_times(value):
    """A report without what may differ between two equal trainings."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in TIMES}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def report(folder):
    """A run's metrics.json without seconds."""
    return without_times(json.loads((folder / "metrics.json").read_text()))


def copied(run, to):
    return shutil.copytree(run, to)
