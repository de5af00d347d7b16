"""``mmref data SOURCE``: what a data set holds, and what is wrong with it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmref.cli import console

if TYPE_CHECKING:
    from mmref.data.dataset import RetrievalDataset
    from mmref.data.inspection import Inspection, Problem

EPILOG = "Example: mmref data my_pictures"
_BAR_FROM = 300
_ITEMS = 5


def command(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A data set's folder, its file, or format:path.",
            show_default=False,
        ),
    ],
    splits: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Which image or identity is in which split."),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of tables.")
    ] = False,
) -> None:
    """Show what a data set holds, and what is wrong with it.

    Counts objects, images, captions and words for each split; decodes every image; looks for
    leaks between the splits and for duplicates. Counts of CUHK-PEDES, ICFG-PEDES, RSTPReid, CUB
    and Flowers are compared with the published ones. Exit status 0: readable, with or without
    problems.
    """
    from mmref.data.dataset import RetrievalDataset
    from mmref.data.readers import with_split_file
    from mmref.errors import DataError

    found = _inspect(RetrievalDataset.load(with_split_file(source, splits)))
    if json:
        console.emit_json(found.to_json())
    else:
        _show(found)
    if not found.usable:
        raise DataError(f"not one image of {found.name} can be decoded: nothing to train on")


def _inspect(dataset: "RetrievalDataset") -> "Inspection":
    from mmref.data.inspection import inspect_dataset

    if len(dataset) < _BAR_FROM or dataset.features_only:
        return inspect_dataset(dataset)
    with console.progress_bar() as bar:
        task = bar.add_task("images", total=len(dataset), note="")
        return inspect_dataset(
            dataset, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )


def _show(found: "Inspection") -> None:
    from rich.table import Table

    out = console.out()
    sources = ["pixels"] if not found.features_only else []
    if found.feature_dimension is not None:
        sources.append(f"features of {found.feature_dimension} dimensions")
    title = f"{found.name} ({found.format}): {' and '.join(sources)}"
    out.print(title, markup=False)
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("split")
    for name in ("objects", "images", "captions", "queries", "words", "words/query"):
        table.add_column(name, justify="right")
    for name, part in found.splits.items():
        counts = (part.objects, part.images, part.captions, part.queries, part.words)
        table.add_row(name, *(f"{count:,}" for count in counts), f"{part.words_per_caption:.1f}")
    out.print(table)
    asked = "distinct (caption, object) pairs" if found.protocol == "manifest" else "all captions"
    out.print(f"queries: {asked}; words: distinct words")
    if found.published is not None:
        out.print(f"Copy: {found.published.sentence()}")
        for difference in found.published.differences:
            out.print(f"- {difference}", markup=False)
    out.print()
    if found.problems:
        out.print(f"Problems ({len(found.problems)}); the data set can be read all the same:")
        for problem in found.problems:
            _show_problem(problem)
    else:
        out.print("No problems found.")
    if found.notes:
        out.print("Notes:")
        for note in found.notes:
            out.print(f"- {note}", markup=False)


def _show_problem(problem: "Problem") -> None:
    out = console.out()
    out.print(f"- {problem.message}", markup=False)
    for item in problem.items[:_ITEMS]:
        text = item if item.isprintable() else repr(item)
        out.print(f"    {text}", markup=False, soft_wrap=True)
    if problem.count > _ITEMS:
        out.print(f"    ... and {problem.count - _ITEMS:,} more", markup=False)
