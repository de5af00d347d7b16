"""A run's folder: begun with its settings, finished with its figures, card and weights.

``config.yaml`` is written first, so that an interrupted run can be resumed without naming its
settings again; ``model.json`` last, so that a folder with it is whole.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.environment import describe_environment
from mmref.errors import (
    ConfigError,
    MMRefError,
    PathError,
    TrainingError,
    UnknownSettingError,
)
from mmref.evaluation.reconstruction import masked_word_accuracy
from mmref.files import PARTIAL_MARK, atomic_write, require_writable_folder, write_json
from mmref.metrics.bootstrap import intervals, paired_difference
from mmref.metrics.protocols import Figures
from mmref.model import (
    DESCRIPTION_FILE,
    MODEL_FILE,
    REFERENCES_FILE,
    SETTINGS_FILE,
    MMRef,
)
from mmref.training.card import differing, model_card
from mmref.training.checkpoint import CHECKPOINT_FILE, load_checkpoint

if TYPE_CHECKING:
    from mmref.training.outcome import Outcome

METRICS_FILE = "metrics.json"
CARD_FILE = "README.md"
EVENTS_FOLDER = "events"
RESAMPLES = 2000

_WHOLE = (DESCRIPTION_FILE, MODEL_FILE, REFERENCES_FILE, SETTINGS_FILE)


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a whole run."""
    return all((folder / name).is_file() for name in _WHOLE)


def stored_settings(folder: Path) -> Settings | None:
    """The settings a run was begun with; None when the folder holds no run.

    Raises:
        ConfigError: its ``config.yaml`` is damaged, or of another version.
        ModelError: there is nothing but a damaged checkpoint.
    """
    try:
        if (folder / SETTINGS_FILE).is_file():
            return Settings.from_yaml(folder / SETTINGS_FILE)
        loaded = load_checkpoint(folder)
        if loaded is None:
            return None
        tree = loaded[1]["identity"]["settings"]
        return Settings().with_values(
            {
                f"{section}.{key}": value
                for section, keys in tree.items()
                for key, value in keys.items()
            }
        )
    except UnknownSettingError as error:
        raise ConfigError(
            f"{folder} was begun by another version of mmref ({error}): go on with that "
            "version, or train into another folder"
        ) from error


@contextmanager
def begin_run(folder: Path, settings: Settings, *, resume: bool) -> Iterator[bool]:
    """Make a folder ready for a run, around the preparation of the training.

    When the preparation fails on what it was given, a folder begun here is taken back.

    Args:
        folder: new or empty unless ``resume``.
        settings: written to ``config.yaml`` before anything else.
        resume: the folder may hold an interrupted or finished run of the same settings.

    Yields:
        Whether the run is finished already.

    Raises:
        PathError: the folder holds something else, or cannot be written.
        ConfigError: its run was begun with other settings.
    """
    contents = _contents(folder)
    if contents and not resume:
        raise PathError(
            f"{folder} is not empty: add --resume to go on with its run, or name another folder"
        )
    known = {SETTINGS_FILE, CHECKPOINT_FILE, DESCRIPTION_FILE}
    if contents and not known & contents:
        raise PathError(f"{folder} holds other files and no run to go on with: name another folder")
    new = not folder.exists()
    require_writable_folder(folder)
    for partial in folder.glob(f"{PARTIAL_MARK}*"):
        partial.unlink(missing_ok=True)  # a kill left it
    finished = is_finished(folder)
    begun = finished or (folder / CHECKPOINT_FILE).is_file()
    if begun:
        _require_same(folder, settings)
    if finished:
        (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
        yield True
        return
    try:
        if not (folder / SETTINGS_FILE).is_file() or not begun:
            with atomic_write(folder / SETTINGS_FILE) as partial:
                partial.write_text(settings.to_yaml(), encoding="utf-8")
        yield False
    except MMRefError:
        if not contents:
            (folder / SETTINGS_FILE).unlink(missing_ok=True)
            if new:
                folder.rmdir()
        raise


def _contents(folder: Path) -> set[str]:
    """What stands in the folder, leftovers of a kill aside."""
    if not folder.is_dir():
        return set()
    try:
        return {p.name for p in folder.iterdir() if not p.name.startswith(PARTIAL_MARK)}
    except OSError as error:
        raise PathError(f"cannot read {folder}: {error.strerror}") from error


def _require_same(folder: Path, settings: Settings) -> None:
    stored = stored_settings(folder)
    other = sorted(differing(settings, stored)) if stored else []
    if other:
        raise ConfigError(
            f"{folder} was begun with another {', '.join(other[:3])}: resume without --config, "
            "--encoder and --set, or train into another folder"
        )


def write_run(outcome: "Outcome", folder: Path) -> None:
    """Write a finished training: figures and card, then the model; each file whole or not at all.

    Args:
        outcome: the finished training.
        folder: the run's folder.

    Raises:
        TrainingError: it cannot be written (a full disk); a resumed run writes it again.
    """
    report = run_report(outcome)
    try:
        write_json(folder / METRICS_FILE, report)
        with atomic_write(folder / CARD_FILE) as partial:
            partial.write_text(model_card(outcome, report, folder), encoding="utf-8")
        outcome.model.save_pretrained(folder)
    except (PathError, SafetensorError) as error:
        raise TrainingError(
            f"the run is trained but not written to {folder} "
            f"({' '.join(str(error).split())[:160]}): make room and go on with --resume"
        ) from error


def run_report(outcome: "Outcome") -> dict[str, Any]:
    """What ``metrics.json`` holds; every figure in percent."""
    model, settings = outcome.model, outcome.model.settings
    choice = model.refinement
    return {
        "model": {
            "kind": model.kind,
            "dimension": model.dimension,
            "image_size": list(model.image_size) if model.image_size else None,
            "digest": model.digest,
            "vocabulary": _vocabulary(model),
            "deep_share": _deep_share(model),
        },
        "validation": _validation(outcome),
        "refinement": vars(choice) if choice else None,
        "masked_words": _masked_words(outcome),
        "best_epoch": outcome.best_epoch,
        "epochs": outcome.epochs,
        "seconds": round(outcome.seconds, 3),
        "data_wait_share": outcome.data_wait_share,
        "processes": outcome.processes,
        "seed": settings.training.seed,
        "parameters": outcome.parameters,
        "train": _describe(outcome.train),
        "val": _describe(outcome.val) if outcome.val is not None else None,
        "notes": list(outcome.notes),
        "skipped": [bad._asdict() for bad in outcome.skipped],
        **describe_environment(),
        "history": outcome.history,
        "refinement_search": outcome.refinement_search,
    }


def _describe(part: RetrievalDataset) -> dict[str, Any]:
    return {
        "name": part.name,
        "objects": len(part.object_names),
        "images": len(part),
        "captions": sum(map(len, part.captions)),
        "queries": len(part.queries()),
        "fingerprint": part.fingerprint(),
    }


def _vocabulary(model: MMRef) -> int | None:
    """Words that the model knows; None where it knows all."""
    tokeniser = getattr(model.encoder, "tokeniser", None)
    if tokeniser is None or getattr(model.encoder, "open_vocabulary", False):
        return None
    return len(tokeniser)


def _deep_share(model: MMRef) -> float | None:
    share = getattr(model.encoder, "deep_share", None)
    return float(share) if share is not None else None


def _validation(outcome: "Outcome") -> dict[str, Any] | None:
    """Figures with their 95 % interval by bootstrap over objects, and the refinement's gain."""
    found = outcome.figures
    plain, refined = found.get("unrefined"), found.get("refined")
    if plain is None:
        return None
    seed = outcome.model.settings.training.seed
    gain = None
    if refined is not None and len(set(refined.objects)) > 1:
        test = paired_difference(
            plain.per_query["mAP"], refined.per_query["mAP"], refined.objects, seed=seed
        )
        gain = {name: getattr(test, name) for name in ("difference", "low", "high", "p_value")}
    return {
        "queries": plain.queries,
        "gallery": plain.gallery,
        "objects": len(set(plain.objects)),
        "chance": plain.chance,
        "unrefined": plain.metrics,
        "refined": refined.metrics if refined else None,
        "ci95": {name: _intervals(figures, seed) for name, figures in found.items()},
        "gain_mAP": gain,
        "resamples": RESAMPLES,
    }


def _intervals(figures: Figures, seed: int) -> dict[str, list[float]] | None:
    if len(set(figures.objects)) < 2:
        return None
    spans = intervals(figures.per_query, figures.objects, resamples=RESAMPLES, seed=seed)
    return {name: list(span) for name, span in spans.items()}


def _masked_words(outcome: "Outcome") -> dict[str, float] | None:
    """Masked-word accuracy on held-out captions of training objects, where the set has them.

    None too when the start was best and the decoder had nothing to learn behind it.
    """
    train, references = outcome.train, outcome.model.references
    learnt = outcome.best_epoch > 0 or outcome.model.settings.references.decoder_epochs > 0
    if "held_out_captions" not in train.metadata_names or not learnt:
        return None
    if references is None or not references.decoder:
        return None
    known = set(references.objects)
    seen = {caption for captions in train.captions for caption in captions}
    pairs = dict.fromkeys(
        (str(caption), name)
        for captions, name in zip(
            train.table["held_out_captions"].to_pylist(), train.objects, strict=True
        )
        for caption in (captions if isinstance(captions, list) else [captions] if captions else [])
        if name in known and caption not in seen
    )
    if not pairs:
        return None
    settings = outcome.model.settings
    return masked_word_accuracy(
        outcome.model,
        [caption for caption, _ in pairs],
        [name for _, name in pairs],
        mask_rate=settings.references.mask_rate,
        seed=settings.training.seed,
    )
