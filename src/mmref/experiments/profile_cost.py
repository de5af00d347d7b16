"""Measuring one training step, part by part: seconds, floating point operations, memory.

The parts are the program's own (encoder, objective, optimiser, averaged weights, batches), run on
made-up captions and pixels. Each time is the median of a few runs after one that warms up.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmref.config import Settings
from mmref.data.batches import ImageInputs, TrainingPairs
from mmref.data.dataset import RetrievalDataset, build_table
from mmref.data.text import pad
from mmref.experiments.profile_encoder import Measured
from mmref.references.objective import Objective
from mmref.training.state import (
    AveragedWeights,
    TrainingModule,
    make_optimizer,
    mixed_precision,
)

REPEATS = 5
clock: Callable[[], float] = time.perf_counter  # a benchmark takes processor time instead
_PATIENCE = 1.5  # seconds for the repeats of one part; the first of them is always done


def seconds_of(
    run: Callable[[], object], repeats: int = REPEATS, *, warm: Callable[[], object] | None = None
) -> float:
    """Median seconds of a call after one that warms up; fewer repeats where they are long.

    Args:
        run: what is measured.
        repeats: at the most.
        warm: what warms up, in the place of ``run``.

    Example:
        >>> seconds_of(lambda: time.sleep(0.01)) >= 0.01
        True
    """
    (warm or run)()
    spent: list[float] = []
    while len(spent) < repeats and (not spent or sum(spent) < _PATIENCE):
        _wait()
        begun = clock()
        run()
        _wait()
        spent.append(clock() - begun)
    return float(np.median(spent))


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def flops_of(run: Callable[[], object]) -> int:
    """Floating point operations of a call: of products, convolutions and attention.

    Example:
        >>> a = torch.ones(2, 3)
        >>> flops_of(lambda: a @ a.T)
        24
    """
    # Attention's fused kernels are not counted on every device: the plain one is.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def kept_bytes(run: Callable[[], object], left_out: Iterable[Tensor] = ()) -> int:
    """Bytes that autograd keeps of a forward pass for the backward pass, each storage once.

    Args:
        run: the forward pass.
        left_out: parameters, which are there anyway.

    Example:
        >>> x = torch.ones(10, requires_grad=True)
        >>> kept_bytes(lambda: (x.exp() * 2).sum())
        40
    """
    known = {tensor.untyped_storage().data_ptr() for tensor in left_out}
    held: dict[int, int] = {}
    alive = []  # else a freed storage's address could be another's

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            held[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()
    del result
    return sum(held.values())


@dataclass
class Step:
    """A training step of some settings, ready to be measured.

    Args:
        settings: all of them.
        measured: the encoder.
        captions: made-up ones, of the usual length.
        objects: m.
        batch: pairs of a batch that is measured.
        device: where.
    """

    settings: Settings
    measured: Measured
    captions: list[str]
    objects: int
    batch: int
    device: torch.device
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __post_init__(self) -> None:
        objective = Objective(
            self.settings,
            objects=self.objects,
            dimensions=self.encoder.part_dimensions,
            vocabulary=len(self.measured.words),
        )
        if objective.words is not None:
            ids = self.measured.words.ids(self.captions)
            objects = torch.arange(len(ids)) % self.objects
            idf = (self.encoder.word_idf - 1).clamp(min=0)
            objective.words.count(ids, objects, idf)
        self.module = TrainingModule(self.encoder, objective).to(self.device).train()
        self.optimizer = make_optimizer(self.module, self.settings)
        self.average = AveragedWeights(self.module, self.settings.training.average)

    @property
    def encoder(self) -> Any:
        """The encoder."""
        return self.measured.encoder

    @cached_property
    def pairs(self) -> TrainingPairs:
        """Made-up training pairs, from which batches are drawn as in a training."""
        return made_pairs(self.settings, self.measured, self.captions, self.batch)

    def autocast(self) -> Any:
        """The precision of a training."""
        bf16 = mixed_precision(self.settings.training.precision) == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16) if bf16 else nullcontext()

    def draw(self) -> dict[str, Any]:
        """A batch as the training loop makes it, on the device."""
        (batch,) = [next(self.pairs.epoch(int(self.rng.integers(1 << 30))))]
        words = pad(batch.plain, longest=self.settings.encoder.caption_length)
        # Of all objects, not of the few rows that were made up.
        objects = torch.from_numpy(self.rng.integers(self.objects, size=len(batch.objects)))
        return {
            "texts": self.encoder.text_batch(batch.captions).to(self.device),
            "images": batch.images.to(self.device),
            "objects": objects.to(self.device),
            "words": words.to(self.device),
        }

    def texts(self, captions: list[str]) -> Any:
        """Captions as the encoder takes them, on the device."""
        return self.encoder.text_batch(self.encoder.tokenise(captions)).to(self.device)

    def parts(self, side: str, inputs: Any) -> list[Tensor]:
        """The vectors of one side, at the training's precision."""
        with self.autocast():
            encode = self.encoder.text_parts if side == "texts" else self.encoder.image_parts
            return list(encode(inputs))

    def forward_backward(self, side: str, inputs: Any) -> int:
        """One tower, there and back; the number of parameters that learn from it."""
        parts = self.parts(side, inputs)
        total = torch.stack([part.float().sum() for part in parts]).sum()
        if total.requires_grad:
            torch.autograd.backward(total)
        reached = sum(p.numel() for p in self.module.parameters() if p.grad is not None)
        self.clear()
        return reached

    @torch.no_grad()
    def encode(self, side: str, inputs: Any) -> None:
        """One tower in evaluation."""
        self.module.eval()
        try:
            self.parts(side, inputs)
        finally:
            self.module.train()

    def forward(self, drawn: dict[str, Any]) -> Tensor:
        """The total loss of a batch."""
        with self.autocast():
            losses: dict[str, Tensor] = self.module(**drawn, rng=self.rng, ramp=1.0)
        return losses["total"]

    def update(self) -> None:
        """What follows the gradients: clipping, the optimiser, the averaged weights."""
        clip = self.settings.training.gradient_clip
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), clip)
        self.optimizer.step()
        self.average.update(self.module)

    def whole(self, drawn: dict[str, Any] | None = None) -> None:
        """One step, from drawing the batch (or with this one) to the averaged weights."""
        loss = self.forward(self.draw() if drawn is None else drawn)
        float(loss.detach())
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.update()

    def clear(self) -> None:
        """Forget the gradients."""
        self.module.zero_grad(set_to_none=True)


def made_pairs(
    settings: Settings, measured: Measured, captions: list[str], batch: int
) -> TrainingPairs:
    """Training pairs of made-up rows: each caption with an image, two rows an object at the most.

    Args:
        settings: of the training; the batch size is replaced.
        measured: tokenises, and has the images.
        captions: one for each row; at least ``batch``.
        batch: pairs of a batch.
    """
    count = max(len(captions), batch)
    said = [[captions[k % len(captions)]] for k in range(count)]
    names = [f"{k // 2}" for k in range(count)]
    table = build_table([f"{k}.jpg" for k in range(count)], said, names, ["train"] * count)
    dataset = RetrievalDataset(table, Path(), "made up", "manifest")
    images = measured.images[torch.arange(count) % len(measured.images)]
    training = settings.training.model_copy(update={"batch_size": batch})
    encoder = measured.encoder
    return TrainingPairs(
        dataset,
        ImageInputs(images, np.arange(count)),
        encoder.tokenise,
        training,
        measured.words.ids,
    )
