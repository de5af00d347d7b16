"""Gallery references: what it gives when the images of one object share a vector and a profile.

    python benchmarks/gallery_references.py DATA             # DATA holds uw-objects/ and grocery/
    python benchmarks/gallery_references.py DATA --work DIR  # keeps the drawn set and runs there

Captions are asked of three galleries: drawn figures (pixels, compact encoder; four views of each
object), uw-objects and grocery (precomputed features). Images are grouped

- by their object: what a tracklet or a folder of one object knows, and more than any search has
  where nobody said which images belong together;
- by halves of each object: a tracklet, or an upload, that holds some of the object's images;
- by clusters found among the gallery's own vectors, at several thresholds;
- at random, in groups of the objects' sizes: the control, which must do harm.

Figures: mAP of images; R@1, which is the same of images and of objects scored by their best image
(``--group-by object``); the mean reciprocal rank of objects scored so, which does not rise merely
because a group's images stand together; for shares g of 0 (no grouping) to 1. Pairwise precision
and recall of the groups.

Share and threshold were chosen on objects that the figures do not contain: the validation objects
of the drawn set, two of five folds of uw-objects, a third of grocery's classes. Reported are the
drawn set's test objects, the other three folds, the other classes. The share is the one with the
largest mean gain in mAP over the three sets and four groupings (object, halves, clusters, random):
a wrong group counts as much as a right one (``choice``). The threshold is the one with the largest
mean F1 of pairs. ``profiles of shared vectors``: the figures at the default share if a profile were
that of the shared vector, and not the mean of profiles.
"""

import argparse
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import numpy as np
import torch

from mmref.config import Settings
from mmref.data.batches import load_inputs
from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import SyntheticSettings
from mmref.data.synthetic.generate import generate
from mmref.environment import describe_environment
from mmref.experiments.folds import inner_split, object_folds
from mmref.files import write_json
from mmref.metrics.bootstrap import paired_difference
from mmref.metrics.protocols import per_query_figures
from mmref.metrics.ranks import ranks_from_scores
from mmref.model import MMRef
from mmref.references.refinement import Profiles, Refiner
from mmref.search.groups.clusters import clusters
from mmref.search.groups.grouping import SHARE, THRESHOLD
from mmref.search.groups.sharing import shared_profiles, shared_vectors
from mmref.training.trainer import Trainer

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
THRESHOLDS = (0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
FOLDS, INNER, SEED = 5, 0.2, 0
CHOOSING_FOLDS = (0, 1)
FIGURES = ("image mAP", "R@1", "object MRR")


@dataclass
class Gallery:
    """The encoded images and captions of some held-out objects.

    Attributes:
        images: unit vectors, float32 [n, d].
        objects: the images' objects, [n].
        captions: unit vectors, float32 [q, d].
        asked: the captions' objects, [q].
        refiner: the run's refinement, or None.
    """

    images: np.ndarray
    objects: np.ndarray
    captions: np.ndarray
    asked: np.ndarray
    refiner: Refiner | None

    @classmethod
    def of(cls, model: MMRef, dataset: RetrievalDataset) -> "Gallery":
        """Encode all images and captions of a data set."""
        inputs = load_inputs(dataset, model.image_size)
        queries = dataset.queries()
        captions = model.encode_text([query.caption for query in queries]).float().numpy()
        known = captions.any(axis=1)
        return cls(
            model.encode_image(inputs.tensor).float().numpy(),
            np.array(dataset.objects)[inputs.rows],
            captions[known],
            np.array([query.object for query in queries])[known],
            model.refiner,
        )


# ---------------------------------------------------------------------- the galleries


def trained(dataset: RetrievalDataset, values: dict[str, object], folder: Path) -> MMRef:
    if not (folder / "model.json").is_file():
        settings = Settings().with_values({"training.seed": SEED, **values})
        Trainer(dataset, settings).run().model.save_pretrained(folder)
    return MMRef.from_pretrained(folder)


def figures(given: argparse.Namespace, work: Path) -> Iterator[tuple[str, Gallery]]:
    folder = work / "figures.data"
    if not folder.is_dir():
        drawing = SyntheticSettings(
            objects=given.objects, val_objects=100, test_objects=200, seed=500, image_size=(96, 48)
        )
        generate(drawing, folder, processes=1)
    dataset = RetrievalDataset.load(folder)
    model = trained(
        dataset,
        {"encoder.kind": "compact", "encoder.image_height": 96, "encoder.image_width": 48,
         "training.epochs": given.epochs},
        work / "figures",
    )  # fmt: skip
    yield "choose", Gallery.of(model, dataset.split("val"))
    yield "report", Gallery.of(model, dataset.split("test"))


def uw_objects(given: argparse.Namespace, work: Path) -> Iterator[tuple[str, Gallery]]:
    dataset = RetrievalDataset.load(given.data / "uw-objects")
    for number, held in enumerate(object_folds(dataset.object_names, FOLDS, SEED)):
        rest, test = inner_split(dataset, held, INNER, SEED)
        model = trained(rest, {"encoder.kind": "features"}, work / f"uw-objects-{number}")
        yield "choose" if number in CHOOSING_FOLDS else "report", Gallery.of(model, test)


def grocery(given: argparse.Namespace, work: Path) -> Iterator[tuple[str, Gallery]]:
    dataset = RetrievalDataset.load(given.data / "grocery")
    model = trained(dataset, {"encoder.kind": "features"}, work / "grocery")
    val = dataset.split("val")
    first, *others = object_folds(val.object_names, 3, SEED)
    yield "choose", Gallery.of(model, val.with_objects(first))
    yield "report", Gallery.of(model, val.with_objects(set().union(*others)))


DOMAINS = {"figures": figures, "uw-objects": uw_objects, "grocery": grocery}


# ---------------------------------------------------------------------- groups and scores


def halves(objects: np.ndarray, seed: int = 1) -> np.ndarray:
    """Each object's images dealt into two groups: tracklets."""
    order = np.random.default_rng(seed).permutation(len(objects))
    dealt = np.empty(len(objects), np.int64)
    seen: Counter = Counter()
    for row in order:
        dealt[row] = seen[objects[row]] % 2
        seen[objects[row]] += 1
    return np.array([f"{name}/{half}" for name, half in zip(objects, dealt, strict=True)])


def at_random(objects: np.ndarray, seed: int = 2) -> np.ndarray:
    """Groups of the objects' sizes, of images of any object."""
    return objects[np.random.default_rng(seed).permutation(len(objects))]


def pairwise(groups: np.ndarray, objects: np.ndarray) -> dict[str, float]:
    """Precision and recall of the pairs of images in one group against those of one object."""

    def pairs(names: list) -> int:
        return sum(count * (count - 1) // 2 for count in Counter(names).values())

    both = pairs(list(zip(groups.tolist(), objects.tolist(), strict=True)))
    found, there = pairs(groups.tolist()), pairs(objects.tolist())
    return {"precision": both / found if found else 1.0, "recall": both / there if there else 1.0}


def shared(
    gallery: Gallery, groups: np.ndarray, share: float, mean_profiles: bool = True
) -> np.ndarray:
    """S of every caption and image with shared vectors and profiles, float32 [q, n]."""
    refiner = gallery.refiner
    vectors = np.empty_like(gallery.images)
    profiles = None
    if refiner is not None:
        profiles = refiner.profiles(torch.from_numpy(gallery.images), "image").to_arrays()
        mixed = {name: np.empty_like(values) for name, values in profiles.items()}
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        vectors[rows] = (
            shared_vectors(gallery.images[rows], share) if share else (gallery.images[rows])
        )
        if refiner is not None and share:
            part = {name: values[rows] for name, values in profiles.items()}
            for name, values in shared_profiles(part, share, refiner.form).items():
                mixed[name][rows] = values
        elif refiner is not None:
            for name, values in profiles.items():
                mixed[name][rows] = values[rows]
    captions = torch.from_numpy(gallery.captions)
    scores = gallery.captions @ vectors.T
    if refiner is None or refiner.weight == 0:
        return scores
    images = torch.from_numpy(vectors)
    made = Profiles.from_arrays(mixed) if mean_profiles else refiner.profiles(images, "image")
    asked = refiner.profiles(captions, "text", exact=True)
    return scores + refiner.weight * refiner.reference_similarity(asked, made).numpy()


def per_caption(gallery: Gallery, scores: np.ndarray) -> dict[str, np.ndarray]:
    """The figures of every caption, in percent, float64 [q] by name."""
    ranks = ranks_from_scores(
        lambda a, b: scores[a:b], gallery.asked, gallery.objects, tolerance=1e-6
    )
    images = per_query_figures(ranks)
    names = np.unique(gallery.objects)
    best = np.stack([scores[:, gallery.objects == name].max(axis=1) for name in names], axis=1)
    of_objects = ranks_from_scores(lambda a, b: best[a:b], gallery.asked, names, tolerance=1e-6)
    return {
        "image mAP": images["mAP"],
        "R@1": images["R@1"],
        "object MRR": per_query_figures(of_objects)["mAP"],  # each has one relevant object
    }


Figures = dict[str, np.ndarray]


def pooled(
    galleries: list[Gallery], grouped: list[np.ndarray], share: float, **how: bool
) -> Figures:
    parts = [
        per_caption(gallery, shared(gallery, groups, share, **how))
        for gallery, groups in zip(galleries, grouped, strict=True)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in FIGURES}


def means(values: Figures) -> dict[str, float]:
    return {name: round(float(part.mean()), 2) for name, part in values.items()}


def kinds(galleries: list[Gallery], thresholds: tuple[float, ...]) -> dict[str, list[np.ndarray]]:
    """The groupings that are compared, by name: for each gallery the group of each image."""
    ways = {
        "object": [gallery.objects for gallery in galleries],
        "halves": [halves(gallery.objects) for gallery in galleries],
        "random": [at_random(gallery.objects) for gallery in galleries],
    }
    for threshold in thresholds:
        found = [clusters(gallery.images, threshold) for gallery in galleries]
        ways[f"clusters {threshold:g}"] = found
    return ways


def precision_recall(galleries: list[Gallery], groups: list[np.ndarray]) -> dict[str, float]:
    each = [pairwise(g, gallery.objects) for g, gallery in zip(groups, galleries, strict=True)]
    return {name: round(float(np.mean([one[name] for one in each])), 3) for name in each[0]}


def chosen(galleries: list[Gallery]) -> dict:
    """Every grouping at every share, on the objects that choose."""
    table = {}
    for name, groups in kinds(galleries, THRESHOLDS).items():
        rows = {f"{g:g}": means(pooled(galleries, groups, g)) for g in SHARES}
        table[name] = {"shares": rows, **precision_recall(galleries, groups)}
    vectors = means(pooled(galleries, [g.objects for g in galleries], SHARE, mean_profiles=False))
    return {"groupings": table, "profiles of shared vectors": vectors}


def reported(galleries: list[Gallery]) -> dict:
    """Every grouping at every share, and the default share against none."""
    asked = np.concatenate([gallery.asked for gallery in galleries])
    table = {}
    for name, groups in kinds(galleries, (THRESHOLD,)).items():
        values = {g: pooled(galleries, groups, g) for g in SHARES}
        found = {
            figure: paired_difference(values[0.0][figure], values[SHARE][figure], asked)
            for figure in FIGURES
        }
        table[name] = {
            "shares": {f"{g:g}": means(one) for g, one in values.items()},
            **precision_recall(galleries, groups),
            "difference": {
                figure: {"points": d.difference, "low": d.low, "high": d.high, "p": d.p_value}
                for figure, d in found.items()
            },
        }
    return {
        "images": sum(len(gallery.images) for gallery in galleries),
        "objects": sum(len(np.unique(gallery.objects)) for gallery in galleries),
        "captions": len(asked),
        "galleries": len(galleries),
        "refinement": [None if g.refiner is None else g.refiner.form for g in galleries],
        "groupings": table,
    }


def choice(tables: list[dict]) -> dict[str, dict[str, float]]:
    """What the share and the threshold were chosen by, means over the sets."""

    def f1(row: dict) -> float:
        both = row["precision"] + row["recall"]
        return 2 * row["precision"] * row["recall"] / both if both else 0.0

    ways = ("object", "halves", "random", f"clusters {THRESHOLD:g}")
    gains = {}
    for share in SHARES:
        each = [
            table[way]["shares"][f"{share:g}"]["image mAP"] - table[way]["shares"]["0"]["image mAP"]
            for table in tables
            for way in ways
        ]
        gains[f"{share:g}"] = round(float(np.mean(each)), 2)
    pairs = {
        f"{at:g}": round(float(np.mean([f1(table[f"clusters {at:g}"]) for table in tables])), 3)
        for at in THRESHOLDS
    }
    return {"gain by share": gains, "F1 by threshold": pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, help="a folder to keep the drawn set and runs in")
    parser.add_argument("--objects", type=int, default=600, help="training objects of figures")
    parser.add_argument("--epochs", type=int, default=10, help="of the run of figures")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    domains = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, made in DOMAINS.items():
            parts: dict[str, list[Gallery]] = {"choose": [], "report": []}
            for role, gallery in made(given, given.work or Path(temporary)):
                parts[role].append(gallery)
            domains[name] = {"choose": chosen(parts["choose"]), "report": reported(parts["report"])}
            for kind, row in domains[name]["report"]["groupings"].items():
                gained = "  ".join(
                    f"{figure} {row['shares']['0'][figure]:.1f} {d['points']:+.1f} "
                    f"({d['low']:+.1f} to {d['high']:+.1f})"
                    for figure, d in row["difference"].items()
                )
                print(
                    f"{name:10s} {kind:12s} precision {row['precision']:.2f} "
                    f"recall {row['recall']:.2f}  {gained}",
                    flush=True,
                )
    found = choice([domain["choose"]["groupings"] for domain in domains.values()])
    print(found)
    write_json(
        given.out / "gallery_references.json",
        {
            "environment": describe_environment(),
            "share": SHARE,
            "threshold": THRESHOLD,
            "choice": found,
            "domains": domains,
        },
    )


if __name__ == "__main__":
    main()
