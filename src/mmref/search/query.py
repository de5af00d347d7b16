"""What is asked: sentences and pictures, each with a weight, mixed into one unit vector."""

import re
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

    @classmethod
    def asked(
        cls, text: str | Sequence[str] | None, image: Any, without: str | Sequence[str] | None
    ) -> "Query":
        """A query as ``Searcher.search`` takes it: ``2.0:text`` carries a weight."""
        several = image if isinstance(image, list | tuple) else [] if image is None else [image]
        words = cls._texts(_several(text), _several(without))
        return cls(words, tuple(weighted(i) if isinstance(i, str) else (i, 1.0) for i in several))

    @staticmethod
    def _texts(wanted: Sequence[str], avoided: Sequence[str]) -> tuple[tuple[str, float], ...]:
        minus = [(text, -weight) for text, weight in map(weighted, avoided)]
        return (*map(weighted, wanted), *minus)

    @classmethod
    def parse(
        cls,
        texts: Sequence[str] = (),
        images: Sequence[str] = (),
        without: Sequence[str] = (),
    ) -> "Query":
        """A query as the command line writes it: ``2.0:text`` and ``0.5:a.jpg`` carry weights.

        Args:
            texts: sentences; see :func:`weighted`.
            images: pictures: paths, or paths or ids of indexed items.
            without: sentences that say what is not wanted; ``2:text`` weighs -2.

        Raises:
            UsageError: a weight is 0 or below, or as for the class.

        Example:
            >>> Query.parse(["2.0:red coat", "dog"], without=["0.5:backpack"]).texts
            (('red coat', 2.0), ('dog', 1.0), ('backpack', -0.5))
        """
        return cls.asked(texts, list(images), without)

    @property
    def label(self) -> str:
        """The question in one line; weights other than 1 stand before their part."""
        wanted = [_weighed(text, weight) for text, weight in self.texts if weight > 0]
        wanted += [_weighed(f"image {_name(i)}", weight) for i, weight in self.images if weight > 0]
        avoided = [_weighed(text, -weight) for text, weight in self.texts if weight < 0]
        avoided += [
            _weighed(f"image {_name(i)}", -weight) for i, weight in self.images if weight < 0
        ]
        parts = [" + ".join(wanted)] if wanted else []
        return ", not: ".join(parts + avoided) if parts else "not: " + ", not: ".join(avoided)

    @property
    def modality(self) -> str:
        """``image`` for pictures alone, else ``text``; refinement treats them apart."""
        return "text" if self.texts else "image"


_WEIGHT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)):(.*)", re.DOTALL)


def weighted(part: str) -> tuple[str, float]:
    """A part and its weight: ``2.0:text`` weighs 2, plain ``text`` 1.

    Text that itself starts with a number and a colon is written with a weight before it.

    Raises:
        UsageError: the weight is not above 0.

    Example:
        >>> weighted("2.0:red coat"), weighted("red coat"), weighted("1:10:30 on a clock")
        (('red coat', 2.0), ('red coat', 1.0), ('10:30 on a clock', 1.0))
    """
    found = _WEIGHT.fullmatch(part)
    if found is None:
        return part, 1.0
    weight = float(found.group(1))
    if not 0 < weight < float("inf"):
        raise UsageError(
            f"the weight {found.group(1)} of {part!r} is not above 0: say what is not wanted with "
            "--not"
        )
    return found.group(2), weight


def _weighed(part: str, weight: float) -> str:
    return part if weight == 1 else f"{weight:g}:{part}"


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
