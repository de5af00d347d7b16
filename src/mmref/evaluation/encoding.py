"""A split's captions and images -> vectors, for everything that evaluates a model."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmref.data.dataset import RetrievalDataset
from mmref.data.images import load_batch
from mmref.errors import DataError, SplitError
from mmref.model import MMRef
from mmref.processes.group import Group
from mmref.processes.shares import gather_rows

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
    model: MMRef,
    dataset: RetrievalDataset,
    split: str,
    progress: Progress | None = None,
    group: Group | None = None,
) -> EncodedSplit:
    """Encode the queries of a split and its readable images.

    Args:
        model: its encoders.
        dataset: all splits.
        split: the one to encode.
        progress: called with what is encoded, the number done and the total.
        group: processes that encode together; all of them call this and get all vectors, which
            are those of one process bit for bit.

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
    images, rows, skipped = encode_images(model, part, progress, group)
    texts = encode_texts(model, [query.caption for query in queries], progress, group)
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


def encode_texts(
    model: MMRef, captions: list[str], progress: Progress | None, group: Group | None = None
) -> Tensor:
    """Vectors of captions, Tensor[n, d]."""

    def encode(rows: slice) -> list[Tensor]:
        found = model.encode_text(captions[rows], batch_size=_BATCH)
        if progress:
            progress("captions", rows.stop, len(captions))
        return [found]

    (vectors,) = (group or Group()).in_blocks(len(captions), 4 * _BATCH, [model.dimension], encode)
    if progress:
        progress("captions", len(captions), len(captions))
    return vectors


def encode_images(
    model: MMRef,
    part: RetrievalDataset,
    progress: Progress | None,
    group: Group | None = None,
) -> tuple[Tensor, list[int], list[dict[str, str]]]:
    """Vectors of the images that can be read, their rows, and the others with the reason."""
    group = group or Group()
    size = model.image_size
    if size is None:
        features = part.features()

        def encode(rows: slice) -> list[Tensor]:
            return [model.encode_image(features[rows], batch_size=_BATCH)]

        (vectors,) = group.in_blocks(len(part), _BATCH, [model.dimension], encode)
        if progress:
            progress("images", len(part), len(part))
        return vectors, list(range(len(part))), []
    if part.features_only:
        raise DataError(
            f"{part.name} holds features but no image files, and this run reads pixels: "
            "use a run of the features encoder"
        )
    vectors_of, rows, skipped = [torch.zeros(0, model.dimension)], list[int](), list[list[str]]()
    paths = part.image_paths
    for start in group.own_blocks(len(paths), _BATCH):
        pixels, kept, bad = load_batch(paths[start : start + _BATCH], size)
        if len(kept):
            vectors_of.append(model.encode_image(pixels, batch_size=_BATCH))
        rows += [start + int(row) for row in kept]
        skipped += [[one.path, one.reason] for one in bad]
        if progress:
            progress("images", min(start + _BATCH, len(paths)), len(paths))
    told = group.each({"rows": rows, "skipped": skipped})
    all_rows = [row for one in told for row in one["rows"]]
    all_skipped = [
        {"path": path, "reason": reason} for one in told for path, reason in one["skipped"]
    ]
    if not all_rows:
        raise DataError(
            f"none of the {len(paths)} images of {part.name} can be read "
            f"(first: {all_skipped[0]['path']}: {all_skipped[0]['reason']})"
        )
    if progress:
        progress("images", len(paths), len(paths))
    sizes = tuple(len(one["rows"]) for one in told)
    return gather_rows(torch.cat(vectors_of), sizes, group.rank), all_rows, all_skipped
