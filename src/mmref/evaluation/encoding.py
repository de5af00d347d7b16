"""A split's captions and images -> vectors, for everything that evaluates a model."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmref.data.dataset import RetrievalDataset
from mmref.data.images import load_batch
from mmref.errors import DataError, SplitError
from mmref.model import MMRef

Progress = Callable[[str, int, int], None]

_BATCH = 256


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """One split as vectors of one model.

    Attributes:
        part: the split.
        texts: of its queries in their order, Tensor[q, d].
        asked: the object of each query.
        images: of the images that could be read, Tensor[g, d].
        held: the object of each of them.
        rows: the row of each of them in ``part``.
        skipped: the images that could not be read: path and reason.
    """

    part: RetrievalDataset
    texts: Tensor
    asked: list[str]
    images: Tensor
    held: list[str]
    rows: list[int]
    skipped: list[dict[str, str]]


def encode_split(
    model: MMRef, dataset: RetrievalDataset, split: str, progress: Progress | None = None
) -> EncodedSplit:
    """Encode the queries of a split and its readable images.

    Args:
        model: its encoders.
        dataset: all splits.
        split: the one to encode.
        progress: called with what is encoded, the number done and the total.

    Raises:
        SplitError: no such split, or it holds no captions.
        DataError: the images cannot be used by this model, or none can be read.

    Example:
        >>> encoded = encode_split(model, dataset, "val")   # doctest: +SKIP
        >>> encoded.texts.shape, len(encoded.held)          # doctest: +SKIP
        (torch.Size([1200, 512]), 60)
    """
    part = dataset.split(split)
    queries = part.queries()
    if not queries:
        raise SplitError(f"split {split!r} of {dataset.name} holds no captions: nothing to ask")
    images, rows, skipped = encode_images(model, part, progress)
    texts = encode_texts(model, [query.caption for query in queries], progress)
    objects = part.objects
    return EncodedSplit(
        part,
        texts,
        [query.object for query in queries],
        images,
        [objects[row] for row in rows],
        rows,
        skipped,
    )


def encode_texts(model: MMRef, captions: list[str], progress: Progress | None) -> Tensor:
    """Vectors of captions, Tensor[n, d]."""
    parts = []
    for start in range(0, len(captions), 4 * _BATCH):
        parts.append(model.encode_text(captions[start : start + 4 * _BATCH], batch_size=_BATCH))
        if progress:
            progress("captions", min(start + 4 * _BATCH, len(captions)), len(captions))
    return torch.cat(parts)


def encode_images(
    model: MMRef, part: RetrievalDataset, progress: Progress | None
) -> tuple[Tensor, list[int], list[dict[str, str]]]:
    """Vectors of the images that can be read, their rows, and the others with the reason."""
    size = model.image_size
    if size is None:
        vectors = model.encode_image(part.features(), batch_size=_BATCH)
        if progress:
            progress("images", len(part), len(part))
        return vectors, list(range(len(part))), []
    if part.features_only:
        raise DataError(
            f"{part.name} holds features but no image files, and this run reads pixels: "
            "use a run of the features encoder"
        )
    vectors_of, rows, skipped = [], list[int](), list[dict[str, str]]()
    paths = part.image_paths
    for start in range(0, len(paths), _BATCH):
        pixels, kept, bad = load_batch(paths[start : start + _BATCH], size)
        if len(kept):
            vectors_of.append(model.encode_image(pixels, batch_size=_BATCH))
        rows += [start + int(row) for row in kept]
        skipped += [{"path": one.path, "reason": one.reason} for one in bad]
        if progress:
            progress("images", min(start + _BATCH, len(paths)), len(paths))
    if not rows:
        raise DataError(
            f"none of the {len(paths)} images of {part.name} can be read "
            f"(first: {skipped[0]['path']}: {skipped[0]['reason']})"
        )
    return torch.cat(vectors_of), rows, skipped
