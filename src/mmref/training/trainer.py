"""The training loop: by objects, validated each epoch, resumable after any kill.

Example::

    from mmref import RetrievalDataset, train
    from mmref.config import Settings

    model = train(RetrievalDataset.load("data/flags"), "runs/flags", Settings())
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from mmref.config import Settings
from mmref.data.batches import (
    Batch,
    ImageInputs,
    TrainingPairs,
    distinct_captions,
    load_inputs,
)
from mmref.data.dataset import RetrievalDataset
from mmref.data.images import SkippedImage
from mmref.data.text import pad
from mmref.encoders.base import TrainableEncoder
from mmref.encoders.build import caption_notes, new_encoder, tokeniser_for
from mmref.errors import ConfigError, TrainingError
from mmref.model import MMRef, References
from mmref.references.objective import new_decoder
from mmref.training.captions import learn_captions
from mmref.training.checkpoint import CHECKPOINT_FILE, load_checkpoint, save_checkpoint
from mmref.training.decoder import learn_decoder
from mmref.training.initialise import new_objective, read_references, start_references
from mmref.training.outcome import Outcome
from mmref.training.schedule import learning_rate_factor, ramp
from mmref.training.scoring import best_share, judge
from mmref.training.state import (
    AveragedWeights,
    TrainingModule,
    TrainingState,
    make_optimizer,
    mixed_precision,
)
from mmref.training.validation import Validation, split_for_training, train_split

Progress = Callable[[str, int, int, str], None]
"""Called with (stage, done, total, note); ``stage`` is "decode", "captions" or "train"."""


def train(
    dataset: RetrievalDataset,
    out: str | Path,
    settings: Settings | None = None,
    *,
    resume: bool = False,
    progress: Progress | None = None,
) -> MMRef:
    """Train on a data set's train split, choose on its val split, write a run folder.

    Args:
        dataset: with a train split; without a val split, a share of its objects is held out.
        out: the run's folder; new or empty unless ``resume``.
        settings: all settings; by default those of the interrupted run, else ``Settings()``.
        resume: go on after the last finished epoch of an interrupted run.
        progress: told how far it is.

    Returns:
        The model as it stands in the folder.

    Raises:
        SplitError: there is no train split.
        PathError: the folder holds a run already, or cannot be written.
        ConfigError: ``resume`` with other settings or data than the run was begun with.
        DataError: too few objects, captions or readable images.
        TrainingError: the loss is no number, or the disk is full.
    """
    from mmref.training.run_folder import begin_run, stored_settings, write_run

    folder = Path(out)
    if settings is None:
        settings = (stored_settings(folder) if resume else None) or Settings()
    with begin_run(folder, settings, resume=resume) as finished:
        if finished:
            return MMRef.from_pretrained(folder)
        trainer = Trainer(dataset, settings, folder=folder, progress=progress)
    outcome = trainer.run(resume=resume)
    write_run(outcome, folder)
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
    return outcome.model


class Trainer:
    """One training, in memory or in a run folder.

    Args:
        dataset: with a train split.
        settings: all settings.
        folder: where checkpoints and events go; None for a training in memory.
        progress: told how far it is.
        validate: whether to choose on validation objects; False trains on the whole train split
            to the last epoch and leaves the refinement to the caller.
    """

    def __init__(
        self,
        dataset: RetrievalDataset,
        settings: Settings,
        *,
        folder: Path | None = None,
        progress: Progress | None = None,
        validate: bool = True,
    ) -> None:
        self.settings, self.folder = settings, folder
        self.notes, self.skipped = list(dataset.notes), list[SkippedImage]()
        self._progress = progress or (lambda *_: None)
        validation: RetrievalDataset | None = None
        if validate:
            self.train_split, validation, note = split_for_training(dataset, settings.training)
            self.notes += [note] if note else []
        else:
            self.train_split = train_split(dataset)
        torch.manual_seed(settings.training.seed)
        inputs = self._load(self.train_split)
        captions = distinct_captions(self.train_split, inputs)
        words = tokeniser_for(captions)
        self.encoder: TrainableEncoder = new_encoder(
            settings.encoder, words, words.ids(captions), inputs.tensor
        )
        self.notes += caption_notes(self.encoder, captions)
        self.pairs = TrainingPairs(
            self.train_split, inputs, self.encoder.tokenise, settings.training, words.ids
        )
        self.encoder.start(*self.pairs.caption_rows(), inputs.tensor, settings.training.seed)
        self.validation = (
            None
            if validation is None
            else Validation.prepare(validation, self._load(validation), self.encoder)
        )
        AcceleratorState._reset_state()  # else a second training could not differ in precision
        precision = mixed_precision(settings.training.precision)
        self.accelerator = Accelerator(mixed_precision=precision)
        module = TrainingModule(self.encoder, new_objective(settings, self.encoder, self.pairs))
        optimizer = make_optimizer(module, settings)
        self.prepared, prepared_optimizer = self.accelerator.prepare(module, optimizer)
        average = AveragedWeights(module, settings.training.average)
        self.state = TrainingState(module, prepared_optimizer, average)

    def run(self, *, resume: bool = False, stop_after: int | None = None) -> Outcome:
        """Train, or go on training, to the end.

        Args:
            resume: take over the folder's checkpoint where there is one.
            stop_after: end after this epoch of the same schedule (for a refit on all objects).

        Returns:
            The outcome; nothing but checkpoints and events is written.
        """
        settings, state = self.settings.training, self.state
        if resume:
            self._restore()
        if not state.history:
            self._start()
            self._validate({}, 0.0)
            self._save()
        last = settings.epochs if stop_after is None else min(stop_after, settings.epochs)
        with self._events() as events:
            while state.epoch < last and not self._out_of_patience():
                begun = time.monotonic()
                losses = self._epoch(state.epoch)
                state.epoch += 1
                if state.epoch == 1:
                    self._restart_references()
                state.seconds += time.monotonic() - begun
                row = self._validate(losses, time.monotonic() - begun)
                events(row)
                self._save()
        return self._outcome()

    def _start(self) -> None:
        """What comes before the first epoch: captions alone, and where references start."""
        state, device = self.state, self.accelerator.device
        begun = time.monotonic()
        told = learn_captions(self.encoder, self.pairs, self.settings, device, self._progress)
        objective = state.module.objective
        formed = [len(objective.banks) - 1] if told else []
        start_references(self.encoder, objective, self.pairs, device, captions_only=formed)
        state.average.restart(state.module)
        state.seconds += time.monotonic() - begun

    def measure(self, steps: int) -> tuple[float, float]:
        """Seconds of one step and of one validation, by doing some; the training is spoilt."""
        self.prepared.train()
        batches = list(islice(self.pairs.epoch(0), steps + 1))
        self._step(batches[0], 0, 0, 1.0)  # the first one warms up
        begun = time.monotonic()
        for number, batch in enumerate(batches[1:] or batches, 1):
            self._step(batch, 0, number, 1.0)
        each = (time.monotonic() - begun) / max(1, len(batches) - 1)
        begun = time.monotonic()
        if self.validation is not None:
            self._score()
        return each, time.monotonic() - begun

    def _load(self, dataset: RetrievalDataset) -> ImageInputs:
        encoder = self.settings.encoder
        inputs = load_inputs(
            dataset,
            (encoder.image_height, encoder.image_width) if encoder.kind != "features" else None,
            most_unreadable=self.settings.training.most_unreadable,
            progress=lambda done, total: self._progress("decode", done, total, ""),
        )
        self.skipped += inputs.skipped
        return inputs

    def _epoch(self, number: int) -> dict[str, float]:
        """One epoch of steps; returns the mean of each loss."""
        settings, state = self.settings.training, self.state
        total = settings.epochs * self.pairs.steps
        ramp_steps = self.settings.references.ramp_epochs * self.pairs.steps
        rates = [
            group.setdefault("initial_lr", group["lr"]) for group in state.optimizer.param_groups
        ]
        if number > 0:
            self._renew_prototypes()
        # A module's own chance (dropout) too is a function of (seed, epoch).
        torch.manual_seed((settings.seed * 1_000_003 + number + 1) % 2**63)
        self.prepared.train()
        sums: dict[str, float] = {}
        begun = time.monotonic()
        for step, batch in enumerate(self.pairs.epoch(number)):
            factor = learning_rate_factor(state.step, total, settings.warmup)
            for group, rate in zip(state.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
            losses = self._step(batch, number, step, ramp(state.step, ramp_steps))
            state.step += 1
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            speed = (step + 1) * settings.batch_size / max(time.monotonic() - begun, 1e-9)
            best = f" val mAP {state.best_map:.1f}" if state.best_map >= 0 else ""
            note = f"epoch {number + 1} loss {losses['total']:.2f}{best} {speed:,.0f} pairs/s"
            self._progress("train", state.step, total, note)
        return {name: value / self.pairs.steps for name, value in sums.items()}

    def _step(self, batch: Batch, epoch: int, step: int, share: float) -> dict[str, float]:
        device = self.accelerator.device
        rng = np.random.default_rng((self.settings.training.seed, epoch, step, 1))
        words = pad(batch.plain, longest=self.settings.encoder.caption_length)
        texts = self.encoder.text_batch(batch.captions).to(device)
        with self.accelerator.autocast():
            losses = self.prepared(
                texts,
                batch.images.to(device),
                batch.objects.to(device),
                words.to(device),
                rng,
                share,
            )
        values = {name: float(loss.detach()) for name, loss in losses.items()}
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

    def _validate(self, losses: dict[str, float], seconds: float) -> dict[str, Any]:
        """Score the averaged weights on validation; keep the best."""
        state = self.state
        row: dict[str, Any] = {
            "epoch": state.epoch,
            "losses": {name: round(value, 6) for name, value in losses.items()},
            "seconds": round(seconds, 3),
        }
        if self.validation is not None:
            with self._averaged():
                self._renew_prototypes()
                row |= self._score()
            state.keep_best(row["mAP"])
        state.history.append(row)
        return row

    def _score(self) -> dict[str, Any]:
        """Validation mAP of the present weights; sets the parts' shares that are best."""
        if self.validation is None:
            raise TrainingError("this training has no validation objects")
        share, found = best_share(self.encoder, self.validation, self.accelerator.device)
        self.set_deep_share(share)
        return {"mAP": found, "deep_share": share}

    def set_deep_share(self, share: float) -> None:
        """Set the deep part's share in the vectors."""
        self.encoder.deep_share.fill_(share)
        self.state.average.tensors["encoder.deep_share"].fill_(share)

    def _outcome(self) -> Outcome:
        state, validation = self.state, self.validation
        state.module.load_state_dict(state.best if validation else state.average.tensors)
        self.encoder.finish()
        self.encoder.eval()
        self._renew_prototypes()
        self._learn_decoder()
        references, grid = self._references(), self.settings.refinement
        device = self.accelerator.device
        choice, rows, figures = judge(self.encoder, validation, references, grid, device)
        objective = state.module.objective
        parts: dict[str, Any] = {
            "encoder": self.encoder,
            "references": objective.banks,
            "decoder": objective.decoder,
            "masked_words": objective.masked_words,
        }
        return Outcome(
            MMRef(self.encoder.cpu(), self.settings, references, choice, self.folder),
            state.best_epoch if validation else state.epoch,
            state.epoch,
            state.history,
            rows,
            state.seconds,
            {k: sum(p.numel() for p in v.parameters()) for k, v in parts.items() if v is not None},
            self.train_split,
            validation.dataset if validation else None,
            {name: found.metrics for name, found in figures.items()},
            self.notes,
            figures,
            tuple(self.skipped),
        )

    def _learn_decoder(self) -> None:
        objective = self.state.module.objective
        if not objective.banks or self.settings.references.decoder_epochs == 0:
            return
        begun = time.monotonic()
        references = torch.cat([part.detach() for part in objective.references()], dim=1)
        if objective.decoder is None:
            torch.manual_seed(self.settings.training.seed)
            decoder = new_decoder(self.settings, len(self.encoder.tokeniser), references.shape[1])
            objective.decoder = decoder.to(references.device)
        learn_decoder(objective.decoder, references, self.pairs, self.settings, self._progress)
        self.state.seconds += time.monotonic() - begun

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in place of the trained ones, in evaluation mode."""
        module = self.state.module
        present = {k: v.clone() for k, v in module.state_dict().items()}
        module.load_state_dict(self.state.average.tensors)
        module.eval()
        try:
            yield
        finally:
            module.load_state_dict(present)

    def _restart_references(self) -> None:
        """After the first epoch of a part from scratch: its means now tell objects apart."""
        objective = self.state.module.objective
        formed = self.settings.references.caption_epochs > 0
        random = self.settings.references.init == "random"
        if not objective.banks or not self.encoder.from_scratch or formed or random:
            return
        number = len(objective.banks) - 1
        start_references(self.encoder, objective, self.pairs, self.accelerator.device, [number])
        weight = objective.bank(number).weight
        self.state.average.tensors[f"objective.banks.{number}.weight"].copy_(weight.detach())
        self.state.optimizer.state.pop(weight, None)

    def _renew_prototypes(self) -> None:
        """Prototypes of kind ``mean`` become those of the present encoder; it is left in eval."""
        if self.settings.references.kind == "mean":
            objective, device = self.state.module.objective, self.accelerator.device
            start_references(self.encoder, objective, self.pairs, device)

    def _references(self, *, means: bool = True) -> References | None:
        objective, device = self.state.module.objective, self.accelerator.device
        return read_references(self.encoder, objective, self.pairs, device, means=means)

    def _out_of_patience(self) -> bool:
        patience = self.settings.training.patience
        return bool(patience) and self.state.epoch - self.state.best_epoch >= patience

    def _identity(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"),
            "train": self.train_split.fingerprint(),
        }

    def _save(self) -> None:
        if self.folder is not None and self.accelerator.is_main_process:
            facts = {"state": self.state.facts(), "identity": self._identity()}
            save_checkpoint(self.folder, self.state.tensors(), facts)

    def _restore(self) -> None:
        loaded = load_checkpoint(self.folder) if self.folder is not None else None
        if loaded is None:
            return
        tensors, facts = loaded
        if facts["identity"] != self._identity():
            raise ConfigError(
                f"{self.folder} was begun with other settings or data: resume with the same, "
                "or train into another folder"
            )
        self.state.restore(tensors, facts["state"])

    @contextmanager
    def _events(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        """A function that writes an epoch's row as TensorBoard events."""
        if self.folder is None or not self.accelerator.is_main_process:
            yield lambda row: None
            return
        from mmref.training.events import event_log

        with event_log(self.folder, self.state.epoch) as write:
            yield write
