"""What is asked: sentences and pictures, each with a weight, mixed into one unit vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmref.errors import UsageError
from mmref.search.records import Vector


@dataclass(frozen=True)
class Query:
    """One question.

    Attributes:
        texts: sentences with their weights; a negative weight says what is not wanted.
        images: pictures (a path, a PIL image, or the path or id of an indexed item) with weights.

    Raises:
        UsageError: there is nothing in it, a sentence is blank, or a weight is not a number.

    Example:
        >>> Query.of("a red flag", without="a star").label
        'a red flag, not: a star'
    """

    texts: tuple[tuple[str, float], ...] = ()
    images: tuple[tuple[Any, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.texts and not self.images:
            raise UsageError("nothing is asked: give a sentence or an image")
        if any(not isinstance(text, str) or not text.strip() for text, _ in self.texts):
            raise UsageError("the sentence is empty: say what to look for")
        weights = [weight for _, weight in (*self.texts, *self.images)]
        if not all(np.isfinite(weight) and weight != 0 for weight in weights):
            raise UsageError("a weight must be a number other than 0")

    @classmethod
    def of(
        cls,
        text: str | Sequence[str] | None = None,
        image: Any = None,
        *,
        without: str | Sequence[str] | None = None,
    ) -> "Query":
        """A query in which all parts weigh the same.

        Args:
            text: a sentence or several.
            image: a picture or a list of several.
            without: sentences that say what is not wanted (weight -1).
        """
        texts = [(part, 1.0) for part in _several(text)]
        texts += [(part, -1.0) for part in _several(without)]
        images = image if isinstance(image, list | tuple) else [] if image is None else [image]
        return cls(tuple(texts), tuple((part, 1.0) for part in images))

    @property
    def label(self) -> str:
        """The question in one line."""
        wanted = [text for text, weight in self.texts if weight > 0]
        wanted += [f"image {_name(image)}" for image, weight in self.images if weight > 0]
        avoided = [text for text, weight in self.texts if weight < 0]
        avoided += [f"image {_name(image)}" for image, weight in self.images if weight < 0]
        parts = [" + ".join(wanted)] if wanted else []
        return ", not: ".join(parts + avoided) if parts else "not: " + ", not: ".join(avoided)

    @property
    def modality(self) -> str:
        """``image`` for pictures alone, else ``text``; refinement treats them apart."""
        return "text" if self.texts else "image"


def _several(text: str | Sequence[str] | None) -> list[str]:
    if text is None:
        return []
    return [text] if isinstance(text, str) else list(text)


def _name(image: Any) -> str:
    return str(image) if isinstance(image, str | int) or hasattr(image, "__fspath__") else "given"


def mixed(vectors: Vector, weights: Sequence[float]) -> Vector:
    """The weighted sum of unit vectors, made a unit vector again.

    Args:
        vectors: float32 [n, d].
        weights: n numbers.

    Returns:
        float32 [d].

    Raises:
        UsageError: the parts cancel one another.

    Example:
        >>> mixed(np.float32([[1, 0], [0, 1]]), [3.0, 4.0]).round(1).tolist()
        [0.6000000238418579, 0.800000011920929]
    """
    total = np.asarray(weights, dtype=np.float64) @ np.asarray(vectors, dtype=np.float64)
    length = float(np.linalg.norm(total))
    if not np.isfinite(length) or length < 1e-6:
        raise UsageError("the parts of the query cancel one another: change a weight")
    return (total / length).astype(np.float32)
