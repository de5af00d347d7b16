"""References during a training: where they start, and how they are read out."""

from collections.abc import Container, Iterable

import torch
from torch import Tensor

from mmref.config import Settings
from mmref.data.batches import TrainingPairs
from mmref.encoders.base import TrainableEncoder
from mmref.processes.group import Group
from mmref.references.kept import References
from mmref.references.objective import Objective
from mmref.references.refinement import scatter_about
from mmref.training.validation import balanced, encode_captions, encode_images


def new_objective(settings: Settings, encoder: TrainableEncoder, pairs: TrainingPairs) -> Objective:
    """The objective of these settings, its word targets counted from the training captions."""
    vocabulary = len(encoder.tokeniser)
    objective = Objective(
        settings,
        objects=len(pairs.objects),
        dimensions=encoder.part_dimensions,
        vocabulary=vocabulary,
    )
    if objective.words is not None:
        numbers, objects = pairs.caption_objects()
        # Words that stand in every caption (idf 1) say nothing about an object.
        idf = (encoder.word_idf - 1).clamp(min=0)
        objective.words.count([pairs.words[n] for n in numbers], objects, idf)
    return objective


def start_references(
    encoder: TrainableEncoder,
    objective: Objective,
    pairs: TrainingPairs,
    device: torch.device,
    parts: Iterable[int] | None = None,
    *,
    captions_only: Container[int] = (),
    group: Group | None = None,
) -> None:
    """References start as the mean of both modalities' mean features, part by part (our choice).

    Args:
        encoder: in evaluation mode afterwards.
        objective: whose references are set; nothing is done when it has none, or when they start
            anywhere (``references.init``).
        pairs: the training captions and images.
        device: where the encoder is.
        parts: the encoder's parts to do; all by default.
        captions_only: parts whose images say nothing yet: they count only for an object that has
            no caption.
        group: the processes that do this together.
    """
    chosen = objective.settings.references
    if not objective.banks or (chosen.learned and chosen.init == "random"):
        return
    texts, text_objects, images, image_objects = _training_vectors(encoder, pairs, device, group)
    silent = torch.bincount(text_objects, minlength=len(pairs.objects))[image_objects] == 0
    for number in parts if parts is not None else range(len(texts)):
        seen = silent if number in captions_only else torch.ones_like(silent)
        image_features = balanced(images[number], image_objects)[seen]
        features = torch.cat([balanced(texts[number], text_objects), image_features])
        objects = torch.cat([text_objects, image_objects[seen]])
        objective.bank(number).start_from(features.to(device), objects.to(device))
    if group is not None:
        group.broadcast(objective.banks.state_dict().values())


def read_references(
    encoder: TrainableEncoder,
    objective: Objective,
    pairs: TrainingPairs,
    device: torch.device,
    *,
    means: bool = True,
    group: Group | None = None,
) -> References | None:
    """The references at the parts' present shares; None when there are none.

    Args:
        encoder: in evaluation mode afterwards.
        objective: holds the references and the decoder.
        pairs: the training captions and images.
        device: where the encoder is.
        means: whether to encode the training set for the mean features and the scatter; without,
            they are zero and None.
        group: the processes that do this together.
    """
    if not objective.banks:
        return None
    encoder.eval()
    with torch.no_grad():
        parts = tuple(part.float().cpu().clone() for part in objective.references())
        vectors = encoder.join(parts)
    text_mean = image_mean = torch.zeros(vectors.shape[1])
    scatter = None
    if means:
        texts, _, images, objects = _training_vectors(encoder, pairs, device, group)
        joined = encoder.join(images)
        text_mean, image_mean = encoder.join(texts).mean(dim=0), joined.mean(dim=0)
        scatter = scatter_about(vectors, joined, objects)
    decoder = objective.decoder.state_dict() if objective.decoder is not None else {}
    return References(
        vectors,
        pairs.objects,
        text_mean,
        image_mean,
        {name: value.detach().cpu().clone() for name, value in decoder.items()},
        parts if decoder else (),
        scatter,
    )


def _training_vectors(
    encoder: TrainableEncoder, pairs: TrainingPairs, device: torch.device, group: Group | None
) -> tuple[list[Tensor], Tensor, list[Tensor], Tensor]:
    """Each part's vectors of the distinct training captions and images, with their objects."""
    encoder.eval()
    captions, text_objects = pairs.caption_objects()
    texts = encode_captions(encoder, [pairs.ids[c] for c in captions], device, group)
    images = encode_images(encoder, pairs.inputs.tensor, device, group)
    return texts, text_objects, images, torch.from_numpy(pairs.image_objects)
