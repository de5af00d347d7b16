"""``mmref transfer``: every run on every data set, one matrix."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mmref.cli.console import emit_json, err, out, progress_bar, say

if TYPE_CHECKING:
    from mmref.experiments.transfer import Transfer

EPILOG = (
    "Example: mmref transfer runs/figures runs/birds --data data/figures --data data/birds "
    "--split test --out transfer"
)


def command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of trained runs.")],
    data: Annotated[
        list[str],
        typer.Option(metavar="SOURCE", help="A data set: a path, or format:path; repeatable."),
    ],
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="A new folder, or one to go on with.")
    ],
    split: Annotated[
        str, typer.Option(metavar="NAME", help="val or test, of every data set.")
    ] = "val",
    metric: Annotated[
        Literal["R@1", "R@5", "R@10", "mAP", "mINP"], typer.Option(help="What the matrix shows.")
    ] = "mAP",
    no_refine: Annotated[
        bool, typer.Option("--no-refine", help="Rank by the cosine alone.")
    ] = False,
    plot: Annotated[
        bool, typer.Option("--plot/--no-plot", help="Draw results.png (needs mmref[plots]).")
    ] = True,
    json: Annotated[
        bool, typer.Option("--json", help="Print results.json on stdout instead of tables.")
    ] = False,
) -> None:
    """Evaluate every run on every data set: figures, intervals, and a heat map.

    A run's own data set is marked, and the others' figures are given as shares of it too. What
    cannot be computed (a run of vectors on pictures alone, vectors of another length) is shown with
    its reason. The same command goes on after an interruption: finished cells are kept.
    """
    from mmref.experiments.transfer import run_transfer

    with progress_bar() as bar:
        task = bar.add_task("runs on data sets", total=None, note="")

        def progress(done: float, total: int, note: str, line: str) -> None:
            bar.update(task, completed=done, total=total, note=note)
            if line:
                bar.console.print(line, markup=False, soft_wrap=True)

        found = run_transfer(
            runs,
            data,
            folder,
            split=split,
            metric=metric,
            refine=not no_refine,
            picture=plot,
            progress=progress,
        )
    _show(found, json)


def _show(found: "Transfer", json: bool) -> None:
    """The matrix, where it was written, and an error at the end when nothing could be computed."""
    from mmref.errors import DataError
    from mmref.experiments.transfer_tables import matrix_sheets, remarks

    console = err() if json else out()
    for sheet in matrix_sheets(found.values, screen=True):
        console.print(sheet.rich())
        console.print()
    for line in remarks(found.values):
        console.print(line, markup=False)
    if json:
        emit_json(found.values)
    if found.notice is not None:
        say(f"note: {found.notice}")
    suffixes = "json, .md and .png" if found.picture is not None else "json and .md"
    say(f"wrote {found.folder / 'results'}.{suffixes}")
    cells = sum(map(len, found.values["cells"]))
    if len(found.failures) == cells:
        raise DataError(f"not one of {cells} cells could be computed (first: {found.failures[0]})")
