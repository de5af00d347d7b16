"""What a transfer asks: runs that are loaded when they are needed, and splits of data sets."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmref.data.dataset import RetrievalDataset
from mmref.errors import MMRefError, UsageError
from mmref.evaluation.selection import recorded_selection
from mmref.model import DESCRIPTION_FILE, MMRef


@dataclass(frozen=True)
class RunPlace:
    """A run that may be loaded later.

    Attributes:
        name: in tables.
        folder: of the run, or a hub id.
        digest: of its weights and refinement; empty where it cannot be loaded.
        record: what training recorded of its choices and data, or None.
        model: the model or the reason why it cannot be loaded; None until it is needed. Loaded at
            once where no description tells the digest: a checkpoint that was not trained here.
    """

    name: str
    folder: str
    digest: str
    record: dict[str, Any] | None
    model: MMRef | MMRefError | None = None


@dataclass(frozen=True)
class SplitPlace:
    """A split that is asked.

    Attributes:
        name: in tables.
        source: as it was named.
        dataset: all splits.
        part: the split; None where there is none.
        reason: why there is none.
    """

    name: str
    source: str
    dataset: RetrievalDataset
    part: RetrievalDataset | None
    reason: str


def in_domain(record: dict[str, Any] | None, dataset: RetrievalDataset) -> bool:
    """Whether a run was trained on this data set, by what its training recorded.

    The rows trained on or chosen by are recognised by their fingerprint. Where training held some
    objects out, by the name and the number of objects instead.

    Args:
        record: of `mmref.evaluation.selection.recorded_selection`.
        dataset: all splits.

    Example:
        >>> in_domain(None, None)
        False
    """
    if record is None or "train" not in record or "train" not in dataset.split_names:
        return False
    train = dataset.split("train")
    told = record["train"]
    known = {train.fingerprint()}
    if "val" in dataset.split_names:
        known.add(dataset.split("val").fingerprint())
    val = record.get("val") or {}
    if {told.get("fingerprint"), val.get("fingerprint")} & known:
        return True
    objects = int(told.get("objects") or 0) + int(val.get("objects") or 0)
    same_name = told.get("name") == dataset.name
    return bool(record["held_out"]) and same_name and objects == len(train.object_names)


def find_runs(runs: Sequence[str | Path]) -> list[RunPlace]:
    """The runs of these folders or hub ids, not loaded where a description tells the digest.

    Raises:
        PathError: one is missing.
        UsageError: one is named twice, or none is named.
    """
    if not runs:
        raise UsageError("name at least one run")
    given = [str(run) for run in runs]
    resolved = [Path(run).resolve() for run in given]
    if len(set(resolved)) < len(resolved):
        again = next(g for g, r in zip(given, resolved, strict=True) if resolved.count(r) > 1)
        raise UsageError(f"the run {again} is named twice")
    places = []
    for name, run in zip(
        _distinct([folder.name for folder in resolved], given), given, strict=True
    ):
        digest, model = _digest(Path(run)), None
        if not digest:
            model = load_run(run)
            digest = model.digest if isinstance(model, MMRef) else ""
        if isinstance(model, UsageError):
            raise model
        places.append(RunPlace(name, run, digest, recorded_selection(Path(run)), model))
    return places


def _digest(folder: Path) -> str:
    try:
        found = json.loads((folder / DESCRIPTION_FILE).read_text(encoding="utf-8"))
        return str(found["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def find_splits(sources: Sequence[str], split: str) -> list[SplitPlace]:
    """One split of each data set, or the reason why it has none.

    Raises:
        PathError: a data set is missing.
        DataError: it cannot be read.
        UsageError: one is named twice, or none is named.
    """
    if not sources:
        raise UsageError("name at least one data set by --data")
    if len(set(sources)) < len(sources):
        again = next(source for source in sources if sources.count(source) > 1)
        raise UsageError(f"the data set {again} is named twice")
    found = [RetrievalDataset.load(source) for source in sources]
    names = _distinct([dataset.name for dataset in found], sources)
    places = []
    for name, source, dataset in zip(names, sources, found, strict=True):
        part, reason = None, ""
        try:
            part = dataset.split(split)
        except MMRefError as error:
            reason = str(error)
        places.append(SplitPlace(name, source, dataset, part, reason))
    return places


def _distinct(short: Sequence[str], whole: Sequence[str]) -> list[str]:
    """The short names; the whole ones where two short names are equal."""
    return [s if short.count(s) == 1 else w for s, w in zip(short, whole, strict=True)]


def load_run(run: str) -> MMRef | MMRefError:
    """The model, or the error that says why it cannot be loaded."""
    try:
        return MMRef.from_pretrained(run).to("auto")
    except MMRefError as error:
        return error
