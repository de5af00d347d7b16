"""``mmref profile``: what a training costs on this machine, and how long it would take."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmref.cli.console import emit_json, err, out, progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from mmref.config import Settings
    from mmref.data.dataset import RetrievalDataset

EPILOG = "Example: mmref profile --config rstpreid --set training.batch_size=32"


def command(
    config: Annotated[
        Path | None,
        typer.Option(metavar="F.yaml", help="A file of settings or a recipe; --set wins over it."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="A data set to predict besides.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting by dotted name; repeatable."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=2, help="Pairs to measure; default: the batch, or fewer if slow."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON on stdout instead of tables.")] = False,
) -> None:
    """Measure parameters, operations, memory and speed, and predict how long a training takes.

    Made-up data and weights at random are used, so neither a data set nor a checkpoint is needed;
    what comes out are times, no figures. An epoch is predicted for each of the five published sets.
    """
    from mmref.cli.settings import given_values, keys_of
    from mmref.config import Settings

    values = given_values(assignments or [])
    base = Settings() if config is None else Settings.from_yaml(config)
    settings = base.with_values(values)
    dataset = None
    if data is not None:
        settings, dataset = _with_data(data, settings, {*values, *keys_of(config)})

    from mmref.experiments.profile import profile

    with progress_bar() as bar:
        task = bar.add_task("measuring", total=None, note="")

        def progress(what: str, done: int, total: int) -> None:
            bar.update(task, description=f"measuring: {what}", completed=done, total=total)

        found = profile(settings, dataset, batch=batch, of=_set_of(config), progress=progress)
    _show(found, err() if json else out())
    if json:
        emit_json(found)


def _set_of(config: Path | None) -> str | None:
    """The published set that a recipe is for, by its name.

    Example:
        >>> _set_of(Path("recipes/cuhk-pedes-irra.yaml")), _set_of(Path("mine.yaml"))
        ('cuhk-pedes', None)
    """
    from mmref.data.published_counts import PUBLISHED

    stem = "" if config is None else config.stem
    return next((name for name in PUBLISHED if f"{stem}-".startswith(f"{name}-")), None)


def _with_data(
    data: str, settings: "Settings", given: set[str]
) -> tuple["Settings", "RetrievalDataset"]:
    """The data set, and settings that fit it as a training would choose them."""
    from mmref.cli.console import say
    from mmref.data.dataset import RetrievalDataset
    from mmref.training.fitting import fitting_settings

    dataset = RetrievalDataset.load(data)
    settings, notes = fitting_settings(dataset, settings, given)
    for note in [*dataset.notes, *notes]:
        say(f"note: {note}")
    return settings, dataset


def _show(found: dict[str, Any], console: "Console") -> None:
    machine, encoder = found["machine"], found["encoder"]
    size = encoder["image_size"]
    console.print(
        f"{encoder['kind']} encoder"
        + (f", {size[0]} x {size[1]} pixels" if size else "")
        + f", batch {found['batch']}, {found['precision']}, on {found['device']} "
        f"({machine['processor']}, {found['threads']} threads).",
        markup=False,
    )
    for note in _notes(found):
        console.print(note, markup=False)
    for title, rows in _tables(found):
        console.print()
        console.print(_table(title, rows))
    console.print()
    console.print(_predictions(found))
    console.print(
        "Not in it: the closed-form start, the bootstrap, waiting for a disk. Predictions are of "
        "this machine as busy as it was.",
        markup=False,
    )


def _notes(found: dict[str, Any]) -> list[str]:
    notes = [found["encoder"]["note"]] if found["encoder"]["note"] else []
    notes.append(f"references and losses: those of {found['of']}, {found['objects']:,} objects")
    if found["measured_batch"] != found["batch"]:
        notes.append(
            f"measured with {found['measured_batch']} pairs and scaled to {found['batch']}: "
            "--batch N measures more"
        )
    return [f"Note: {note}." for note in notes]


def _tables(found: dict[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    seconds, rates = found["seconds"], found["rates"]
    parts = [(name, _time(value)) for name, value in seconds["parts"].items()]
    parts += [(f"  of the losses: {k}", _time(v)) for k, v in seconds["losses"].items()]
    refined = [
        (row["form"], f"{row['microseconds']:,.0f} us, {row['bytes']:,} bytes an image")
        for row in found["refinement"]
    ]
    gallery, depth = found["gallery"], found["depth"]
    return [
        ("Parameters", [(k, f"{v:,}") for k, v in found["parameters"].items() if v]),
        ("Operations", [(k, f"{v / 1e9:,.3g} GFLOP") for k, v in found["flops"].items()]),
        ("Memory of a training", [(k, f"{v / 1e6:,.0f} MB") for k, v in found["memory"].items()]),
        ("Speed", [(k, f"{v:,.1f}") for k, v in rates.items()]),
        ("A training step", [("whole", _time(seconds["step"])), *parts]),
        (f"A query among {gallery:,} images, {depth} of them scored again", refined),
    ]


def _table(title: str, rows: list[tuple[str, str]]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, show_header=False
    )
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table


def _predictions(found: dict[str, Any]) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(
        title="Predicted for this machine", title_justify="left", box=SIMPLE_HEAD, show_edge=False
    )
    table.add_column("", no_wrap=True)
    for name in ("steps", "epoch", "training", "evaluation"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in found["sets"]:
        cells = (_time(row[name]) for name in ("epoch", "training", "evaluation"))
        table.add_row(row["name"], f"{row['steps']:,}", *cells)
    return table


def _time(seconds: float) -> str:
    """Seconds in the unit in which they are read.

    Example:
        >>> [_time(s) for s in (0.00042, 0.25, 3.0, 90.0, 5000.0, 200_000.0, 2e6)]
        ['0.42 ms', '250 ms', '3.0 s', '90 s', '83 min', '56 h', '23 days']
    """
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    for size, unit, most in ((1, "s", 600), (60, "min", 6000), (3600, "h", 360_000)):
        if seconds < most:
            return (
                f"{seconds / size:.1f} {unit}" if seconds < 10 else f"{seconds / size:.0f} {unit}"
            )
    return f"{seconds / 86_400:.0f} days"
