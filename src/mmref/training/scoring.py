"""How good the present weights are on validation, and what is chosen by that."""

from dataclasses import asdict
from typing import Any

import torch

from mmref.config import RefinementSettings
from mmref.encoders.base import TrainableEncoder
from mmref.evaluation.vectors import evaluate_vectors
from mmref.metrics.protocols import Figures
from mmref.processes.group import Group
from mmref.references.kept import References, RefinementChoice, make_refiner
from mmref.training.selection import choose_refinement, validation_map
from mmref.training.validation import Validation, encode_captions, encode_images

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the deep part, tried on validation


def best_share(
    encoder: TrainableEncoder,
    validation: Validation,
    device: torch.device,
    group: Group | None = None,
) -> tuple[float, float]:
    """The deep part's share with the best validation mAP, by the plain cosine.

    Args:
        encoder: whose share is left at the last one tried.
        validation: captions and images.
        device: where the encoder is.
        group: the processes that encode together; rank 0 judges for all.

    Returns:
        The share, and the mAP in percent; the smaller share where two are equally good.
    """
    group = group or Group()
    texts = encode_captions(encoder, validation.captions, device, group)
    images = encode_images(encoder, validation.inputs.tensor, device, group)
    targets = (validation.query_objects, validation.gallery_objects)

    def judged() -> tuple[float, float]:
        found: dict[float, float] = {}
        for share in SHARES if len(texts) > 1 else (float(encoder.deep_share),):
            encoder.deep_share.fill_(share)
            found[share] = validation_map(
                encoder.join(texts), encoder.join(images), *targets, None, None
            )
        best = max(found, key=found.__getitem__)
        return best, found[best]

    share, value = group.first(judged)
    return share, value


def judge(
    encoder: TrainableEncoder,
    validation: Validation | None,
    references: References | None,
    grid: RefinementSettings,
    device: torch.device,
    group: Group | None = None,
) -> tuple[RefinementChoice | None, list[dict[str, Any]], dict[str, Figures]]:
    """Choose the refinement of a trained encoder.

    Args:
        encoder: at its best weights and share, in evaluation mode.
        validation: captions and images; without any, nothing is chosen.
        references: the model's.
        grid: the refinements to try.
        device: where the encoder is.
        group: the processes that encode together; rank 0 judges for all.

    Returns:
        The choice; a row for each refinement tried; the figures ``unrefined`` and, with a
        refinement, ``refined``, which rank 0 alone has.
    """
    if validation is None:
        return None, [], {}
    group = group or Group()
    texts = encoder.join(encode_captions(encoder, validation.captions, device, group))
    images = encoder.join(encode_images(encoder, validation.inputs.tensor, device, group))
    targets = (validation.query_objects, validation.gallery_objects)
    choice: RefinementChoice | None = None
    rows: list[dict[str, Any]] = []
    figures: dict[str, Figures] = {}

    def judged() -> dict[str, Any]:
        nonlocal choice, rows
        if references is not None:
            choice, rows = choose_refinement(texts, images, *targets, references, grid)
        figures["unrefined"] = evaluate_vectors(texts, images, *targets)
        refiner = make_refiner(references, choice)
        if refiner is not None:
            figures["refined"] = evaluate_vectors(texts, images, *targets, refiner)
        return {"choice": asdict(choice) if choice else None, "rows": rows}

    told = group.first(judged)
    if not group.main:
        rows = told["rows"]
        choice = RefinementChoice(**told["choice"]) if told["choice"] else None
    return choice, rows, figures
