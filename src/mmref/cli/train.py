"""``mmref train``: a run folder from a data set."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmref.cli.console import err, out, say
from mmref.cli.settings import given_values, keys_of

if TYPE_CHECKING:
    from mmref.config import Settings
    from mmref.data.dataset import RetrievalDataset

EPILOG = "Example: mmref train --data data/flags --set training.epochs=20 --out runs/flags"
_STAGES = {"decode": "decoding", "train": "training"}
_SHOWN = 5


def command(
    data: Annotated[
        str, typer.Option(metavar="SOURCE", help="The data set: a path, or format:path.")
    ],
    run: Annotated[str, typer.Option("--out", metavar="RUN", help="The run's folder, a new one.")],
    encoder: Annotated[
        Literal["compact", "features", "clip"] | None,
        typer.Option(help="Default: features where the set has them, else compact."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="F.yaml", help="A file of settings; --set wins over it.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting by dotted name; repeatable."),
    ] = None,
    splits: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Which image or identity is in which split."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in RUN, with its own settings.")
    ] = False,
) -> None:
    """Train on a data set and write a run folder.

    Learns from the train split, chooses the epoch and the refinement on the val split (or on
    training objects held out for that), and writes model, figures and a model card. An
    interrupted run goes on with --resume as if nothing had happened. On several GPUs:
    accelerate launch --multi_gpu --num_processes 2 -m mmref train ...
    """
    from mmref.config import Settings
    from mmref.data.dataset import RetrievalDataset
    from mmref.data.readers import with_split_file
    from mmref.processes.launch import place, together

    folder = Path(run)
    with together("training", "go on with --resume"):
        values = given_values(assignments or [])
        values = values if encoder is None else {"encoder.kind": encoder} | values
        base = Settings() if config is None else Settings.from_yaml(config)
        base.with_values(values)  # a wrong key is said before anything is read
        if place().rank > 0:  # rank 0 chooses, writes and speaks for all
            _take_part(RetrievalDataset.load(with_split_file(data, splits)), folder, resume)
            return
        _refuse_full(folder, resume)
        data = with_split_file(data, splits)
        dataset = RetrievalDataset.load(data)
        settings, notes = _settings(dataset, folder, base, config, values, resume)
        for note in [*dataset.notes, *notes]:
            say(f"note: {note}")
        _train(dataset, folder, settings, resume)
    _show(dataset, folder, run, data)


def _take_part(dataset: "RetrievalDataset", folder: Path, resume: bool) -> None:
    from mmref.training.trainer import train

    train(dataset, folder, resume=resume)


def _refuse_full(folder: Path, resume: bool) -> None:
    """Say what is wrong with the folder before a data set is read."""
    from mmref.errors import PathError

    if folder.exists() and not folder.is_dir():
        raise PathError(f"{folder} is a file: name a folder to write to")
    if not resume and folder.is_dir() and any(folder.iterdir()):
        raise PathError(
            f"{folder} is not empty: add --resume to go on with its run, or name another folder"
        )


def _settings(
    dataset: "RetrievalDataset",
    folder: Path,
    base: "Settings",
    config: Path | None,
    values: dict[str, Any],
    resume: bool,
) -> tuple["Settings", list[str]]:
    """Defaults, then the file, then the options; with --resume, those of the run come first."""
    from mmref.training.fitting import fitting_settings
    from mmref.training.run_folder import is_finished, stored_settings

    stored = stored_settings(folder) if resume else None
    if stored is not None:
        notes = [f"{folder} is finished already"] if is_finished(folder) else []
        return (stored if config is None else base).with_values(values), notes
    notes = [f"nothing to resume in {folder}: a new run"] if resume else []
    given = {*values, *keys_of(config)}
    settings, choices = fitting_settings(dataset, base.with_values(values), given)
    return settings, notes + choices


def _train(dataset: "RetrievalDataset", folder: Path, settings: "Settings", resume: bool) -> None:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    from mmref.training.trainer import train

    # Narrower than console.progress_bar: the note holds epoch, loss, mAP and rate.
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[note]}"),
        TextColumn("left"),
        Remaining(),
    )
    with Progress(*columns, console=err()) as bar:
        tasks: dict[str, Any] = {}

        def progress(stage: str, done: int, total: int, note: str) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(_STAGES.get(stage, stage), total=total, note="")
            bar.update(tasks[stage], completed=done, total=total, note=note)

        train(dataset, folder, settings, resume=resume, progress=progress)


def _show(dataset: "RetrievalDataset", folder: Path, run: str, data: str) -> None:
    """The validation figures, and what to type next."""
    from mmref.evaluation.tables import (
        add_figures,
        add_intervals,
        figures_table,
        figures_title,
    )
    from mmref.training.run_folder import METRICS_FILE

    console = out()
    report = json.loads((folder / METRICS_FILE).read_text(encoding="utf-8"))
    for bad in report["skipped"][:_SHOWN]:
        err().print(f"skipped {bad['path']}: {bad['reason']}", markup=False, soft_wrap=True)
    if len(report["skipped"]) > _SHOWN:
        say(f"... and {len(report['skipped']) - _SHOWN:,} more skipped (metrics.json lists all)")
    for note in report["notes"]:
        if note not in dataset.notes:
            say(f"note: {note}")
    found = report["validation"]
    title = figures_title(
        f"{report['val']['name']}, val",
        **{name: found[name] for name in ("queries", "gallery", "objects")},
    )
    table = figures_table(title)
    for way in ("unrefined", "refined"):
        if found[way] is not None:
            add_figures(table, f"text to image, {way}", found[way])
            add_intervals(table, found["ci95"][way])
    console.print(table)
    best = f"epoch {report['best_epoch']}" if report["best_epoch"] else "the start"
    console.print(
        f"Chance: R@1 {found['chance']:.2f}. {report['epochs']} epochs, the best is {best}. "
        f"Refinement: {_refinement(report['refinement'])}.",
        markup=False,
    )
    console.print(f"Trained in {report['seconds']:.0f} s; the run is in {run}", markup=False)
    console.print("Next:")
    features = report["model"]["image_size"] is None
    split = "test" if "test" in dataset.split_names else "val"
    store, query = shlex.quote(f"{run.rstrip('/')}.store"), _query(dataset)
    folder_word, source = shlex.quote(run), shlex.quote(data)
    for line in (
        f"mmref evaluate {folder_word} --data {source} --split {split}",
        f"mmref index {folder_word} {source if features else 'PICTURES'} --store {store}",
        f"mmref search --store {store} {query}",
    ):
        console.print(f"  {line}", markup=False, soft_wrap=True)


def _refinement(choice: dict[str, Any] | None) -> str:
    if choice is None:
        return "none, the cosine was best"
    return f"{choice['form']}, lambda {choice['weight']:g}"


def _query(dataset: "RetrievalDataset", longest: int = 40) -> str:
    """A caption to search for: the longest of the short ones."""
    short = [
        c for texts in dataset.captions for c in texts if len(c) <= longest and c.isprintable()
    ]
    return shlex.quote(max(short, key=len) if short else "what to look for")
