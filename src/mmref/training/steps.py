"""The steps of an epoch: batches made ahead, the losses of all processes, one update.

``training.batch_size`` is the batch of all processes together. Each process encodes its share of
it, the features are gathered, and each computes the losses of the whole batch; so the negatives
are those of one process at that batch size, and so is the gradient: what the losses say about
gathered features is summed over processes, and averaged with the rest of the gradients.
"""

import os
import time
from collections.abc import Callable
from itertools import islice
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mmref.config import Settings
from mmref.data.batches import Batch, TrainingPairs
from mmref.data.prefetch import Ahead
from mmref.data.text import pad
from mmref.encoders.base import TextInputs
from mmref.errors import TrainingError
from mmref.processes.group import Group
from mmref.processes.shares import Share
from mmref.training.schedule import learning_rate_factor, ramp
from mmref.training.state import TrainingState

Progress = Callable[[str, int, int, str], None]
"""Called with (stage, done, total, note); ``stage`` is "decode", "captions" or "train"."""

WORTH_SAYING = 0.05  # share of time waited for batches


class Inputs(NamedTuple):
    """A batch as tensors: captions and images of this process's share, the rest of all of it."""

    texts: TextInputs
    images: Tensor
    objects: Tensor
    words: Tensor
    share: Share


class Steps:
    """Takes the training state from step to step.

    Args:
        settings: all settings.
        pairs: the batches.
        state: what is trained.
        prepared: the module as accelerate prepared it.
        accelerator: whose device and precision are used.
        group: the processes that train together.
        progress: told how far it is.
    """

    def __init__(
        self,
        settings: Settings,
        pairs: TrainingPairs,
        state: TrainingState,
        prepared: nn.Module,
        accelerator: Accelerator,
        group: Group,
        progress: Progress,
    ) -> None:
        self.settings, self.pairs, self.state = settings, pairs, state
        self.prepared, self.accelerator, self.group = prepared, accelerator, group
        self._progress = progress

    def epoch(self, number: int) -> dict[str, float]:
        """One epoch of steps; returns the mean of each loss."""
        settings, state = self.settings.training, self.state
        total = settings.epochs * self.pairs.steps
        ramp_steps = self.settings.references.ramp_epochs * self.pairs.steps
        rates = [
            group.setdefault("initial_lr", group["lr"]) for group in state.optimizer.param_groups
        ]
        # A module's own chance (dropout) too is a function of (seed, epoch).
        torch.manual_seed((settings.seed * 1_000_003 + number + 1) % 2**63)
        self.prepared.train()
        order = self.pairs.order(number)
        sums: dict[str, float] = {}

        def made(step: int) -> Inputs:
            here = self.group.here
            return self.inputs(self.pairs.batch(number, order, step, here.rank, here.count))

        begun = time.monotonic()
        with Ahead(made, self.pairs.steps, threads=self._threads()) as batches:
            for step, inputs in enumerate(batches):
                factor = learning_rate_factor(state.step, total, settings.warmup)
                for group, rate in zip(state.optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * factor
                losses = self.step(inputs, number, step, ramp(state.step, ramp_steps))
                state.step += 1
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + value
                passed = max(time.monotonic() - begun, 1e-9)
                speed = (step + 1) * settings.batch_size / passed
                note = self._note(number, losses, speed, batches.waited / passed)
                self._progress("train", state.step, total, note)
        state.stepped += time.monotonic() - begun
        state.waited += batches.waited
        return {name: value / self.pairs.steps for name, value in sums.items()}

    def _note(self, epoch: int, losses: dict[str, float], speed: float, waited: float) -> str:
        best = f" val mAP {self.state.best_map:.1f}" if self.state.best_map >= 0 else ""
        note = f"epoch {epoch + 1} loss {losses['total']:.2f}{best} {speed:,.0f} pairs/s"
        return f"{note}, waits {waited:.0%}" if waited >= WORTH_SAYING else note

    def _threads(self) -> int:
        """Threads that make batches: one beside a CPU that trains, some for a hungry GPU."""
        if self.accelerator.device.type != "cuda":
            return 1
        cores = (os.cpu_count() or 1) // self.group.here.local_count
        return max(1, min(4, cores - 1))

    def inputs(self, batch: Batch) -> Inputs:
        """A batch as tensors, in pinned memory when they go to a GPU."""
        texts = self.state.module.encoder.text_batch(batch.captions)
        words = pad(batch.plain, longest=self.settings.encoder.caption_length)
        made = Inputs(texts, batch.images, batch.objects, words, batch.share)
        device = self.accelerator.device
        if device.type != "cuda":
            return made
        if device.index is not None:
            torch.cuda.set_device(device)  # each thread has its own
        pinned: Inputs = mapped(made, Tensor.pin_memory)
        return pinned

    def step(self, inputs: Inputs, epoch: int, step: int, guided: float) -> dict[str, float]:
        """One update.

        Args:
            inputs: of :meth:`inputs`.
            epoch: its number.
            step: of the epoch, from 0.
            guided: 0 to 1, the share of the guidance in force.

        Returns:
            The losses of the whole batch.

        Raises:
            TrainingError: the loss is no number.
        """
        rng = np.random.default_rng((self.settings.training.seed, epoch, step, 1))
        losses = self._losses(inputs, rng, guided, self._own_seed(epoch, step))
        values = dict(
            zip(losses, torch.stack([v.detach() for v in losses.values()]).tolist(), strict=True)
        )
        if not np.isfinite(values["total"]):
            raise TrainingError(
                f"the loss became {values['total']} in epoch {epoch + 1}: "
                "lower training.learning_rate or training.deep_learning_rate"
            )
        self.state.optimizer.zero_grad()
        self.accelerator.backward(losses["total"])
        self.accelerator.clip_grad_norm_(
            self.prepared.parameters(), self.settings.training.gradient_clip
        )
        self.state.optimizer.step()
        self.state.average.update(self.state.module)
        return values

    def _losses(
        self, inputs: Inputs, rng: np.random.Generator, guided: float, seed: int
    ) -> dict[str, Tensor]:
        device = self.accelerator.device
        if device.type == "cuda":
            inputs = mapped(inputs, lambda tensor: tensor.to(device, non_blocking=True))
        texts, images, objects, words, share = inputs
        with self.accelerator.autocast():
            losses: dict[str, Tensor] = self.prepared(
                texts.to(device), images, objects, words, rng, guided, share, seed
            )
        return losses

    def _own_seed(self, epoch: int, step: int) -> int:
        """Of the encoder's dropout, in which processes must differ."""
        if self.group.count == 1:
            return 0
        stream = (self.settings.training.seed, epoch, step, 2, self.group.rank)
        return int(np.random.SeedSequence(stream).generate_state(1, np.uint64)[0] >> 1)

    def share_statistics(self) -> None:
        """After an epoch: what modules counted of their own share becomes the same everywhere.

        Batch normalisation sees the rows of its process; its running means and variances are
        averaged. All other buffers are equal but for the last bits that a GPU may differ in.
        """
        if self.group.count == 1:
            return
        module, average = self.state.module, self.state.average.tensors
        counted = [
            f"{name}.{statistic}"
            for name, part in module.named_modules()
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_mean is not None
            for statistic in ("running_mean", "running_var")
        ]
        buffers = dict(module.named_buffers())
        self.group.mean([side[name] for name in counted for side in (buffers, average)])
        kept = [name for name in buffers if name in average]
        self.group.broadcast([side[name] for name in kept for side in (buffers, average)])

    def measure(self, steps: int) -> float:
        """Seconds of one step, the median of some; the training is spoilt."""
        self.prepared.train()
        batches = [self.inputs(batch) for batch in islice(self.pairs.epoch(0), steps + 1)]
        self.step(batches[0], 0, 0, 1.0)  # the first one warms up
        taken = []
        for number, batch in enumerate(batches[1:] or batches, 1):
            begun = time.monotonic()
            self.step(batch, 0, number, 1.0)
            taken.append(time.monotonic() - begun)
        return median(taken)  # one that was disturbed does not count


def mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Named tuples of tensors, and of such tuples, with every tensor changed.

    Example:
        >>> share = Share(0, 2)
        >>> found = mapped((torch.ones(1), None, share), lambda tensor: -tensor)
        >>> found[0].item(), found[1:] == (None, share)
        (-1.0, True)
    """
    if isinstance(value, Tensor):
        return change(value)
    if not isinstance(value, tuple):
        return value
    parts = [mapped(part, change) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
