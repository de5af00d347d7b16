"""The moving parts of one training: module, optimiser, averaged weights, the best epoch."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mmref.config import Settings
from mmref.encoders.base import TextInputs, TrainableEncoder
from mmref.errors import ModelError
from mmref.processes.group import on_cpu
from mmref.processes.shares import Share, gather_rows
from mmref.references.objective import Objective
from mmref.training.checkpoint import (
    optimizer_tensors,
    prefixed,
    restore_optimizer,
    without_prefix,
)

_FACTS = ("epoch", "step", "best_epoch", "best_map", "history", "seconds")
_TIMES = ("stepped", "waited")


class TrainingModule(nn.Module):
    """Encoder and objective as one module: a batch in, named losses out."""

    encoder: TrainableEncoder
    objective: Objective

    def __init__(self, encoder: TrainableEncoder, objective: Objective) -> None:
        super().__init__()
        self.add_module("encoder", cast(nn.Module, encoder))
        self.add_module("objective", objective)

    def forward(
        self,
        texts: TextInputs,
        images: Tensor,
        objects: Tensor,
        words: Tensor,
        rng: np.random.Generator,
        ramp: float,
        share: Share | None = None,
        seed: int = 0,
    ) -> dict[str, Tensor]:
        """The named losses of one batch.

        Args:
            texts: captions that this process encodes.
            images: their images.
            objects: object numbers of the whole batch, Tensor[n].
            words: word ids of the whole batch, padded, Tensor[n, l].
            rng: draws masks, the same ones in each process.
            ramp: share of the guidance in force.
            share: which rows of the batch this process encodes, where others encode others: their
                features are gathered, and each process has the losses of the whole batch.
            seed: of the encoder's own chance (dropout) where processes differ in it.
        """
        divided = share is not None and share.divided
        with _own_chance(seed, images.device) if divided else nullcontext():
            text_parts = self.encoder.text_parts(texts)
            image_parts = self.encoder.image_parts(images)
        if share is not None and share.divided:
            text_parts, image_parts = _gathered(text_parts, image_parts, share)
        # Similarities keep all their digits: at tau 0.1, those of bf16 would be wrong by 0.04.
        with torch.autocast(objects.device.type, enabled=False):
            losses: dict[str, Tensor] = self.objective(
                [part.float() for part in text_parts],
                [part.float() for part in image_parts],
                objects,
                words,
                rng,
                ramp,
            )
        return losses


def _gathered(
    texts: list[Tensor], images: list[Tensor], share: Share
) -> tuple[list[Tensor], list[Tensor]]:
    """Each part's features of the whole batch, from those of all processes."""
    parts = [part.float() for part in [*texts, *images]]
    rows = gather_rows(torch.cat(parts, dim=1), share.sizes, share.rank)
    whole = torch.split(rows, [part.shape[1] for part in parts], dim=1)
    return list(whole[: len(texts)]), list(whole[len(texts) :])


@contextmanager
def _own_chance(seed: int, device: torch.device) -> Iterator[None]:
    """A block with chance of its own; the common one goes on behind it as if it had not been."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def make_optimizer(module: TrainingModule, settings: Settings) -> torch.optim.AdamW:
    """AdamW with the encoder's groups, and one each for the references and the decoders."""
    training = settings.training
    groups = module.encoder.parameter_groups(settings)
    if list(module.objective.banks.parameters()):
        groups.append(
            {
                "params": list(module.objective.banks.parameters()),
                "lr": settings.references.learning_rate,
                "weight_decay": 0.0,
            }
        )
    groups += [
        {"params": list(extra.parameters()), "lr": training.deep_learning_rate}
        for extra in (
            module.objective.decoder,
            module.objective.words,
            module.objective.masked_words,
        )
        if extra is not None
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, weight_decay=training.weight_decay, fused=True)


def mixed_precision(wanted: str) -> str:
    """``training.precision`` in the words of accelerate: ``bf16`` or ``no``."""
    if wanted == "auto":
        # Few CPUs have bf16 units; --set training.precision=bf16 tries it (not measured).
        return "no" if on_cpu() or not torch.cuda.is_bf16_supported() else "bf16"
    return "no" if wanted == "fp32" else "bf16"


class AveragedWeights:
    """An exponential moving average of all weights and statistics, warmed up.

    Args:
        module: whose state is averaged.
        decay: of the average; 0 keeps the last weights.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.restart(module)

    def restart(self, module: nn.Module) -> None:
        """Forget: the average is the module's present state."""
        self.updates = 0
        self.resting = {
            name
            for name, parameter in module.named_parameters()
            if name.startswith("encoder.") and not parameter.requires_grad
        }
        self.tensors = self.copied(module.state_dict())

    def copied(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copies of all that can change; frozen weights are shared, not copied."""
        return {k: v.detach() if k in self.resting else v.clone() for k, v in tensors.items()}

    def changing(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Without the frozen weights, for a checkpoint that holds those once already."""
        return {k: v for k, v in tensors.items() if k not in self.resting}

    @contextmanager
    def in_place(self, module: nn.Module) -> Iterator[None]:
        """A block in which a module has the averaged weights and is in evaluation mode."""
        present = {k: v.clone() for k, v in module.state_dict().items()}
        module.load_state_dict(self.tensors)
        module.eval()
        try:
            yield
        finally:
            module.load_state_dict(present)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move towards the module's present state."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates)) if self.decay else 0.0
        means, values = [], []
        for name, value in self.changing(module.state_dict()).items():
            mean = self.tensors[name]
            # Infinite entries mark constant features: a mean of them would be NaN.
            if mean.is_floating_point() and not name.endswith(("deviation", "directions")):
                means.append(mean)
                values.append(value)
            else:
                mean.copy_(value)
        torch._foreach_lerp_(means, values, 1 - decay)


@dataclass
class TrainingState:
    """Everything that a checkpoint holds.

    Attributes:
        module: encoder and objective.
        optimizer: its optimiser.
        average: its averaged weights.
        epoch: epochs done.
        step: steps done.
        best: the averaged weights of the best epoch.
        best_epoch: that epoch; 0 is the start.
        best_map: its validation mAP in percent.
        history: a row for each epoch.
        seconds: time trained, over all sessions.
        stepped: of these, in steps.
        waited: of these, for batches.
    """

    module: TrainingModule
    optimizer: torch.optim.Optimizer
    average: AveragedWeights
    epoch: int = 0
    step: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    best_map: float = -1.0
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    stepped: float = 0.0
    waited: float = 0.0

    def keep_best(self, value: float) -> None:
        """Remember the averaged weights when ``value`` is the best mAP so far."""
        if value > self.best_map:
            self.best_map, self.best_epoch = value, self.epoch
            self.best = self.average.copied(self.average.tensors)

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return {
            **prefixed("module.", self.module.state_dict()),
            **prefixed("average.", self.average.changing(self.average.tensors)),
            **prefixed("best.", self.average.changing(self.best)),
            **prefixed("optimizer.", optimizer_tensors(self.optimizer)),
        }

    def facts(self) -> dict[str, Any]:
        """All that is no tensor (JSON)."""
        found = {name: getattr(self, name) for name in (*_FACTS, *_TIMES)}
        return found | {"updates": self.average.updates}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take over what :meth:`tensors` and :meth:`facts` gave.

        Raises:
            ModelError: they are those of another architecture or version.
        """
        try:
            self._restore(tensors, facts)
        except (RuntimeError, KeyError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())[:120]
            raise ModelError(
                f"the checkpoint does not fit this training ({reason}): train into another folder"
            ) from error

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.module.load_state_dict(without_prefix("module.", tensors))
        device = next(self.module.parameters()).device
        for name, value in without_prefix("average.", tensors).items():
            self.average.tensors[name].copy_(value)
        best = {k: v.to(device) for k, v in without_prefix("best.", tensors).items()}
        resting = {k: self.average.tensors[k] for k in self.average.resting} if best else {}
        self.best = resting | best
        restore_optimizer(self.optimizer, without_prefix("optimizer.", tensors))
        self.average.updates = facts["updates"]
        for name in _FACTS:
            setattr(self, name, facts[name])
        for name in _TIMES:
            setattr(self, name, facts.get(name, 0.0))  # older checkpoints know no times of steps
