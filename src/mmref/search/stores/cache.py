"""The cache of a local store: which base there is, what changed since, when to write it anew.

Only a holder of the store's lock writes into the store. Others who find no usable base build one in
a temporary folder for themselves, so a cache can be deleted or damaged without harm.
"""

import logging
import os
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np

from mmref.errors import StoreError
from mmref.files import PARTIAL_MARK, atomic_folder
from mmref.search.stores.base_files import Base, read_base, write_base
from mmref.search.stores.rows import Head, Rows
from mmref.search.stores.vector_index import Snapshot

PREFIX = "cache-"
STALE_ROWS = 4096
STALE_SHARE = 0.05
_CHECKED_ROWS = 16
_WARM_AFTER = 1.0  # seconds
_WARM_BYTES = 1 << 22
_logger = logging.getLogger("mmref")


class BehindError(Exception):
    """The cache on disk is newer than the generation that is read."""


class Cache:
    """The cache folders of one store, and what of them is open.

    Args:
        folder: the store's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._guard = threading.RLock()
        # The newest snapshot, and the last one over the base before: views may still be older.
        self._open: list[Snapshot] = []
        self._warmed: Base | None = None
        self._closed = threading.Event()

    def snapshot(self, rows: Rows, may_restart: bool = False) -> Snapshot:
        """All vectors of the generation that is read; cheap when nothing has changed.

        Args:
            rows: what is read.
            may_restart: raise BehindError rather than build an index for a past generation.
        """
        with self._guard:
            earlier = self._earlier(rows.head)
            if earlier is not None and earlier.generation == rows.head.generation:
                return earlier
            snapshot = self._advanced(rows, earlier, may_restart)
            self._keep(snapshot)
            return snapshot

    def _earlier(self, head: Head) -> Snapshot | None:
        """The newest open snapshot that can be brought up to a generation."""
        for snapshot in self._open:
            fits = snapshot.base.edition == head.edition
            # A base may have been written before the first profile.
            fits = fits and set(snapshot.base.profiles) == {name for name, _, _ in head.layout}
            if fits and head.forgotten <= snapshot.generation <= head.generation:
                return snapshot
        return None

    def _keep(self, snapshot: Snapshot) -> None:
        newest = self._open[0] if self._open else None
        if newest is None or snapshot.generation >= newest.generation:
            others = [one for one in self._open if one.base is not snapshot.base]
            self._open = [snapshot, *others[:1]]

    @property
    def generation(self) -> int:
        """The generation of the newest base that is open; 0 when there is none."""
        with self._guard:
            return self._open[0].base.generation if self._open else 0

    def rewrite(self, rows: Rows, at_least: int | None = None) -> None:
        """Write a new base when the store has none, or one that lacks too many rows.

        The caller holds the store's lock.

        Args:
            rows: the newest generation.
            at_least: stale rows that are tolerated; by default ``STALE_ROWS`` or a share of all.
        """
        with self._guard:
            snapshot, earlier = None, self._found(rows)
            if earlier is not None:
                snapshot = self.snapshot(rows)
                earlier = snapshot.base
                usual = max(STALE_ROWS, int(STALE_SHARE * len(snapshot)))
                limit = usual if at_least is None else at_least
                if snapshot.stale_rows > limit or earlier.folder.parent != self.folder:
                    snapshot = None
            if snapshot is None:
                snapshot = Snapshot.of(self.write(rows, rows.head, earlier))
                self._keep(snapshot)
            self.tidy(snapshot.base)

    def write(self, rows: Rows, head: Head, earlier: Base | None = None) -> Base:
        """Write a base into the store's folder, whole or not at all.

        Args:
            rows: what it is to hold.
            head: the facts to stamp it with.
            earlier: a base to extend.
        """
        target = self.folder / f"{PREFIX}{head.generation}"
        with atomic_folder(target) as partial:
            write_base(partial, head, len(rows), rows.blocks(), earlier)
        return read_base(target, head)

    def warm(self, base: Base) -> None:
        """Read the vectors of a large base ahead, in the background, once.

        They are scored from the disk's cache: a search among rows that were never read waits for
        the disk some hundred times. It begins after a moment, so a lone search is not hindered,
        and only where the file takes no more than half of the memory.
        """
        if base is self._warmed or base.codes is None or base.folder.parent != self.folder:
            return
        self._warmed = base
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if base.packed.nbytes <= memory // 2:
            file = base.folder / "vectors.npy"
            threading.Thread(target=self._read_ahead, args=(file,), daemon=True).start()

    def _read_ahead(self, file: Path) -> None:
        with suppress(OSError), file.open("rb", buffering=0) as opened:
            while not self._closed.wait(_WARM_AFTER if opened.tell() == 0 else 0):
                if not opened.read(_WARM_BYTES):
                    return

    def close(self) -> None:
        """Let go of the mapped files."""
        self._closed.set()
        with self._guard:
            self._open = []

    def forget(self) -> None:
        """Delete the cache folders; the caller holds the store's lock."""
        with self._guard:
            self._open = []
        for entry in self.folder.glob(f"{PREFIX}*"):
            shutil.rmtree(entry, ignore_errors=True)

    def tidy(self, base: Base) -> None:
        """Delete all other cache folders and what a kill left; the caller holds the lock."""
        for entry in self.folder.iterdir():
            if entry.name.startswith((PREFIX, PARTIAL_MARK)) and entry.name != base.folder.name:
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink(missing_ok=True)

    def _advanced(self, rows: Rows, snapshot: Snapshot | None, may_restart: bool) -> Snapshot:
        head = rows.head
        if snapshot is None:
            base = self._found(rows)
            if base is None and may_restart and any(n > head.generation for n in self.numbers()):
                raise BehindError
            snapshot = Snapshot.of(base or self._own(rows))
        if snapshot.generation == head.generation:
            return snapshot
        since = snapshot.generation
        sql = "SELECT id FROM removed WHERE generation > ?"
        gone = [row[0] for row in rows.session.query(sql, (since,))]
        changed = rows.joined(rows.blocks(since))
        snapshot = snapshot.advanced(head.generation, gone, changed)
        if snapshot.stale_rows > max(4 * STALE_ROWS, len(snapshot) // 4):
            snapshot = Snapshot.of(self._own(rows))
        if len(snapshot) != len(rows):
            _logger.debug("the cache of %s is out of step: built anew", rows.session.name)
            snapshot = Snapshot.of(self._own(rows))
        return snapshot

    def numbers(self) -> list[int]:
        """Generations of the cache folders, the newest first."""
        names = [entry.name for entry in self.folder.iterdir() if entry.name.startswith(PREFIX)]
        numbers = [name.removeprefix(PREFIX) for name in names]
        return sorted((int(number) for number in numbers if number.isdecimal()), reverse=True)

    def _found(self, rows: Rows) -> Base | None:
        """The newest usable base of the store, or None."""
        head = rows.head
        for number in self.numbers():
            if head.forgotten <= number <= head.generation:
                with suppress(StoreError):
                    base = read_base(self.folder / f"{PREFIX}{number}", head)
                    if base.generation == number and self._agrees(base, rows):
                        return base
        return None

    def _agrees(self, base: Base, rows: Rows) -> bool:
        """Whether a few rows of the base are what the database holds."""
        count = len(base)
        some = np.unique(np.linspace(0, max(count - 1, 0), _CHECKED_ROWS).astype(int))[:count]
        spots = {int(base.ids[row]): int(row) for row in some}
        marks = ",".join("?" * len(spots))
        held = rows.session.query(
            f"SELECT id FROM items WHERE id IN ({marks}) AND generation <= {base.generation}",
            list(spots),
        )
        ids = [int(row[0]) for row in held]  # the others were removed or changed since
        same = [spots[number] for number in ids]
        packed, profiles = rows.stored(ids)
        return np.array_equal(packed, base.packed[same]) and all(
            np.array_equal(values, base.profiles[name][same]) for name, values in profiles.items()
        )

    def _own(self, rows: Rows) -> Base:
        """A base of the generation that is read, in a temporary folder that is gone once mapped."""
        try:
            with tempfile.TemporaryDirectory(prefix="mmref-") as name:
                write_base(Path(name), rows.head, len(rows), rows.blocks())
                base = read_base(Path(name), rows.head)
                base.columns.load_all()
                return base
        except OSError as error:
            raise StoreError(
                f"no room in {tempfile.gettempdir()} for the search index of {rows.session.name} "
                f"({error.strerror}): set TMPDIR to a larger disk, or run mmref index once more"
            ) from error
