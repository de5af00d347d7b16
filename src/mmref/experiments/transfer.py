"""Every run on every data set: how far what was learnt on one carries to another.

The paper leaves generalisation across data sets open. The folder::

    cells/KEY.json   one run on one split, with the figures and their intervals
    results.*        the matrix as JSON, Markdown and heat map, written anew each time

A cell's key is made of the run's digest, the fingerprint of the split's rows and how it was asked.
So the same command goes on where it was stopped, and a cell is computed again when, and only when,
the weights or the data have changed.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmref.data.dataset import split_name
from mmref.environment import describe_environment
from mmref.errors import MissingExtraError, MMRefError, PathError
from mmref.evaluation.evaluator import evaluate
from mmref.evaluation.vectors import TOLERANCE
from mmref.experiments.heat_map import draw_heat_map
from mmref.experiments.plots import require_matplotlib
from mmref.experiments.transfer_inputs import (
    RunPlace,
    SplitPlace,
    find_runs,
    find_splits,
    in_domain,
    load_run,
)
from mmref.experiments.transfer_tables import in_words
from mmref.files import PARTIAL_MARK, atomic_write, require_writable_folder, write_json
from mmref.model import MMRef

FORMAT = 2
CELLS, RESULTS = "cells", "results"
RESAMPLES = 2000

Progress = Callable[[float, int, str, str], None]
"""Called with the cells done, of how many, what is at work, and a line to say (or none)."""


@dataclass
class Transfer:
    """What was found.

    Attributes:
        values: what ``results.json`` holds.
        folder: where it lies.
        computed: cells that were computed now; the others were there.
        failures: the reason of each cell that could not be computed.
        picture: the heat map, or None where none was drawn.
        notice: why no heat map was drawn although one was wanted, or None.
    """

    values: dict[str, Any]
    folder: Path
    computed: int = 0
    failures: list[str] = field(default_factory=list)
    picture: Path | None = None
    notice: str | None = None


def run_transfer(
    runs: Sequence[str | Path],
    sources: Sequence[str],
    out: str | Path,
    *,
    split: str = "val",
    metric: str = "mAP",
    refine: bool = True,
    picture: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Transfer:
    """Evaluate every run on one split of every data set, and write the matrix.

    Args:
        runs: their folders, or hub ids.
        sources: the data sets: paths, or ``format:path``.
        out: the folder, a new one or that of an earlier transfer, whose cells are kept.
        split: the one to ask in each set.
        metric: the figure that the matrix shows; ``results.json`` holds all.
        refine: rank each run as its own validation chose; by the cosine alone when False.
        picture: draw ``results.png`` (matplotlib, the extra ``plots``; without it the tables are
            written all the same, and ``notice`` says so).
        resamples: of the intervals.
        seed: of the bootstrap.
        progress: told how far it is.

    Returns:
        The matrix. A cell that cannot be computed holds the reason; the others go on.

    Raises:
        PathError: a run or a data set is missing, or the folder holds something else.
        UsageError: a run or a data set is named twice, or none is.
        DataError: a data set cannot be read.

    Example::

        run_transfer(["runs/a", "runs/b"], ["data/a", "data/b"], "out").values["cells"][0][1]["t2i"]
    """
    say = progress or (lambda *_: None)
    places = find_runs(runs)
    parts = find_splits(sources, split)
    folder = _own_folder(Path(out))
    total = len(places) * len(parts)
    asked = {"split": split_name(split), "refine": refine, "resamples": resamples, "seed": seed}
    grid: list[list[dict[str, Any]]] = []
    computed = 0
    for row, run in enumerate(places):
        model = run.model
        cells = []
        for column, part in enumerate(parts):
            done = row * len(parts) + column
            say(done, total, f"{run.name} on {part.name}", "")
            file = folder / CELLS / f"{_key(run, part, asked)}.json"
            cell = _stored(file) if run.digest and part.part is not None else None
            if cell is None:
                model = load_run(run.folder) if model is None and part.part is not None else model
                cell = _computed(model, run, part, asked, _within(say, done, total, run, part))
                if cell["reason"] is None:
                    write_json(file, cell)
                    computed += 1
                told = f"{cell['t2i'][metric]:.1f}" if cell["reason"] is None else cell["reason"]
                line = f"{run.name} on {part.name}: {told}"
                say(done + 1, total, "", line if cell["reason"] else f"{line} {metric}")
            cells.append(cell | {"in_domain": in_domain(run.record, part.dataset)})
        grid.append(cells)
    say(total, total, "", "")
    values = _values(places, parts, grid, metric, asked)
    _write(values, folder)
    failures = [cell["reason"] for cells in grid for cell in cells if cell["reason"] is not None]
    found = Transfer(values, folder, computed, failures)
    if picture and len(failures) < total:
        try:
            require_matplotlib()
            draw_heat_map(values, folder / f"{RESULTS}.png")
            found.picture = folder / f"{RESULTS}.png"
        except MissingExtraError as error:
            found.notice = f"no heat map: {error}"
    return found


def _own_folder(folder: Path) -> Path:
    """A new or empty folder, or one of an earlier transfer."""
    if folder.is_dir():
        contents = {p.name for p in folder.iterdir() if not p.name.startswith(PARTIAL_MARK)}
        if contents and CELLS not in contents and contents != {f"{RESULTS}.json"}:
            raise PathError(f"{folder} holds other files: name another folder")
    return require_writable_folder(folder)


def _key(run: RunPlace, part: SplitPlace, asked: dict[str, Any]) -> str:
    """What a cell depends on, as 32 hexadecimal digits."""
    if part.part is None:
        return "none"
    facts = [FORMAT, run.digest, part.part.fingerprint(), part.dataset.protocol, TOLERANCE, asked]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _stored(file: Path) -> dict[str, Any] | None:
    try:
        cell = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return cell if isinstance(cell, dict) and "t2i" in cell else None


def _within(
    say: Progress, done: int, total: int, run: RunPlace, part: SplitPlace
) -> Callable[[str, int, int], None]:
    """Progress of encoding as a share of one cell."""

    def progress(what: str, finished: int, of: int) -> None:
        share = 0.8 * finished / max(of, 1) + (0.1 if what == "captions" else 0.0)
        note = f"{run.name} on {part.name}: {what} {finished:,}/{of:,}"
        say(done + min(share, 0.9), total, note, "")

    return progress


def _computed(
    model: MMRef | MMRefError | None,
    run: RunPlace,
    part: SplitPlace,
    asked: dict[str, Any],
    progress: Callable[[str, int, int], None],
) -> dict[str, Any]:
    """One run on one split, or the reason why not."""
    named = {"digest": run.digest, "t2i": None, "ci95": None, "unrefined": None}
    if part.part is None or model is None:
        return named | {"reason": part.reason}
    if isinstance(model, MMRefError):
        return named | {"reason": str(model)}
    try:
        report = evaluate(
            model,
            part.dataset,
            asked["split"],
            refine=asked["refine"],
            bootstrap=asked["resamples"],
            seed=asked["seed"],
            progress=progress,
        )
    except MMRefError as error:
        return named | {"reason": str(error)}
    return {
        "reason": None,
        "digest": model.digest,
        "fingerprint": report.fingerprint,
        "t2i": report.t2i,
        "ci95": report.ci95,
        "unrefined": report.unrefined,
        "classes": report.classes,
        "refinement": report.refinement,
        "queries": report.queries,
        "gallery": report.gallery,
        "objects": report.objects,
        "chance": {"R@1": report.chance, "mAP": report.chance_map},
        "skipped_images": len(report.skipped),
    }


def _values(
    runs: Sequence[RunPlace],
    parts: Sequence[SplitPlace],
    grid: Sequence[Sequence[dict[str, Any]]],
    metric: str,
    asked: dict[str, Any],
) -> dict[str, Any]:
    shares = [[_share(grid, row, column, metric) for column in range(len(parts))]
              for row in range(len(runs))]  # fmt: skip
    return {
        "format": FORMAT,
        "title": f"{metric} in percent of each run on the {asked['split']} split of each data set",
        "metric": metric,
        **asked,
        "runs": [
            {"name": run.name, "folder": run.folder, "digest": run.digest,
             "selection": run.record}
            for run in runs
        ],
        "data": [_described(part) for part in parts],
        "cells": [
            [cell | {"share": share} for cell, share in zip(cells, row, strict=True)]
            for cells, row in zip(grid, shares, strict=True)
        ],
        **describe_environment(),
    }  # fmt: skip


def _described(part: SplitPlace) -> dict[str, Any]:
    known = part.part
    return {
        "name": part.name,
        "source": part.source,
        "format": part.dataset.format,
        "protocol": part.dataset.protocol,
        "fingerprint": known.fingerprint() if known is not None else None,
        "queries": len(known.queries()) if known is not None else None,
        "images": len(known) if known is not None else None,
        "objects": len(known.object_names) if known is not None else None,
        "splits": part.dataset.split_names,
        "notes": list(part.dataset.notes),
    }


def _share(
    grid: Sequence[Sequence[dict[str, Any]]], row: int, column: int, metric: str
) -> float | None:
    """A cell's figure in percent of the in-domain runs' mean on the same set; None without one."""
    own = grid[row][column]["t2i"]
    at_home = [
        cells[column]["t2i"][metric]
        for cells in grid
        if cells[column]["in_domain"] and cells[column]["t2i"]
    ]
    if own is None or not at_home or sum(at_home) == 0:
        return None
    return float(100 * own[metric] * len(at_home) / sum(at_home))


def _write(values: dict[str, Any], folder: Path) -> None:
    (folder / CELLS).mkdir(exist_ok=True)
    write_json(folder / f"{RESULTS}.json", values)
    with atomic_write(folder / f"{RESULTS}.md") as partial:
        partial.write_text(in_words(values), encoding="utf-8")
