"""The cache of a local store: which base there is, what changed since, when to write it anew.

Only a holder of the store's lock writes into the store. Others who find no usable base build one in
a temporary folder for themselves, so a cache can be deleted or damaged without harm.
"""

import logging
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np

from mmref.errors import StoreError
from mmref.files import PARTIAL_MARK, atomic_folder
from mmref.search.stores.database import Database, joined
from mmref.search.stores.vector_index import Base, Layout, Snapshot, read_base, write_base

PREFIX = "cache-"
STALE_ROWS = 4096
STALE_SHARE = 0.05
_CHECKED_ROWS = 16
_logger = logging.getLogger("mmref")


class Cache:
    """The cache folders of one store.

    Args:
        folder: the store's folder.
        database: its open database.
        store: the store's own id.
        dimension: numbers in one vector.
    """

    def __init__(self, folder: Path, database: Database, store: str, dimension: int) -> None:
        self.folder = folder
        self.database = database
        self.store = store
        self.dimension = dimension
        self._snapshot: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """All vectors of the newest generation; cheap when nothing has changed."""
        database = self.database
        with database.guard:
            generation = database.generation()
            if self._snapshot is None or self._snapshot.generation != generation:
                with database.reading():
                    self._snapshot = self._advanced(self._snapshot)
            return self._snapshot

    def rewrite(self, at_least: int = STALE_ROWS) -> None:
        """Write a new base when the store has none, or one that lacks too many rows.

        The caller holds the store's lock.

        Args:
            at_least: stale rows that are always tolerated.
        """
        with self.database.guard:
            snapshot = self.snapshot()
            limit = max(at_least, int(STALE_SHARE * len(snapshot)))
            stored = snapshot.base.folder.parent == self.folder
            if snapshot.stale_rows > limit or not stored:
                with self.database.reading():
                    target = self.folder / f"{PREFIX}{self.database.generation()}"
                    with atomic_folder(target) as partial:
                        self._write(partial)
                    self._snapshot = self._advanced(Snapshot.of(self._read(target)))
            self._tidy(self._snapshot or snapshot)

    def close(self) -> None:
        """Let go of the mapped files."""
        self._snapshot = None

    def _tidy(self, snapshot: Snapshot) -> None:
        keep = f"{PREFIX}{snapshot.base.generation}"
        for entry in self.folder.iterdir():
            if entry.name.startswith((PREFIX, PARTIAL_MARK)) and entry.name != keep:
                shutil.rmtree(entry, ignore_errors=True)

    def _advanced(self, snapshot: Snapshot | None) -> Snapshot:
        database, generation = self.database, self.database.generation()
        layout = database.layout()
        if snapshot is not None and set(snapshot.profiles) != {name for name, _, _ in layout}:
            snapshot = None  # the base was written before the first profile
        if snapshot is None:
            snapshot = Snapshot.of(self._found(generation, layout) or self._own())
        since = snapshot.generation
        if since == generation:
            return snapshot
        gone = [
            row[0]
            for row in database.query("SELECT id FROM removed WHERE generation > ?", (since,))
        ]
        blocks = database.blocks(self.dimension, layout, since)
        snapshot = snapshot.advanced(generation, gone, *joined(blocks, self.dimension, layout))
        if snapshot.stale_rows > max(4 * STALE_ROWS, len(snapshot) // 4):
            snapshot = Snapshot.of(self._own())
        if len(snapshot) != database.query("SELECT count(*) FROM items")[0][0]:
            _logger.debug("the cache of %s is out of step: built anew", database.name)
            snapshot = Snapshot.of(self._own())
        return snapshot

    def _found(self, generation: int, layout: Layout) -> Base | None:
        """The newest usable base of the store, or None."""
        numbers = [
            int(entry.name.removeprefix(PREFIX))
            for entry in self.folder.iterdir()
            if entry.name.removeprefix(PREFIX).isdecimal() and entry.name.startswith(PREFIX)
        ]
        for number in sorted((n for n in numbers if n <= generation), reverse=True):
            with suppress(StoreError):
                base = self._read(self.folder / f"{PREFIX}{number}", layout)
                if self._agrees(base, layout):
                    return base
        return None

    def _agrees(self, base: Base, layout: Layout) -> bool:
        """Whether a few rows of the base are what the database holds."""
        count = len(base.ids)
        rows = np.unique(np.linspace(0, max(count - 1, 0), _CHECKED_ROWS).astype(int))[:count]
        numbers = [int(number) for number in base.ids[rows]]
        held = {
            row[0]: row[1:]
            for row in self.database.by_id("id, vector, profile, generation", numbers)
        }
        for row, number in zip(rows, numbers, strict=True):
            if number not in held or held[number][2] > base.generation:
                continue  # removed or changed since
            _, vector, profile = self.database.decoded(
                [(number, *held[number][:2])], self.dimension, layout
            )
            same = np.array_equal(vector[0], base.vectors[row]) and all(
                np.array_equal(profile[name][0], base.profiles[name][row]) for name in profile
            )
            if not same:
                return False
        return True

    def _own(self) -> Base:
        """A base of the newest generation, in a temporary folder that is gone once mapped."""
        try:
            with tempfile.TemporaryDirectory(prefix="mmref-") as name:
                self._write(Path(name))
                return self._read(Path(name))
        except OSError as error:
            raise StoreError(
                f"no room in {tempfile.gettempdir()} for the search index of {self.database.name} "
                f"({error.strerror}): set TMPDIR to a larger disk, or run mmref index once more"
            ) from error

    def _write(self, folder: Path) -> None:
        database = self.database
        layout = database.layout()
        count = int(database.query("SELECT count(*) FROM items")[0][0])
        blocks = database.blocks(self.dimension, layout)
        write_base(folder, self.store, database.generation(), count, self.dimension, layout, blocks)

    def _read(self, folder: Path, layout: Layout | None = None) -> Base:
        chosen = self.database.layout() if layout is None else layout
        return read_base(folder, self.store, self.dimension, chosen)
