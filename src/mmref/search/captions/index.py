"""Captions into the store beside their pictures' one; only what is new or changed is encoded."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mmref.errors import StoreMismatchError
from mmref.search.captions.beside import (
    caption_path,
    captions_uri,
    forget_orphans,
    open_captions,
)
from mmref.search.captions.encoding import NO_WORD, encoded
from mmref.search.captions.listing import CaptionListing, Described
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

BATCH = 256
_GAP = 4  # captions without a known word, one after another, behind which others are looked for


def index_captions(
    model: Model,
    listing: CaptionListing,
    store: str | Path,
    *,
    run: str | Path = "",
    prune: bool = False,
    sweep: bool = False,
    batch_size: int = BATCH,
    progress: Progress | None = None,
) -> IngestReport:
    """Index the captions of pictures that a store holds.

    What a listing says of a picture takes the place of all captions that the store had of it. One
    batch is one transaction, so that a kill costs at most one, and the next run goes on there.

    Args:
        model: the run's model.
        listing: the captions.
        store: address of the pictures' store, which is there.
        run: the run's folder, noted in new stores.
        prune: forget captions of the listed sources that are not in the listing, and ``sweep``.
        sweep: forget captions whose picture the store does not hold any more.
        batch_size: captions encoded, and written, at a time.
        progress: called with (captions seen, captions in all, report so far).

    Returns:
        A report on captions; notes say what was left out because the store lacks the picture.

    Raises:
        PathError: there is no store, or it cannot be written.
        StoreMismatchError: another run made the pictures' vectors, or the captions'.
        StoreError: the store is damaged or has another writer, or the disk is full.
    """
    begun = time.monotonic()
    path = str(Path(run).expanduser().absolute()) if str(run) else ""
    here = RunIdentity.of(model, path)
    with closing(open_store(str(store))) as pictures:
        _require_same_run(pictures, here, pictures.uri)
        with closing(_opened(store, here, pictures)) as captions:
            work = _Indexing(model, pictures, captions, listing)
            for batch in _batches(listing, batch_size):
                work.write(batch)
                if progress is not None:
                    progress(work.seen, len(listing), work.report)
            if prune:
                work.prune()
            if prune or sweep:
                work.report.removed += forget_orphans(captions, pictures)
            captions.finish()
    if work.absent:
        work.report.notes.append(
            f"captions left out, for the store does not hold their pictures: {work.absent:,}"
        )
    work.report.seconds = time.monotonic() - begun
    return work.report


def _require_same_run(store: VectorStore, here: RunIdentity, pictures: str) -> None:
    difference = store.identity.difference(here)
    if difference is not None:
        what = pictures if store.uri == pictures else f"the captions of {pictures}"
        raise StoreMismatchError(
            f"{what} were made by the run {store.identity.id}, not by {here.id}: {difference}; "
            f"encode both anew: mmref index {here.path or 'RUN'} --store {pictures} --reencode"
        )


def _opened(store: str | Path, here: RunIdentity, pictures: VectorStore) -> VectorStore:
    """The captions to write, made as the pictures are when there are none."""
    reader = open_captions(store)
    if reader is None:
        return open_store(captions_uri(store), here, storage=pictures.storage)
    with closing(reader):
        _require_same_run(reader, here, pictures.uri)
    return open_store(captions_uri(store), here)


def _batches(listing: CaptionListing, size: int) -> Iterator[list[Described]]:
    """Pictures with about ``size`` captions together; those of one picture are not parted."""
    batch: list[Described] = []
    count = 0
    for one in listing.described.values():
        batch.append(one)
        count += len(one.sentences)
        if count >= size:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class _Fresh:
    """A caption that is to be encoded, and what the store has under its name."""

    place: Place
    sentence: str
    digest: str
    old: Item | None


class _Indexing:
    def __init__(
        self, model: Model, pictures: VectorStore, captions: VectorStore, listing: CaptionListing
    ) -> None:
        self.model = model
        self.pictures = pictures
        self.captions = captions
        self.listing = listing
        self.report = IngestReport(skipped=list(listing.skipped))
        self.seen = 0
        self.absent = 0

    def write(self, batch: Sequence[Described]) -> None:
        """Write one batch in one transaction."""
        held = self.pictures.at([one.image for one in batch])
        names = [
            caption_path(one.image, number)
            for one in batch
            for number in range(1, len(one.sentences) + _GAP + 2)  # are there further ones?
        ]
        known = self.captions.at(names)
        changes = Changes()
        fresh: list[_Fresh] = []
        for one in batch:
            self.seen += len(one.sentences)
            picture = held.get(one.image)
            if picture is None:
                self.absent += len(one.sentences)
                continue
            for number, sentence in enumerate(one.sentences, start=1):
                place = _place(picture, one, number, sentence)
                old, digest = known.get(place.path), content_digest(sentence.encode())
                if old is None or old.digest != digest:
                    fresh.append(_Fresh(place, sentence, digest, old))
                else:
                    self._keep(old, place, changes)
            self._drop_further(one, known, changes)
        self._encode(fresh, changes)
        if changes:
            self.captions.apply(changes)

    def _keep(self, old: Item, place: Place, changes: Changes) -> None:
        if old.place.metadata != place.metadata:
            self.report.updated += 1
        else:
            self.report.unchanged += 1
        if old.place != place:
            changes.placed.append((old.id, place))

    def _drop_further(self, one: Described, known: dict[str, Item], changes: Changes) -> None:
        """The picture has fewer captions than the store knows: the further ones go."""
        number = len(one.sentences) + 1
        names = [caption_path(one.image, number + ahead) for ahead in range(_GAP + 1)]
        while items := [known[name] for name in names if name in known]:
            changes.removed += [item.id for item in items]
            self.report.removed += len(items)
            number += len(names)
            names = [caption_path(one.image, number + ahead) for ahead in range(_GAP + 1)]
            known = self.captions.at(names)

    def _encode(self, fresh: Sequence[_Fresh], changes: Changes) -> None:
        if not fresh:
            return
        sentences = list(dict.fromkeys(one.sentence for one in fresh))
        found = encoded(self.model, sentences)
        self.report.encoded += sum(one is not None for one in found)
        made = dict(zip(sentences, found, strict=True))
        for one in fresh:
            vector = made[one.sentence]
            if vector is not None:
                changes.records.append(Record(one.place, one.digest, *vector))
                if one.old is None:
                    self.report.added += 1
                else:
                    self.report.updated += 1
                continue
            self.report.skipped.append(Skipped(one.place.path, NO_WORD))
            if one.old is not None:
                changes.removed.append(one.old.id)
                self.report.removed += 1

    def prune(self) -> None:
        """Forget captions of the listed sources that are not in the listing."""
        gone = []
        for item in self.captions.items():
            if item.place.source in self.listing.sources:
                image, _, number = item.place.path.rpartition("#")
                now = self.listing.described.get(image)
                if now is None or int(number) > len(now.sentences):
                    gone.append(item.id)
        if gone:
            self.captions.apply(Changes(removed=gone))
        self.report.removed += len(gone)


def _place(picture: Item, one: Described, number: int, sentence: str) -> Place:
    metadata = {**picture.place.metadata, "caption": sentence, "image": one.image}
    name = caption_path(one.image, number)
    return Place(name, 0, picture.place.mtime_ns, metadata, one.source)
