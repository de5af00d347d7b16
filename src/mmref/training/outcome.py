"""What a finished training hands over."""

from dataclasses import dataclass, field
from typing import Any

from mmref.data.dataset import RetrievalDataset
from mmref.data.images import SkippedImage
from mmref.metrics.protocols import Figures
from mmref.model import MMRef


@dataclass
class Outcome:
    """A finished training.

    Attributes:
        model: the best epoch's model with the refinement that validation chose.
        best_epoch: 0 is the closed-form start.
        epochs: epochs trained.
        history: a row for each epoch: losses, validation mAP, seconds.
        refinement_search: a row for each refinement tried on validation.
        validation: figures of the model on the validation split, by name.
        seconds: training time.
        parameters: number of trained parameters, by part.
        train: the training split (without objects held out for validation).
        val: the validation split, or None.
        notes: what the user must know.
        figures: the validation figures with the values of each query, for intervals.
        skipped: the images that could not be read.
        data_wait_share: share of the steps' time in which they waited for their batch; None
            without a step.
        processes: that trained together.
    """

    model: MMRef
    best_epoch: int
    epochs: int
    history: list[dict[str, Any]]
    refinement_search: list[dict[str, Any]]
    seconds: float
    parameters: dict[str, int]
    train: RetrievalDataset
    val: RetrievalDataset | None
    validation: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Figures] = field(default_factory=dict)
    skipped: tuple[SkippedImage, ...] = ()
    data_wait_share: float | None = None
    processes: int = 1
