"""A training split -> batches, each a function of (seed, epoch, step) alone.

So a training that is resumed after an epoch sees what an uninterrupted one would have seen.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mmref.config import TrainingSettings
from mmref.data.augmentation import augment, crop_and_erase, mentions_side
from mmref.data.dataset import RetrievalDataset
from mmref.data.images import Progress, SkippedImage
from mmref.data.shared_pixels import load_together
from mmref.data.text import UNKNOWN, remix
from mmref.errors import DataError
from mmref.processes.group import Group
from mmref.processes.shares import Share, share_of

Tokenise = Callable[[Sequence[str]], list[list[int]]]


class Batch(NamedTuple):
    """n caption-image pairs, k of which this process encodes: all n where it is alone.

    Attributes:
        captions: the encoder's token ids of the k, after word dropout and re-mixing.
        plain: word ids of all n captions as they are, for the reconstruction.
        images: of the k, uint8 or float Tensor[k, 3, h, w], or float Tensor[k, f].
        objects: object numbers of all, int64 Tensor[n].
        share: which of the n the k are.
    """

    captions: list[list[int]]
    plain: list[list[int]]
    images: Tensor
    objects: Tensor
    share: Share


@dataclass(frozen=True)
class ImageInputs:
    """What an encoder takes of each image of a data set that could be read.

    Attributes:
        tensor: uint8 Tensor[k, 3, h, w] or float Tensor[k, f].
        rows: the data set's row of each, int64 [k].
        skipped: the images that could not be read, with the reason.
    """

    tensor: Tensor
    rows: np.ndarray
    skipped: tuple[SkippedImage, ...] = ()


def load_inputs(
    dataset: RetrievalDataset,
    image_size: tuple[int, int] | None,
    *,
    most_unreadable: float = 0.1,
    progress: Progress | None = None,
    group: Group | None = None,
) -> ImageInputs:
    """Decode a data set's pixels, or take its features when ``image_size`` is None.

    Args:
        dataset: whose images they are.
        image_size: height and width, or None.
        most_unreadable: share of images above which the data set is refused.
        progress: called with (images done, images in all) now and then.
        group: the processes that all take these images; those of one machine share large sets.

    Raises:
        DataError: it has not what is asked for, or too many images cannot be read.
    """
    if image_size is None:
        if not dataset.has_features:
            raise DataError(
                f"{dataset.name} has no features.npy: use the compact encoder, "
                "or add a feature_row column and features.npy"
            )
        return ImageInputs(torch.from_numpy(dataset.features()), np.arange(len(dataset)))
    cache = load_together(
        dataset,
        image_size,
        group or Group(),
        max_bad_share=most_unreadable,
        progress=progress,
    )
    return ImageInputs(torch.from_numpy(cache.pixels), cache.rows, tuple(cache.skipped))


class TrainingPairs:
    """All caption-image pairs of a training split, and the batches of an epoch.

    Args:
        dataset: the training split.
        inputs: its images.
        tokenise: captions to the encoder's token ids.
        settings: batch size, dropout, re-mixing, augmentation, seed.
        words: captions to word ids, for the reconstruction; ``tokenise`` by default.

    Raises:
        DataError: fewer than two objects, or fewer than two pairs, are left to train on.
    """

    def __init__(
        self,
        dataset: RetrievalDataset,
        inputs: ImageInputs,
        tokenise: Tokenise,
        settings: TrainingSettings,
        words: Tokenise | None = None,
    ) -> None:
        self.inputs, self.settings = inputs, settings
        names, captions = dataset.objects, dataset.captions
        self.objects = tuple(sorted({names[row] for row in inputs.rows}))
        if len(self.objects) < 2:
            raise DataError(
                f"{dataset.name} has {len(self.objects)} training object(s) with readable images: "
                "retrieval needs at least two to tell apart"
            )
        number = {name: k for k, name in enumerate(self.objects)}
        self.captions = distinct_captions(dataset, inputs)
        index = {caption: k for k, caption in enumerate(self.captions)}
        pairs = [
            (index[c], k, number[names[row]])
            for k, row in enumerate(inputs.rows)
            for c in captions[row]
        ]
        if len(pairs) < 2:
            raise DataError(f"{dataset.name} has fewer than two caption-image pairs to train on")
        self.pairs = np.array(pairs, dtype=np.int64)
        self.image_objects = np.array([number[names[row]] for row in inputs.rows], dtype=np.int64)
        self.tokenise = tokenise
        self.ids: list[list[int]] = tokenise(self.captions)
        self.words: list[list[int]] = self.ids if words is None else words(self.captions)
        self.sided = np.array([mentions_side(c) for c in self.captions], dtype=bool)
        self.by_object: list[list[int]] = [[] for _ in self.objects]
        for caption, obj in dict.fromkeys(zip(self.pairs[:, 0], self.pairs[:, 2], strict=True)):
            self.by_object[obj].append(int(caption))

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def steps(self) -> int:
        """Optimiser steps of an epoch; a single pair that is left over joins the last batch."""
        full, rest = divmod(len(self.pairs), self.settings.batch_size)
        return full + (1 if rest >= 2 else 0)

    def caption_objects(self) -> tuple[list[int], Tensor]:
        """Each distinct (caption, object) once: caption numbers, and objects as a Tensor."""
        captions = [c for chosen in self.by_object for c in chosen]
        objects = [k for k, chosen in enumerate(self.by_object) for _ in chosen]
        return captions, torch.tensor(objects)

    def caption_rows(self) -> tuple[list[list[int]], Tensor]:
        """Token ids and image of each distinct (caption, image) pair, for the closed-form start."""
        distinct = np.unique(self.pairs[:, :2], axis=0)
        return [self.ids[c] for c in distinct[:, 0]], torch.from_numpy(distinct[:, 1].copy())

    def epoch(self, number: int, rank: int = 0, count: int = 1) -> Iterator[Batch]:
        """The batches of one epoch, each pair once in a new order.

        Args:
            number: of the epoch.
            rank: of this process.
            count: of processes; their shares of a batch together are the batch of one alone.
        """
        order = self.order(number)
        for step in range(self.steps):
            yield self.batch(number, order, step, rank, count)

    def order(self, number: int) -> np.ndarray:
        """The order in which an epoch takes the pairs."""
        return np.random.default_rng((self.settings.seed, number)).permutation(len(self.pairs))

    def batch(
        self, number: int, order: np.ndarray, step: int, rank: int = 0, count: int = 1
    ) -> Batch:
        """One batch of an epoch; safe to call in several threads.

        Args:
            number: of the epoch.
            order: its order.
            step: of the epoch, from 0.
            rank: of this process.
            count: of processes.
        """
        settings = self.settings
        # step + 1: (seed, epoch, 0) would be the stream that drew the order.
        rng = np.random.default_rng((settings.seed, number, step + 1))
        stop = (step + 1) * settings.batch_size if step + 1 < self.steps else None
        pairs = self.pairs[order[step * settings.batch_size : stop]]
        return self._batch(pairs, rng, share_of(len(pairs), rank, count))

    def _batch(self, pairs: np.ndarray, rng: np.random.Generator, share: Share) -> Batch:
        """Chance is drawn for all pairs, so that a process's share depends on no other's."""
        settings = self.settings
        plain = [self.words[c] for c in pairs[:, 0]]
        captions, sided = [self.ids[c] for c in pairs[:, 0]], self.sided[pairs[:, 0]]
        mixed = np.flatnonzero(rng.random(len(pairs)) < settings.remix)
        if len(mixed):
            texts = []
            for k in mixed:
                others = self.by_object[pairs[k, 2]]
                other = others[rng.integers(len(others))]
                texts.append(remix(self.captions[pairs[k, 0]], self.captions[other], rng))
            sided[mixed] = [mentions_side(text) for text in texts]
            for k, ids in zip(mixed, self.tokenise(texts), strict=True):
                captions[k] = ids
        if settings.word_dropout:
            captions = [drop_words(ids, settings.word_dropout, rng) for ids in captions]
        images = self.inputs.tensor[torch.from_numpy(pairs[share.rows, 1].copy())]
        if settings.augment and images.ndim == 4:
            chance = torch.Generator().manual_seed(int(rng.integers(2**62)))
            may = torch.from_numpy(~sided[share.rows]) if settings.flip else None
            change = crop_and_erase if settings.augmentation == "crop" else augment
            images = change(images, chance, mirrored=may, among=(len(pairs), share.rows))
        objects = torch.from_numpy(pairs[:, 2].copy())
        return Batch(captions[share.rows], plain, images, objects, share)


def distinct_captions(dataset: RetrievalDataset, inputs: ImageInputs) -> list[str]:
    """The captions of the images that could be read, each once, as first seen."""
    captions = dataset.captions
    return list(dict.fromkeys(c for row in inputs.rows for c in captions[row]))


def drop_words(ids: Sequence[int], share: float, rng: np.random.Generator) -> list[int]:
    """Replace a share of a caption's words by the unknown word, keeping at least one known.

    Example:
        >>> drop_words([5, 6, 7], 0.99, np.random.default_rng(0)).count(UNKNOWN)
        2
    """
    draw = rng.random(len(ids))
    kept = draw >= share
    known = np.array([word != UNKNOWN for word in ids], dtype=bool)
    if known.any() and not (kept & known).any():
        kept[np.where(known, draw, -1.0).argmax()] = True
    return [word if keep else UNKNOWN for word, keep in zip(ids, kept, strict=True)]
