"""Pictures into a store: only what is new or changed is decoded and encoded.

A file with the path, size and time that the store knows is left alone. Any other file is read and
its content hashed: known content keeps its vector (the file was moved, copied or merely touched),
unknown content is decoded by threads, encoded in batches, and written one transaction per batch,
so that a kill at any moment costs at most the batches under way and the next run goes on there.
"""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mmref.data.images import default_workers, image_array, load_image
from mmref.errors import DataError, ImageError
from mmref.search.ingest.listing import Found, Listing, Source, list_images
from mmref.search.ingest.report import IngestReport, Progress
from mmref.search.records import (
    Changes,
    Item,
    Model,
    Place,
    Record,
    RunIdentity,
    Skipped,
    content_digest,
)
from mmref.search.stores.base import VectorStore, open_store

BATCH = 64
MAX_FILE_BYTES = 1 << 29
_BATCHES_AHEAD = 2


def index_images(
    model: Model,
    sources: Sequence[Source],
    store: str | Path,
    *,
    run: str | Path = "",
    prune: bool = False,
    batch_size: int = BATCH,
    workers: int | None = None,
    storage: str | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Index pictures (or features) into a store, which is made when there is none.

    Args:
        model: the run's model.
        sources: folders, files, SOURCEs or data sets.
        store: address of the store.
        run: the run's folder, noted in a new store.
        prune: forget items of these sources whose picture is gone.
        batch_size: pictures encoded, and written, at a time.
        workers: decoding threads; by default one for each core.
        storage: how a new store keeps vectors.
        progress: called with (pictures seen, pictures in all, report so far).

    Raises:
        PathError: a source does not exist, or the store cannot be written.
        DataError: the sources hold nothing to index, or not what the run encodes.
        StoreMismatchError: another run made the store.
        StoreError: the store is damaged or has another writer, or the disk is full.
    """
    begun = time.monotonic()
    uri = str(store)
    folder = None if "://" in uri else Path(uri)
    listing = list_images(sources, features=model.kind == "features", leave_out=folder)
    if not listing.found:
        raise DataError(_nothing(sources, listing))
    path = str(Path(run).expanduser().absolute()) if str(run) else ""
    with closing(open_store(uri, RunIdentity.of(model, path), storage=storage)) as opened:
        ingest = _Ingest(model, opened, listing)
        report = ingest.report
        try:
            for batch in ingest.batches(batch_size, workers or default_workers()):
                ingest.write(batch)
                if progress is not None:
                    progress(ingest.seen, len(listing.found), report)
            if prune and report.done:
                ingest.prune()
        finally:
            report.seconds = time.monotonic() - begun
        opened.finish()
    report.seconds = time.monotonic() - begun
    return report


def _nothing(sources: Sequence[Source], listing: Listing) -> str:
    names = ", ".join(
        str(source) if isinstance(source, str | Path) else source.name for source in sources
    )
    if listing.skipped:
        first = listing.skipped[0]
        more = f" ({len(listing.skipped)} skipped, the first is {first.path}: {first.reason})"
    else:
        more = ""
    return f"no images in {names or 'an empty list'}{more}: name a folder that holds some"


@dataclass(frozen=True, slots=True)
class _Ready:
    """One thing after reading: what came of it."""

    found: Found
    digest: str = ""
    pixels: Any = None  # what the encoder takes, or None when the content is known
    reason: str | None = None


class _Ingest:
    def __init__(self, model: Model, store: VectorStore, listing: Listing) -> None:
        self.model = model
        self.store = store
        self.listing = listing
        self.report = IngestReport(skipped=list(listing.skipped), notes=listing.notes)
        self.seen = 0
        self.known = store.at([found.place.path for found in listing.found])
        self.moved: set[int] = set()

    # ------------------------------------------------------------------ reading

    def batches(self, size: int, workers: int) -> Iterator[list[_Ready]]:
        """Read all that is found, some batches ahead of the encoder."""
        found = self.listing.found
        waiting: deque[list[_Ready | Future[_Ready]]] = deque()
        with ThreadPoolExecutor(workers, thread_name_prefix="mmref-decode") as pool:
            try:
                for start in range(0, len(found), size):
                    part = found[start : start + size]
                    waiting.append(
                        [self._untouched(one) or pool.submit(self._read, one) for one in part]
                    )
                    if len(waiting) > _BATCHES_AHEAD:
                        yield _results(waiting.popleft())
                while waiting:
                    yield _results(waiting.popleft())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _untouched(self, found: Found) -> _Ready | None:
        """The answer for a file of the size and time that the store knows; it is not read."""
        place, old = found.place, self.known.get(found.place.path)
        if old is None or found.features is not None:
            return None
        same = (old.place.size, old.place.mtime_ns) == (place.size, place.mtime_ns)
        return _Ready(found, old.digest) if same else None

    def _read(self, found: Found) -> _Ready:
        place = found.place
        if found.features is not None:
            old = self.known.get(place.path)
            vector = np.ascontiguousarray(found.features, dtype="<f4")
            digest = content_digest(vector.tobytes())
            fresh = old is None or old.digest != digest
            return _Ready(found, digest, vector if fresh else None)
        try:
            if place.size > MAX_FILE_BYTES:
                raise ImageError(f"larger than {MAX_FILE_BYTES >> 20} MB")
            content = Path(place.path).read_bytes()
            digest = content_digest(content)
            if self.store.find_digest(digest):
                return _Ready(found, digest)
            return _Ready(found, digest, self._decoded(content))
        except ImageError as error:
            return _Ready(found, reason=str(error).removeprefix("image: "))
        except OSError as error:
            return _Ready(found, reason=error.strerror or "cannot be read")

    def _decoded(self, content: bytes) -> Any:
        size = self.model.image_size
        image = load_image(content, near=size)
        return image if size is None else image_array(image, size)

    # ------------------------------------------------------------------ writing

    def write(self, batch: list[_Ready]) -> None:
        """Write one batch in one transaction."""
        report, changes = self.report, Changes()
        fresh: list[_Ready] = []
        copies: list[tuple[_Ready, Item]] = []
        for ready in batch:
            self.seen += 1
            place = ready.found.place
            old = self.known.get(place.path)
            if ready.reason is not None:
                kept = "; what the store knew of it is kept" if old is not None else ""
                report.skipped.append(Skipped(place.path, ready.reason + kept))
            elif ready.pixels is not None:
                fresh.append(ready)
            elif old is not None and old.digest == ready.digest:
                self._keep(old, place, changes)
            else:
                self._reuse(ready, old, changes, copies, fresh)
        changes.records += self._copied(copies)
        changes.records += self._encoded(fresh)
        if changes:
            self.store.apply(changes)

    def _keep(self, old: Item, place: Place, changes: Changes) -> None:
        now = place if place.metadata else replace(place, metadata=old.place.metadata)
        if now.metadata != old.place.metadata:
            self.report.updated += 1
        else:
            self.report.unchanged += 1
        if now != old.place:
            changes.placed.append((old.id, now))

    def _reuse(
        self,
        ready: _Ready,
        old: Item | None,
        changes: Changes,
        copies: list[tuple[_Ready, Item]],
        fresh: list[_Ready],
    ) -> None:
        """Known content at another path: moved when its old place is empty, else a copy."""
        twins = self.store.get(self.store.find_digest(ready.digest))
        if not twins:  # its item has got another content since it was read
            again = self._read(ready.found)
            if again.pixels is not None:
                fresh.append(again)
            else:
                reason = again.reason or "it changed while it was read: index again"
                self.report.skipped.append(Skipped(ready.found.place.path, reason))
            return
        for twin in twins:
            gone = twin.place.path not in self.listing and not os.path.lexists(twin.place.path)
            if old is None and gone and twin.id not in self.moved:
                self.moved.add(twin.id)
                place = ready.found.place
                if not place.metadata:
                    place = replace(place, metadata=twin.place.metadata)
                changes.placed.append((twin.id, place))
                self.report.moved += 1
                return
        copies.append((ready, twins[0]))
        self._count(old)

    def _count(self, old: Item | None) -> None:
        if old is None:
            self.report.added += 1
        else:
            self.report.updated += 1

    def _copied(self, copies: list[tuple[_Ready, Item]]) -> list[Record]:
        if not copies:
            return []
        vectors = self.store.vectors([twin.id for _, twin in copies])
        return self._records([ready for ready, _ in copies], torch.from_numpy(vectors.copy()))

    def _encoded(self, fresh: list[_Ready]) -> list[Record]:
        if not fresh:
            return []
        items: Any = [ready.pixels for ready in fresh]
        if isinstance(items[0], np.ndarray):
            items = np.stack(items)
        vectors = self.model.encode_image(items, batch_size=len(fresh)).float().cpu()
        finite = torch.isfinite(vectors).all(dim=1).tolist()
        good = []
        for ready, usable in zip(fresh, finite, strict=True):
            if usable:
                good.append(ready)
                self._count(self.known.get(ready.found.place.path))
            else:
                reason = "the encoder gave no finite vector"
                self.report.skipped.append(Skipped(ready.found.place.path, reason))
        self.report.encoded += len(good)
        return self._records(good, vectors[torch.tensor(finite)])

    def _records(self, ready: list[_Ready], vectors: torch.Tensor) -> list[Record]:
        refiner = self.model.refiner
        profiles: dict[str, npt.NDArray[Any]] = {}
        if refiner is not None:
            profiles = refiner.profiles(vectors, "image").to_arrays()
        arrays = vectors.numpy().astype(np.float32)
        return [
            Record(
                one.found.place,
                one.digest,
                arrays[row],
                {name: values[row] for name, values in profiles.items()},
            )
            for row, one in enumerate(ready)
        ]

    def prune(self) -> None:
        """Forget items of the listed sources whose picture is gone."""
        listing, gone = self.listing, []
        folders = tuple(listing.folders)
        unread = tuple(skip.path for skip in listing.skipped if skip.path.endswith(os.sep))
        for item in self.store.items():
            path = item.place.path
            if path in listing or item.id in self.moved or path.startswith(unread):
                continue
            if path.startswith(folders):
                if not os.path.lexists(path):
                    gone.append(item.id)
            elif item.place.source in listing.sources:
                gone.append(item.id)
        if gone:
            self.store.apply(Changes(removed=gone))
        self.report.removed = len(gone)


def _results(waiting: list[_Ready | Future[_Ready]]) -> list[_Ready]:
    return [one if isinstance(one, _Ready) else one.result() for one in waiting]
