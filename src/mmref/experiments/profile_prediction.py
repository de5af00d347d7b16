"""What was measured of a step -> seconds of an epoch, a training and an evaluation of a set."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmref.config import Settings
from mmref.experiments.profile_work import Work
from mmref.training.scoring import SHARES


@dataclass(frozen=True)
class Towers:
    """Seconds of one tower for one image or caption.

    Attributes:
        encode: in evaluation.
        train: there and back.
    """

    encode: float
    train: float


@dataclass(frozen=True)
class Costs:
    """What was measured, per pair where it grows with the batch.

    A length between the two that were measured lies on the line through them.

    Attributes:
        batch: the settings' batch.
        measured: the measured one.
        image: the image tower.
        text: the text tower, by mean words of a caption, at two lengths or one.
        draw: seconds to draw one pair.
        ahead: threads that draw batches while a GPU works; 0 where one CPU does both.
        update: seconds of clipping, optimiser and averages without references.
        references: the same for one reference.
        losses: seconds of all losses of a batch, by number of objects.
        whole: seconds of a whole measured step.
        share: what ``whole`` is to the sum of its parts.
        told: the time of the stage on captions alone for one caption, to that of the text tower.
        decoder: seconds of the decoder's step for one caption, behind the last epoch.
        ranking: seconds to rank one image for one query.
        decode: seconds to decode a picture, by its height and width.
    """

    batch: int
    measured: int
    image: Towers
    text: dict[float, Towers]
    draw: float
    ahead: int
    update: float
    references: float
    losses: dict[int, float]
    whole: float
    share: float
    told: float
    decoder: float
    ranking: float
    decode: dict[tuple[int, int], float]

    def tower_of(self, words: float) -> Towers:
        """The text tower at captions of so many words.

        Example:
            >>> ends = {10.0: Towers(1.0, 2.0), 20.0: Towers(2.0, 6.0)}
            >>> between(ends, 15.0)
            Towers(encode=1.5, train=4.0)
        """
        return between(self.text, words)


def between(ends: Mapping[float, Towers], words: float) -> Towers:
    """Times on the line through those of the shortest and the longest captions measured."""
    low, high = min(ends), max(ends)
    share = 0.0 if low == high else (words - low) / (high - low)
    first, last = ends[low], ends[high]
    return Towers(
        first.encode + share * (last.encode - first.encode),
        first.train + share * (last.train - first.train),
    )


def step_parts(work: Work, costs: Costs) -> dict[str, float]:
    """Predicted seconds of the parts of one step on a set."""
    factor = costs.share * costs.batch
    parts = {
        "image tower": factor * costs.image.train,
        "text tower": factor * costs.tower_of(work.words).train,
        "losses": costs.share * costs.losses[work.objects],
        "update": costs.share * (costs.update + costs.references * work.objects),
    }
    if costs.ahead:
        late = costs.batch * costs.draw / costs.ahead - sum(parts.values())
        return parts | {"waiting for the batch": max(0.0, late)}
    return parts | {"drawing the batch": factor * costs.draw}


def prediction(work: Work, settings: Settings, costs: Costs) -> dict[str, Any]:
    """Predicted seconds on one set (JSON): an epoch, a training, the evaluation of its test split.

    Args:
        work: the set.
        settings: of the training.
        costs: what was measured.
    """
    steps = work.steps(costs.batch)
    step = sum(step_parts(work, costs).values())
    decode = costs.decode[work.picture] if work.picture else 0.0

    def encoded(images: int, queries: int, rankings: int = 1) -> float:
        towers = images * costs.image.encode + queries * costs.tower_of(work.words).encode
        return towers + rankings * images * queries * costs.ranking

    tries = len(SHARES) if settings.encoder.kind != "clip" and _two_parts(settings) else 1
    validation = encoded(*work.val, tries)
    first = decode * (work.images + work.val[0])
    references = settings.references
    told = references.caption_epochs * work.captions * costs.tower_of(work.words).train * costs.told
    last = references.decoder_epochs * work.captions * costs.decoder
    epoch = steps * step + validation
    return {
        "name": work.name,
        "work": asdict(work),
        "steps": steps,
        "step": step,
        "epoch": epoch,
        "epoch_training": steps * step,
        "epoch_validation": validation,
        "before": first + told,
        "decoding": first,
        "behind": last,
        "training": first + told + settings.training.epochs * epoch + last,
        "evaluation": decode * work.test[0] + encoded(*work.test),
    }


def _two_parts(settings: Settings) -> bool:
    return settings.encoder.block > 0 and settings.encoder.deep > 0
