"""The captions of a store for another run, after its pictures."""

import time
from contextlib import closing
from itertools import islice
from pathlib import Path

from mmref.search.captions.beside import forget_orphans, open_captions
from mmref.search.captions.encoding import NO_WORD, encoded
from mmref.search.captions.index import BATCH
from mmref.search.ingest.report import IngestReport, Progress
from mmref.search.records import Changes, Encoded, Item, Model, RunIdentity, Skipped
from mmref.search.stores.base import Migration, open_store


def reencode_captions(
    model: Model,
    store: str | Path,
    *,
    run: str | Path = "",
    storage: str | None = None,
    batch_size: int = BATCH,
    progress: Progress | None = None,
) -> IngestReport | None:
    """Encode the captions of a store with another run, once its pictures are.

    The old vectors serve until the last is written, and a kill costs one batch, as for pictures.
    Until then the captions are of the old run, and so are the answers of a search among them.

    Args:
        model: the new run's model.
        store: address of the pictures' store.
        run: the new run's folder, noted in the store.
        storage: how the new vectors are kept; by default as the old ones.
        batch_size: captions encoded, and written, at a time.
        progress: called with (captions seen, captions in all, report so far).

    Returns:
        A report in which ``updated`` captions were encoded now, and ``unchanged`` ones before;
        captions without a word that the run knows are forgotten and listed. None where the store
        has no captions.

    Raises:
        StoreError: the store is damaged or has another writer, or the disk is full.
    """
    begun = time.monotonic()
    reader = open_captions(store)
    if reader is None:
        return None
    with closing(reader):
        old, kept = reader.identity, reader.storage
    path = str(Path(run).expanduser().absolute()) if str(run) else ""
    new = RunIdentity.of(model, path)
    report = IngestReport()
    captions = open_captions(store, old)
    assert captions is not None
    with closing(captions), closing(open_store(str(store))) as pictures:
        if old.difference(new) is None and storage in (None, kept):
            report.unchanged = len(captions)
            return report
        report.removed = forget_orphans(captions, pictures)
        migration = captions.migration(new, storage)
        report.unchanged = len(captions) - sum(1 for _ in migration.pending())
        total, seen = len(captions), report.unchanged
        pending, unusable = migration.pending(), list[int]()
        while batch := list(islice(pending, batch_size)):
            unusable += _write(model, migration, batch, report)
            seen += len(batch)
            if progress is not None:
                progress(seen, total, report)
        if unusable:
            captions.apply(Changes(removed=unusable))
            report.removed += len(unusable)
        migration.finish()
    report.seconds = time.monotonic() - begun
    return report


def _write(
    model: Model, migration: Migration, batch: list[Item], report: IngestReport
) -> list[int]:
    """Encode and write one batch; the ids of captions that cannot be encoded."""
    found = encoded(model, [str(item.place.metadata["caption"]) for item in batch])
    good: list[Encoded] = []
    unusable: list[int] = []
    for item, made in zip(batch, found, strict=True):
        if made is None:
            report.skipped.append(Skipped(item.place.path, NO_WORD))
            unusable.append(item.id)
        else:
            good.append(Encoded(item.id, item.digest, *made))
    migration.write(good)
    report.encoded += len(good)
    report.updated += len(good)
    return unusable
