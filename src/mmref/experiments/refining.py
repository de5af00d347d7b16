"""Every refinement of one trained model: form x lambda x tau_r x kept entries x how many re-scored.

Nothing is trained. *Depth* K is how many of the dense top are scored again through their stored
profiles, as a search does; the others keep their cosine and rank behind them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmref.config import RefinementSettings
from mmref.evaluation.vectors import TOLERANCE, evaluate_vectors
from mmref.metrics.protocols import Figures, figures
from mmref.metrics.ranks import ranks_from_scores
from mmref.references.kept import References, RefinementChoice, make_refiner
from mmref.references.refinement import TEMPERED, Profiles, Refiner, reference_scores
from mmref.training.selection import candidates

ALL = 0  # "all", of entries or of depth
KEPT = (8, 16, 32, 64, 128, ALL)
DEPTHS = (20, 50, 100, 200, ALL)
TIMED = 48  # queries


@dataclass(frozen=True)
class Point:
    """One refinement of the grid.

    Attributes:
        form: ``posterior``, ``linear`` or ``centred``.
        weight: lambda.
        temperature: tau_r; None but for ``hubs`` and ``posterior``.
        kept: entries kept, 0 for all; None but for ``hubs`` and ``posterior``.
        depth: how many of the dense top are scored again, 0 for all.
    """

    form: str
    weight: float
    temperature: float | None
    kept: int | None
    depth: int


def points(grid: RefinementSettings) -> list[Point]:
    """All points of the grid.

    Example:
        >>> len(points(RefinementSettings()))
        360
    """
    found = []
    for choice in candidates(grid):
        sparse = choice.form == "posterior"
        for kept in KEPT if sparse else (None,):
            temperature = choice.temperature if choice.form in TEMPERED else None
            found += [Point(choice.form, choice.weight, temperature, kept, d) for d in DEPTHS]
    # Those of the same profiles stand together.
    return sorted(found, key=lambda p: (p.form, p.temperature or 0, p.kept or 0))


def refine_all(
    references: References,
    grid: RefinementSettings,
    texts: Tensor,
    images: Tensor,
    query_objects: list[str],
    gallery_objects: list[str],
    progress: Callable[[float], None] = lambda share: None,
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Score every point of the grid.

    Args:
        references: the model's.
        grid: forms, lambdas and temperatures.
        texts: caption vectors, Tensor[q, d].
        images: image vectors, Tensor[g, d].
        query_objects: the captions' objects, each with an image in the gallery.
        gallery_objects: the images' objects.
        progress: told the share done.

    Returns:
        A row for each point: its values, mAP, R@1, stored bytes of an image (vector and profile)
        and microseconds of a query; and ``mAP``, ``R@1`` [points, q] in percent.
    """
    cosine = texts @ images.T
    order = cosine.argsort(dim=1, descending=True)
    wanted = points(grid)
    rows, values = [], {"mAP": list[np.ndarray](), "R@1": list[np.ndarray]()}
    made: tuple[Any, ...] | None = None
    for number, point in enumerate(wanted):
        key = (point.form, point.temperature, point.kept)
        if made is None or made[0] != key:
            refiner = _refiner(references, point)
            stored = refiner.profiles(images, "image")
            asked = refiner.profiles(texts, "text", exact=True)
            similarity = refiner.reference_similarity(asked, stored)
            made = key, refiner, stored, similarity
        _, refiner, stored, similarity = made
        scores = re_scored(cosine, similarity, order, point.weight, point.depth)
        found = _figures(scores, query_objects, gallery_objects)
        for metric, kept in values.items():
            kept.append(found.per_query[metric])
        rows.append(
            {
                **vars(point),
                "mAP": found.metrics["mAP"],
                "R@1": found.metrics["R@1"],
                "bytes": 4 * images.shape[1] + stored.bytes_per_feature,
                "microseconds": microseconds(refiner, stored, texts, images, point.depth),
            }
        )
        progress((number + 1) / len(wanted))
    return rows, {metric: np.stack(kept) for metric, kept in values.items()}


def unrefined(
    texts: Tensor, images: Tensor, query_objects: list[str], gallery_objects: list[str]
) -> tuple[Figures, float]:
    """Figures of the cosine alone, and its microseconds of a query."""
    found = evaluate_vectors(texts, images, query_objects, gallery_objects)
    return found, microseconds(None, None, texts, images, ALL)


def re_scored(
    cosine: Tensor, similarity: Tensor, order: Tensor, weight: float, depth: int
) -> Tensor:
    """Scores that rank as a search does: the dense top by S, then the others by the cosine.

    Args:
        cosine: Tensor[q, g].
        similarity: S_ref, Tensor[q, g].
        order: images of each query by falling cosine, Tensor[q, g].
        weight: lambda.
        depth: how many are scored again; 0 for all.

    Example:
        >>> cosine, reference = torch.tensor([[0.9, 0.8, 0.7]]), torch.tensor([[0.0, 0.5, 9.0]])
        >>> order = torch.tensor([[0, 1, 2]])
        >>> re_scored(cosine, reference, order, 1.0, 2).argsort(descending=True).tolist()
        [[1, 0, 2]]
    """
    scores = cosine + weight * similarity
    if depth == ALL or depth >= cosine.shape[1]:
        return scores
    others = order[:, depth:]
    return scores.scatter(1, others, cosine.gather(1, others) - (3 + weight))


def microseconds(
    refiner: Refiner | None, stored: Profiles | None, texts: Tensor, images: Tensor, depth: int
) -> float:
    """Median time of one query: cosines of all images, the nearest, and scoring those again.

    Encoding the caption is not in it.
    """
    gallery, arrays = images.numpy(), stored.to_arrays() if stored is not None else {}
    count = len(gallery) if depth == ALL else min(depth, len(gallery))
    rows = np.linspace(0, len(texts) - 1, min(TIMED, len(texts))).astype(int)
    spent = []
    for vector in texts[torch.from_numpy(rows)]:
        begun = time.perf_counter_ns()
        scores = gallery @ vector.numpy()
        top = np.argpartition(-scores, count - 1)[:count]
        if refiner is not None:
            profile = refiner.profiles(vector[None], "text", exact=True).to_arrays()
            near = {name: values[top] for name, values in arrays.items()}
            final = scores[top] + refiner.weight * reference_scores(profile, near)
        else:
            final = scores[top]
        np.argsort(-final)
        spent.append(time.perf_counter_ns() - begun)
    return float(np.median(spent)) / 1000


def _refiner(references: References, point: Point) -> Refiner:
    kept = point.kept or len(references.vectors)
    choice = RefinementChoice(point.form, point.weight, point.temperature or 0.1, kept)
    found = make_refiner(references, choice)
    if found is None:
        raise ValueError("a refinement of weight 0 is none")
    return found


def _figures(scores: Tensor, query_objects: list[str], gallery_objects: list[str]) -> Figures:
    def blocks(start: int, stop: int) -> Tensor:
        return scores[start:stop]

    ranks = ranks_from_scores(blocks, query_objects, gallery_objects, tolerance=TOLERANCE)
    return figures(ranks, query_objects)


def smallest_within(
    rows: list[dict[str, Any]], best: float, tolerance: float = 0.1
) -> dict[str, Any] | None:
    """The point of fewest bytes, then least depth, whose mAP is within a tolerance of ``best``.

    Example:
        >>> rows = [{"bytes": 9, "depth": 0, "mAP": 5.0}, {"bytes": 5, "depth": 0, "mAP": 4.95},
        ...         {"bytes": 5, "depth": 50, "mAP": 4.92}, {"bytes": 3, "depth": 0, "mAP": 4.0}]
        >>> smallest_within(rows, 5.0)
        {'bytes': 5, 'depth': 50, 'mAP': 4.92}
    """
    near = [row for row in rows if row["mAP"] >= best - tolerance]
    return min(near, key=lambda row: (row["bytes"], row["depth"] or 1 << 62), default=None)
