"""Files to what the encoder takes."""

from pathlib import Path

from mmref.errors import PathError
from mmref.search.records import content_digest


def file_digest(path: str | Path) -> str:
    """The digest of a file's content as stores keep it, 32 hexadecimal digits.

    Raises:
        PathError: the file cannot be read.
    """
    try:
        return content_digest(Path(path).read_bytes())
    except OSError as error:
        raise PathError(f"cannot read {path}: {error.strerror}") from error
