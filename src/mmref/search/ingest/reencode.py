"""A store for another run: every picture is encoded anew while the old vectors serve.

The new vectors are written beside the old ones, batch by batch, so that a kill costs at most the
batches under way and the next run goes on there; when the last is written the store changes over
at one moment. A vector cannot be made without its picture: where pictures are gone or cannot be
decoded any more the store does not change over, unless these are to be forgotten (``prune``).
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmref.data.images import default_workers
from mmref.errors import DataError, ImageError, UsageError
from mmref.search.ingest.encoding import Encoder, LocalEncoder, encoded
from mmref.search.ingest.index import BATCH
from mmref.search.ingest.listing import Source, list_images
from mmref.search.ingest.pipeline import WriteBehind, read_ahead
from mmref.search.ingest.reading import Encoding, quiet_pillow, read_file
from mmref.search.ingest.report import IngestReport, Progress
from mmref.search.records import (
    Changes,
    Encoded,
    Item,
    Model,
    Record,
    RunIdentity,
    Skipped,
    content_digest,
)
from mmref.search.stores.base import Migration, VectorStore, open_store

_NAMED = 3


def reencode(
    model: Model,
    store: str | Path,
    *,
    run: str | Path = "",
    sources: Sequence[Source] = (),
    storage: str | None = None,
    prune: bool = False,
    batch_size: int = BATCH,
    workers: int | None = None,
    encoder: Encoder | None = None,
    progress: Progress | None = None,
) -> IngestReport:
    """Encode all that a store holds with another run.

    Args:
        model: the new run's model.
        store: address of the store.
        run: the new run's folder, noted in the store.
        sources: where the features are, for a run that encodes features.
        storage: how the new vectors are kept; by default as the old ones.
        prune: forget items whose picture is gone or cannot be decoded.
        batch_size: pictures encoded, and written, at a time.
        workers: reading threads; by default one for each core.
        encoder: who encodes; by default the model, in this process.
        progress: called with (items seen, items in all, report so far).

    Returns:
        A report in which ``updated`` items were encoded now, and ``unchanged`` ones before.

    Raises:
        UsageError: the run encodes features and no sources are given.
        PathError: there is no store, or it cannot be written.
        DataError: pictures are gone or unusable and are not to be forgotten; nothing is lost, and
            the old vectors serve on.
        StoreError: the store is damaged or has another writer, or the disk is full.
    """
    begun = time.monotonic()
    path = str(Path(run).expanduser().absolute()) if str(run) else ""
    new = RunIdentity.of(model, path)
    with closing(open_store(str(store))) as reader:
        old, kept = reader.identity, reader.storage
    with closing(open_store(str(store), old)) as opened:
        work = _Reencoding(opened, encoder or LocalEncoder(model), prune)
        report = work.report
        if old.difference(new) is None and storage in (None, kept):
            report.unchanged = len(opened)
            return report
        if model.kind == "features":
            work.features = _features(sources)
        migration = opened.migration(new, storage)
        try:
            work.require_pictures(migration)
            report.unchanged = len(opened) - sum(1 for _ in migration.pending())
            work.run(migration, batch_size, workers or default_workers(), progress)
            work.forget_unusable()
            if len(opened):
                work.finish(migration, batch_size)
        finally:
            report.seconds = time.monotonic() - begun
    return report


def _features(sources: Sequence[Source]) -> dict[str, npt.NDArray[np.float32]]:
    if not sources:
        raise UsageError(
            "this run encodes features: name the SOURCE that holds them: "
            "mmref index RUN SOURCE --store URI --reencode"
        )
    listing = list_images(sources, features=True)
    return {one.place.path: one.features for one in listing.found if one.features is not None}


@dataclass(frozen=True, slots=True)
class _Read:
    """One item on its way: what the encoder takes, or why there is nothing, or its encoding."""

    item: Item
    digest: str = ""
    pixels: Any = None
    reason: str = ""
    encoding: Encoding | None = None

    def lighter(self) -> "_Read":
        return self if self.pixels is None else replace(self, pixels=None)

    def encoded(self, answer: Encoding | str) -> "_Read":
        if isinstance(answer, str):
            return replace(self, reason=answer)
        return replace(self, encoding=answer)


class _Reencoding:
    def __init__(self, store: VectorStore, encoder: Encoder, prune: bool) -> None:
        self.store = store
        self.encoder = encoder
        self.prune = prune
        self.report = IngestReport()
        self.features: dict[str, npt.NDArray[np.float32]] | None = None
        self.unusable: list[int] = []
        self.changed: list[tuple[_Read, Encoding]] = []  # of another content than the store notes
        self.seen = 0

    def require_pictures(self, migration: Migration) -> None:
        """Refuse at once where pictures are gone, or forget their items."""
        gone = [item for item in migration.pending() if not self._is_there(item)]
        if gone and not self.prune:
            raise DataError(_refusal("gone", [item.place.path for item in gone]))
        if gone:
            self.store.apply(Changes(removed=[item.id for item in gone]))
            self.report.removed += len(gone)

    def _is_there(self, item: Item) -> bool:
        if self.features is not None:
            return item.place.path in self.features
        return os.path.isfile(item.place.path)  # noqa: PTH113

    def run(self, migration: Migration, size: int, workers: int, progress: Progress | None) -> None:
        """Read, encode and write what is pending."""
        total = len(self.store)

        def tell() -> None:
            if progress is not None:
                progress(self.report.unchanged + self.seen, total, self.report)

        def write(batch: list[_Read]) -> None:
            self._write(migration, batch)

        with quiet_pillow(), WriteBehind(write) as writer:
            read = read_ahead(_batches(migration, size), self._read, workers)
            for batch, _ in encoded(read, self.encoder, size):
                writer.put(batch)
                tell()
        tell()

    def _read(self, item: Item) -> _Read:
        path = item.place.path
        if self.features is not None:
            vector = np.ascontiguousarray(self.features[path], dtype="<f4")
            return _Read(item, content_digest(vector.tobytes()), vector)
        try:
            content = read_file(path, item.place.size)
            return _Read(item, content_digest(content), self.encoder.prepare(content))
        except ImageError as error:
            return _Read(item, reason=str(error))

    def _write(self, migration: Migration, batch: list[_Read]) -> None:
        made = []
        for one in batch:
            if one.encoding is None:
                self._skip(one.item, one.reason)
                continue
            self.report.encoded += 1
            self.report.updated += 1
            if one.digest == one.item.digest:
                made.append(_encoded(one, one.encoding))
            else:
                self.changed.append((one, one.encoding))
        migration.write(made)
        self.seen += len(batch)

    def finish(self, migration: Migration, size: int) -> None:
        """Change over; what has changed since it was indexed gets the digest of its content.

        Its vector must not pass for that of the content that it had. So it is written last, and a
        kill before that leaves it pending.
        """
        parts = [self.changed[start : start + size] for start in range(0, len(self.changed), size)]
        for part in parts:
            migration.write([_encoded(*pair) for pair in part])
        migration.finish()
        for part in parts:
            self.store.apply(
                Changes([Record(o.item.place, o.digest, e.vector, e.profile) for o, e in part])
            )

    def _skip(self, item: Item, reason: str) -> None:
        self.report.skipped.append(Skipped(item.place.path, reason))
        self.unusable.append(item.id)

    def forget_unusable(self) -> None:
        """Refuse where pictures could not be encoded, or forget their items."""
        if self.unusable and not self.prune:
            raise DataError(_refusal("unusable", [skip.path for skip in self.report.skipped]))
        if self.unusable:
            self.store.apply(Changes(removed=self.unusable))
            self.report.removed += len(self.unusable)


def _encoded(one: _Read, encoding: Encoding) -> Encoded:
    return Encoded(one.item.id, one.item.digest, encoding.vector, encoding.profile)


def _batches(migration: Migration, size: int) -> Iterator[list[Item]]:
    part: list[Item] = []
    for item in migration.pending():
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _refusal(what: str, paths: list[str]) -> str:
    named = ", ".join(paths[:_NAMED]) + (", ..." if len(paths) > _NAMED else "")
    return (
        f"{len(paths):,} pictures are {what} ({named}): put them back and run the same command "
        "again, or forget them with --prune; the old vectors serve on"
    )
