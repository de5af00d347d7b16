"""Every choice made on validation objects: the refinement's form, lambda and tau_r."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from torch import Tensor

from mmref.config import RefinementSettings
from mmref.evaluation.vectors import evaluate_vectors
from mmref.references.kept import References, RefinementChoice, make_refiner
from mmref.references.refinement import TEMPERED


def candidates(grid: RefinementSettings) -> list[RefinementChoice]:
    """All refinements of the grid; the temperature matters to ``hubs`` and ``posterior`` alone.

    Example:
        >>> len(candidates(RefinementSettings()))
        27
    """
    return [
        RefinementChoice(form, weight, temperature, grid.kept)
        for form in grid.forms
        for temperature in (grid.temperatures if form in TEMPERED else grid.temperatures[:1])
        for weight in grid.weights
    ]


def default_choice(grid: RefinementSettings) -> RefinementChoice | None:
    """The grid's first form in the middle of its weights and temperatures: the usual choice."""
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
    """The refinement with the best validation mAP, unless the usual one is about as good.

    Validation sets are small, and the best of many candidates is partly luck. So the choice
    starts from the middle of the grid (``hubs``, lambda 1, tau_r 0.1, which did best on
    other splits), and another candidate, the plain cosine too, must beat it by more than half the
    standard error of the difference over objects. Our choice.

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

    def per_query(choice: RefinementChoice | None) -> np.ndarray:
        refiner = make_refiner(references, choice)
        figures = evaluate_vectors(texts, images, query_objects, gallery_objects, refiner)
        return np.asarray(figures.per_query["mAP"])

    if references.scatter is None:
        known = tuple(form for form in grid.forms if form != "whitened")
        grid = grid.model_copy(update={"forms": known})
    usual = default_choice(grid)
    reference = per_query(usual)
    idle = np.array_equal(reference, per_query(None))
    best, best_value = None if idle else usual, 0.0
    rows: list[dict[str, Any]] = []
    for choice in (None, *candidates(grid)):
        values = per_query(choice)
        gain, error = _gain(values - reference, query_objects)
        named = {"form": None, "weight": 0.0} if choice is None else asdict(choice)
        rows.append({**named, "mAP": float(values.mean()), "gain": gain, "error": error})
        if gain - 0.5 * error > best_value:
            best, best_value = choice, gain - 0.5 * error
    return best, rows


def _gain(differences: np.ndarray, objects: Sequence[str]) -> tuple[float, float]:
    """Mean difference over queries, and its standard error with queries of one object together."""
    _, numbers = np.unique(np.asarray(objects), return_inverse=True)
    mean = float(differences.mean())
    sums = np.bincount(numbers, weights=differences - mean)
    return mean, float(np.sqrt(np.square(sums).sum()) / len(differences))
