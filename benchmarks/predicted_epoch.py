"""Is what ``mmref profile`` predicts of an epoch true? Predicted against real, side by side.

Figures are drawn, an encoder from scratch is profiled with that set, trained on it for some
epochs, and profiled again. Real is the median of the epochs, predicted the mean of both profiles;
an epoch goes from the end of one's steps to the end of the next's, validation included. Times are
of the processor: on a machine with other users the wall clock says how busy they were, now and a
minute later. ``--wall`` takes it all the same. Within 35 % is wanted.

    OMP_NUM_THREADS=1 python benchmarks/predicted_epoch.py
    OMP_NUM_THREADS=1 python benchmarks/predicted_epoch.py --objects 200 --epochs 3 --wall
"""

import argparse
import json
import tempfile
import time
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import SyntheticSettings, generate
from mmref.environment import describe_environment
from mmref.experiments import profile_cost
from mmref.experiments.profile import profile
from mmref.training.trainer import Trainer

RESULTS = Path(__file__).parent / "results" / "predicted_epoch.json"
WANTED = 0.35
VALUES = {
    "encoder.kind": "compact",
    "encoder.image_height": 64,
    "encoder.image_width": 32,
    "references.caption_epochs": 4,
}


def predicted(dataset: RetrievalDataset, settings: Settings) -> dict[str, float]:
    row = profile(settings, dataset)["sets"][0]
    return {name: row[name] for name in ("step", "epoch")}


def real(dataset: RetrievalDataset, settings: Settings) -> dict[str, float]:
    marks: list[float] = []

    def progress(stage: str, done: int, total: int, note: str) -> None:
        del done, total, note
        if stage == "train":
            marks.append(profile_cost.clock())

    trainer = Trainer(dataset, settings, progress=progress)
    trainer.run()
    each, epochs = trainer.pairs.steps, settings.training.epochs
    last = [marks[(k + 1) * each - 1] for k in range(epochs)]
    first = [marks[k * each] for k in range(epochs)]
    return {
        "step": median((b - a) / (each - 1) for a, b in zip(first, last, strict=True)),
        "epoch": median(b - a for a, b in pairwise(last)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--wall", action="store_true", help="time by the wall clock")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    if not args.wall:
        profile_cost.clock = time.process_time
    settings = Settings().with_values({**VALUES, "training.epochs": args.epochs})
    with tempfile.TemporaryDirectory() as folder:
        drawing = SyntheticSettings(
            domain="figures",
            objects=args.objects,
            val_objects=max(4, args.objects // 5),
            test_objects=4,
            images=3,
            captions=2,
            image_size=(64, 32),
        )
        dataset = RetrievalDataset.load(generate(drawing, Path(folder) / "set"))
        first = predicted(dataset, settings)
        found = real(dataset, settings)
        second = predicted(dataset, settings)
    rows = {}
    for name, value in found.items():
        mean = (first[name] + second[name]) / 2
        rows[name] = {
            "real": value,
            "predicted": mean,
            "before_and_behind": [first[name], second[name]],
            "off": mean / value - 1,
        }
        print(f"{name:16s} real {value:.3f} s, predicted {mean:.3f} s ({mean / value - 1:+.0%})")
    result = {
        "objects": args.objects,
        "epochs": args.epochs,
        "clock": "wall" if args.wall else "processor",
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).date().isoformat(),
        "seconds": rows,
        "wanted": WANTED,
        "met": all(abs(row["off"]) <= WANTED for row in rows.values()),
        **describe_environment(),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
