"""Finding captions that contradict their object, on drawn figures whose errors are known.

    python benchmarks/doubtful.py              # captions alone, 3 seeds
    python benchmarks/doubtful.py --runs       # a run is trained for each seed too: its cosines

About 15 % of the captions get at least one attribute wrong: 1.7 % of the statements do, and a
caption makes ten or so; 40 % of the details are left out, the generator's default (``--omit 0.5
--contradict 0.02``: less is told, which is harder). Every method ranks the training captions;
errors are looked at afterwards only.

- random: the share.
- word overlap: the mean share of a caption's words that another caption of its object has too.
- cosine, image / reference / captions: the trained run's, of a caption with its own image, with
  its object's reference, and with the mean of its object's other captions.
- expectation: ``mmref.evaluation.doubtful``.
- expectation + cosine: its score plus the standardised negative cosine with the reference.

Seeds 100 and 101 served for development; those reported were drawn afterwards.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import numpy as np

from mmref.data.synthetic import SyntheticSettings
from mmref.data.synthetic.generate import generate, plan_objects, write_captions
from mmref.environment import describe_environment
from mmref.evaluation.detection import detection
from mmref.evaluation.doubtful import find_doubtful
from mmref.files import write_json


def drawing(seed: int, given: argparse.Namespace) -> SyntheticSettings:
    return SyntheticSettings(
        objects=given.objects, omit=given.omit, contradict=given.contradict, seed=seed
    )


def told(settings: SyntheticSettings) -> list[tuple[str, str, str, bool, int]]:
    """(object, split, caption, wrong, view) of every caption; no picture is drawn."""
    return [
        (item.name, item.split, caption, bool(wrong), view)
        for item in plan_objects(settings)
        for view in range(settings.images)
        for said in [write_captions(settings, item, view)]
        for caption, wrong in zip(said["captions"], said["contradicted"], strict=True)
    ]


def overlap(captions: list[str], objects: list[str]) -> np.ndarray:
    """Minus the mean share of a caption's words that each other caption of its object has."""
    words = [
        set(caption.lower().replace(",", " ").replace(".", " ").split()) for caption in captions
    ]
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(objects):
        rows.setdefault(name, []).append(row)
    return np.array(
        [
            -np.mean([len(words[i] & words[j]) / len(words[i]) for j in rows[name] if j != i])
            for i, name in enumerate(objects)
        ]
    )


def captions_alone(seed: int, given: argparse.Namespace) -> tuple[dict, list, dict]:
    """Figures of the methods that read captions, the judged pairs, and their scores."""
    everything = told(drawing(seed, given))
    truth: dict[tuple[str, str], bool] = {}
    for name, _, caption, wrong, _ in everything:
        truth[name, caption] = truth.get((name, caption), False) or wrong
    train = {name for name, split, *_ in everything if split == "train"}
    start = time.process_time()
    found = find_doubtful(
        [row[2] for row in everything],
        [row[0] for row in everything],
        among=train,
        visits=given.visits,
        seed=seed,
    )
    seconds = time.process_time() - start
    rows = np.flatnonzero(found.judged)
    pairs = [(found.objects[row], found.captions[row]) for row in rows]
    wrong = np.array([truth[pair] for pair in pairs])
    scores = {
        "random": np.random.default_rng(seed).random(len(pairs)),
        "word overlap": overlap([c for _, c in pairs], [o for o, _ in pairs]),
        "expectation": found.scores[rows],
    }
    figures = {name: detection(values, wrong) for name, values in scores.items()}
    figures["expectation"]["core_seconds"] = seconds
    return figures, pairs, {"wrong": wrong, **scores}


def with_a_run(seed: int, given: argparse.Namespace, pairs: list, scores: dict) -> dict:
    """Figures of the cosines of a run trained on the same captions and their pictures."""
    import torch

    from mmref.config import Settings
    from mmref.data.dataset import RetrievalDataset
    from mmref.training.trainer import Trainer

    with tempfile.TemporaryDirectory() as folder:
        generate(drawing(seed, given), Path(folder) / "set", processes=1)
        dataset = RetrievalDataset.load(Path(folder) / "set")
        values = {"training.epochs": given.epochs, "training.seed": seed,
                  "encoder.image_height": 128, "encoder.image_width": 64}  # fmt: skip
        model = Trainer(dataset, Settings().with_values(values)).run().model
        train = dataset.split("train")
        images = model.encode_image([str(path) for path in train.image_paths])
    texts = model.encode_text([caption for _, caption in pairs])
    place = {pair: row for row, pair in enumerate(pairs)}
    shown = torch.zeros(len(pairs), dtype=torch.long)
    for row, (name, captions) in enumerate(zip(train.objects, train.captions, strict=True)):
        for caption in captions:
            shown[place[name, caption]] = row
    number = {name: k for k, name in enumerate(model.references.objects)}
    owner = torch.tensor([number[name] for name, _ in pairs])
    sums = torch.zeros(len(number), texts.shape[1]).index_add_(0, owner, texts)
    others = torch.nn.functional.normalize(sums[owner] - texts, dim=1)
    cosines = {
        "image": images[shown],
        "reference": model.references.vectors[owner],
        "captions": others,
    }
    ranked = {f"cosine, {k}": -(texts * v).sum(dim=1).numpy() for k, v in cosines.items()}
    near = ranked["cosine, reference"]
    ranked["expectation + cosine"] = scores["expectation"] + (near - near.mean()) / near.std()
    return {name: detection(values, scores["wrong"]) for name, values in ranked.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--objects", type=int, default=400, help="training objects")
    parser.add_argument("--omit", type=float, default=SyntheticSettings().omit)
    parser.add_argument("--contradict", type=float, default=0.017, help="of the statements")
    parser.add_argument("--visits", type=int, default=600_000, help="words seen in the fit")
    parser.add_argument("--runs", action="store_true", help="train a run for each seed too")
    parser.add_argument("--epochs", type=int, default=4, help="of those runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    each: dict[str, dict[str, dict]] = {}
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        figures, pairs, scores = captions_alone(seed, arguments)
        if arguments.runs:
            figures |= with_a_run(seed, arguments, pairs, scores)
        each[str(seed)] = figures
        for name, values in figures.items():
            short = {k: round(v, 3) for k, v in values.items()}
            print(seed, name, short, flush=True)
    names = list(next(iter(each.values())))
    mean = {
        name: {
            key: float(np.mean([figures[name][key] for figures in each.values()]))
            for key in each[next(iter(each))][name]
        }
        for name in names
    }
    print("\n| method | share | R-precision | times the share | AP | recall at 10 % |")
    print("|---|---|---|---|---|---|")
    for name, f in mean.items():
        print(
            f"| {name} | {100 * f['share']:.1f} | {100 * f['r_precision']:.1f} | {f['lift']:.1f} | "
            f"{100 * f['average_precision']:.1f} | {100 * f['recall_at_10_percent']:.1f} |"
        )
    write_json(
        arguments.out / "doubtful.json",
        {
            "objects": arguments.objects,
            "omit": arguments.omit,
            "contradict": arguments.contradict,
            "visits": arguments.visits,
            "mean": mean,
            "seeds": each,
            **describe_environment(),
        },
    )


if __name__ == "__main__":
    main()
