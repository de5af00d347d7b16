"""The demonstration's trainings: MMRef and the base objective on one budget, side by side."""

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import SyntheticSettings, generate
from mmref.errors import SplitError

FIGURES = SyntheticSettings(
    domain="figures",
    objects=700,
    val_objects=100,
    test_objects=150,
    images=3,
    captions=2,
    held_out_captions=1,
    omit=0.4,
    contradict=0.1,
    lookalikes=2,
    differences=6,
    occlude=0.2,
    nuisance=0.5,
    image_size=(64, 32),
)
"""The drawn set: people-like figures, captions that omit and contradict."""

FIGURE_VALUES: dict[str, Any] = {
    "encoder.kind": "compact",
    "encoder.image_height": 64,
    "encoder.image_width": 32,
    "encoder.block": 128,
    "references.decoder_epochs": 1,  # it changes no vector; the time goes to epochs with images
}
MOST_PIXELS = 1000  # images; with more, precomputed features are preferred where there are any
LEAST, LONGEST, TIMED_STEPS = 2, 40, 8

Progress = Callable[[str, int, int, str], None]
"""Called with (method, steps done, steps in all, note)."""


def draw(folder: Path, seed: int = 0) -> RetrievalDataset:
    """Draw the demonstration's own data set."""
    from dataclasses import replace

    return RetrievalDataset.load(generate(replace(FIGURES, seed=seed), folder))


def reported_split(
    dataset: RetrievalDataset, split: str | None
) -> tuple[RetrievalDataset, str, list[str]]:
    """What to train on and which split to report.

    Without a test split, val is reported; then choices must not be made on it, so it is taken
    out of the training's sight and some training objects are held out in its place.

    Args:
        dataset: with a train split and a val or test split.
        split: the split to report, or None for test where there is one, else val.

    Returns:
        The data set to train on, the split's name, and what to say about it.

    Raises:
        SplitError: there is no such split, or nothing but a train split.
    """
    present = [name for name in dataset.split_names if name != "train"]
    if split is None:
        split = "test" if "test" in present else "val"
    if split == "train" or split not in present:
        raise SplitError(
            f"{dataset.name} has no {split} split to report "
            f"(it has {', '.join(dataset.split_names)}): name another with --split"
        )
    if split != "val":
        return dataset, split, []
    rest = dataset.select([i for i, name in enumerate(dataset.splits) if name != "val"])
    note = "figures are of the val split; choices are made on training objects held out instead"
    return rest, split, [note]


def settings_for(
    dataset: RetrievalDataset, encoder: str | None, seconds: float, *, drawn: bool = False
) -> tuple[dict[str, Settings], list[str]]:
    """Settings of both methods, with as many epochs as the budget allows.

    Args:
        dataset: what is trained on.
        encoder: ``compact``, ``features``, or None to decide by the data.
        seconds: training time of each method.
        drawn: whether it is the demonstration's own data set.

    Returns:
        Method -> settings (``base``, ``MMRef``), and what to say.
    """
    from mmref.training.fitting import fitting_settings

    values: dict[str, Any] = {}
    if drawn and encoder in (None, "compact"):
        values = dict(FIGURE_VALUES)
    elif encoder or (dataset.has_features and not dataset.features_only):
        few = len(dataset) <= MOST_PIXELS
        values = {"encoder.kind": encoder or ("compact" if few else "features")}
    settings, notes = fitting_settings(dataset, Settings().with_values(values), values)
    epochs = affordable_epochs(dataset, settings, seconds)
    settings = settings.with_values({"training.epochs": epochs})
    notes.append(
        f"{epochs} epochs each, as many as {seconds:.0f} s allow on this machine"
        if epochs > LEAST
        else f"{epochs} epochs each, the fewest: on this machine they may take over {seconds:.0f} s"
    )
    return {"base": settings.base_objective(), "MMRef": settings}, notes


def affordable_epochs(dataset: RetrievalDataset, settings: Settings, seconds: float) -> int:
    """How many epochs of MMRef, the dearer method, fit into ``seconds``.

    Timed as the trainings will run, two at a time, each in a process of one thread: what they take
    from each other, be it memory bandwidth or a single core, is in the figures.

    Args:
        dataset: what is trained on.
        settings: of MMRef.
        seconds: the whole training may take.

    Returns:
        See :func:`epochs_within`.
    """
    with _one_thread(), processes(2) as pool:
        jobs = [pool.submit(training_seconds, dataset, settings) for _ in range(2)]
        timed = [job.result() for job in jobs]
    beside, epoch = (sum(parts) / len(timed) for parts in zip(*timed, strict=True))
    return epochs_within(seconds, beside, epoch)


def epochs_within(seconds: float, beside: float, epoch: float) -> int:
    """How many epochs fit, at least 2 and at most 40.

    Example:
        >>> epochs_within(145, beside=45, epoch=12), epochs_within(30, beside=45, epoch=12)
        (8, 2)
    """
    return max(LEAST, int(min(LONGEST, (seconds - beside) / epoch)))


def training_seconds(dataset: RetrievalDataset, settings: Settings) -> tuple[float, float]:
    """Seconds of a training beside its epochs, and of one epoch, by timing steps of each stage.

    Args:
        dataset: what is trained on.
        settings: of the training.
    """
    import torch

    from mmref.experiments.stages import beside_epochs
    from mmref.training.trainer import Trainer

    torch.set_num_threads(1)
    begun = time.monotonic()
    trainer = Trainer(dataset, settings)
    setting_up = time.monotonic() - begun
    step, validating = trainer.measure(TIMED_STEPS)
    beside = beside_epochs(trainer, TIMED_STEPS)
    return setting_up + beside + validating, step * trainer.pairs.steps + validating


def train_both(
    dataset: RetrievalDataset,
    settings: dict[str, Settings],
    folders: dict[str, Path],
    progress: Progress,
) -> None:
    """Train every method in a process of its own and write its run folder.

    Args:
        dataset: what to train on.
        settings: method -> settings.
        folders: method -> run folder.
        progress: told how far each is.
    """
    context = get_context("spawn")
    with context.Manager() as manager, _one_thread():
        told = manager.Queue()
        with processes(len(settings)) as pool:
            waiting = [
                pool.submit(_train_one, dataset, settings[name], folders[name], name, told)
                for name in settings
            ]
            _relay(told, waiting, progress)
            for job in waiting:
                job.result()


def processes(count: int) -> ProcessPoolExecutor:
    """New processes that end when this one does, even when it is killed."""
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_die_with_parent)


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _relay(told: Any, waiting: list[Future[None]], progress: Progress) -> None:
    while True:
        done = all(job.done() for job in waiting)
        try:
            while True:
                progress(*told.get(timeout=0.1))
        except queue.Empty:
            pass
        if done or any(job.done() and job.exception() for job in waiting):
            return


@contextmanager
def _one_thread() -> Iterator[None]:
    """One core for each training: children read these when they load torch."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _train_one(
    dataset: RetrievalDataset, settings: Settings, folder: Path, name: str, told: Any
) -> None:
    import torch

    from mmref.training.trainer import train

    torch.set_num_threads(1)
    last = 0.0

    def progress(stage: str, done: int, total: int, note: str) -> None:
        nonlocal last
        shown = stage in ("captions", "train", "decoder")
        if shown and (done == total or time.monotonic() - last > 0.3):
            last = time.monotonic()
            told.put((name, done, total, note))

    train(dataset, folder, settings, progress=progress)
