"""Keep a store in step with folders: list them again and again, index what has settled.

Listing works on every file system, network mounts included, and is cheap beside encoding
(benchmarks/ingest.py). The store is open, and locked, only while there is something to write, so
other commands may write between rounds. A file that has changed since the round before is perhaps
still being written: it waits for the next. Where a folder is gone, or empty, or a disk below it is
not mounted any more, nothing is forgotten: the trouble is told, and the round is tried again.
"""

import os
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmref.errors import MMRefError, StoreMismatchError, UsageError
from mmref.search.ingest.index import folder_of, index_listing
from mmref.search.ingest.listing import Listing, as_dataset, list_images
from mmref.search.ingest.report import IngestReport
from mmref.search.records import Model, Skipped

EVERY = 2.0

_MOST = 86_400.0  # seconds between rounds
_RESTS = 4.0  # of the time between rounds: four times what listing takes, where that is more

# path -> (bytes, time of the last change in nanoseconds)
_Seen = dict[str, tuple[int, int]]


@dataclass
class _State:
    """What a round leaves for the next.

    Attributes:
        first: whether there was no complete round yet.
        indexed: files as they were when they were indexed.
        before: files as the last round saw them.
        skipped: what was told of files that cannot be indexed.
        held: folders that must be there, and must hold something, before anything is forgotten.
        told: the trouble that was told last.
    """

    first: bool = True
    indexed: _Seen = field(default_factory=dict)
    before: _Seen = field(default_factory=dict)
    skipped: set[Skipped] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    told: str = ""


def watch(
    model: Model,
    sources: Sequence[str | Path],
    store: str | Path,
    *,
    every: float = EVERY,
    prune: bool = False,
    sleep: Callable[[float], Any] = time.sleep,
    **options: Any,
) -> Generator[IngestReport | str]:
    """Index, then go on doing so whenever something changes; ends when the caller stops.

    Args:
        model: the run's model.
        sources: folders, files or patterns of files.
        store: address of the store.
        every: seconds between rounds.
        prune: forget items whose picture is gone.
        sleep: called with the seconds between rounds.
        options: of :func:`mmref.search.ingest.index.index_listing`.

    Yields:
        A report of the first round and of each that changed or skipped something; and what stands
        in the way, as text, once until it changes.

    Raises:
        UsageError: a SOURCE is among the sources.
        PathError: a source does not exist at the beginning.
        StoreMismatchError: another run made the store.
    """
    if model.kind == "features" or any(as_dataset(source) is not None for source in sources):
        raise UsageError("--watch takes folders, files and patterns of pictures, not SOURCEs")
    if not 0 < every <= _MOST:
        raise UsageError(f"--every {every:g}: give a number of seconds above 0, up to {_MOST:g}")
    state = _State()
    while True:
        begun = time.monotonic()
        listed = 0.0
        trouble = ""
        try:
            listing = list_images(sources, features=False, leave_out=folder_of(store))
            listed = time.monotonic() - begun
            trouble = _missing(listing, state)
            report = _round(model, listing, store, state, prune and not trouble, options)
            if report is not None:
                yield report
        except StoreMismatchError:
            raise
        except (MMRefError, OSError) as error:
            if state.first and isinstance(error, UsageError):
                raise
            trouble = str(error)
        if trouble not in ("", state.told):
            yield trouble
        state.told = trouble
        sleep(max(every, _RESTS * listed))


def _missing(listing: Listing, state: _State) -> str:
    """What is perhaps not mounted: a folder that held something and holds nothing now."""
    roots = [*listing.folders, *(pattern.folder for pattern in listing.patterns)]
    holding = {
        root for root in roots if any(one.place.path.startswith(root) for one in listing.found)
    }
    here = holding | set(listing.devices.values())
    lost = sorted(state.held - here)
    state.held |= here
    if not lost:
        return ""
    return (
        f"{lost[0].rstrip(os.sep)} held images and is empty, or not mounted: nothing is forgotten "
        "until it is back, or until this is started again"
    )


def _round(
    model: Model,
    listing: Listing,
    store: str | Path,
    state: _State,
    prune: bool,
    options: dict[str, Any],
) -> IngestReport | None:
    """Index what is new or changed and has settled; None when nothing came of it."""
    now = {one.place.path: (one.place.size, one.place.mtime_ns) for one in listing.found}
    settled = [
        found
        for found in listing.found
        if state.indexed.get(found.place.path) != now[found.place.path]
        and (state.first or state.before.get(found.place.path) == now[found.place.path])
    ]
    # What is gone waits for a round too: it may turn up elsewhere, and keep its vector.
    missing = [path for path in state.indexed if path not in listing]
    gone = [path for path in missing if path not in state.before]
    listing.spare(path for path in missing if path in state.before)
    state.before = now
    if settled or (gone and prune):
        listing.found = settled
        report = index_listing(model, listing, store, prune=prune, **options)
        state.indexed.update({one.place.path: now[one.place.path] for one in settled})
    else:
        report = IngestReport(skipped=list(listing.skipped))
    for path in gone:
        del state.indexed[path]
    skipped = set(report.skipped)
    report.skipped = [skip for skip in report.skipped if skip not in state.skipped]
    state.skipped |= skipped
    told = state.first or report.changed or report.skipped
    state.first = False
    return report if told else None
