"""The decoder learns to read the references: masked words of captions, behind the last epoch.

The paper trains it beside the encoders (``references.reconstruction_weight``); measured, that
gives retrieval nothing and costs as much as the rest of a step. Read out from references that no
longer move, it says what they hold at a fraction of that. Our choice.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from mmref.config import Settings
from mmref.data.batches import TrainingPairs
from mmref.data.text import mask_words, pad
from mmref.errors import TrainingError
from mmref.references.reconstruction import ReconstructionDecoder, reconstruction
from mmref.training.schedule import learning_rate_factor

Progress = Callable[[str, int, int, str], None]
_BATCH = 64
_STREAM = 2**31 - 2  # no epoch has this number
_WARMUP = 0.05


def learn_decoder(
    decoder: ReconstructionDecoder,
    references: Tensor,
    pairs: TrainingPairs,
    settings: Settings,
    progress: Progress,
) -> int:
    """Train the decoder alone on masked training captions and their objects' references.

    Args:
        decoder: changed in place; in evaluation mode afterwards.
        references: normalised, all parts side by side, Tensor[m, d]; unchanged.
        pairs: the training captions by object.
        settings: ``references.decoder_epochs`` and so on.
        progress: told how far it is, as stage ``decoder``.

    Returns:
        The steps taken.

    Raises:
        TrainingError: the loss became no number.
    """
    training, rate = settings.training, settings.references.mask_rate
    speed = settings.references.decoder_learning_rate or training.deep_learning_rate
    numbers, objects = pairs.caption_objects()
    steps = round(settings.references.decoder_epochs * len(numbers) / _BATCH)
    if settings.references.decoder_epochs > 0:
        steps = max(1, steps)
    device, vocabulary = references.device, decoder.embedding.num_embeddings
    memory = references.detach().float()
    optimizer = torch.optim.AdamW(
        decoder.parameters(), lr=speed, weight_decay=training.weight_decay
    )
    torch.manual_seed((training.seed * 1_000_003 + 1) % 2**63)
    decoder.train()
    order = np.empty(0, dtype=np.int64)
    rng = np.random.default_rng((training.seed, _STREAM))
    for step in range(steps):
        if len(order) < min(_BATCH, len(numbers)):
            order = np.concatenate([order, rng.permutation(len(numbers))])
        rows, order = order[:_BATCH], order[_BATCH:]
        words = pad(
            [pairs.words[numbers[row]] for row in rows], longest=settings.encoder.caption_length
        )
        hidden, masked = mask_words(words, rate, vocabulary, rng)
        own = memory[objects[rows].to(device)]
        loss = reconstruction(decoder, words.to(device), hidden.to(device), masked.to(device), own)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise TrainingError(
                f"the loss of masked words became {value}: lower training.deep_learning_rate, or "
                "set references.decoder_learning_rate"
            )
        for group in optimizer.param_groups:
            group["lr"] = speed * learning_rate_factor(step, steps, _WARMUP)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(decoder.parameters(), training.gradient_clip)
        optimizer.step()
        progress("decoder", step + 1, steps, f"masked words, loss {value:.2f}")
    decoder.eval()
    return steps
