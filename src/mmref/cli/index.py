"""``mmref index``: pictures into a store."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mmref.model import MMRef
    from mmref.search.captions.listing import CaptionListing
    from mmref.search.ingest.ray_cluster import RayEncoder
    from mmref.search.ingest.report import IngestReport

EPILOG = "Example: mmref index runs/flags ~/Pictures --store flags.store"
_SHOWN = 10


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Folder of a trained run.")],
    store: Annotated[
        str, typer.Option("--store", metavar="URI", help="The store: a folder, made when missing.")
    ],
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGES...",
            help="Folders, image files, patterns ('photos/**/*.jpg'), or a SOURCE.",
            show_default=False,
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Forget images of these folders that are gone.")
    ] = False,
    checksum: Annotated[
        bool,
        typer.Option("--checksum", help="Read every file, whatever its size and time say."),
    ] = False,
    captions: Annotated[
        bool,
        typer.Option(
            "--captions", help="Index the captions too: of a SOURCE, or a.txt beside a.jpg."
        ),
    ] = False,
    reencode: Annotated[
        bool,
        typer.Option(
            "--reencode", help="Encode all images of the store with RUN; the old run serves so far."
        ),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Go on: index what changes, until Ctrl-C."),
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            "--every",
            metavar="SECONDS",
            help="--watch: pause between looks (2).",
            show_default=False,
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Encode on a Ray cluster: host:port, ray://host:port, auto or local.",
            show_default=False,
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="fp32|fp16|int8",
            help="How a new store keeps vectors (fp32 unless told).",
            show_default=False,
        ),
    ] = None,
    json_out: Annotated[
        bool, typer.Option("--json", help="Print what was done as JSON on stdout.")
    ] = False,
) -> None:
    """Index images into a store; run it again at any time to add what is new.

    Files that the store knows (path, size, time, else content) are not encoded again. After an
    interruption the same command goes on where it stopped.
    """
    from mmref.cli.console import emit_json, say
    from mmref.errors import UsageError
    from mmref.model import MMRef
    from mmref.search.captions.beside import refuse_captions
    from mmref.search.ingest.index import index_images

    if not images and not reencode:
        raise UsageError("name what to index: mmref index RUN IMAGES... --store URI")
    if every is not None and not watch:
        raise UsageError("--every goes with --watch")
    if watch and (reencode or captions or ray or checksum):
        raise UsageError(
            "--watch indexes images here: leave --reencode, --captions, --ray and --checksum out"
        )
    if reencode and checksum:
        raise UsageError("--reencode reads every file anyway: leave --checksum out")
    model = MMRef.from_pretrained(run).to("auto")
    if watch:
        _watch(model, run, images or (), store, prune, every, storage, json_out)
        return
    if images and reencode and model.kind != "features":
        raise UsageError("--reencode takes the images that the store knows: leave IMAGES out")
    if captions and reencode:
        raise UsageError("--reencode takes the captions of the store too: leave --captions out")
    refuse_captions(store)
    listing = _captions(images or (), store, model) if captions else None
    with _encoder(ray, model) as encoder, _Bar() as bar:
        if reencode:
            from mmref.search.ingest.reencode import reencode as encode_anew

            report = encode_anew(
                model,
                store,
                run=model.path or run,
                sources=images or (),
                storage=storage,
                prune=prune,
                encoder=encoder,
                progress=bar,
            )
        else:
            report = index_images(
                model,
                images or (),
                store,
                run=model.path or run,
                prune=prune,
                storage=storage,
                checksum=checksum,
                encoder=encoder,
                progress=bar,
            )
    beside = _index_captions(model, run, store, report, listing, prune, reencode, storage)
    for note in [*report.notes, *(beside.notes if beside else ())]:
        say(f"note: {note}")
    if json_out:
        emit_json(report.as_dict() | ({"captions": beside.as_dict()} if beside else {}))
    else:
        _print(report, store)
        if beside:
            _print_captions(beside)
    _say_skipped(report)
    if beside:
        _say_skipped(beside)
    if report.failed:
        say("mmref: nothing could be indexed")
        raise typer.Exit(1)


@contextmanager
def _encoder(ray: str | None, model: "MMRef") -> "Iterator[RayEncoder | None]":
    """The cluster that encodes, if one is to. Ray prints what happens to its nodes on stdout."""
    if ray is None:
        yield None
        return
    from contextlib import redirect_stdout
    from io import StringIO

    from mmref.search.ingest.ray_cluster import RayEncoder

    with redirect_stdout(StringIO()), RayEncoder(ray, model) as encoder:
        yield encoder


def _watch(
    model: "MMRef",
    run: str,
    images: "Sequence[str]",
    store: str,
    prune: bool,
    every: float | None,
    storage: str | None,
    json_out: bool,
) -> None:
    """Index again and again until Ctrl-C or SIGTERM, a line for each round that changed something.

    Either signal lets the write under way end and closes the store; the exit status is 0.
    """
    import signal

    from mmref.cli.console import say
    from mmref.search.captions.beside import refuse_captions
    from mmref.search.ingest.report import IngestReport
    from mmref.search.ingest.watch import EVERY, watch

    refuse_captions(store)
    bar = _Bar()
    first = True

    def progress(seen: int, total: int, report: IngestReport) -> None:
        if first:
            bar(seen, total, report)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    rounds = watch(
        model,
        images,
        store,
        every=EVERY if every is None else every,
        prune=prune,
        run=model.path or run,
        storage=storage,
        progress=progress,
    )
    try:
        with bar:
            event = next(rounds)
        first = False
        while True:
            _print_round(event, json_out)
            event = next(rounds)
    except KeyboardInterrupt:
        say("stopped; the store is closed")
    finally:
        rounds.close()
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_round(event: "IngestReport | str", json_out: bool) -> None:
    import json
    from datetime import datetime

    from mmref.cli.console import out, say

    now = datetime.now().astimezone().isoformat(timespec="seconds")
    if json_out:
        document = {"trouble": event} if isinstance(event, str) else event.as_dict()
        print(json.dumps({"time": now} | document, ensure_ascii=False), flush=True)
    elif isinstance(event, str):
        say(f"{now} {event}")
    else:
        counts = event.as_dict() | {"skipped": len(event.skipped)}
        names = ("added", "updated", "moved", "removed", "unchanged", "skipped")
        told = [f"{name} {counts[name]:,}" for name in names if counts[name]]
        out().print(f"{now} {'  '.join(told) or 'nothing yet'}", markup=False)
        _say_skipped(event)


def _captions(sources: "Sequence[str]", store: str, model: "MMRef") -> "CaptionListing":
    """The captions, listed before anything is done: where there are none, that is said at once."""
    from mmref.search.captions.listing import list_captions

    folder = None if "://" in store else Path(store)
    return list_captions(sources, features=model.kind == "features", leave_out=folder)


def _index_captions(
    model: "MMRef",
    run: str,
    store: str,
    report: "IngestReport",
    listing: "CaptionListing | None",
    prune: bool,
    reencode: bool,
    storage: str | None,
) -> "IngestReport | None":
    """Bring the captions of a store up to date after its images; None where that is not asked."""
    from mmref.search.captions.index import index_captions
    from mmref.search.captions.reencode import reencode_captions

    place = model.path or run
    with _Bar("captions") as bar:
        if reencode:
            return reencode_captions(model, store, run=place, storage=storage, progress=bar)
        if listing is None or report.failed:
            _say_stale(store, report)
            return None
        return index_captions(
            model,
            listing,
            store,
            run=place,
            prune=prune,
            sweep=report.moved + report.removed > 0,
            progress=bar,
        )


def _say_stale(store: str, report: "IngestReport") -> None:
    from mmref.cli.console import say
    from mmref.search.captions.beside import open_captions

    if report.done == report.unchanged and not report.removed:
        return
    opened = open_captions(store)
    if opened is not None:
        opened.close()
        say("note: the store holds captions too: --captions brings them up to date")


class _Bar:
    """Progress with a rate; shown with the first batch."""

    def __init__(self, what: str = "images") -> None:
        self.what = what

    def __enter__(self) -> "_Bar":
        from mmref.cli.console import progress_bar

        self.bar = progress_bar()
        self.task: Any = None
        return self

    def __call__(self, seen: int, total: int, report: "IngestReport") -> None:
        import time

        if self.task is None:
            self.begun = time.monotonic()
            self.first = seen
            self.bar.start()
            self.task = self.bar.add_task(f"indexing {self.what}", total=total, note="")
        seconds = time.monotonic() - self.begun
        note = f"{(seen - self.first) / seconds:,.0f} {self.what}/s" if seconds > 0.05 else ""
        self.bar.update(self.task, completed=seen, note=note)

    def __exit__(self, *_: object) -> None:
        if self.task is not None:
            self.bar.stop()


def _print(report: "IngestReport", store: str) -> None:
    from mmref.cli.console import out
    from mmref.search.stores.milvus_address import redacted

    counts = {
        "added": report.added,
        "updated": report.updated,
        "moved": report.moved,
        "removed": report.removed,
        "unchanged": report.unchanged,
        "skipped": len(report.skipped),
    }
    console = out()
    console.print(
        f"{redacted(store)}: {report.done:,} images in {report.seconds:.1f} s", markup=False
    )
    console.print("  ".join(f"{name} {count:,}" for name, count in counts.items()))


def _print_captions(report: "IngestReport") -> None:
    from mmref.cli.console import out

    names = ("added", "updated", "removed", "unchanged")
    counts = [f"{name} {getattr(report, name):,}" for name in names]
    counts.append(f"skipped {len(report.skipped):,}")
    out().print(f"captions: {'  '.join(counts)}")


def _say_skipped(report: "IngestReport") -> None:
    from mmref.cli.console import err

    console = err()
    for skip in report.skipped[:_SHOWN]:
        name = skip.path if skip.path.isprintable() else ascii(Path(skip.path).name)
        console.print(f"skipped {name}: {skip.reason}", markup=False, soft_wrap=True)
    if len(report.skipped) > _SHOWN:
        more = len(report.skipped) - _SHOWN
        console.print(f"... and {more:,} more skipped (--json lists all)", markup=False)
