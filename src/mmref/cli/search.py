"""``mmref search``: the images that sentences and pictures ask for."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmref.search.batch import Asked
    from mmref.search.engine import Searcher
    from mmref.search.hits import Hit, Results

EPILOG = (
    'Example: mmref search --store flags.store "a red flag with a yellow star" --sheet hits.png'
)

_OTHER_COLUMNS = 46  # letters of a line that the numbers take
_GROUP = 18  # letters of a group's name
_DATE = 19  # letters of a date and time
_SCORES = ("rank", "score", "base", "ref")
_WIDE = 5  # pictures in a row of a sheet


def command(
    store: Annotated[str, typer.Option("--store", metavar="URI", help="The store to search.")],
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT...]", help="What to look for.", show_default=False),
    ] = None,
    avoid: Annotated[
        list[str] | None,
        typer.Option("--not", metavar="TEXT", help="What is not wanted; repeatable."),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            metavar="F",
            help="An image file, or the path or id of an indexed image; repeatable.",
        ),
    ] = None,
    captions: Annotated[
        bool, typer.Option("--captions", help="Find sentences: the captions in the store.")
    ] = False,
    queries: Annotated[
        str | None,
        typer.Option(
            "--queries", metavar="FILE", help="Many questions: one a line, or JSON lines."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many hits at most.")] = 10,
    where: Annotated[
        str | None,
        typer.Option(
            "--filter", metavar="EXPR", help="""Such as "camera = 'c3' and date >= 2026-01-01"."""
        ),
    ] = None,
    min_score: Annotated[
        float | None, typer.Option("--min-score", metavar="S", help="Leave out lower scores.")
    ] = None,
    auto_cut: Annotated[
        bool, typer.Option("--auto-cut", help="End the list where scores fall to the noise.")
    ] = False,
    fold: Annotated[bool, typer.Option("--fold", help="Show near-duplicates as one hit.")] = False,
    fold_at: Annotated[
        float | None,
        typer.Option(
            "--fold-at", metavar="C", help="The cosine from which --fold folds; 0.98 if not given."
        ),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by", metavar="COLUMN", help="One hit for each object, folder, ...: its best."
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(
            "--sort", metavar="COLUMN", help="Show the -k best by a column; -date: newest first."
        ),
    ] = None,
    cursor: Annotated[
        str | None,
        typer.Option("--cursor", metavar="TOKEN", help="Go on behind the page that gave it."),
    ] = None,
    no_refine: Annotated[
        bool, typer.Option("--no-refine", help="Rank by the cosine alone.")
    ] = False,
    run: Annotated[
        str | None, typer.Option("--run", metavar="RUN", help="The run's folder, if it has moved.")
    ] = None,
    sheet: Annotated[
        str | None, typer.Option("--sheet", metavar="F.png", help="Write a contact sheet.")
    ] = None,
    csv: Annotated[
        str | None, typer.Option("--csv", metavar="F.csv", help="Write the hits as a table.")
    ] = None,
    copy_to: Annotated[
        str | None,
        typer.Option("--copy-to", metavar="DIR", help="Copy the images, rank first in the name."),
    ] = None,
    json_out: Annotated[
        bool, typer.Option("--json", help="Print the hits as JSON on stdout.")
    ] = False,
) -> None:
    """Search a store by sentences, by images, or by both.

    Several parts are mixed; "2.0:red coat" weighs 2, and so does 2.0:a.jpg. Each hit shows its
    score: the cosine (base) plus, where the run refines, the weighted similarity through the
    references (ref).

    A filter compares columns of the metadata, and path, name, folder, size and date, by = != < <=
    > >= ~ (text within), in ('a', 'b'), is missing, joined by and, or, not.

    With --captions an image finds its sentences; a sentence finds similar ones.

    With --queries and --json each line of stdout is the document of one question.
    """
    from mmref.cli.console import say
    from mmref.errors import UsageError
    from mmref.search.batch import Asked, read_questions
    from mmref.search.engine import Searcher
    from mmref.search.options import Options
    from mmref.search.query import Query

    if k < 1:
        raise UsageError(f"-k must be at least 1, not {k}")
    if captions and copy_to is not None:
        raise UsageError("--copy-to copies images: leave it or --captions out")
    options = Options.of(
        k,
        where,
        min_score,
        auto_cut,
        fold if fold_at is None else fold_at,
        group_by,
        cursor,
        False if no_refine else None,
        sort,
    )
    if queries is None:
        asked = [Asked(Query.parse(text or (), image or (), avoid or ()), options)]
    elif text or image or avoid or cursor:
        raise UsageError("--queries stands alone: give texts, images and --not in its lines")
    else:
        asked = read_questions(queries, options)
    refine = False if no_refine else None
    with Searcher.open(store, run, refine=refine, captions=captions) as searcher:
        many = queries is not None
        answers = [_answer(searcher, one, many) for one in asked]
        pages = [page for page, _ in answers]
        if sheet is not None:
            _write_sheet(searcher, asked, pages, sheet)
        said = _export(pages, csv, copy_to)
        for one, (page, error) in zip(asked, answers, strict=True):
            _show(searcher, one, page, error, many, json_out)
    if sheet is not None and any(pages):
        said.append(f"contact sheet: {sheet}")
    for line in said:
        say(line)
    failed = sum(error is not None for _, error in answers)
    if failed:
        say(f"mmref: {failed} of {len(asked)} questions failed")
        raise typer.Exit(1)


def _answer(searcher: "Searcher", asked: "Asked", many: bool) -> "tuple[Results, str | None]":
    """The hits of one question; one of many may fail without the others."""
    from mmref.errors import MMRefError
    from mmref.search.hits import Results

    try:
        return searcher.answer(asked.query, asked.options), None
    except MMRefError as error:
        if not many:
            raise
        return Results(query=asked.query.label), str(error)


def _show(
    searcher: "Searcher",
    asked: "Asked",
    page: "Results",
    error: str | None,
    many: bool,
    json_out: bool,
) -> None:
    from mmref.cli.console import emit_json, say

    label = asked.query.label
    name = f"{label}: " if many else ""
    if json_out and many:
        _emit_line({"query": label, "error": error} if error else page.as_dict())
    elif json_out:
        emit_json(page.as_dict())
    else:
        title = label if many else ""
        _print_captions(page, title) if searcher.captions else _print(page, title)
    if error:
        say(f"{name}{error}")
        return
    for words in [searcher.unknown_words(text) for text, _ in asked.query.texts]:
        if words:
            say(f"note: {name}the run has never seen {', '.join(words)}")
    _say_end(page, asked.options.min_score, name, len(searcher))
    if page and page.next and not many and not json_out:
        say(f"more: --cursor {page.next}")


def _emit_line(document: dict[str, Any]) -> None:
    import json
    import sys

    sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")


def _say_end(page: "Results", min_score: float | None, name: str, stored: int) -> None:
    from mmref.cli.console import say

    if page.note is not None:
        say(f"note: {name}{page.note}")
    if page.changed:
        say(f"note: {name}the store has changed since the first page; new images may be left out")
    if page.no_match and page.confidence is not None:
        found = page.confidence
        say(f"{name}no confident match (evidence {found.evidence:.2f} of {found.needed:.2f})")
    elif not page:
        low = "" if min_score is None else f" with a score of at least {min_score:g}"
        empty = "" if stored else ": the store is empty, mmref index adds images to it"
        say(f"{name}no match{empty or low}")


def _export(pages: "Sequence[Results]", csv: str | None, copy_to: str | None) -> list[str]:
    """Write files; say what was written."""
    from mmref.search.export import copy_hits, write_csv

    said: list[str] = []
    if csv is not None:
        write_csv(csv, pages)
        said.append(f"table: {csv}")
    if copy_to is not None:
        copies, absent = copy_hits(copy_to, pages)
        said.append(f"copies: {len(copies)} in {copy_to}")
        said += [f"not copied, there is no such file: {hit.path}" for hit in absent]
    return said


def _write_sheet(
    searcher: "Searcher", asked: "Sequence[Asked]", pages: "Sequence[Results]", path: str
) -> None:
    from mmref.search.sheet import Row, caption_tile, contact_sheet, tile_of

    rows = []
    for one, page in zip(asked, pages, strict=True):
        picture = None
        if one.query.images:
            given = str(one.query.images[0][0])
            item = searcher.pictures.find(given)
            picture = given if item is None else item.place.path
        alone = "its sentences" if searcher.captions else "images like this one"
        title = one.query.label if picture is None or one.query.texts else alone
        subtitle = "no confident match" if page.no_match else ""
        shown = [caption_tile(hit) if searcher.captions else tile_of(hit) for hit in page]
        rows.append(Row(title, shown[:_WIDE], picture, subtitle))
        rows += [Row("", shown[start : start + _WIDE]) for start in range(_WIDE, len(shown), _WIDE)]
    contact_sheet(rows, path)


def _print(hits: "Results", title: str) -> None:
    from pathlib import Path

    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mmref.cli.console import out

    console = out(whole_lines=True)
    if title:
        console.print(title, markup=False, soft_wrap=True)
    if not hits:
        return
    refined = _refined(hits)
    bunched = hits[0].others is not None
    named = any(hit.group not in (None, str(Path(hit.path).parent)) for hit in hits)
    ordered = any(hit.sort_value is not None for hit in hits)
    taken = _OTHER_COLUMNS + (6 if bunched else 0) + (_GROUP + 2) * named + (_DATE + 2) * ordered
    folder = _shared_folder([hit.path for hit in hits], console.width - taken)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    names = [*_SCORES[: 4 if refined else 2], "id"]
    for name in [*names, *(["also"] if bunched else [])]:
        table.add_column(name, justify="right", no_wrap=True)
    if named:
        table.add_column("group", overflow="fold", max_width=_GROUP)
    if ordered:
        table.add_column("sorted by", overflow="fold", min_width=_ordered(hits), max_width=_DATE)
    table.add_column("image", overflow="fold")
    for hit in hits:
        cells = _cells(hit, refined, named)
        if ordered:
            cells.append(Text("-" if hit.sort_value is None else str(hit.sort_value)))
        table.add_row(*cells, Text(hit.path.removeprefix(folder)))
    console.print(table)
    if folder:
        console.print(f"in {folder}", markup=False, soft_wrap=True)


def _cells(hit: "Hit", refined: bool, named: bool) -> list[Any]:
    from rich.text import Text

    cells: list[Any] = [*_scores(hit, refined), str(hit.id)]
    if hit.others is not None:
        cells.append(f"+{len(hit.others)}" if hit.others else "")
    if named:
        cells.append(Text("-" if hit.group is None else str(hit.group)))
    return cells


def _ordered(hits: "Results") -> int:
    """Letters that the column takes by which hits are sorted."""
    return min(_DATE, max(len(str(hit.sort_value)) for hit in hits))


def _refined(hits: "Results") -> bool:
    return hits[0].reference_score is not None


def _scores(hit: "Hit", refined: bool) -> list[str]:
    shown = [str(hit.rank), f"{hit.score:.4f}"]
    if refined:
        shown += [f"{hit.base_score:.4f}", f"{hit.reference_score or 0.0:.4f}"]
    return shown


def _print_captions(hits: "Results", title: str) -> None:
    """Sentences, each above its picture; ``also`` counts further pictures of the same one."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mmref.cli.console import out

    console = out(whole_lines=True)
    if title:
        console.print(title, markup=False, soft_wrap=True)
    if not hits:
        return
    refined = _refined(hits)
    images = [str(hit.metadata["image"]) for hit in hits]
    also = any(hit.others for hit in hits)
    named = any(hit.group not in (None, hit.metadata["caption"]) for hit in hits)
    taken = _OTHER_COLUMNS + (_GROUP + 2 if named else 0)
    folder = _shared_folder(images, console.width - taken)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in [*_SCORES[: 4 if refined else 2], *(["also"] if also else [])]:
        table.add_column(name, justify="right", no_wrap=True)
    if named:
        table.add_column("group", overflow="fold", max_width=_GROUP)
    table.add_column("caption, image", overflow="fold")
    for hit, image in zip(hits, images, strict=True):
        cells: list[Any] = _scores(hit, refined)
        if also:
            cells.append(f"+{len(hit.others)}" if hit.others else "")
        if named:
            cells.append(Text("-" if hit.group is None else str(hit.group)))
        sentence = Text(" ".join(str(hit.metadata["caption"]).split()))
        table.add_row(*cells, sentence.append("\n" + image.removeprefix(folder), style="dim"))
    console.print(table)
    if folder:
        console.print(f"in {folder}", markup=False, soft_wrap=True)


def _shared_folder(paths: "Sequence[str]", room: int) -> str:
    """The folder that all paths share, if they are too long to be shown in full; else empty."""
    import os
    from pathlib import Path

    if max(map(len, paths)) <= room or not all(map(os.path.isabs, paths)):
        return ""
    shared = os.path.commonpath([str(Path(path).parent) for path in paths])
    return shared.rstrip(os.sep) + os.sep
