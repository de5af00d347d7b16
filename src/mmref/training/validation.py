"""Encoding the training and validation sets during a training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmref.config import TrainingSettings
from mmref.data.batches import ImageInputs
from mmref.data.dataset import RetrievalDataset
from mmref.encoders.base import TrainableEncoder
from mmref.errors import SplitError, TrainingError
from mmref.processes.group import Group

BATCH = 512


@dataclass(frozen=True)
class Validation:
    """Validation captions and images, ready to encode.

    Attributes:
        dataset: the validation split.
        captions: token ids of each distinct (caption, object) pair.
        query_objects: their objects.
        inputs: the images.
        gallery_objects: their objects.
    """

    dataset: RetrievalDataset
    captions: list[list[int]]
    query_objects: list[str]
    inputs: ImageInputs
    gallery_objects: list[str]

    @classmethod
    def prepare(
        cls, dataset: RetrievalDataset, inputs: ImageInputs, encoder: TrainableEncoder
    ) -> "Validation":
        """Tokenise the queries of which an image could be read.

        Raises:
            SplitError: no query is left.
        """
        names = dataset.objects
        gallery = [names[row] for row in inputs.rows]
        present = set(gallery)
        queries = [query for query in dataset.queries() if query.object in present]
        if not queries:
            raise SplitError(f"{dataset.name} has no caption with a readable image to validate on")
        return cls(
            dataset,
            encoder.tokenise([query.caption for query in queries]),
            [query.object for query in queries],
            inputs,
            gallery,
        )


def split_for_training(
    dataset: RetrievalDataset, settings: TrainingSettings
) -> tuple[RetrievalDataset, RetrievalDataset, str | None]:
    """The train and val splits; without a val split, some training objects are held out.

    Returns:
        Train, val, and a note when objects were held out.

    Raises:
        SplitError: there is no train split.
        TrainingError: too few training objects to hold any out.
    """
    training = train_split(dataset)
    if "val" in dataset.split_names:
        return training, dataset.split("val"), None
    names = training.object_names
    if len(names) < 4:
        raise TrainingError(
            f"{dataset.name} has no val split and only {len(names)} training object(s), "
            "too few to hold some out: add a val split"
        )
    order = np.random.default_rng(settings.seed).permutation(len(names))
    count = max(2, round(settings.validation_share * len(names)))
    held = {names[i] for i in order[:count]}
    note = (
        f"no val split: {count} of {len(names)} training objects are held out for "
        f"validation by seed {settings.seed}"
    )
    rest = training.with_objects(name for name in names if name not in held)
    return rest, training.with_objects(held), note


def train_split(dataset: RetrievalDataset) -> RetrievalDataset:
    """The train split.

    Raises:
        SplitError: there is none.
    """
    if "train" not in dataset.split_names:
        raise SplitError(
            f"{dataset.name} has no train split (it has {', '.join(dataset.split_names)}): "
            'mark the rows to train on with split "train"'
        )
    return dataset.split("train")


@torch.no_grad()
def encode_captions(
    encoder: TrainableEncoder,
    captions: Sequence[list[int]],
    device: torch.device,
    group: Group | None = None,
) -> list[Tensor]:
    """Each part's vectors of token ids, on the CPU, Tensor[n, d_part].

    Args:
        encoder: in evaluation mode.
        captions: their token ids.
        device: where the encoder is.
        group: the processes that encode them together and all get all vectors.
    """

    def encode(rows: slice) -> list[Tensor]:
        return encoder.text_parts(encoder.text_batch(captions[rows]).to(device))

    return (group or Group()).in_blocks(len(captions), BATCH, encoder.part_dimensions, encode)


@torch.no_grad()
def encode_images(
    encoder: TrainableEncoder, images: Tensor, device: torch.device, group: Group | None = None
) -> list[Tensor]:
    """Each part's vectors of pixels or features, on the CPU, Tensor[n, d_part].

    Args:
        encoder: in evaluation mode.
        images: as the encoder takes them.
        device: where the encoder is.
        group: the processes that encode them together and all get all vectors.
    """

    def encode(rows: slice) -> list[Tensor]:
        return encoder.image_parts(images[rows].to(device))

    return (group or Group()).in_blocks(len(images), BATCH, encoder.part_dimensions, encode)


def balanced(features: Tensor, objects: Tensor) -> Tensor:
    """Features scaled so that each object's weights sum to one."""
    return features / torch.bincount(objects)[objects].unsqueeze(1)
