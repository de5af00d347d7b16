"""``mmref store``: look into a store, check it, give back room, take it out and in, group it."""

from typing import Annotated, Any

import typer

EPILOG = "Example: mmref store info flags.store"

app = typer.Typer(
    help="Look into a store, check it, export and import it, group its images.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
_Uri = Annotated[str, typer.Argument(metavar="URI", help="The store.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
_SHOWN = 50


@app.callback()
def _root() -> None:
    """Look into a store, check it, export and import it, group its images."""


@app.command(name="info", epilog=EPILOG)
def info(store: _Uri, json_out: _Json = False) -> None:
    """How many images and captions a store holds, and which run made it."""
    from mmref.cli.console import emit_json
    from mmref.search.captions.upkeep import captions_facts
    from mmref.search.stores.base import open_store

    with open_store(store) as opened:
        facts = opened.info()
    facts |= captions_facts(store)
    if json_out:
        emit_json(facts)
    else:
        _print(facts)


@app.command(name="verify", epilog="Example: mmref store verify flags.store --content")
def verify(
    store: _Uri,
    content: Annotated[
        bool, typer.Option("--content", help="Read the pictures too and compare their content.")
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Make the search index anew; forget images that cannot be used."
        ),
    ] = False,
    json_out: _Json = False,
) -> None:
    """Check every row, every vector and the search index; exit 1 where anything is wrong."""
    from mmref.cli.console import emit_json, out, say
    from mmref.search.captions.upkeep import captions_facts, verify_captions
    from mmref.search.stores.base import open_store
    from mmref.search.stores.milvus_address import redacted

    with open_store(store) as reader:
        identity, images = reader.identity, len(reader)
        found = [] if repair else reader.verify(content)
    left = found
    if repair:
        with open_store(store, identity) as opened:
            found = opened.verify(content, repair=True)
            left, images = opened.verify(content) if found else [], len(opened)
    beside, beside_left = verify_captions(store, repair)
    found, left = [*found, *beside], [*left, *beside_left]
    captions = captions_facts(store)["captions"]
    if json_out:
        document = {"store": redacted(store), "images": images, "captions": captions}
        document["problems"] = found
        emit_json(document | ({"left": left} if repair else {}))
    else:
        console = out()
        for problem in found[:_SHOWN]:
            text = problem if problem.isprintable() else ascii(problem)
            console.print(text, markup=False, soft_wrap=True)
        if len(found) > _SHOWN:
            console.print(f"... and {len(found) - _SHOWN:,} more (--json lists all)")
        if not found:
            line = f"{redacted(store)}: {_counted(images, captions)}, nothing wrong"
            console.print(line, markup=False, soft_wrap=True)
    if found and repair:
        say(f"{len(found):,} problems found, {len(left):,} left; index again what was forgotten")
    elif found:
        again = f"mmref store verify {redacted(store)} --repair"
        say(f"{len(found):,} problems; {again} mends what it can")
    if left:
        raise typer.Exit(1)


@app.command(name="compact", epilog="Example: mmref store compact flags.store")
def compact(store: _Uri, json_out: _Json = False) -> None:
    """Give back the room of what was removed; the store can be searched all the while."""
    from mmref.cli.console import emit_json, out
    from mmref.search.captions.upkeep import compact_captions
    from mmref.search.stores.base import open_store
    from mmref.search.stores.milvus_address import redacted

    with open_store(store) as reader:
        identity, before = reader.identity, reader.info()["bytes"]
    with open_store(store, identity) as opened:
        opened.compact()
    compact_captions(store)
    with open_store(store) as reader:
        after = reader.info()["bytes"]
    if json_out:
        emit_json({"store": redacted(store), "bytes_before": before, "bytes": after})
    else:
        sizes = f"{before / 1e6:,.1f} MB before, {after / 1e6:,.1f} MB now"
        out().print(f"{redacted(store)}: {sizes}", markup=False, soft_wrap=True)


@app.command(name="export", epilog="Example: mmref store export flags.store flags-export")
def export(
    store: _Uri,
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A new folder.")],
    json_out: _Json = False,
) -> None:
    """Write items (Parquet), vectors (.npy) and profiles (.npz) into a folder."""
    from mmref.cli.console import emit_json, out
    from mmref.search.captions.upkeep import export_captions
    from mmref.search.stores.base import open_store
    from mmref.search.stores.exchange import export_store
    from mmref.search.stores.milvus_address import redacted

    with open_store(store) as opened:
        count = export_store(opened, folder)
    captions = export_captions(store, folder)
    if json_out:
        document = {"store": redacted(store), "folder": folder, "images": count}
        emit_json(document | {"captions": captions})
    else:
        out().print(f"{folder}: {_counted(count, captions)}", markup=False, soft_wrap=True)


@app.command(name="import", epilog="Example: mmref store import flags-export --store new.store")
def import_(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="What export has written.")],
    store: Annotated[str, typer.Option("--store", metavar="URI", help="The new store.")],
    json_out: _Json = False,
) -> None:
    """Make a store of an exported folder, without encoding."""
    from mmref.cli.console import emit_json, out
    from mmref.search.captions.upkeep import import_captions
    from mmref.search.stores.exchange import import_store
    from mmref.search.stores.milvus_address import redacted

    count = import_store(folder, store)
    captions = import_captions(folder, store)
    if json_out:
        document = {"store": redacted(store), "folder": folder, "images": count}
        emit_json(document | {"captions": captions})
    else:
        shown = _counted(count, captions)
        out().print(f"{redacted(store)}: {shown}", markup=False, soft_wrap=True)


@app.command(name="group", epilog="Example: mmref store group flags.store --by object")
def group(
    store: _Uri,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="COLUMN",
            help="What the images of one object have in common: a column of their metadata, "
            "'folder', or 'clusters', which are sought among the vectors.",
        ),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option("--share", help="The part of the group's mean in each vector, 0 to 1.  [0.5]"),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="Of clusters: least mean cosine within one.  [0.7]"),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Let each image stand alone again.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the groups, change nothing.")
    ] = False,
    sheet: Annotated[
        str | None, typer.Option("--sheet", metavar="F.png", help="Draw some of the groups.")
    ] = None,
    json_out: _Json = False,
) -> None:
    """Let images of one object share a vector; nothing is encoded anew."""
    from mmref.cli.console import emit_json, out, progress_bar
    from mmref.errors import UsageError
    from mmref.search.groups.grouping import SHARE, Grouping
    from mmref.search.groups.regroup import group_sheet, group_store
    from mmref.search.stores.milvus_address import redacted

    if off == (by is not None):
        raise UsageError("say what to group by (--by object), or --off")
    if off and not (share is None and threshold is None):
        raise UsageError("--share and --threshold go with --by")
    grouping = None if by is None else Grouping(by, SHARE if share is None else share, threshold)
    progress = progress_bar()
    progress.disable = dry_run
    with progress as bar:
        task = bar.add_task("grouping images", total=None, note="")
        found = group_store(
            store,
            grouping,
            dry_run=dry_run,
            progress=lambda done, images: bar.update(task, completed=done, total=images),
        )
    if sheet is not None:
        group_sheet(found, sheet)
    if json_out:
        made = None if grouping is None else grouping.as_dict()
        emit_json(
            {"store": redacted(store), "grouping": made, "dry_run": dry_run, **found.as_dict()}
        )
        return
    console = out()
    for line in [f"{redacted(store)}: {_grouped(found.as_dict())}", *found.lines()]:
        console.print(line if line.isprintable() else ascii(line), markup=False, soft_wrap=True)
    if dry_run:
        console.print("nothing was changed: leave out --dry-run to group the store")


def _grouped(facts: dict[str, Any]) -> str:
    if not facts["groups"]:
        return f"no groups, {facts['images']:,} images alone"
    text = f"{facts['groups']:,} groups of 2 to {facts['largest']:,} images"
    text += f", {facts['grouped']:,} images in them, {facts['alone']:,} alone"
    if facts["too_large"]:
        text += f"; {facts['too_large']:,} groups are too large to show one object"
    return text


def _groups(facts: dict[str, Any]) -> str:
    rule = f", mean cosine {facts['threshold']:g}" if facts["threshold"] is not None else ""
    alone = facts["images"] - facts["grouped"]
    text = f"by {facts['by']}{rule}, share {facts['share']:g}: "
    text += _grouped(facts | {"alone": alone})
    if facts.get("since"):
        text += f"; {facts['since']:,} are new since: mmref store group again"
    return text


def _counted(images: int, captions: int) -> str:
    return f"{images:,} images" + (f", {captions:,} captions" if captions else "")


def _captions(facts: dict[str, Any]) -> str:
    made = facts["captions_run"]
    other = made not in (None, facts["run"]["id"])
    stale = f", of the run {made} still: mmref index RUN --reencode" if other else ""
    return f"{facts['captions']:,}{stale}"


def _print(facts: dict[str, Any]) -> None:
    from mmref.cli.console import out

    run = facts["run"]
    refinement = run["refinement"]
    size = run["image_size"]
    sizes = f"{facts['vector_bytes']:,} vector ({facts['storage']})"
    lines = {
        "store": facts["store"],
        "images": f"{facts['images']:,}",
        "captions": _captions(facts),
        "dimension": facts["dimension"],
        "bytes per image": f"{sizes}, {facts['profile_bytes']:,} profile",
        "on disk": f"{facts['bytes'] / 1e6:,.1f} MB",
        "run": run["id"],
        "run's folder": run["path"] or "unknown",
        "encoder": run["kind"] + (f", {size[0]} x {size[1]} pixels" if size else ""),
        "weights": run["digest"][:16],
        "refinement": "none" if refinement is None else refinement["form"],
    }
    if facts["groups"] is not None:
        lines["groups"] = _groups(facts["groups"] | {"images": facts["images"]})
    if facts.get("reencoding"):
        lines["re-encoding"] = f"for {facts['reencoding']}, not complete: run it again"
    console = out()
    for name, value in lines.items():
        console.print(f"{name:<16} {value}", markup=False, soft_wrap=True)
