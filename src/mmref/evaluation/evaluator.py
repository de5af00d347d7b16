"""A model on a data set -> a report."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmref.data.dataset import RetrievalDataset, split_name
from mmref.data.images import load_batch
from mmref.errors import DataError, SplitError
from mmref.evaluation.report import Report
from mmref.evaluation.vectors import TOLERANCE, evaluate_vectors
from mmref.metrics.bootstrap import intervals, paired_difference
from mmref.metrics.protocols import Figures, figures
from mmref.metrics.ranks import Objects, Ties, ranks_from_scores
from mmref.metrics.reranking import dual_softmax, k_reciprocal
from mmref.model import MMRef
from mmref.references.refinement import TEMPERED, Refiner

__all__ = ["PROTOCOL", "evaluate", "evaluate_vectors"]

PROTOCOL = (
    "each distinct caption of an object is a query; the gallery is every image once; "
    "relevant = same object"
)
Progress = Callable[[str, int, int], None]

_BATCH = 256
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
    part = dataset.split(split)
    queries = part.queries()
    if not queries:
        raise SplitError(f"split {split!r} of {dataset.name} holds no captions: nothing to ask")
    captions, asked = [query.caption for query in queries], [query.object for query in queries]
    images, rows, skipped = _encode_images(model, part, progress)
    held = [part.objects[row] for row in rows]
    texts = _encode_texts(model, captions, progress)

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
    main, plain = found["t2i"], found.get("unrefined")
    objects = len(np.unique(main.objects))
    ci95, gain = None, None
    if bootstrap and objects > 1:
        spans = intervals(main.per_query, main.objects, resamples=bootstrap, seed=seed)
        ci95 = {name: list(span) for name, span in spans.items()}
        gain = _gain(plain, main, bootstrap, seed) if plain else None
    return Report(
        dataset=dataset.name,
        split=split_name(split),
        protocol=PROTOCOL,
        queries=main.queries,
        gallery=main.gallery,
        objects=objects,
        t2i=main.metrics,
        i2t=found["i2t"].metrics if i2t else None,
        unrefined=plain.metrics if plain else None,
        ci95=ci95,
        gain=gain,
        refinement=_describe(refiner),
        controls=_controls(texts, images, asked, held, ties) if controls else None,
        ties=ties,
        tolerance=TOLERANCE,
        chance=main.chance,
        skipped=skipped,
        skipped_queries=main.skipped,
        seed=seed,
        resamples=bootstrap,
        model={"id": model.id, "kind": model.kind, "digest": model.digest},
        fingerprint=part.fingerprint(),
        notes=_notes(dataset, split_name(split)),
        figures=found,
    )


def _encode_texts(model: MMRef, captions: list[str], progress: Progress | None) -> Tensor:
    parts = []
    for start in range(0, len(captions), 4 * _BATCH):
        parts.append(model.encode_text(captions[start : start + 4 * _BATCH], batch_size=_BATCH))
        if progress:
            progress("captions", min(start + 4 * _BATCH, len(captions)), len(captions))
    return torch.cat(parts)


def _encode_images(
    model: MMRef, part: RetrievalDataset, progress: Progress | None
) -> tuple[Tensor, list[int], list[dict[str, str]]]:
    """Vectors of the images that can be read, their rows, and the others with the reason."""
    size = model.image_size
    if size is None:
        vectors = model.encode_image(part.features(), batch_size=_BATCH)
        if progress:
            progress("images", len(part), len(part))
        return vectors, list(range(len(part))), []
    if part.features_only:
        raise DataError(
            f"{part.name} holds features but no image files, and this run reads pixels: "
            "use a run of the features encoder"
        )
    vectors_of, rows, skipped = [], list[int](), list[dict[str, str]]()
    paths = part.image_paths
    for start in range(0, len(paths), _BATCH):
        pixels, kept, bad = load_batch(paths[start : start + _BATCH], size)
        if len(kept):
            vectors_of.append(model.encode_image(pixels, batch_size=_BATCH))
        rows += [start + int(row) for row in kept]
        skipped += [{"path": one.path, "reason": one.reason} for one in bad]
        if progress:
            progress("images", min(start + _BATCH, len(paths)), len(paths))
    if not rows:
        raise DataError(
            f"none of the {len(paths)} images of {part.name} can be read "
            f"(first: {skipped[0]['path']}: {skipped[0]['reason']})"
        )
    return torch.cat(vectors_of), rows, skipped


def _describe(refiner: Refiner | None) -> dict[str, Any]:
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
            lambda start, stop, matrix=matrix: matrix[start:stop],  # type: ignore[misc]
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
