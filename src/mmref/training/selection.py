"""Every choice made on validation objects: the refinement's form, lambda and tau_r."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor

from mmref.config import RefinementSettings
from mmref.evaluation.vectors import evaluate_vectors
from mmref.model import References, RefinementChoice, make_refiner


def candidates(grid: RefinementSettings) -> list[RefinementChoice]:
    """All refinements of the grid; the temperature matters to ``posterior`` alone.

    Example:
        >>> len(candidates(RefinementSettings()))
        15
    """
    return [
        RefinementChoice(form, weight, temperature, grid.kept)
        for form in grid.forms
        for temperature in (grid.temperatures if form == "posterior" else grid.temperatures[:1])
        for weight in grid.weights
    ]


def default_choice(grid: RefinementSettings) -> RefinementChoice | None:
    """The middle of the grid: what ranks epochs before the refinement is chosen."""
    if not (grid.forms and grid.weights and grid.temperatures):
        return None
    return RefinementChoice(
        grid.forms[0],
        grid.weights[len(grid.weights) // 2],
        grid.temperatures[len(grid.temperatures) // 2],
        grid.kept,
    )


def validation_map(
    texts: Tensor,
    images: Tensor,
    query_objects: Sequence[str],
    gallery_objects: Sequence[str],
    references: References | None,
    choice: RefinementChoice | None,
) -> float:
    """MAP in percent of one way to rank, on validation vectors."""
    refiner = make_refiner(references, choice)
    return evaluate_vectors(texts, images, query_objects, gallery_objects, refiner).metrics["mAP"]


def choose_refinement(
    texts: Tensor,
    images: Tensor,
    query_objects: Sequence[str],
    gallery_objects: Sequence[str],
    references: References,
    grid: RefinementSettings,
) -> tuple[RefinementChoice | None, list[dict[str, Any]]]:
    """The refinement with the best validation mAP; None when none beats the plain cosine.

    Args:
        texts: validation captions, Tensor[q, d].
        images: validation images, Tensor[g, d].
        query_objects: the captions' objects.
        gallery_objects: the images' objects.
        references: the model's.
        grid: what to try.

    Returns:
        The choice, and a row for each candidate with its mAP (the first is the plain cosine).
    """

    def score(choice: RefinementChoice | None) -> float:
        return validation_map(texts, images, query_objects, gallery_objects, references, choice)

    best, best_map = None, score(None)
    rows: list[dict[str, Any]] = [{"form": None, "weight": 0.0, "mAP": best_map}]
    for choice in candidates(grid):
        value = score(choice)
        rows.append({**asdict(choice), "mAP": value})
        if value > best_map:
            best, best_map = choice, value
    return best, rows
