"""A model on a data set -> a report."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmref.data.dataset import RetrievalDataset, split_name
from mmref.data.published_counts import Counts
from mmref.encoders.build import caption_notes
from mmref.environment import describe_environment
from mmref.errors import DataError
from mmref.evaluation.classes import describe_classes, evaluate_classes
from mmref.evaluation.encoding import EncodedSplit, Progress, encode_split
from mmref.evaluation.published import beside
from mmref.evaluation.report import Report
from mmref.evaluation.selection import recorded_selection
from mmref.evaluation.vectors import TOLERANCE, evaluate_vectors
from mmref.metrics.bootstrap import intervals, paired_difference
from mmref.metrics.protocols import Figures, figures
from mmref.metrics.ranks import Objects, Ties, ranks_from_scores
from mmref.metrics.reranking import dual_softmax, k_reciprocal
from mmref.model import MMRef
from mmref.processes.group import Group
from mmref.references.refinement import TEMPERED, Refiner

__all__ = ["PROTOCOLS_IN_WORDS", "evaluate", "evaluate_vectors"]

PROTOCOLS_IN_WORDS = {
    "manifest": "each distinct caption of an object is a query; the gallery is every image once; "
    "relevant = same object",
    "person": "every caption of every image is a query; the gallery is every image once; "
    "relevant = same object; no camera filter",
    "class": "every caption of every image is a query; the gallery is every image once; relevant = "
    "same class. AP@50: the mean of a class's captions asks, precision of the first 50 images, "
    "averaged over classes; i2t R@1: an image goes to the nearest class mean, averaged over images "
    "(Reed et al. 2016)",
}

_CONTROL_BYTES = 4 << 30
_SHOWN = ("R@1", "mAP")


def evaluate(
    model: MMRef,
    dataset: RetrievalDataset,
    split: str = "val",
    *,
    refine: bool = True,
    i2t: bool = False,
    controls: bool = False,
    ties: Ties = "pessimistic",
    bootstrap: int = 2000,
    seed: int = 0,
    progress: Progress | None = None,
    group: Group | None = None,
) -> Report:
    """R@1/5/10, mAP and mINP of a model on one split, with intervals.

    Args:
        model: encoders, and a refiner where its validation chose one.
        dataset: all splits of the data set.
        split: the one to evaluate. Choices are made on "val"; "test" is scored once.
        refine: rank by the refined similarity where the model has a refiner.
        i2t: evaluate image-to-text too.
        controls: add k-reciprocal re-ranking and dual softmax of the cosine. Both are transductive
            and hold the whole score matrix.
        ties: "pessimistic" or "expected".
        bootstrap: resamples of the 95 % interval; 0 = no interval.
        seed: of the bootstrap.
        progress: called with what is encoded, the number done and the total.
        group: processes that encode together, of which all others call ``encode_split``.

    Returns:
        The report. Unreadable images are left out of the gallery and listed in it.

    Raises:
        SplitError: no such split, or it holds no captions.
        DataError: the images cannot be used by this model, or none can be read.

    Example:
        >>> from mmref import MMRef, evaluate                             # doctest: +SKIP
        >>> report = evaluate(MMRef.from_pretrained("run"), data, "val")  # doctest: +SKIP
        >>> report.t2i["R@1"], report.ci95["R@1"]                         # doctest: +SKIP
        (45.7, [41.2, 50.3])
    """
    encoded = encode_split(model, dataset, split, progress, group)
    texts, images, asked, held = encoded.texts, encoded.images, encoded.asked, encoded.held

    refiner = model.refiner if refine else None
    options: dict[str, Any] = {"ties": ties, "missing": "skip"}
    found: dict[str, Figures] = {
        "t2i": evaluate_vectors(texts, images, asked, held, refiner, **options)
    }
    if refiner is not None:
        found["unrefined"] = evaluate_vectors(texts, images, asked, held, **options)
    if i2t:
        found["i2t"] = evaluate_vectors(
            texts, images, asked, held, refiner, direction="i2t", **options
        )
    classes = None
    if dataset.protocol == "class":
        classes = _classes(encoded, refiner, ties, bootstrap, seed)
    main, plain = found["t2i"], found.get("unrefined")
    objects = len(np.unique(main.objects))
    spans = {way: _intervals(figures, bootstrap, seed) for way, figures in found.items()}
    gain = _gain(plain, main, bootstrap, seed) if plain and spans["t2i"] else None
    size = Counts(objects, main.gallery, main.queries)
    return Report(
        dataset=dataset.name,
        split=split_name(split),
        protocol=PROTOCOLS_IN_WORDS[dataset.protocol],
        queries=main.queries,
        gallery=main.gallery,
        objects=objects,
        t2i=main.metrics,
        i2t=found["i2t"].metrics if i2t else None,
        unrefined=plain.metrics if plain else None,
        ci95=spans["t2i"],
        i2t_ci95=spans.get("i2t"),
        gain=gain,
        refinement=describe_refinement(refiner),
        controls=_controls(texts, images, asked, held, ties) if controls else None,
        ties=ties,
        tolerance=TOLERANCE,
        chance=main.chance,
        chance_map=main.chance_map,
        skipped=encoded.skipped,
        skipped_queries=main.skipped,
        seed=seed,
        resamples=bootstrap,
        model={
            "id": model.id,
            "kind": model.kind,
            "digest": model.digest,
            "backbone": _backbone(model),
        },
        fingerprint=encoded.part.fingerprint(),
        notes=[
            *_notes(dataset, split_name(split)),
            *caption_notes(
                getattr(model, "encoder", None), [query.caption for query in encoded.part.queries()]
            ),
        ],
        classes=classes,
        selection=recorded_selection(getattr(model, "path", None)),
        published=beside(dataset.format, split_name(split), size),
        figures=found,
        **environment_of(model),
    )


def _backbone(model: MMRef) -> str:
    """What the encoders started from: the checkpoint's name, or the kind that has none."""
    settings = getattr(model, "settings", None)
    checkpoint = getattr(settings.encoder, "checkpoint", "") if settings is not None else ""
    return checkpoint.rstrip("/").rpartition("/")[2] if model.kind == "clip" else model.kind


def environment_of(model: MMRef) -> dict[str, Any]:
    """``versions``, and the ``machine`` with the device that encodes (JSON)."""
    found = describe_environment()
    device = getattr(model, "device", torch.device("cpu"))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return found | {"machine": found["machine"] | {"device": name}}


def _intervals(found: Figures, resamples: int, seed: int) -> dict[str, list[float]] | None:
    """The 95 % interval of each figure; None with fewer than two objects, or without resamples."""
    if not resamples or len(np.unique(found.objects)) < 2:
        return None
    spans = intervals(found.per_query, found.objects, resamples=resamples, seed=seed)
    return {name: list(span) for name, span in spans.items()}


def _classes(
    encoded: EncodedSplit, refiner: Refiner | None, ties: Ties, resamples: int, seed: int
) -> dict[str, Any]:
    """Class figures in the report's way to rank and, where that refines, by the cosine."""
    vectors = (encoded.texts, encoded.images, encoded.asked, encoded.held)
    found = evaluate_classes(*vectors, refiner, ties=ties)
    plain = evaluate_classes(*vectors, ties=ties) if refiner is not None else None
    return describe_classes(found, plain, resamples, seed)


def describe_refinement(refiner: Refiner | None) -> dict[str, Any]:
    """Form, weight, temperature and kept entries, as reports hold them (JSON).

    Example:
        >>> describe_refinement(None)["form"] is None
        True
    """
    if refiner is None:
        return {"form": None, "weight": 0.0, "temperature": None, "kept": None}
    return {
        "form": refiner.form,
        "weight": refiner.weight,
        "temperature": refiner.temperature if refiner.form in TEMPERED else None,
        "kept": refiner.kept if refiner.form == "posterior" else None,
    }


def _gain(
    plain: Figures, refined: Figures, resamples: int, seed: int
) -> dict[str, dict[str, float]]:
    keys = ("difference", "low", "high", "p_value")
    gain = {}
    for name in _SHOWN:
        one, two = plain.per_query[name], refined.per_query[name]
        test = paired_difference(one, two, refined.objects, resamples=resamples, seed=seed)
        gain[name] = {key: asdict(test)[key] for key in keys}
    return gain


def _blocks(matrix: np.ndarray) -> Callable[[int, int], np.ndarray]:
    return lambda start, stop: matrix[start:stop]


def _controls(
    texts: Tensor, images: Tensor, asked: Objects, held: Objects, ties: Ties
) -> dict[str, dict[str, Any]]:
    need = 4 * len(images) * (4 * len(texts) + 4 * len(images))
    if need > _CONTROL_BYTES:
        raise DataError(
            f"the controls hold whole matrices, here about {need / 2**30:.0f} GB: leave them out"
        )
    scores = (texts @ images.T).numpy()
    found: dict[str, dict[str, Any]] = {}
    tried = {
        "k_reciprocal": k_reciprocal(scores, images @ images.T),
        "dual_softmax": dual_softmax(scores),
    }
    for name, matrix in tried.items():
        ranks = ranks_from_scores(
            _blocks(matrix),
            asked,
            held,
            ties=ties,
            tolerance=TOLERANCE,
            missing="skip",
        )
        found[name] = {
            "figures": figures(ranks, asked).metrics,
            "uses": "the whole query and gallery set",
        }
    return found


def _notes(dataset: RetrievalDataset, split: str) -> list[str]:
    notes = list(dataset.notes)
    if dataset.closed_set:
        notes.append("Closed set: all evaluated objects are training objects too.")
    if split != "test" and "test" in dataset.split_names:
        notes.append(f"These are {split} figures; the test split is asked for by --split test.")
    return notes
