"""What becomes of each file in the store: left, placed anew, copied, written or skipped."""

import os
from dataclasses import dataclass, replace
from typing import Any

import torch

from mmref.search.ingest.listing import Found, Listing
from mmref.search.ingest.metadata import with_taken, without_taken
from mmref.search.ingest.reading import Encoding, with_profiles
from mmref.search.ingest.report import IngestReport
from mmref.search.records import Changes, Item, Model, Place, Record, Skipped
from mmref.search.stores.base import VectorStore

_TWINS = 256  # items of one content, beside a batch's own, among which moved ones are sought


@dataclass(frozen=True, slots=True)
class Ready:
    """One file on its way into the store.

    Attributes:
        found: the file.
        old: the item of this path, if there is one.
        digest: of its content.
        pixels: what the encoder takes; None when the content is known, or encoded by now.
        taken: when the picture was taken, if it says so.
        reason: why it cannot be indexed.
        encoding: its vector and profile.
    """

    found: Found
    old: Item | None
    digest: str = ""
    pixels: Any = None
    taken: str | None = None
    reason: str | None = None
    encoding: Encoding | None = None

    def lighter(self) -> "Ready":
        """This file without its pixels."""
        return self if self.pixels is None else replace(self, pixels=None)

    def encoded(self, answer: Encoding | str) -> "Ready":
        """This file with its encoding, or with the reason why it has none."""
        if isinstance(answer, str):
            return replace(self, reason=answer)
        return replace(self, encoding=answer)

    def place(self, before: Item | None) -> Place:
        """Where it is and what is known of it.

        Args:
            before: the item whose metadata holds on where the listing brings none.
        """
        place, moment = self.found.place, self.taken
        if before is not None:
            kept, noted = without_taken(before.place.metadata)
            if before.digest == self.digest:
                moment = moment or noted
            place = place if place.metadata else replace(place, metadata=kept)
        return replace(place, metadata=with_taken(place.metadata, moment))


class Writing:
    """Writes batches, each in one transaction, and keeps count.

    Args:
        model: the run's model.
        store: open for writing.
        listing: all that was found.

    Attributes:
        report: what was done so far.
        seen: files that were dealt with so far.
        again: files whose content was known when they were read and is not any more.
    """

    def __init__(self, model: Model, store: VectorStore, listing: Listing) -> None:
        self.model = model
        self.store = store
        self.listing = listing
        self.report = IngestReport(skipped=list(listing.skipped), notes=listing.notes)
        self.seen = 0
        self.again: list[Ready] = []
        self._moved: set[int] = set()

    def write(self, batch: list[Ready]) -> None:
        """Write one batch in one transaction."""
        changes = Changes()
        copies: list[tuple[Ready, Item]] = []
        known: dict[str, list[Item]] = {}
        for ready in batch:
            old = ready.old
            if ready.reason is not None:
                kept = "; what the store knew of it is kept" if old is not None else ""
                self.report.skipped.append(Skipped(ready.found.place.path, ready.reason + kept))
            elif ready.encoding is not None:
                changes.records.append(self._record(ready, ready.encoding))
            elif old is not None and old.digest == ready.digest:
                self._keep(ready, old, changes)
            else:
                if ready.digest not in known:
                    known[ready.digest] = self._twins(ready.digest, _TWINS + len(batch))
                self._reuse(ready, known[ready.digest], changes, copies)
        changes.records += self._copied(copies)
        if changes:
            self.store.apply(changes)
        self.seen += len(batch)

    def _keep(self, ready: Ready, old: Item, changes: Changes) -> None:
        now = ready.place(old)
        if now.metadata != old.place.metadata:
            self.report.updated += 1
        else:
            self.report.unchanged += 1
        if now != old.place:
            changes.placed.append((old.id, now))

    def _twins(self, digest: str, most: int) -> list[Item]:
        """Some items of this content; of thousands, the first that were not moved by now."""
        ids = [number for number in self.store.find_digest(digest) if number not in self._moved]
        return self.store.get(ids[:most] or self.store.find_digest(digest)[:1])

    def _reuse(
        self,
        ready: Ready,
        twins: list[Item],
        changes: Changes,
        copies: list[tuple[Ready, Item]],
    ) -> None:
        """Known content at another path: moved when its old place is empty, else a copy."""
        if not twins:  # its item has got another content since it was read
            self.again.append(ready)
            self.seen -= 1
            return
        for twin in twins:
            if ready.old is None and twin.id not in self._moved and self._left(twin):
                self._moved.add(twin.id)
                changes.placed.append((twin.id, ready.place(twin)))
                self.report.moved += 1
                return
        copies.append((ready, twins[0]))

    def _left(self, twin: Item) -> bool:
        path = twin.place.path
        return path not in self.listing and not os.path.lexists(path)

    def _copied(self, copies: list[tuple[Ready, Item]]) -> list[Record]:
        if not copies:
            return []
        vectors = torch.from_numpy(self.store.own([twin.id for _, twin in copies])[0].copy())
        encodings = with_profiles(self.model, vectors)
        return [
            self._record(ready, encoding)
            for (ready, _), encoding in zip(copies, encodings, strict=True)
            if encoding is not None
        ]

    def _record(self, ready: Ready, encoding: Encoding) -> Record:
        if ready.old is None:
            self.report.added += 1
        else:
            self.report.updated += 1
        place = ready.place(ready.old)
        return Record(place, ready.digest, encoding.vector, encoding.profile)

    def prune(self) -> None:
        """Forget items of the listed sources whose picture is gone."""
        listing, gone = self.listing, []
        unread = tuple(skip.path for skip in listing.skipped if skip.path.endswith(os.sep))
        for item in self.store.items():
            path = item.place.path
            if path in listing or item.id in self._moved or path.startswith(unread):
                continue
            if listing.covers(path):
                if not os.path.lexists(path):
                    gone.append(item.id)
            elif item.place.source in listing.sources:
                gone.append(item.id)
        if gone:
            self.store.apply(Changes(removed=gone))
        self.report.removed = len(gone)
