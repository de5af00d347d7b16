"""Whole files or none: everything that mmref writes goes through here.

A file is written under a temporary name beside its target, flushed to disk and renamed over it,
so a kill at any moment leaves the old file or the new one, never a half of either.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmref.errors import PathError

PARTIAL_MARK = ".partial-"


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # some file systems do not offer it
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; rename it over ``path`` when the block ends well.

    Args:
        path: the target. Its folder is made when it is missing.

    Yields:
        A path in the same folder, with the same suffix.

    Raises:
        PathError: the folder or the file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> target = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with atomic_write(target) as partial:
        ...     _ = partial.write_text("whole")
        >>> target.read_text(), [p.name for p in target.parent.iterdir()]
        ('whole', ['a.txt'])
    """
    target = Path(path)
    try:
        if target.exists() and not (target.is_file() or target.is_dir()):
            raise PathError(f"{target} is a device or a pipe: name a file")  # not to be replaced
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f"{PARTIAL_MARK}{target.stem}-", suffix=target.suffix, dir=target.parent
        )
    except OSError as error:
        raise PathError(f"cannot write {target}: {error.strerror}") from error
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.chmod(0o666 & ~_umask())
        partial.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise PathError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Give a temporary folder to fill; put it in the place of ``path`` when the block ends well.

    An existing folder of that name is replaced as a whole.

    Raises:
        PathError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> target = Path(tempfile.mkdtemp()) / "run"
        >>> with atomic_folder(target) as partial:
        ...     _ = (partial / "a.txt").write_text("whole")
        >>> [p.name for p in target.iterdir()]
        ['a.txt']
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{PARTIAL_MARK}{target.name}-", dir=target.parent))
    except OSError as error:
        raise PathError(f"cannot write {target}: {error.strerror}") from error
    try:
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():
                with file.open("rb+") as handle:
                    os.fsync(handle.fileno())
        partial.chmod(0o777 & ~_umask())
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f"{PARTIAL_MARK}old-", dir=target.parent))
            target.replace(old / "folder")
            partial.replace(target)
            shutil.rmtree(old, ignore_errors=True)
        else:
            partial.replace(target)
        _sync_folder(target.parent)
    except OSError as error:
        raise PathError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def require_writable_folder(path: str | Path) -> Path:
    """Make ``path`` a folder that can be written, or say why it cannot be.

    Raises:
        PathError: it is a file, or it cannot be made or written.
    """
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise PathError(f"{folder} is a file: name a folder to write to")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PathError(f"cannot write to {folder}: {error.strerror}") from error
    return folder
