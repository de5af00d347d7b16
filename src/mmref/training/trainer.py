"""The training loop: by objects, validated each epoch, resumable after any kill.

Example::

    from mmref import RetrievalDataset, train
    from mmref.config import Settings

    model = train(RetrievalDataset.load("data/flags"), "runs/flags", Settings())
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from mmref.config import Settings
from mmref.data.batches import ImageInputs, TrainingPairs, distinct_captions, load_inputs
from mmref.data.dataset import RetrievalDataset
from mmref.data.images import SkippedImage
from mmref.encoders.base import TrainableEncoder
from mmref.encoders.build import caption_notes, new_encoder, tokeniser_for
from mmref.errors import TrainingError
from mmref.model import MMRef
from mmref.processes.group import join
from mmref.references.kept import References
from mmref.references.objective import new_decoder
from mmref.training.captions import learn_captions
from mmref.training.checkpoint import CHECKPOINT_FILE
from mmref.training.decoder import learn_decoder
from mmref.training.initialise import new_objective, read_references, start_references
from mmref.training.outcome import Outcome
from mmref.training.preparation import prepare
from mmref.training.resumption import restore_together, save_together
from mmref.training.scoring import best_share, judge
from mmref.training.state import TrainingModule
from mmref.training.steps import Progress, Steps
from mmref.training.validation import Validation, split_for_training, train_split

__all__ = ["Progress", "Trainer", "train"]


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

    Started by torchrun or accelerate launch, all processes train together: each calls this with the
    same arguments, and rank 0 alone writes.

    Returns:
        The model as it stands in the folder.

    Raises:
        SplitError: there is no train split.
        PathError: the folder holds a run already, or cannot be written.
        ConfigError: ``resume`` with other settings or data than the run was begun with.
        DataError: too few objects, captions or readable images.
        TrainingError: the loss is no number, the disk is full, or another process was killed.
    """
    group = join()
    with group.guarded("training", "go on with --resume"):
        return _train(dataset, Path(out), settings, resume, progress)


def _train(
    dataset: RetrievalDataset,
    folder: Path,
    settings: Settings | None,
    resume: bool,
    progress: Progress | None,
) -> MMRef:
    from mmref.training.run_folder import begin_run, stored_settings, write_run

    group = join()
    with ExitStack() as stack:

        def begun() -> dict[str, Any]:
            stored = stored_settings(folder) if resume and settings is None else None
            chosen = settings or stored or Settings()
            finished = stack.enter_context(begin_run(folder, chosen, resume=resume))
            return {"finished": finished, "settings": chosen.model_dump(mode="json")}

        found = group.first(begun)
        if found["finished"]:
            return MMRef.from_pretrained(folder)
        settings = Settings.model_validate(found["settings"])
        with group.guarded():
            trainer = Trainer(dataset, settings, folder=folder, progress=progress)
            group.meet()
    outcome = trainer.run(resume=resume)

    def written() -> None:
        write_run(outcome, folder)
        (folder / CHECKPOINT_FILE).unlink(missing_ok=True)

    group.first(written)
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
        self.group = join()
        spoken = progress if self.group.main else None
        self._progress: Progress = spoken or (lambda *_: None)
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
        self.group.first(self._closed_form)
        self.validation = (
            None
            if validation is None
            else Validation.prepare(validation, self._load(validation), self.encoder)
        )
        module = TrainingModule(self.encoder, new_objective(settings, self.encoder, self.pairs))
        self.group.broadcast(module.state_dict().values())
        self.accelerator, self.prepared, self.state = prepare(
            module, settings, self.pairs, self.group
        )
        self.steps = Steps(
            settings,
            self.pairs,
            self.state,
            self.prepared,
            self.accelerator,
            self.group,
            self._progress,
        )

    def _closed_form(self) -> None:
        images, seed = self.pairs.inputs.tensor, self.settings.training.seed
        self.encoder.start(*self.pairs.caption_rows(), images, seed)

    def run(self, *, resume: bool = False, stop_after: int | None = None) -> Outcome:
        """Train, or go on training, to the end.

        Args:
            resume: take over the folder's checkpoint where there is one.
            stop_after: end after this epoch of the same schedule (for a refit on all objects).

        Returns:
            The outcome; nothing but checkpoints and events is written.
        """
        with self.group.guarded():
            return self._run(resume, stop_after)

    def _run(self, resume: bool, stop_after: int | None) -> Outcome:
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
        told = self.group.first(
            lambda: learn_captions(self.encoder, self.pairs, self.settings, device, self._progress)
        )
        objective = state.module.objective
        self.group.broadcast(state.module.state_dict().values() if told else [])
        formed = [len(objective.banks) - 1] if told else []
        start_references(
            self.encoder, objective, self.pairs, device, captions_only=formed, group=self.group
        )
        state.average.restart(state.module)
        state.seconds += time.monotonic() - begun

    def measure(self, steps: int) -> tuple[float, float]:
        """Seconds of one step and of one validation, by doing some; the training is spoilt."""
        each = self.steps.measure(steps)
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
            group=self.group,
        )
        self.skipped += inputs.skipped
        return inputs

    def _epoch(self, number: int) -> dict[str, float]:
        """One epoch of steps; returns the mean of each loss."""
        if number > 0:
            self._renew_prototypes()
        losses = self.steps.epoch(number)
        self.steps.share_statistics()
        return losses

    def _validate(self, losses: dict[str, float], seconds: float) -> dict[str, Any]:
        """Score the averaged weights on validation; keep the best."""
        state = self.state
        row: dict[str, Any] = {
            "epoch": state.epoch,
            "losses": {name: round(value, 6) for name, value in losses.items()},
            "seconds": round(seconds, 3),
        }
        if self.validation is not None:
            with state.average.in_place(state.module):
                self._renew_prototypes()
                row |= self._score()
            state.keep_best(row["mAP"])
        state.history.append(row)
        return row

    def _score(self) -> dict[str, Any]:
        """Validation mAP of the present weights; sets the parts' shares that are best."""
        if self.validation is None:
            raise TrainingError("this training has no validation objects")
        share, found = best_share(
            self.encoder, self.validation, self.accelerator.device, self.group
        )
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
        choice, rows, figures = judge(
            self.encoder, validation, references, grid, device, self.group
        )
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
            round(state.waited / state.stepped, 4) if state.stepped else None,
            self.group.count,
        )

    def _learn_decoder(self) -> None:
        objective = self.state.module.objective
        if not objective.banks or self.settings.references.decoder_epochs == 0:
            return
        begun = time.monotonic()
        references = torch.cat([part.detach() for part in objective.references()], dim=1)
        if objective.decoder is None:
            torch.manual_seed(self.settings.training.seed)
            new = new_decoder(self.settings, len(self.encoder.tokeniser), references.shape[1])
            objective.decoder = new.to(references.device)
        decoder = objective.decoder
        self.group.first(
            lambda: learn_decoder(decoder, references, self.pairs, self.settings, self._progress)
        )
        self.group.broadcast(decoder.state_dict().values())
        decoder.eval()
        self.state.seconds += time.monotonic() - begun

    def _restart_references(self) -> None:
        """After the first epoch of a part from scratch: its means now tell objects apart."""
        objective = self.state.module.objective
        formed = self.settings.references.caption_epochs > 0
        random = self.settings.references.init == "random"
        if not objective.banks or not self.encoder.from_scratch or formed or random:
            return
        number = len(objective.banks) - 1
        device = self.accelerator.device
        start_references(self.encoder, objective, self.pairs, device, [number], group=self.group)
        weight = objective.bank(number).weight
        self.state.average.tensors[f"objective.banks.{number}.weight"].copy_(weight.detach())
        self.state.optimizer.state.pop(weight, None)

    def _renew_prototypes(self) -> None:
        """Prototypes of kind ``mean`` become those of the present encoder; it is left in eval."""
        if self.settings.references.kind == "mean":
            objective, device = self.state.module.objective, self.accelerator.device
            start_references(self.encoder, objective, self.pairs, device, group=self.group)

    def _references(self) -> References | None:
        objective, device = self.state.module.objective, self.accelerator.device
        return read_references(self.encoder, objective, self.pairs, device, group=self.group)

    def _out_of_patience(self) -> bool:
        patience = self.settings.training.patience
        return bool(patience) and self.state.epoch - self.state.best_epoch >= patience

    def _identity(self) -> dict[str, Any]:
        return {
            "settings": self.settings.model_dump(mode="json"),
            "train": self.train_split.fingerprint(),
            "val": self.validation and self.validation.dataset.fingerprint(),
        }

    def _save(self) -> None:
        if self.folder is not None:
            save_together(self.folder, self.state, self._identity(), self.group)

    def _restore(self) -> None:
        if self.folder is not None:
            restore_together(self.folder, self.state, self._identity(), self.group)

    @contextmanager
    def _events(self) -> Iterator[Callable[[dict[str, Any]], None]]:
        """A function that writes an epoch's row as TensorBoard events."""
        if self.folder is None or not self.group.main:
            yield lambda row: None
            return
        from mmref.training.events import event_log

        with event_log(self.folder, self.state.epoch) as write:
            yield write
