"""Pictures into a store: only what is new or changed is decoded and encoded.

A file with the path, size and time that the store knows is left alone. Any other file is read and
its content hashed: known content keeps its vector (the file was moved, copied or merely touched),
unknown content is decoded by threads, encoded in batches by the caller's thread, and written by
another, one transaction per batch, so that a kill at any moment costs at most the batches under way
and the next run goes on there. What is held in memory at a time is the list of files and the few
batches that :mod:`mmref.search.ingest.pipeline` allows.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmref.data.images import default_workers
from mmref.errors import DataError, ImageError
from mmref.search.ingest.encoding import Encoder, LocalEncoder, encoded
from mmref.search.ingest.listing import Found, Listing, Source, list_images
from mmref.search.ingest.metadata import taken
from mmref.search.ingest.pipeline import WriteBehind, read_ahead
from mmref.search.ingest.reading import encode_content, quiet_pillow, read_file
from mmref.search.ingest.report import IngestReport, Progress
from mmref.search.ingest.writing import Ready, Writing
from mmref.search.records import Item, Model, RunIdentity, content_digest
from mmref.search.stores.base import VectorStore, open_store

BATCH = 64
_COMMON = 64  # items of one content from which on it is remembered
_LOOKED_UP = 2048  # files whose items are asked for at a time


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
    checksum: bool = False,
    encoder: Encoder | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Index pictures (or features) into a store, which is made when there is none.

    Args:
        model: the run's model.
        sources: folders, files, patterns of files, SOURCEs or data sets.
        store: address of the store.
        run: the run's folder, noted in a new store.
        prune: forget items of these sources whose picture is gone.
        batch_size: pictures encoded, and written, at a time.
        workers: reading threads; by default one for each core.
        storage: how a new store keeps vectors.
        checksum: read and hash every file, also those of the size and time that the store knows.
        encoder: who encodes; by default the model, in this process.
        progress: called with (pictures seen, pictures in all, report so far).

    Raises:
        PathError: a source does not exist, or the store cannot be written.
        DataError: the sources hold nothing to index, or not what the run encodes.
        StoreMismatchError: another run made the store.
        StoreError: the store is damaged or has another writer, or the disk is full.
    """
    begun = time.monotonic()
    listing = list_images(sources, features=model.kind == "features", leave_out=folder_of(store))
    if not listing.found:
        raise DataError(_nothing(sources, listing))
    report = index_listing(
        model,
        listing,
        store,
        run=run,
        prune=prune,
        batch_size=batch_size,
        workers=workers,
        storage=storage,
        checksum=checksum,
        encoder=encoder,
        progress=progress,
    )
    report.seconds = time.monotonic() - begun
    return report


def folder_of(store: str | Path) -> Path | None:
    """The folder of a local store, None of another."""
    return None if "://" in str(store) else Path(store)


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


def index_listing(
    model: Model,
    listing: Listing,
    store: str | Path,
    *,
    run: str | Path = "",
    prune: bool = False,
    batch_size: int = BATCH,
    workers: int | None = None,
    storage: str | None = None,
    checksum: bool = False,
    encoder: Encoder | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Index what was listed; as :func:`index_images`."""
    begun = time.monotonic()
    path = str(Path(run).expanduser().absolute()) if str(run) else ""
    with closing(open_store(str(store), RunIdentity.of(model, path), storage=storage)) as opened:
        encoder = encoder or LocalEncoder(model)
        ingest = _Ingest(model, opened, listing, encoder, checksum, progress)
        report = ingest.writing.report
        try:
            with quiet_pillow():
                ingest.run(batch_size, workers or default_workers())
            if prune and (report.done or not listing.found):
                ingest.writing.prune()
        finally:
            report.seconds = time.monotonic() - begun
        opened.finish()
    report.seconds = time.monotonic() - begun
    return report


@dataclass(frozen=True, slots=True)
class _Task:
    found: Found
    old: Item | None


class _Ingest:
    """Reading; encoding is up to an :class:`Encoder`, and what is written to :class:`Writing`."""

    def __init__(
        self,
        model: Model,
        store: VectorStore,
        listing: Listing,
        encoder: Encoder,
        checksum: bool,
        progress: Progress | None,
    ) -> None:
        self.model = model
        self.store = store
        self.listing = listing
        self.checksum = checksum
        self.encoder = encoder
        self.progress = progress
        self.writing = Writing(model, store, listing)
        self.common: set[str] = set()  # digests that many items have

    def run(self, size: int, workers: int) -> None:
        """Index all that is listed."""
        with WriteBehind(self.writing.write) as writer:
            read = read_ahead(self._tasks(size, writer), self._read, workers)
            for batch, made in encoded(read, self.encoder, size):
                self.writing.report.encoded += made
                writer.put(batch)
                self._tell()
        for ready in self.writing.again:
            self.writing.write([self._alone(ready)])
        self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(self.writing.seen, len(self.listing.found), self.writing.report)

    def _tasks(self, size: int, writer: WriteBehind[list[Ready]]) -> Iterator[list[_Task]]:
        """Batches of files to read; those that the store knows go to the writer at once."""
        found = self.listing.found
        part: list[_Task] = []
        for start in range(0, len(found), _LOOKED_UP):
            block = found[start : start + _LOOKED_UP]
            known = self.store.at([one.place.path for one in block])
            kept: list[Ready] = []
            for one in block:
                old = known.get(one.place.path)
                if old is not None and not self.checksum and _untouched(one, old):
                    kept.append(Ready(one, old, old.digest))
                    continue
                part.append(_Task(one, old))
                if len(part) == size:
                    yield part
                    part = []
            writer.put(kept)
            self._tell()
        if part:
            yield part

    def _read(self, task: _Task) -> Ready:
        """Read one file, in a thread; decode it only where the store does not know the content."""
        found, old = task.found, task.old
        if found.features is not None:
            vector = np.ascontiguousarray(found.features, dtype="<f4")
            digest = content_digest(vector.tobytes())
            known = old is not None and old.digest == digest
            return Ready(found, old, digest, None if known else vector)
        try:
            content = read_file(found.place.path, found.place.size)
            digest = content_digest(content)
            moment = taken(content)
            if self._is_known(digest):
                return Ready(found, old, digest, taken=moment)
            return Ready(found, old, digest, self.encoder.prepare(content), moment)
        except ImageError as error:
            return Ready(found, old, reason=str(error))

    def _is_known(self, digest: str) -> bool:
        """Whether the store has this content; asked once where many items have it."""
        if digest in self.common:
            return True
        items = len(self.store.find_digest(digest))
        if items >= _COMMON:
            self.common.add(digest)
        return items > 0

    def _alone(self, ready: Ready) -> Ready:
        """One file from the beginning: its content was known when it was read, and then no more."""
        found, old = ready.found, ready.old
        try:
            content = read_file(found.place.path, found.place.size)
            encoding = encode_content(self.model, content)
        except ImageError as error:
            return Ready(found, old, reason=str(error))
        self.writing.report.encoded += 1
        digest = content_digest(content)
        return Ready(found, old, digest, taken=taken(content), encoding=encoding)


def _untouched(found: Found, old: Item) -> bool:
    """Whether a file has the size and time that the store knows; then it is not read."""
    place = found.place
    same = (old.place.size, old.place.mtime_ns) == (place.size, place.mtime_ns)
    return same and found.features is None
