"""``mmref search``: the images that a sentence or a picture asks for."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmref.search.engine import Hit, Searcher
    from mmref.search.query import Query

EPILOG = (
    'Example: mmref search --store flags.store "a red flag with a yellow star" --sheet hits.png'
)

_OTHER_COLUMNS = 46  # letters of a line that the numbers take


def command(
    store: Annotated[str, typer.Option("--store", metavar="URI", help="The store to search.")],
    text: Annotated[
        str | None, typer.Argument(metavar="[TEXT]", help="What to look for.", show_default=False)
    ] = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--image", metavar="F", help="An image file, or the path or id of an indexed image."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many hits at most.")] = 10,
    min_score: Annotated[
        float | None, typer.Option("--min-score", metavar="S", help="Leave out lower scores.")
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
    json_out: Annotated[
        bool, typer.Option("--json", help="Print the hits as JSON on stdout.")
    ] = False,
) -> None:
    """Search a store by a sentence, by an image, or by both.

    Each hit shows its score: the cosine (base) plus, where the run refines, the weighted similarity
    through the references (ref).
    """
    from mmref.cli.console import emit_json, say
    from mmref.errors import UsageError
    from mmref.search.engine import Searcher, results_json
    from mmref.search.query import Query

    query = Query.of(text, image)
    if k < 1:
        raise UsageError(f"-k must be at least 1, not {k}")
    with Searcher.open(store, run, refine=False if no_refine else None) as searcher:
        vector, own = searcher.encode(query)
        unknown = searcher.unknown_words(text) if text else []
        if unknown:
            say(f"note: the run has never seen {', '.join(unknown)}")
        hits = searcher.search_vector(
            vector, modality=query.modality, k=k, min_score=min_score, leave_out=own
        )
        picture = _query_picture(searcher, image) if sheet else None
        refined = searcher.refine
    if sheet is not None:
        _write_sheet(query, hits, sheet, picture)
    if json_out:
        emit_json(results_json(query, hits))
    else:
        _print(hits, refined)
    if not hits:
        low = "" if min_score is None else f" with a score of at least {min_score:g}"
        say(f"no match{low}")
    elif sheet is not None:
        say(f"contact sheet: {sheet}")


def _query_picture(searcher: "Searcher", image: str | None) -> str | None:
    if image is None:
        return None
    item = searcher.store.find(image)
    return image if item is None else item.place.path


def _write_sheet(query: "Query", hits: "Sequence[Hit]", path: str, picture: str | None) -> None:
    from mmref.search.sheet import Row, contact_sheet, tile_of

    title = query.label if picture is None or query.texts else "images like this one"
    shown = [tile_of(hit) for hit in hits]
    wide = 5
    rows = [Row(title, shown[:wide], picture)]
    rows += [Row("", shown[start : start + wide]) for start in range(wide, len(shown), wide)]
    contact_sheet(rows, path)


def _print(hits: "Sequence[Hit]", refined: bool) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mmref.cli.console import out

    if not hits:
        return
    console = out()
    folder = _shared_folder([hit.path for hit in hits], console.width - _OTHER_COLUMNS)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    if refined:
        table.add_column("base", justify="right", no_wrap=True)
        table.add_column("ref", justify="right", no_wrap=True)
    table.add_column("id", justify="right", no_wrap=True)
    table.add_column("image", overflow="fold")
    for hit in hits:
        cells = [str(hit.rank), f"{hit.score:.4f}"]
        if refined:
            cells += [f"{hit.base_score:.4f}", f"{hit.reference_score or 0.0:.4f}"]
        table.add_row(*cells, str(hit.id), Text(hit.path.removeprefix(folder)))
    console.print(table)
    if folder:
        console.print(f"in {folder}", markup=False, soft_wrap=True)


def _shared_folder(paths: "Sequence[str]", room: int) -> str:
    """The folder that all paths share, if they are too long to be shown in full; else empty."""
    import os

    if max(map(len, paths)) <= room or not all(map(os.path.isabs, paths)):
        return ""
    shared = os.path.commonpath([os.path.dirname(path) for path in paths])  # noqa: PTH120
    return shared.rstrip(os.sep) + os.sep
