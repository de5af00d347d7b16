"""References from captions alone: before any image, the deep part learns from captions.

All captions of an object are together nearly complete and nearly right, one by one neither. Two
captions of an object must find each other among those of other objects; what the text side learns
from that (synonyms, which details matter) costs a fraction of a step with images. The mean of an
object's captions is then its reference, formed before an image is seen, so that guidance teaches
the image side from the first step. Our choice, after the paper's global fusion.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

from mmref.config import Settings
from mmref.data.batches import TrainingPairs, drop_words
from mmref.encoders.base import TrainableEncoder
from mmref.errors import TrainingError
from mmref.losses.contrastive import symmetric_contrastive
from mmref.training.schedule import learning_rate_factor

Progress = Callable[[str, int, int, str], None]
_STREAM = 2**31 - 1  # no epoch has this number, so no batch of images shares these draws


def caption_steps(pairs: TrainingPairs, settings: Settings) -> int:
    """How many steps the stage takes: two captions of each of a batch's objects at a time."""
    epochs, told = settings.references.caption_epochs, sum(map(bool, pairs.by_object))
    captions = sum(map(len, pairs.by_object))
    steps = epochs * captions / (2 * min(2 * settings.training.batch_size, told))
    return max(1, round(steps)) if epochs else 0


def learn_captions(
    encoder: TrainableEncoder,
    pairs: TrainingPairs,
    settings: Settings,
    device: torch.device,
    progress: Progress,
) -> bool:
    """Train the deep part's text side on pairs of captions of one object.

    Args:
        encoder: with a deep part, whose text side is changed; without one nothing is done.
        pairs: the training captions by object.
        settings: ``references.caption_epochs``, the pairs' temperature, learning rate and so on.
        device: where the encoder is.
        progress: told how far it is, as stage ``captions``.

    Returns:
        Whether anything was learnt.

    Raises:
        TrainingError: the loss became no number.
    """
    text, training = encoder.text_side, settings.training
    steps = caption_steps(pairs, settings)
    if text is None or steps == 0:
        return False
    told = np.flatnonzero([bool(own) for own in pairs.by_object])  # others have images alone
    batch = min(2 * training.batch_size, len(told))
    optimizer = torch.optim.AdamW(
        text.parameters(), lr=training.deep_learning_rate, weight_decay=training.weight_decay
    )
    torch.manual_seed((training.seed * 1_000_003) % 2**63)
    encoder.train()
    for step in range(steps):
        rng = np.random.default_rng((training.seed, _STREAM, step))
        objects = rng.permutation(told)[:batch]
        drawn = [rng.permutation(pairs.by_object[k]) for k in objects]
        first = [pairs.ids[own[0]] for own in drawn]
        # An only caption must find itself; then some of its words are dropped.
        second = [
            pairs.ids[own[1]] if len(own) > 1 else drop_words(ids, 0.3, rng)
            for own, ids in zip(drawn, first, strict=True)
        ]
        texts = encoder.text_batch(first + second).to(device)
        features = F.normalize(text(texts).float(), dim=1)
        numbers = torch.from_numpy(objects).to(device)
        loss = symmetric_contrastive(
            features[:batch], features[batch:], numbers, settings.loss.temperature
        )
        value = float(loss.detach())
        if not np.isfinite(value):
            raise TrainingError(
                f"the loss became {value} on captions alone: lower training.deep_learning_rate"
            )
        rate = training.deep_learning_rate * learning_rate_factor(step, steps, training.warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(text.parameters(), training.gradient_clip)
        optimizer.step()
        progress("captions", step + 1, steps, f"captions loss {value:.2f}")
    return True
