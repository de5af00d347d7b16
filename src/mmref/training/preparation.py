"""A module and its optimiser, put where they are trained, by one process or several."""

import warnings

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import nn

from mmref.config import Settings
from mmref.data.batches import TrainingPairs
from mmref.data.text import pad
from mmref.errors import TrainingError
from mmref.processes.group import Group, on_cpu
from mmref.training.state import (
    AveragedWeights,
    TrainingModule,
    TrainingState,
    make_optimizer,
    mixed_precision,
)

PROBED = 32  # pairs by which parameters without a gradient are found


def prepare(
    module: TrainingModule, settings: Settings, pairs: TrainingPairs, group: Group
) -> tuple[Accelerator, nn.Module, TrainingState]:
    """Put a module where it is trained.

    Args:
        module: of the same values in all processes.
        settings: all settings.
        pairs: what it is trained on.
        group: the processes that train together.

    Returns:
        The accelerator, the module as it is called in a step, and the state.

    Raises:
        TrainingError: the processes were not started by a launcher.
    """
    AcceleratorState._reset_state()  # else a second training could not differ in precision
    precision = mixed_precision(settings.training.precision)
    accelerator = Accelerator(mixed_precision=precision, cpu=group.count > 1 and on_cpu())
    if accelerator.num_processes != group.count:
        raise TrainingError(
            f"{accelerator.num_processes} processes are started but {group.count} are known "
            "here: start them with torchrun or accelerate launch"
        )
    optimizer = make_optimizer(module, settings)
    if accelerator.use_distributed:
        module.to(accelerator.device)
        idle = has_idle(module, pairs, settings.encoder.caption_length)
        accelerator.ddp_handler = DistributedDataParallelKwargs(
            broadcast_buffers=False, find_unused_parameters=idle
        )
    with warnings.catch_warnings():
        # Newer torch has another name for it, which accelerate does not know yet.
        warnings.filterwarnings("ignore", message="`broadcast_buffers`", category=FutureWarning)
        prepared, prepared_optimizer = accelerator.prepare(module, optimizer)
    average = AveragedWeights(module, settings.training.average)
    return accelerator, prepared, TrainingState(module, prepared_optimizer, average)


def has_idle(module: TrainingModule, pairs: TrainingPairs, longest: int) -> bool:
    """Whether parameters that could learn have no gradient (references that only guide, say).

    Processes that average gradients must know. Found by a few pairs, in evaluation mode, so that
    neither statistics nor chance move.
    """
    device = next(module.parameters()).device
    batch = pairs.batch(0, pairs.order(0)[:PROBED], 0)
    module.eval()
    losses = module(
        module.encoder.text_batch(batch.captions).to(device),
        batch.images.to(device),
        batch.objects.to(device),
        pad(batch.plain, longest=longest).to(device),
        np.random.default_rng(0),
        1.0,
    )
    torch.autograd.backward(losses["total"])
    idle = any(p.requires_grad and p.grad is None for p in module.parameters())
    module.zero_grad(set_to_none=True)
    return idle
