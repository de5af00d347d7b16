"""``mmref store``: facts about a store."""

from typing import Annotated, Any

import typer

EPILOG = "Example: mmref store info flags.store"

app = typer.Typer(
    help="Look into a store.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


@app.callback()
def _root() -> None:
    """Look into a store."""


@app.command(name="info", epilog=EPILOG)
def info(
    store: Annotated[str, typer.Argument(metavar="URI", help="The store.")],
    json_out: Annotated[
        bool, typer.Option("--json", help="Print the facts as JSON on stdout.")
    ] = False,
) -> None:
    """How many images a store holds, and which run made it."""
    from mmref.cli.console import emit_json
    from mmref.search.stores.base import open_store

    with open_store(store) as opened:
        facts = opened.info()
    if json_out:
        emit_json(facts)
    else:
        _print(facts)


def _print(facts: dict[str, Any]) -> None:
    from mmref.cli.console import out

    run = facts["run"]
    refinement = run["refinement"]
    size = run["image_size"]
    lines = {
        "store": facts["store"],
        "images": f"{facts['images']:,}",
        "dimension": facts["dimension"],
        "bytes per image": f"{facts['vector_bytes']:,} vector, {facts['profile_bytes']:,} profile",
        "on disk": f"{facts['bytes'] / 1e6:,.1f} MB",
        "run": run["id"],
        "run's folder": run["path"] or "unknown",
        "encoder": run["kind"] + (f", {size[0]} x {size[1]} pixels" if size else ""),
        "weights": run["digest"][:16],
        "refinement": "none" if refinement is None else refinement["form"],
    }
    console = out()
    for name, value in lines.items():
        console.print(f"{name:<16} {value}", markup=False, soft_wrap=True)
