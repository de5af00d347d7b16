"""What a training costs: parameters, operations, memory, seconds, and predictions from them.

Source of the question: the paper leaves cost and scale open. Everything is measured on this
machine, with made-up data and weights at random. Where the settings' batch would take too long, a
smaller one is measured and the towers' time is scaled by the number of pairs.

The time of a step is predicted as towers + losses + update + drawing the batch, times what a whole
measured step takes longer (or shorter) than the sum of its measured parts.
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.data.images import load_batch
from mmref.environment import describe_environment
from mmref.evaluation.vectors import evaluate_vectors
from mmref.experiments.profile_cost import Step, flops_of, kept_bytes, seconds_of
from mmref.experiments.profile_encoder import Measured, encoder_to_measure
from mmref.experiments.profile_losses import (
    caption_seconds,
    decoder_seconds,
    loss_seconds,
    made_objective,
    objective_seconds,
    reference_update_seconds,
)
from mmref.experiments.profile_prediction import Costs, Towers, between, prediction, step_parts
from mmref.experiments.profile_work import (
    USUAL,
    Work,
    made_captions,
    made_pictures,
    published_work,
    work_of,
)
from mmref.experiments.refining import microseconds
from mmref.references.refinement import Refiner

GALLERY = 10_000  # images of the refinement's measurement
DEPTH = 100  # of them scored again
_DISTINCT = 500  # of them whose profiles are made
_FEATURES = 512  # numbers of a made-up feature vector
_SAMPLE = 1200  # images and captions that the encoder starts from
_SLOW = 0.4  # seconds for one pair's step, above which two pairs are measured
_TURN = 4.0  # seconds that a measured batch may take
_QUERIES = 512  # of the measured ranking
_PICTURES = 48  # decoded

Progress = Callable[[str, int, int], None]
"""Called with what is measured next, how many parts are done, and of how many."""
_PARTS = 8


def profile(
    settings: Settings,
    dataset: RetrievalDataset | None = None,
    *,
    batch: int | None = None,
    of: str | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure what a training with these settings costs here, and predict how long it takes.

    Args:
        settings: all of them.
        dataset: a set whose epoch is predicted beside those of the five published ones.
        batch: pairs that are measured; by default the settings' batch, or fewer where that would
            take long.
        of: the published set whose objects and captions the step in the tables has; by default
            the data set, or the first of the five.
        progress: told how far it is.

    Returns:
        JSON: ``encoder``, ``parameters``, ``flops``, ``memory``, ``seconds``, ``rates``,
        ``refinement``, ``sets`` and what was measured on.

    Raises:
        ConfigError: the checkpoint's shape is not known, or the settings do not fit it.
        SplitError: the data set has no train split.

    Example:
        >>> small = {"encoder.image_height": 16, "encoder.image_width": 16, "encoder.width": 8,
        ...          "encoder.block": 8, "encoder.deep": 8, "encoder.kernel_features": 16}
        >>> found = profile(Settings().with_values(small), batch=4)     # doctest: +SKIP
        >>> [row["name"] for row in found["sets"]][:2]                  # doctest: +SKIP
        ['CUHK-PEDES', 'ICFG-PEDES']
    """
    say = progress or (lambda *_: None)
    works = [published_work(name) for name in USUAL]
    if dataset is not None:
        works.insert(0, work_of(dataset, settings))
    own = published_work(of) if of in USUAL and dataset is None else works[0]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng():
        say("building the encoder", 0, _PARTS)
        measured, captions = _encoder(settings, dataset, own)
        step = Step(settings, measured, captions, own.objects, 2, device)
        step.batch = _measured_batch(step, batch)
        say("towers", 1, _PARTS)
        costs, facts = _measure(settings, step, own, works, say)
        say("refinement", 7, _PARTS)
        refinement = _refinement(settings, step)
        memory = _memory(settings, step, facts["parameters"])
        seconds = _seconds(settings, step, costs, own)
        say("done", _PARTS, _PARTS)
    return {
        "encoder": {
            "kind": settings.encoder.kind,
            "dimension": step.encoder.dimension,
            "image_size": step.encoder.image_size,
            "note": measured.note,
        },
        "batch": costs.batch,
        "measured_batch": costs.measured,
        "objects": own.objects,
        "of": own.name,
        "precision": "bf16" if step.autocast().__class__ is torch.autocast else "fp32",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "threads": torch.get_num_threads(),
        "gallery": GALLERY,
        "depth": DEPTH,
        **facts,
        "memory": memory,
        "seconds": seconds,
        "rates": _rates(costs, own),
        "refinement": refinement,
        "sets": [prediction(work, settings, costs) for work in works],
        **describe_environment(),
    }


def _encoder(
    settings: Settings, dataset: RetrievalDataset | None, work: Work
) -> tuple[Measured, list[str]]:
    encoder = settings.encoder
    captions = made_captions(work.words, _SAMPLE)
    if dataset is not None:
        said = [c for own in dataset.split("train").captions for c in own]
        chosen = np.random.default_rng(0).permutation(len(said))[:_SAMPLE]
        captions = [said[k] for k in chosen] or captions
    count = min(_SAMPLE, max(work.images, 2))
    chance = torch.Generator().manual_seed(0)
    if encoder.kind == "features":
        length = _FEATURES
        if dataset is not None:
            length = int(dataset.features().shape[1])
        images = torch.randn(count, length, generator=chance)
    else:
        count = count if encoder.kind == "compact" else 64
        size = (count, 3, encoder.image_height, encoder.image_width)
        images = torch.randint(0, 256, size, generator=chance, dtype=torch.uint8)
    return encoder_to_measure(settings, captions, images), captions


def _measured_batch(step: Step, asked: int | None) -> int:
    whole = step.settings.training.batch_size
    if asked is not None:
        return max(2, asked)
    drawn = step.draw()
    run = lambda: step.forward_backward("images", drawn["images"])  # noqa: E731
    each = seconds_of(run, 1) / step.batch
    del step.pairs
    return 2 if each > _SLOW else min(whole, max(2, int(_TURN / max(each, 1e-9))))


def _measure(
    settings: Settings, step: Step, own: Work, works: list[Work], say: Progress
) -> tuple[Costs, dict[str, Any]]:
    """All times, and what the calls that warm up tell: parameters and operations."""
    n, whole_batch = step.batch, settings.training.batch_size
    flops: dict[str, float] = {}
    learn: dict[str, int] = {}
    image = _tower(step, "images", step.draw()["images"], flops, learn)
    say("captions", 2, _PARTS)
    text: dict[float, Towers] = {}
    said_flops: dict[float, float] = {}
    for words in (min(work.words for work in works), max(work.words for work in works)):
        said = made_captions(words * step.measured.pieces, n, seed=1)
        text[words] = _tower(step, "texts", step.texts(said), flops, learn)
        said_flops[words] = flops["texts"]
    say("losses", 3, _PARTS)
    draw = seconds_of(step.draw) / n
    losses = {
        objects: objective_seconds(settings, step, objects, whole_batch)
        for objects in sorted({work.objects for work in works})
    }
    small = losses[own.objects]
    if n != whole_batch:
        small = objective_seconds(settings, step, own.objects, n)
    say("a whole step", 4, _PARTS)
    # Beside a GPU the next batches are drawn while it works; a CPU does both.
    ahead = min(4, (os.cpu_count() or 2) - 1) if step.device.type == "cuda" else 0
    drawn = step.draw() if ahead else None
    whole = seconds_of(
        lambda: step.whole(drawn),
        warm=lambda: flops.update({"pair": flops_of(lambda: step.whole(drawn)) / n}),
    )
    update = seconds_of(step.update)  # the last step's gradients are still there
    step.clear()
    each = reference_update_seconds(step, own.objects) / own.objects
    update = max(0.0, update - each * own.objects)
    told = between(text, own.words).train
    parts = (
        n * (image.train + told + (0.0 if ahead else draw)) + small + update + each * own.objects
    )
    say("decoding and ranking", 5, _PARTS)
    costs = Costs(
        whole_batch,
        n,
        image,
        text,
        draw,
        ahead,
        update,
        each,
        losses,
        whole,
        whole / parts,
        caption_seconds(settings, step) / told,
        decoder_seconds(settings, step),
        _ranking(step),
        {size: _decode(size, step) for size in {w.picture for w in works if w.picture}},
    )
    return costs, {
        "parameters": _parameters(step, learn),
        "flops": {
            "image": flops["images"],
            "caption": float(np.interp(own.words, list(said_flops), list(said_flops.values()))),
            "training step, one pair": flops["pair"],
        },
    }


def _tower(
    step: Step, side: str, inputs: Any, flops: dict[str, float], learn: dict[str, int]
) -> Towers:
    count = step.batch

    def first() -> None:
        flops[side] = flops_of(lambda: step.encode(side, inputs)) / count

    def there_and_back() -> None:
        learn[side] = step.forward_backward(side, inputs)

    encode = seconds_of(lambda: step.encode(side, inputs), warm=first)
    return Towers(encode / count, seconds_of(there_and_back) / count)


def _parameters(step: Step, learn: dict[str, int]) -> dict[str, int]:
    def size(part: Any, learning: bool = False) -> int:
        if part is None:
            return 0
        return sum(p.numel() for p in part.parameters() if p.requires_grad or not learning)

    objective = step.module.objective
    return {
        "encoder": size(step.module.encoder),
        "image side that learns": learn["images"],
        "text side that learns": learn["texts"],
        "references": size(objective.banks),
        "decoder": size(objective.decoder),
        "masked words": size(objective.masked_words),
        "total": size(step.module),
        "trained": size(step.module, learning=True),
    }


def _vectors(count: int, size: int, seed: int) -> Tensor:
    return F.normalize(torch.randn(count, size, generator=torch.Generator().manual_seed(seed)))


def _ranking(step: Step) -> float:
    """Seconds to rank one image for one query."""
    size, gallery = step.encoder.dimension, 4 * _QUERIES
    texts, images = _vectors(_QUERIES, size, 0), _vectors(gallery, size, 1)
    asked, held = [str(k % 64) for k in range(_QUERIES)], [str(k % 64) for k in range(gallery)]
    run = seconds_of(lambda: evaluate_vectors(texts, images, asked, held))
    return run / (_QUERIES * gallery)


def _decode(picture: tuple[int, int], step: Step) -> float:
    size = step.encoder.image_size
    if size is None:
        return 0.0
    files = made_pictures(picture, _PICTURES)
    return seconds_of(lambda: load_batch(files, size), 2) / len(files)


def _refinement(settings: Settings, step: Step) -> list[dict[str, Any]]:
    """Microseconds of a query with each form of refinement, and what is stored of an image."""
    size, objects = step.encoder.dimension, step.objects
    texts, images = _vectors(32, size, 2), _vectors(GALLERY, size, 3)
    references = _vectors(objects, size, 4)
    rows: list[dict[str, Any]] = [
        {"form": "none", "microseconds": microseconds(None, None, texts, images, DEPTH), "bytes": 0}
    ]
    for form in settings.refinement.forms:
        refiner = Refiner(
            references,
            form,
            weight=1.0,
            temperature=settings.refinement.temperatures[0],
            kept=settings.refinement.kept,
            text_mean=torch.zeros(size),
            image_mean=torch.zeros(size),
            scatter=torch.eye(size),
        )
        stored = refiner.profiles(images[:_DISTINCT], "image")[torch.arange(GALLERY) % _DISTINCT]
        rows.append(
            {
                "form": form,
                "microseconds": microseconds(refiner, stored, texts, images, DEPTH),
                "bytes": stored.bytes_per_feature,
            }
        )
    return rows


def _memory(settings: Settings, step: Step, parameters: dict[str, int]) -> dict[str, Any]:
    """Bytes while training at the settings' batch; of a GPU the measured peak besides."""
    module, batch = step.module, settings.training.batch_size
    stored = [*module.parameters(), *module.buffers()]
    weights = sum(t.nbytes for t in stored)
    trained = 4 * parameters["trained"]
    drawn = step.draw()
    towers = sum(
        kept_bytes(lambda side=side: step.parts(side, drawn[side]), stored)  # type: ignore[misc]
        for side in ("images", "texts")
    )
    objective, inputs = made_objective(settings, step, step.objects, batch)
    losses = kept_bytes(
        lambda: objective(**inputs, rng=step.rng)["total"], [*objective.parameters()]
    )
    activations = towers * batch / step.batch + losses
    found: dict[str, Any] = {
        "weights": weights,
        "gradients": trained,
        "optimiser": 2 * trained,
        "averaged weights": weights,
        "best weights": weights,
        "kept for the backward pass": round(activations),
    }
    found["peak, estimated"] = sum(found.values())
    if step.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        step.whole()
        found["peak, measured"] = torch.cuda.max_memory_allocated()
        found["measured at a batch of"] = step.batch
    return found


def _seconds(settings: Settings, step: Step, costs: Costs, own: Work) -> dict[str, Any]:
    """Seconds of a step's parts at the settings' batch, and of each loss."""
    parts = step_parts(own, costs)
    losses = loss_seconds(settings, step, own.objects, costs.batch)
    return {
        "step": sum(parts.values()),
        "parts": parts,
        "losses": losses,
        "measured step": costs.whole,
        "measured step to the sum of its parts": costs.share,
    }


def _rates(costs: Costs, own: Work) -> dict[str, float]:
    """How many images, captions and pictures a second."""

    def each(seconds: float) -> float:
        return 1 / seconds if seconds > 0 else float("inf")

    text = costs.tower_of(own.words)
    found = {
        "images/s, encoded": each(costs.image.encode),
        "images/s, trained on": each(costs.image.train),
        "captions/s, encoded": each(text.encode),
        "captions/s, trained on": each(text.train),
    }
    for (height, width), seconds in sorted(costs.decode.items()):
        if seconds:
            found[f"pictures/s of {height} x {width}, decoded"] = each(seconds)
    return found
