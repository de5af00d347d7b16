"""``mmref evaluate``: a run on a split of a data set."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmref.cli.console import STDOUT, emit_json, err, out, progress_bar, say

if TYPE_CHECKING:
    from mmref.data.dataset import RetrievalDataset
    from mmref.evaluation.report import Report

EPILOG = "Example: mmref evaluate runs/flags --data data/flags --i2t --json report.json"


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or a hub id.")],
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
        bool, typer.Option("--no-refine", help="Rank by the cosine alone.")
    ] = False,
    i2t: Annotated[bool, typer.Option("--i2t", help="Image-to-text too.")] = False,
    controls: Annotated[
        bool,
        typer.Option("--controls", help="Add re-ranking that uses all queries: for comparison."),
    ] = False,
    ties: Annotated[
        Literal["pessimistic", "expected"], typer.Option(help="How tied images rank.")
    ] = "pessimistic",
    published: Annotated[
        bool | None,
        typer.Option(
            "--published/--no-published",
            help="What papers report of a person set, beside it; default: with the test split.",
        ),
    ] = None,
    json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE", help="Write the report as JSON; - for stdout."),
    ] = None,
) -> None:
    """Evaluate a run: R@1, R@5, R@10, mAP and mINP with intervals."""
    from mmref.data.dataset import RetrievalDataset
    from mmref.data.readers import with_split_file
    from mmref.processes.launch import place, together

    with together("evaluation", "start it again"):
        dataset = RetrievalDataset.load(with_split_file(data, splits))
        dataset.split(split)  # a wrong split is said before the model is loaded
        if place().rank > 0:  # rank 0 judges and speaks for all
            _take_part(run, dataset, split)
            return
        options = {"refine": not no_refine, "i2t": i2t, "controls": controls, "ties": ties}
        report = _evaluated(run, dataset, split, options)
    console = err() if json == STDOUT else out()
    console.print(report.table())
    if report.classes is not None:
        console.print(report.class_table())
    for line in report.remarks():
        console.print(line, markup=False)
    if report.published is not None:
        if published or (published is None and report.split == "test"):
            console.print()
            console.print(report.published_table())
            for line in report.published["remarks"]:
                console.print(line, markup=False)
        elif published is None:
            console.print(
                "Papers report the test split: --published shows their figures all the same.",
                markup=False,
            )
    if json is not None:
        emit_json(report.to_dict(), json)
        if json != STDOUT:
            say(f"wrote {json}")


def _evaluated(run: str, dataset: "RetrievalDataset", split: str, options: Any) -> "Report":
    from mmref.evaluation.evaluator import evaluate
    from mmref.model import MMRef
    from mmref.processes.group import join

    group = join()  # before the model takes its GPU
    model = MMRef.from_pretrained(run).to("auto")
    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(f"encoding {what}", total=total, note="")
            bar.update(tasks[what], completed=done)

        return evaluate(model, dataset, split, progress=progress, group=group, **options)


def _take_part(run: str, dataset: "RetrievalDataset", split: str) -> None:
    from mmref.evaluation.encoding import encode_split
    from mmref.model import MMRef
    from mmref.processes.group import join

    group = join()
    encode_split(MMRef.from_pretrained(run).to("auto"), dataset, split, group=group)
