"""Class sets (CUB, Flowers): a whole class asks, by the mean of its captions (Reed et al. 2016).

Example:
    >>> texts = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    >>> found = evaluate_classes(texts, torch.eye(2), ["a", "a", "b"], ["a", "b"])
    >>> found.metrics()["i2t R@1"], found.metrics()["AP@50"], found.ceiling
    (100.0, 2.0, 2.0)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mmref.evaluation.vectors import TOLERANCE, rank_vectors
from mmref.metrics.bootstrap import intervals
from mmref.metrics.classes import DEPTH, precision_at, precision_ceiling
from mmref.metrics.protocols import Figures, figures
from mmref.metrics.ranks import Ties
from mmref.references.refinement import Refiner

PRECISION, RECALL = f"AP@{DEPTH}", "i2t R@1"
CLASS_METRICS = (PRECISION, RECALL)


@dataclass(frozen=True, eq=False)
class ClassFigures:
    """What a class set is scored by beside the captions' own ranks.

    Attributes:
        names: the classes that asked and have a readable image.
        precision: AP@50 of each class, percent, float64 ``[c]``.
        ceiling: the highest possible mean AP@50, percent: a class may have fewer than 50 images.
        smallest: images of the smallest class.
        recall: image-to-text among the class means, with a value for each image.
    """

    names: NDArray[Any]
    precision: NDArray[np.float64]
    ceiling: float
    smallest: int
    recall: Figures

    def metrics(self) -> dict[str, float]:
        """``AP@50``, a mean over classes, and ``i2t R@1``, a mean over images."""
        return {PRECISION: float(self.precision.mean()), RECALL: self.recall.metrics["R@1"]}

    def values(self) -> dict[str, tuple[NDArray[np.float64], NDArray[Any]]]:
        """The single values behind each figure, and their classes."""
        return {
            PRECISION: (self.precision, self.names),
            RECALL: (self.recall.per_query["R@1"], self.recall.objects),
        }

    def intervals(self, resamples: int, seed: int) -> dict[str, list[float]] | None:
        """The 95 % interval of each figure by bootstrap over classes; None with fewer than two."""
        if len(self.names) < 2 or not resamples:
            return None
        return {
            name: list(intervals({name: v}, classes, resamples=resamples, seed=seed)[name])
            for name, (v, classes) in self.values().items()
        }


def class_means(texts: Tensor, objects: Sequence[str]) -> tuple[list[str], Tensor]:
    """One query for each class: the mean of its captions' vectors, normalised again.

    Args:
        texts: caption vectors, Tensor[q, d].
        objects: the class of each, q names.

    Returns:
        The classes in alphabetical order, c of them, and Tensor[c, d].

    Example:
        >>> names, means = class_means(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), ["b", "b"])
        >>> names, [round(x, 3) for x in means[0].tolist()]
        (['b'], [0.707, 0.707])
    """
    names, numbers = np.unique(np.asarray(objects), return_inverse=True)
    sums = torch.zeros(len(names), texts.shape[1], dtype=torch.float64)
    sums.index_add_(0, torch.from_numpy(numbers), texts.double().cpu())
    return [str(name) for name in names], F.normalize(sums, dim=1).to(texts.dtype)


def evaluate_classes(
    texts: Tensor,
    images: Tensor,
    query_objects: Sequence[str],
    gallery_objects: Sequence[str],
    refiner: Refiner | None = None,
    *,
    ties: Ties = "pessimistic",
    tolerance: float = TOLERANCE,
) -> ClassFigures:
    """AP@50 and image-to-text R@1 of class means.

    All captions of a class become one query, whose refined score uses the profile of that one
    vector. All images are ranked for each class; and each image goes to the nearest class.

    Args:
        texts: L2-normalised caption vectors, Tensor[q, d].
        images: L2-normalised image vectors, Tensor[g, d].
        query_objects: the class of each caption.
        gallery_objects: the class of each image. A class without captions cannot be the answer:
            its images are not asked, but they are ranked.
        refiner: rank by its similarity; by the cosine alone when None.
        ties: "pessimistic" or "expected".
        tolerance: scores within it count as tied.

    Raises:
        DataError: shapes that do not fit, or no class with captions has an image.
    """
    names, means = class_means(texts, query_objects)
    options: dict[str, Any] = {"ties": ties, "tolerance": tolerance, "missing": "skip"}
    forward = rank_vectors(means, images, names, gallery_objects, refiner, **options)
    back = rank_vectors(means, images, names, gallery_objects, refiner, direction="i2t", **options)
    return ClassFigures(
        names=np.asarray(names)[forward.kept],
        precision=precision_at(forward, DEPTH),
        ceiling=precision_ceiling(forward, DEPTH),
        smallest=int(forward.sizes.min()),
        recall=figures(back, gallery_objects),
    )


def describe_classes(
    found: ClassFigures, plain: ClassFigures | None, resamples: int, seed: int
) -> dict[str, Any]:
    """The report's part on classes (JSON): figures in percent, intervals over classes.

    Args:
        found: ranked as the report's main figures are.
        plain: ranked by the cosine; None when ``found`` is.
        resamples: of the bootstrap; 0 for no intervals.
        seed: of the bootstrap.
    """
    return {
        **found.metrics(),
        f"{PRECISION} ceiling": found.ceiling,
        "classes": len(found.names),
        "smallest_class": found.smallest,
        "ci95": found.intervals(resamples, seed),
        "unrefined": plain.metrics() if plain else None,
    }
