"""One run of an ablation, in a process of its own: ``python -m mmref.experiments.worker JOB.json``.

The job says what to train and where its result goes: ``NAME.npz`` with the values of each query,
then ``NAME.json``, which makes the run finished. The process ends itself when the one that
started it is gone: that one holds the other end of its standard input.
"""

import hashlib
import io
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import SyntheticSettings
from mmref.environment import describe_environment
from mmref.errors import MMRefError
from mmref.experiments.code_state import code_state
from mmref.experiments.drawn import recaptioned
from mmref.experiments.scoring import Arrays, prefixed, score
from mmref.files import atomic_write, write_json
from mmref.model import MMRef

Share = Callable[[float], None]
"""Told the share of a run that is done, 0 to 1."""

REFINEMENTS = "refinements"


def run_job(job: dict[str, Any], share: Share = lambda done: None) -> None:
    """Do a job and write its result.

    Args:
        job: ``identity`` (as `Plan.identity` gives it), ``source`` (the data set's address), and
            ``target`` (the result's path without a suffix).
        share: told how far it is.

    Raises:
        MMRefError: whatever data, training or scoring complain of.
    """
    begun, cpu = time.monotonic(), time.process_time()
    identity, target = job["identity"], Path(job["target"])
    dataset = RetrievalDataset.load(job["source"])
    drawn = synthetic_of(identity["synth"])
    if drawn is not None:
        dataset = recaptioned(dataset, drawn)
    model, facts, tested, split = _fit(dataset, identity, lambda done: share(0.9 * done))
    found, arrays = score(model, tested, split)
    swept: dict[str, Any] = {}
    for name, values in identity["sweeps"].items():
        other = synthetic_of(values)
        if other is not None:
            swept[name], more = score(model, recaptioned(tested, other), split)
            arrays |= prefixed(name, more)
    refinements = None
    if identity["task"] == "refinement":
        refinements, more = _refinements(model, tested, split, lambda d: share(0.9 + 0.1 * d))
        arrays |= prefixed(REFINEMENTS, more)
    write_result(
        target,
        {
            "identity": identity,
            **found,
            **facts,
            "split": split,
            "sweeps": swept,
            "refinements": refinements,
            "notes": list(dataset.notes),
            "code": code_state(),
            "run_seconds": round(time.monotonic() - begun, 3),
            "cpu_seconds": round(time.process_time() - cpu, 3),
            **describe_environment(),
        },
        arrays,
    )


def synthetic_of(values: dict[str, Any] | None) -> SyntheticSettings | None:
    """The generator's settings from JSON."""
    if values is None:
        return None
    return SyntheticSettings(**{**values, "image_size": tuple(values["image_size"])})


def _fit(
    dataset: RetrievalDataset, identity: dict[str, Any], share: Share
) -> tuple[MMRef, dict[str, Any], RetrievalDataset, str]:
    """Train; the model, what was chosen, the data set to report and its split."""
    from mmref.experiments.demo import reported_split
    from mmref.experiments.folds import fit_and_refit, inner_split, object_folds
    from mmref.experiments.stages import StageSteps
    from mmref.training.trainer import Trainer

    settings, unit = Settings.model_validate(identity["settings"]), identity["unit"]
    stages = 1 if unit["fold"] is None else 2
    passed = 0.0

    def progress(stage: str, done: int, total: int, note: str) -> None:
        nonlocal passed
        del note
        if stage == "train":
            now = done / max(total, 1) / stages
            passed = max(passed, now if passed < 1 / stages or stages == 1 else 0.5 + now)
            share(passed)

    if unit["fold"] is not None:
        dataset = development(dataset)
        held = object_folds(dataset.object_names, unit["folds"], unit["seed"])[unit["fold"]]
        rest, test = inner_split(dataset, held, 0.2, unit["seed"])
        model, facts = fit_and_refit(rest, settings, progress)
        return model, facts, test.with_split(["test"] * len(test)), "test"
    training, split, _ = reported_split(dataset, identity["split"])
    stage_steps = StageSteps(progress)
    trainer = Trainer(training, settings, progress=stage_steps)
    outcome = trainer.run()
    rows = [row for row in outcome.history if row["epoch"] == outcome.best_epoch]
    choice = outcome.model.refinement
    facts = {
        "epoch": outcome.best_epoch,
        "deep_share": rows[0].get("deep_share") if rows else None,
        "refinement": vars(choice) if choice is not None else None,
        "seconds": round(outcome.seconds, 3),
        "steps": trainer.state.step,
        **stage_steps.facts(),
        "parameters": sum(p.numel() for p in trainer.state.module.parameters()),
        "validation": outcome.validation,
        "history": outcome.history,
        "refinement_search": outcome.refinement_search,
    }
    return outcome.model, facts, dataset, split


def development(dataset: RetrievalDataset) -> RetrievalDataset:
    """The rows that folds are made of: all but the test split's, which stay unseen."""
    return dataset.select([row for row, split in enumerate(dataset.splits) if split != "test"])


def _refinements(
    model: MMRef, dataset: RetrievalDataset, split: str, share: Share
) -> tuple[dict[str, Any], Arrays]:
    """The grid of refinements of a trained model on the reported split."""
    from mmref.data.batches import load_inputs
    from mmref.errors import DataError
    from mmref.experiments.refining import refine_all, unrefined

    if model.references is None:
        raise DataError("this variant has no references: there is nothing to refine with")
    part = dataset.split(split)
    inputs = load_inputs(part, model.image_size)
    gallery = [part.objects[row] for row in inputs.rows]
    present = set(gallery)
    queries = [query for query in part.queries() if query.object in present]
    texts = model.encode_text([query.caption for query in queries])
    images = model.encode_image(inputs.tensor)
    objects = [query.object for query in queries]
    plain, micros = unrefined(texts, images, objects, gallery)
    rows, values = refine_all(
        model.references, model.settings.refinement, texts, images, objects, gallery, share
    )
    facts = {
        "unrefined": {
            "mAP": plain.metrics["mAP"],
            "R@1": plain.metrics["R@1"],
            "bytes": 4 * model.dimension,
            "microseconds": micros,
        },
        "references": len(model.references.vectors),
        "points": rows,
    }
    arrays: Arrays = {f"points/{metric}": array for metric, array in values.items()}
    arrays |= {f"unrefined/{name}": plain.per_query[name] for name in values}
    return facts, {**arrays, "objects": np.asarray(objects, dtype=np.str_)}


def write_result(target: Path, facts: dict[str, Any], arrays: Arrays) -> None:
    """Write the arrays, then the JSON that names their digest: with it the run is finished."""
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)  # type: ignore[arg-type]
    data = packed.getvalue()
    with atomic_write(target.with_name(f"{target.name}.npz")) as partial:
        partial.write_bytes(data)
    facts = {**facts, "npz": hashlib.sha256(data).hexdigest()}
    write_json(target.with_name(f"{target.name}.json"), facts)


def read_result(target: Path) -> tuple[dict[str, Any], Arrays] | None:
    """A finished run's facts and arrays; None when it is not whole."""
    try:
        text = target.with_name(f"{target.name}.json").read_text(encoding="utf-8")
        facts: dict[str, Any] = json.loads(text)
        data = target.with_name(f"{target.name}.npz").read_bytes()
        if hashlib.sha256(data).hexdigest() != facts["npz"]:
            return None
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return facts, dict(file.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None


def describe_failure(error: BaseException) -> dict[str, str]:
    """One line and the traceback of an error."""
    line = " ".join(str(error).split())[:300]
    if not isinstance(error, MMRefError):
        line = f"unexpected {type(error).__name__}: {line}"
    return {"message": line, "traceback": "".join(traceback.format_exception(error))}


def main(job_file: str) -> int:
    """Do the job of a file; a failure is written beside it."""
    file = Path(job_file)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    told = 0.0

    def share(done: float) -> None:
        nonlocal told
        if time.monotonic() - told > 1.0:
            told = time.monotonic()
            with suppress(OSError):
                file.with_suffix(".progress").write_text(f"{done:.4f}", encoding="ascii")

    try:
        import torch

        torch.set_num_threads(1)
        run_job(json.loads(file.read_text(encoding="utf-8")), share)
    except Exception as error:
        write_json(file.with_suffix(".failed"), describe_failure(error))
        return 1
    return 0


def _die_with_parent() -> None:
    # Not sys.stdin: a thread that waits in it keeps the interpreter from ending well.
    with suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
