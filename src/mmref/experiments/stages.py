"""The stages of a training beside its epochs: captions alone before them, the decoder behind.

A training reports each step of them, so nobody computes their number a second time.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmref.training.trainer import Trainer

Progress = Callable[[str, int, int, str], None]

STAGES = {"captions": "caption_steps", "decoder": "decoder_steps"}
"""Stage, as a training reports it, and the name under which its steps are counted."""


class StageSteps:
    """Listens to trainings and counts the steps of their stages.

    Args:
        progress: told everything too.

    Example:
        >>> steps = StageSteps()
        >>> for done in (1, 2, 3):
        ...     steps("captions", done, 3, "")
        >>> steps("captions", 1, 3, "another training")
        >>> steps.facts()
        {'caption_steps': 4, 'decoder_steps': 0}
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress or (lambda *_: None)
        self._last = dict.fromkeys(STAGES, 0)
        self._before = dict.fromkeys(STAGES, 0)

    def __call__(self, stage: str, done: int, total: int, note: str) -> None:
        """One report of a training."""
        if stage in self._last:
            if done < self._last[stage]:
                self._before[stage] += self._last[stage]
            self._last[stage] = done
        self._progress(stage, done, total, note)

    def facts(self) -> dict[str, int]:
        """``caption_steps`` and ``decoder_steps`` of all trainings together."""
        return {name: self._before[stage] + self._last[stage] for stage, name in STAGES.items()}


class _EnoughError(Exception):
    """Ends a stage that is only timed."""


def stage_seconds(stage: Callable[[Progress], Any], steps: int) -> float:
    """How long a stage would take as a whole, by the median of its first few steps.

    Args:
        stage: does it, and reports each step.
        steps: how many to time; one more warms up.

    Example:
        >>> def stage(progress):
        ...     for done in range(1000):
        ...         time.sleep(0.001)
        ...         progress("captions", done + 1, 1000, "")
        >>> 0.9 < stage_seconds(stage, 5) < 60
        True
    """
    marks, whole = [time.monotonic()], 0

    def progress(name: str, done: int, total: int, note: str) -> None:
        nonlocal whole
        del name, note
        whole = total
        marks.append(time.monotonic())
        if done > steps:
            raise _EnoughError

    with suppress(_EnoughError):
        stage(progress)
    timed = marks[1:] if len(marks) > 2 else marks
    if len(timed) < 2:
        return 0.0
    return whole * median(after - before for before, after in pairwise(timed))


def beside_epochs(trainer: "Trainer", steps: int) -> float:
    """Seconds of a training's stages beside its epochs, by timing some steps; it is spoilt.

    Args:
        trainer: not yet run.
        steps: of each stage to time.
    """
    import torch

    from mmref.references.objective import new_decoder
    from mmref.training.captions import learn_captions
    from mmref.training.decoder import learn_decoder

    settings, device = trainer.settings, trainer.accelerator.device
    seconds = stage_seconds(
        lambda told: learn_captions(trainer.encoder, trainer.pairs, settings, device, told), steps
    )
    objective = trainer.state.module.objective
    if objective.banks and settings.references.decoder_epochs > 0:
        references = torch.cat([part.detach() for part in objective.references()], dim=1)
        decoder = new_decoder(settings, len(trainer.encoder.tokeniser), references.shape[1])
        decoder.to(device)
        seconds += stage_seconds(
            lambda told: learn_decoder(decoder, references, trainer.pairs, settings, told), steps
        )
    return seconds
