"""The folder of a local store: whether it may become one, and the lock of its one writer."""

import fcntl
from pathlib import Path
from typing import IO

from mmref.errors import PathError, StoreError
from mmref.files import PARTIAL_MARK, require_writable_folder
from mmref.search.stores.cache import PREFIX
from mmref.search.stores.database import FILE

LOCK = "lock"


def prepare_folder(folder: Path) -> None:
    """Make the folder unless it is there; refuse one that holds other files than a store's.

    Raises:
        PathError: it holds other files, is a file, or cannot be read or written.
    """
    if folder.is_dir():
        try:
            names = sorted(entry.name for entry in folder.iterdir())
        except OSError as error:
            raise PathError(f"cannot read {folder}: {error.strerror}") from error
        own = (FILE, PREFIX, PARTIAL_MARK)
        foreign = [name for name in names if name != LOCK and not name.startswith(own)]
        if foreign and FILE not in names:
            raise PathError(
                f"{folder} is not a store and holds other files ({foreign[0]}): "
                "name a new or an empty folder"
            )
    require_writable_folder(folder)


def take_lock(folder: Path, name: str) -> IO[bytes]:
    """The lock of the one writer, held until it is closed or the process ends.

    Raises:
        PathError: the folder cannot be written.
        StoreError: another process, or another store object of this one, is the writer.
    """
    try:
        handle = (folder / LOCK).open("ab")
    except OSError as error:
        raise PathError(f"cannot write to {folder}: {error.strerror}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise StoreError(
            f"{name} is being written by another command: wait until it ends"
        ) from None
    return handle
