"""What a reference says: masked attribute words of captions that training never saw.

    python benchmarks/reconstruction.py [--seeds 3]

Figures are drawn at the generator's own rates of ambiguity, MMRef is trained with its defaults, and
words of held-out captions of *training* objects are masked and predicted with the right reference,
with another object's, and with none. Attribute words are those that captions of one object repeat
at least half again as often as chance (``mmref.evaluation.reconstruction``).
"""

import argparse
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import numpy as np

from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import SyntheticSettings
from mmref.data.synthetic.generate import generate
from mmref.environment import describe_environment
from mmref.evaluation.reconstruction import masked_word_accuracy
from mmref.files import write_json
from mmref.training.trainer import Trainer


def one(seed: int, drawn: dict, values: dict) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        settings = SyntheticSettings(**drawn, seed=seed, image_size=(64, 32))
        generate(settings, Path(folder) / "set", processes=1)
        dataset = RetrievalDataset.load(Path(folder) / "set")
        settings = Settings().with_values({**values, "training.seed": seed})
        outcome = Trainer(dataset, settings).run()
        train = dataset.split("train")
        seen = {caption for own in train.captions for caption in own}
        pairs = [
            (caption, name)
            for row, name in enumerate(train.objects)
            for caption in train.metadata(row)["held_out_captions"]
            if caption not in seen
        ]
        found = masked_word_accuracy(outcome.model, [c for c, _ in pairs], [n for _, n in pairs])
    found["seconds"] = round(outcome.seconds, 1)
    print(seed, {name: round(value, 1) for name, value in found.items()}, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--objects", type=int, default=1600, help="training objects")
    parser.add_argument("--omit", type=float, default=SyntheticSettings().omit)
    parser.add_argument("--contradict", type=float, default=SyntheticSettings().contradict)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--decoder-epochs", type=float, default=None, help="default: the setting's")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    drawn = {"objects": given.objects, "omit": given.omit, "contradict": given.contradict,
             "val_objects": 100, "test_objects": 50}  # fmt: skip
    values = {"encoder.image_height": 64, "encoder.image_width": 32, "encoder.block": 0,
              "training.epochs": given.epochs, "training.precision": "bf16"}  # fmt: skip
    if given.decoder_epochs is not None:
        values["references.decoder_epochs"] = given.decoder_epochs
    with ProcessPoolExecutor(given.jobs) as pool:
        runs = [pool.submit(one, seed, drawn, values) for seed in range(given.seeds)]
        found = [run.result() for run in runs]
    mean = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
    print("\n| masked words | right | shuffled | none | right - shuffled |\n|---|---|---|---|---|")
    for title, prefix in (("attribute words", "attribute_"), ("all", "")):
        right, other, none = (mean[prefix + k] for k in ("right", "shuffled", "none"))
        print(f"| {title} | {right:.1f} | {other:.1f} | {none:.1f} | {right - other:+.1f} |")
    facts = {"drawn": drawn, "settings": values, "mean": mean, "seeds": found}
    write_json(given.out / "reconstruction.json", {**facts, **describe_environment()})


if __name__ == "__main__":
    main()
