"""Measuring what stands beside the towers: losses, references, captions alone, the decoder."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mmref.config import Settings
from mmref.data.text import pad
from mmref.experiments.profile_cost import Step, seconds_of
from mmref.losses.contrastive import symmetric_contrastive
from mmref.references.objective import Objective, new_decoder
from mmref.references.reconstruction import reconstruction

_DECODER_BATCH = 64  # as mmref.training.decoder has it


def loss_seconds(settings: Settings, step: Step, objects: int, batch: int) -> dict[str, float]:
    """Seconds of the base loss there and back, and what each other loss in use adds to it.

    Args:
        settings: of the objective.
        step: its encoder's shape and captions.
        objects: m.
        batch: n.
    """
    alone = settings.base_objective()
    found = {"base": objective_seconds(alone, step, objects, batch)}
    for name, values in _single(settings).items():
        more = objective_seconds(alone.with_values(values), step, objects, batch) - found["base"]
        if name == "reconstruction":
            more -= found.get("fusion", 0.0)
        found[name] = max(0.0, more)
    return found


def objective_seconds(settings: Settings, step: Step, objects: int, batch: int) -> float:
    """Seconds of all losses there and back, on made-up features.

    Args:
        settings: of the objective.
        step: its encoder's shape and captions.
        objects: m.
        batch: n.
    """
    objective, inputs = made_objective(settings, step, objects, batch)

    def run() -> None:
        losses = objective(**inputs, rng=step.rng)
        torch.autograd.backward(losses["total"])
        objective.zero_grad(set_to_none=True)

    return seconds_of(run)


def _single(settings: Settings) -> dict[str, dict[str, Any]]:
    """The losses beside the base that are in use, each as what switches it on alone."""
    references, loss = settings.references, settings.loss
    weights = {
        "fusion": (
            "references.fusion_weight",
            references.fusion_weight if references.learned else 0,
        ),
        "guidance": ("references.guidance_weight", references.guidance_weight),
        "reconstruction": (
            "references.reconstruction_weight",
            references.reconstruction_weight,
        ),
        "words": ("references.words_weight", references.words_weight),
        "identity": ("loss.identity_weight", loss.identity_weight),
        "cmpc": ("loss.cmpc_weight", loss.cmpc_weight),
        "masked_words": ("loss.masked_words_weight", loss.masked_words_weight),
    }
    found: dict[str, dict[str, Any]] = {}
    for name, (key, weight) in weights.items():
        if weight > 0:
            found[name] = {key: weight, "references.kind": references.kind}
            if name == "reconstruction":  # it needs references that fusion forms
                found[name]["references.fusion_weight"] = 1e-9
    return found


def made_objective(
    settings: Settings, step: Step, objects: int, batch: int
) -> tuple[Objective, dict[str, Any]]:
    """An objective and made-up features of a batch for it.

    Args:
        settings: of the objective.
        step: its encoder's shape and captions.
        objects: m.
        batch: n.
    """
    encoder, vocabulary = step.encoder, len(step.measured.words)
    objective = Objective(
        settings, objects=objects, dimensions=encoder.part_dimensions, vocabulary=vocabulary
    )
    if objective.words is not None:
        ids = step.measured.words.ids(step.captions)
        idf = (encoder.word_idf - 1).clamp(min=0)
        objective.words.count(ids, torch.arange(len(ids)) % objects, idf)
    objective = objective.to(step.device).train()

    def features() -> list[Tensor]:
        made = [torch.randn(batch, d, device=step.device) for d in encoder.part_dimensions]
        return [F.normalize(part, dim=1).requires_grad_() for part in made]

    said = [step.captions[k % len(step.captions)] for k in range(batch)]
    words = pad(step.measured.words.ids(said), longest=settings.encoder.caption_length)
    numbers = torch.from_numpy(step.rng.integers(objects, size=batch)).to(step.device)
    return objective, {
        "texts": features(),
        "images": features(),
        "objects": numbers,
        "words": words.to(step.device),
    }


def caption_seconds(settings: Settings, step: Step) -> float:
    """Seconds of the stage on captions alone for one caption; 0 without such a stage.

    Args:
        settings: of the training.
        step: its encoder and captions.
    """
    side = step.encoder.text_side
    if side is None or settings.references.caption_epochs == 0:
        return 0.0
    count = 2 * min(2 * settings.training.batch_size, step.objects)
    said = [step.captions[k % len(step.captions)] for k in range(count)]
    ids = step.encoder.tokenise(said)
    optimizer = torch.optim.AdamW(side.parameters(), lr=1e-9)

    def run() -> None:
        features = F.normalize(side(step.encoder.text_batch(ids).to(step.device)).float(), dim=1)
        half = count // 2
        numbers = torch.arange(half, device=step.device)
        loss = symmetric_contrastive(features[:half], features[half:], numbers, 0.1)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return seconds_of(run) / count


def decoder_seconds(settings: Settings, step: Step) -> float:
    """Seconds of the decoder's own training for one caption; 0 without it.

    Args:
        settings: of the training.
        step: its encoder and captions.
    """
    if not len(step.module.objective.banks) or settings.references.decoder_epochs == 0:
        return 0.0
    size = sum(step.encoder.part_dimensions)
    decoder = new_decoder(settings, len(step.measured.words), size).to(step.device)
    optimizer = torch.optim.AdamW(decoder.parameters())
    said = [step.captions[k % len(step.captions)] for k in range(_DECODER_BATCH)]
    words = pad(step.measured.words.ids(said), longest=settings.encoder.caption_length)
    masked = torch.rand(words.shape) < settings.references.mask_rate
    words, masked = words.to(step.device), masked.to(step.device)
    memory = torch.randn(_DECODER_BATCH, size, device=step.device)

    def run() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(reconstruction(decoder, words, words, masked, memory))
        optimizer.step()

    return seconds_of(run) / _DECODER_BATCH


def reference_update_seconds(step: Step, objects: int) -> float:
    """Seconds for the optimiser and the averaged weights of so many references, per step.

    Args:
        step: its encoder's shape.
        objects: m.
    """
    if not len(step.module.objective.banks) or not step.settings.references.learned:
        return 0.0
    size = sum(step.encoder.part_dimensions)
    rows = torch.nn.Parameter(torch.zeros(objects, size, device=step.device))
    rows.grad = torch.ones_like(rows)
    mean = torch.zeros_like(rows)
    optimizer = torch.optim.AdamW([rows], fused=True)

    def run() -> None:
        torch.nn.utils.clip_grad_norm_([rows], 1.0)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_([mean], [rows.detach()], 0.01)

    return seconds_of(run)
