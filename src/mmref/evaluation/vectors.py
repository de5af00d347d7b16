"""Evaluation of encoded vectors: what training and experiments call each epoch.

Example:
    >>> import torch
    >>> vectors, objects = torch.eye(3), ["a", "b", "c"]
    >>> evaluate_vectors(vectors, vectors, objects, objects).metrics["mAP"]
    100.0
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from mmref.errors import DataError
from mmref.metrics.protocols import Figures, figures
from mmref.metrics.ranks import (
    BLOCK_BYTES,
    Missing,
    Objects,
    Ranks,
    Ties,
    Vectors,
    as_float,
    ranks_from_scores,
    relevant_ranks,
)
from mmref.references.refinement import Profiles, Refiner

Direction = Literal["t2i", "i2t"]

# Above the rounding of float32 products of unit vectors (about 1e-7), below any real difference:
# equal vectors tie on every machine.
TOLERANCE = 1e-6
_DENSE_BYTES = 64 << 20


def evaluate_vectors(
    texts: Vectors,
    images: Vectors,
    query_objects: Objects,
    gallery_objects: Objects,
    refiner: Refiner | None = None,
    *,
    direction: Direction = "t2i",
    ties: Ties = "pessimistic",
    tolerance: float = TOLERANCE,
    missing: Missing = "error",
    block_bytes: int = BLOCK_BYTES,
) -> Figures:
    """R@1/5/10, mAP and mINP of encoded captions and images, block by block.

    Args:
        texts: L2-normalised caption vectors, ``[q, d]``.
        images: L2-normalised image vectors, ``[g, d]``.
        query_objects: object of each caption, whatever the direction.
        gallery_objects: object of each image, whatever the direction.
        refiner: rank by its S = cos + weight * S_ref; by the cosine alone when None.
        direction: "t2i" (captions ask for images) or "i2t", its transpose.
        ties: "pessimistic" or "expected".
        tolerance: scores within it count as tied.
        missing: queries without a relevant entry: "error", or "skip" and count.
        block_bytes: memory for one block of scores.

    Returns:
        Figures in percent, with the values of every query.

    Raises:
        DataError: shapes that do not fit, scores that are not finite, or a query without a
            relevant entry.

    Example:
        >>> from mmref.references.refinement import Refiner
        >>> texts = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2], [0.2, 1.0]]), dim=1)
        >>> refiner = Refiner(torch.eye(2), "linear", weight=1.0)
        >>> result = evaluate_vectors(texts, texts, ["a", "b"], ["a", "b"], refiner)
        >>> result.metrics["R@1"], result.queries, result.gallery
        (100.0, 2, 2)
    """
    ranks = rank_vectors(
        texts, images, query_objects, gallery_objects, refiner,
        direction=direction, ties=ties, tolerance=tolerance, missing=missing,
        block_bytes=block_bytes,
    )  # fmt: skip
    return figures(ranks, query_objects if direction == "t2i" else gallery_objects)


def rank_vectors(
    texts: Vectors,
    images: Vectors,
    query_objects: Objects,
    gallery_objects: Objects,
    refiner: Refiner | None = None,
    *,
    direction: Direction = "t2i",
    ties: Ties = "pessimistic",
    tolerance: float = TOLERANCE,
    missing: Missing = "error",
    block_bytes: int = BLOCK_BYTES,
) -> Ranks:
    """The ranks behind :func:`evaluate_vectors`, whose arguments and errors they share.

    Example:
        >>> rank_vectors(torch.eye(2), torch.eye(2), ["a", "b"], ["a", "b"]).positions.tolist()
        [1.0, 1.0]
    """
    text_vectors, image_vectors = as_float(texts), as_float(images)
    if direction == "t2i":
        left, right, asked, held = text_vectors, image_vectors, query_objects, gallery_objects
        modalities = ("text", "image")
    elif direction == "i2t":
        left, right, asked, held = image_vectors, text_vectors, gallery_objects, query_objects
        modalities = ("image", "text")
    else:
        raise ValueError(f"direction is 't2i' or 'i2t', not {direction!r}")
    if len(left) != len(asked) or len(right) != len(held):
        raise DataError(
            f"{len(texts)} caption and {len(images)} image vectors, but {len(query_objects)} and "
            f"{len(gallery_objects)} objects: one object is needed for each vector"
        )
    if refiner is None or refiner.weight == 0:
        return relevant_ranks(
            left, right, asked, held,
            ties=ties, tolerance=tolerance, missing=missing, block_bytes=block_bytes,
        )  # fmt: skip
    return ranks_from_scores(
        refined_blocks(left, right, refiner, modalities), asked, held,
        ties=ties, tolerance=tolerance, missing=missing, block_bytes=block_bytes,
    )  # fmt: skip


def refined_blocks(
    left: Tensor, right: Tensor, refiner: Refiner, modalities: tuple[str, str] = ("text", "image")
) -> Callable[[int, int], Tensor]:
    """Blocks of rows of S = cos + weight * S_ref.

    Dense profiles, and sparse ones over few references, become part of the vectors, so that one
    product gives S. Sparse profiles over many references stay sparse.

    Args:
        left: query vectors, Tensor[q, d].
        right: gallery vectors, Tensor[g, d].
        refiner: whose similarity it is.
        modalities: of left and right, "text" or "image".

    Returns:
        ``scores(start, stop)`` -> Tensor[stop - start, g].

    Example:
        >>> from mmref.references.refinement import Refiner
        >>> x = torch.eye(2)
        >>> scores = refined_blocks(x, x, Refiner(torch.eye(2), "linear", weight=0.5))
        >>> scores(0, 1).tolist()
        [[1.5, 0.0]]
    """
    references = len(refiner.references)
    rows = max(1, _DENSE_BYTES // (4 * references))  # profiles of so many are made at a time
    if refiner.form != "posterior" or len(right) <= rows:
        parts = [refiner.extended(part, modalities[1]) for part in torch.split(right, rows)]
        extended = torch.cat(parts).T

        def dense(start: int, stop: int) -> Tensor:
            return refiner.extended(left[start:stop], modalities[0], exact=True) @ extended

        return dense

    profiles = [refiner.profiles(part, modalities[1]) for part in torch.split(right, rows)]
    spread = torch.cat([_sparse(part, references) for part in profiles])
    base = right.float().cpu().T

    def sparse(start: int, stop: int) -> Tensor:
        own = refiner.profiles(left[start:stop], modalities[0], exact=True)
        asked = _sparse(own, references).to_dense().T.contiguous()
        block = left[start:stop].float().cpu() @ base
        return block.add_(torch.sparse.mm(spread, asked).T, alpha=refiner.weight)

    return sparse


def _sparse(profiles: Profiles, references: int) -> Tensor:
    """The posterior profiles as a sparse matrix, Tensor[n, m]."""
    if profiles.indices is None or profiles.values is None:
        raise ValueError("only posterior profiles are sparse")
    indices, order = profiles.indices.long().sort(dim=1)
    rows = torch.arange(len(indices)).repeat_interleave(indices.shape[1])
    return torch.sparse_coo_tensor(
        torch.stack([rows, indices.reshape(-1)]),
        profiles.values.float().gather(1, order).reshape(-1),
        size=(len(indices), references),
        is_coalesced=True,
        check_invariants=False,
    )
