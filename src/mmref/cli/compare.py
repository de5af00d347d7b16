"""``mmref compare``: two runs on the same questions, with a paired test."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mmref.cli.console import STDOUT, emit_json, err, out, progress_bar, say

EPILOG = "Example: mmref compare runs/base runs/full --data data/flags --split test"


def command(
    first: Annotated[str, typer.Argument(metavar="RUN_A", help="A run's folder, or a hub id.")],
    second: Annotated[str, typer.Argument(metavar="RUN_B", help="Another one.")],
    data: Annotated[
        str, typer.Option(metavar="SOURCE", help="The data set: a path, or format:path.")
    ],
    split: Annotated[
        str, typer.Option(metavar="NAME", help="val or test. Choose on val, score test once.")
    ] = "val",
    splits: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Which image or identity is in which split."),
    ] = None,
    no_refine: Annotated[
        bool, typer.Option("--no-refine", help="Rank both by the cosine alone.")
    ] = False,
    i2t: Annotated[bool, typer.Option("--i2t", help="Image-to-text too.")] = False,
    ties: Annotated[
        Literal["pessimistic", "expected"], typer.Option(help="How tied images rank.")
    ] = "pessimistic",
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the bootstrap.")] = 0,
    json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write the result as JSON; - for stdout."),
    ] = None,
) -> None:
    """Compare two runs on the same captions and images: differences, intervals, p.

    Each run is ranked as its own validation chose, and reads what it was trained to read: image
    files or features. Objects are drawn with replacement, each with all its captions.
    """
    from mmref.data.dataset import RetrievalDataset
    from mmref.data.readers import with_split_file

    dataset = RetrievalDataset.load(with_split_file(data, splits))
    dataset.split(split)  # a wrong split is said before a model is loaded

    from mmref.evaluation.comparison import compare_runs
    from mmref.model import MMRef

    one, two = (MMRef.from_pretrained(run).to("auto") for run in (first, second))
    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(f"encoding {what}", total=total, note="")
            bar.update(tasks[what], completed=done)

        found = compare_runs(
            one,
            two,
            dataset,
            split,
            names=_names(first, second),
            refine=not no_refine,
            i2t=i2t,
            ties=ties,
            seed=seed,
            progress=progress,
        )
    console = err() if json == STDOUT else out()
    console.print(found.table())
    for line in found.remarks():
        console.print(line, markup=False)
    if json is not None:
        emit_json(found.to_dict(), json)
        if json != STDOUT:
            say(f"wrote {json}")


def _names(first: str, second: str) -> tuple[str, str]:
    """The folders' names; their paths where those would be equal."""
    names = Path(first).resolve().name or first, Path(second).resolve().name or second
    return names if names[0] != names[1] else (first, second)
