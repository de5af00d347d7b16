"""``mmref inspect``: what a run's references say, doubtful captions, retrieval failures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmref.cli.console import emit_json, err, out, progress_bar, say

if TYPE_CHECKING:
    from rich.table import Table

    from mmref.evaluation.inspection import Inspection

EPILOG = "Example: mmref inspect runs/figures --data data/figures --top 30 --out inspected"

_ON_SCREEN = 20


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder.")],
    data: Annotated[
        str, typer.Option(metavar="SOURCE", help="The data set: a path, or format:path.")
    ],
    split: Annotated[
        str, typer.Option(metavar="NAME", help="Whose captions and images: train, val or test.")
    ] = "train",
    objects: Annotated[
        list[str] | None,
        typer.Option(
            "--object", metavar="NAME", help="Show this object's reference; may be repeated."
        ),
    ] = None,
    top: Annotated[
        int, typer.Option(metavar="N", min=0, help="How many doubtful captions to list.")
    ] = 20,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Write doubtful.csv, doubtful.json, references.json and failures.png.",
        ),
    ] = None,
    json_out: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON on stdout.")
    ] = False,
) -> None:
    """Look into a run: references, doubtful captions, retrieval failures.

    Doubtful captions contradict what the other captions of their object say: a list of likely
    annotation errors, worst first.
    """
    from mmref.data.dataset import RetrievalDataset
    from mmref.files import require_writable_folder

    dataset = RetrievalDataset.load(data)
    dataset.split(split)  # a wrong split is said before the model is loaded

    from mmref.evaluation.inspection import inspect_run
    from mmref.model import MMRef

    model = MMRef.from_pretrained(run).to("auto")
    if folder is not None:
        require_writable_folder(folder)
    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                label = "comparing captions" if what == "word batches" else f"encoding {what}"
                tasks[what] = bar.add_task(label, total=total, note="")
            bar.update(tasks[what], completed=done)

        found = inspect_run(
            model, dataset, split, objects=objects or (), top=top, progress=progress
        )
    if json_out:
        emit_json(found.to_dict())
        for note in found.notes:
            err().print(note, markup=False)
    else:
        _print(found)
    if folder is not None:
        _write(found, folder)


def _print(found: "Inspection") -> None:
    console = out()
    for table in _reference_tables(found):
        console.print(table)
        console.print()
    if found.doubts:
        console.print(_doubts_table(found))
        more = len(found.doubts) - _ON_SCREEN
        if more > 0:
            console.print(f"({more} more with --out or --json)", markup=False)
    for line in _lines(found):
        console.print(line, markup=False)
    for note in found.notes:
        console.print(note, markup=False)


def _table(title: str, *columns: tuple[str, str]) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False,
                  show_edge=False)  # fmt: skip
    for name, kind in columns:
        table.add_column(
            name, justify="right" if kind == "number" else "left", no_wrap=kind == "number"
        )
    return table


def _reference_tables(found: "Inspection") -> "list[Table]":
    from rich.text import Text

    tables = []
    for saying in found.sayings:
        table = _table(f"reference of {saying.object}", ("cosine", "number"), ("nearest", "text"),
                       ("of", "text"))  # fmt: skip
        for neighbour in (*saying.captions, *saying.images):
            of = "itself" if neighbour.own else neighbour.object
            table.add_row(f"{neighbour.cosine:.3f}", Text(neighbour.what), Text(of))
        if saying.words:
            words = ", ".join(f"{word.word} x{word.lift:.1f}" for word in saying.words)
            table.caption = Text(f"predicts: {words}")
            table.caption_justify = "left"
        tables.append(table)
    return tables


def _doubts_table(found: "Inspection") -> "Table":
    from rich.text import Text

    known = any(doubt.wrong is not None for doubt in found.doubts)
    columns = [("#", "number"), ("doubt", "number"), ("object", "text"), ("says", "text"),
               ("others say", "text")]  # fmt: skip
    table = _table("captions that most contradict their object's others", *columns)
    if known:
        table.add_column("wrong")
    for doubt in found.doubts[:_ON_SCREEN]:
        cells: list[str | Text] = [str(doubt.rank), f"{doubt.score:.2f}", Text(doubt.object)]
        cells += [Text(doubt.phrase), Text(" / ".join(doubt.instead) or "nothing there")]
        if known:
            cells.append(Text(", ".join(doubt.wrong or ()) or "-"))
        table.add_row(*cells)
    return table


def _lines(found: "Inspection") -> list[str]:
    lines = []
    if found.compared:
        lines.append(f"{found.compared} captions were compared with their object's others.")
    if found.figures is not None and found.figures["share"] > 0:
        f = found.figures
        lines.append(
            f"Known errors: {100 * f['share']:.1f} % of captions; R-precision "
            f"{100 * f['r_precision']:.1f} % ({f['lift']:.1f} times the share), average precision "
            f"{100 * f['average_precision']:.1f} %; the first tenth holds "
            f"{100 * f['recall_at_10_percent']:.1f} % of them."
        )
    failures = found.failures
    if failures.queries:
        share = 100 * failures.failed / failures.queries
        lines.append(
            f"{failures.failed} of {failures.queries} {found.split} captions ({share:.1f} %) "
            "retrieve a wrong image first."
        )
    return lines


def _write(found: "Inspection", folder: Path) -> None:
    import csv

    from mmref.files import atomic_write

    plain = found.to_dict()
    emit_json(plain["doubtful"], folder / "doubtful.json")
    emit_json(plain["references"], folder / "references.json")
    names = ("rank", "object", "caption", "score", "phrase", "word", "instead", "captions", "wrong")
    with (
        atomic_write(folder / "doubtful.csv") as partial,
        partial.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for doubt in plain["doubtful"]["captions"]:
            lists = {name: " / ".join(doubt[name] or ()) for name in ("instead", "wrong")}
            writer.writerow({**doubt, **lists})
    written = ["doubtful.csv", "doubtful.json", "references.json"]
    sheet = folder / "failures.png"
    if found.failures.worst:
        _sheet(found, sheet)
        written.append(sheet.name)
    elif sheet.is_file():
        sheet.unlink()  # of an earlier inspection
        say(f"no failures: removed the {sheet.name} of an earlier inspection")
    say(f"wrote {', '.join(written)} in {folder}")


def _sheet(found: "Inspection", path: Path) -> None:
    from mmref.search.sheet import Row, Tile, contact_sheet, tile_for

    def picture(row: int) -> str:
        return found.images[row] if found.paths is None else str(found.paths[row])

    rows = []
    for failure, doubt in zip(found.failures.worst, found.suspects, strict=True):
        tiles = [
            Tile(picture(hit.image), [f"#{place}   {hit.score:.3f}", hit.object], hit.right)
            for place, hit in enumerate(failure.retrieved, start=1)
        ]
        subtitle = (
            f"{failure.object}, on the left: ranked {failure.rank} of {failure.gallery}, "
            f"{failure.score:.3f}"
        )
        if doubt is not None:
            others = f", others: {doubt.instead[0]}" if doubt.instead else ""
            subtitle += f"; doubtful caption #{doubt.rank}: {doubt.phrase}{others}"
        rows.append(Row(failure.caption, tiles, picture(failure.truth[0]), subtitle))
    of = found.failures
    heading = f"{of.failed} of {of.queries} {found.split} captions fail; the worst {len(rows)}"
    shown = [picture(hit.image) for one in of.worst for hit in one.retrieved]
    contact_sheet(rows, path, tile=tile_for(shown), heading=heading)
