"""Retrieval failures: the queries whose right image comes latest, and what came before it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmref.evaluation.vectors import TOLERANCE
from mmref.model import MMRef

_BLOCK = 512


@dataclass(frozen=True)
class Retrieved:
    """One image of an answer: its row among the images, its score, right or wrong."""

    image: int
    object: str
    score: float
    right: bool


@dataclass(frozen=True)
class Failure:
    """A query whose first image is wrong.

    Attributes:
        caption: the query.
        object: the object that it describes.
        rank: place of the first right image, from 1.
        gallery: images ranked.
        truth: rows of the object's images, the one that scores highest first.
        score: of the first of these.
        retrieved: the first images, best first.
    """

    caption: str
    object: str
    rank: int
    gallery: int
    truth: tuple[int, ...]
    score: float
    retrieved: tuple[Retrieved, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Failures:
    """Queries that fail.

    Attributes:
        queries: queries whose object has an image.
        failed: those whose first image is wrong.
        worst: the worst, one an object as long as there are other objects.
    """

    queries: int
    failed: int
    worst: tuple[Failure, ...]


def retrieval_failures(
    model: MMRef,
    texts: Tensor,
    images: Tensor,
    captions: Sequence[str],
    asked: Sequence[str],
    held: Sequence[str],
    *,
    count: int = 8,
    shown: int = 5,
    refine: bool = True,
) -> Failures:
    """The queries whose first right image ranks last, worst first.

    Ranks count ties against the right image, as everywhere.

    Args:
        model: whose similarity ranks.
        texts: vectors of the queries, Tensor[n, d].
        images: vectors of the gallery, Tensor[m, d].
        captions: the queries.
        asked: object of each query.
        held: object of each image.
        count: failures to return.
        shown: images retrieved for each.
        refine: rank by the refined similarity where the run has one.
    """
    owners = np.asarray(held, dtype=object)
    rows_of = {name: np.flatnonzero(owners == name) for name in set(held)}
    ranks = np.zeros(len(asked), dtype=np.int64)
    for start in range(0, len(asked), _BLOCK):
        scores = model.similarity(texts[start : start + _BLOCK], images, refine).numpy()
        for row, name in enumerate(asked[start : start + _BLOCK]):
            own = rows_of.get(name)
            if own is not None:
                best = scores[row, own].max() - TOLERANCE
                before = scores[row] >= best
                before[own] = False
                ranks[start + row] = 1 + int(before.sum())
    failed = np.flatnonzero(ranks > 1)
    order = failed[np.argsort(-ranks[failed], kind="stable")].tolist()
    chosen = _spread(order, asked, count)
    return Failures(
        queries=int((ranks > 0).sum()),
        failed=len(failed),
        worst=tuple(
            _failure(model, texts, images, captions, asked, held, rows_of, row, int(ranks[row]),
                     shown, refine)
            for row in chosen
        ),
    )  # fmt: skip


def _spread(order: Sequence[int], asked: Sequence[str], count: int) -> list[int]:
    """The first of each object in turn, then the others."""
    first, rest, seen = list[int](), list[int](), set[str]()
    for row in order:
        (rest if asked[row] in seen else first).append(row)
        seen.add(asked[row])
    return (first + rest)[:count]


def _failure(
    model: MMRef,
    texts: Tensor,
    images: Tensor,
    captions: Sequence[str],
    asked: Sequence[str],
    held: Sequence[str],
    rows_of: dict[str, Any],
    row: int,
    rank: int,
    shown: int,
    refine: bool,
) -> Failure:
    scores = model.similarity(texts[row : row + 1], images, refine)[0]
    best = torch.argsort(scores, descending=True, stable=True)[:shown].tolist()
    own = rows_of[asked[row]]
    truth = own[np.argsort(-scores[own].numpy(), kind="stable")].tolist()
    return Failure(
        caption=captions[row],
        object=asked[row],
        rank=rank,
        gallery=len(held),
        truth=tuple(truth),
        score=round(float(scores[truth[0]]), 4),
        retrieved=tuple(
            Retrieved(i, held[i], round(float(scores[i]), 4), held[i] == asked[row]) for i in best
        ),
    )
