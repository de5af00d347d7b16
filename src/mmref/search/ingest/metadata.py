"""What a picture says of itself: the moment at which it was taken, from its EXIF block.

``taken`` is that moment as the camera noted it, with the offset from UTC where it is known, and
``date`` the same without the offset: the time on the spot, which is what people ask for, and one
form for all, which keeps filters quick. Names that a SOURCE gives come first.
"""

import io
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from PIL import Image

from mmref.data.images import FORMATS

_BLOCK = 0x8769
_ORIGINAL, _CHANGED = 0x9003, 0x0132  # DateTimeOriginal, DateTime
_OFFSETS = {_ORIGINAL: 0x9011, _CHANGED: 0x9010}
_OFFSET = re.compile(r"[+-][0-9]{2}:[0-9]{2}")
_HEAD = 1 << 17  # bytes of a JPEG or AVIF file in which the block begins
_SECONDS = 19  # letters of YYYY-MM-DDTHH:MM:SS


def taken(content: bytes) -> str | None:
    """When a picture was taken (EXIF DateTimeOriginal, else DateTime), or None.

    A damaged block says nothing.

    Args:
        content: bytes of an image file.

    Returns:
        ``YYYY-MM-DDTHH:MM:SS``, with ``+HH:MM`` where the camera noted its offset from UTC.

    Example:
        >>> file, exif = io.BytesIO(), Image.Exif()
        >>> exif[0x0132] = "2026:01:31 12:30:05"
        >>> Image.new("RGB", (2, 2)).save(file, "JPEG", exif=exif)
        >>> taken(file.getvalue())
        '2026-01-31T12:30:05'
        >>> taken(b"no picture")
    """
    if not _may_have_exif(content):
        return None
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            exif = image.getexif()
            block = exif.get_ifd(_BLOCK)
            for tags, name in ((block, _ORIGINAL), (exif, _CHANGED)):
                moment = _moment(tags.get(name), block.get(_OFFSETS[name]))
                if moment is not None:
                    return moment
    except Exception:  # a reader may raise anything on a broken file; decoding will say what
        return None
    return None


def _may_have_exif(content: bytes) -> bool:
    """Whether there is a mark of EXIF: most pictures from the web have none, and are not opened."""
    if content[:4] in (b"II*\0", b"MM\0*"):  # TIFF is made of such blocks
        return True
    if content.startswith(b"\x89PNG"):
        return b"eXIf" in content
    if content[12:16] == b"VP8X":  # WebP: a bit of its header
        return bool(content[20] & 0x08) if len(content) > 20 else False
    return b"Exif" in content[:_HEAD]


def _moment(value: Any, offset: Any) -> str | None:
    text = str(value).strip("\0 ")
    try:
        moment = datetime.strptime(text, "%Y:%m:%d %H:%M:%S").isoformat()
    except ValueError:  # zeros or blanks: the camera's clock was not set
        return None
    known = isinstance(offset, str) and _OFFSET.fullmatch(offset.strip("\0 "))
    return moment + offset.strip("\0 ") if known else moment


def with_taken(metadata: Mapping[str, Any], moment: str | None) -> dict[str, Any]:
    """Metadata and the moment at which the picture was taken; a SOURCE's own names come first.

    Example:
        >>> with_taken({"shop": "north"}, "2026-01-31T12:30:05+02:00")
        {'date': '2026-01-31T12:30:05', 'taken': '2026-01-31T12:30:05+02:00', 'shop': 'north'}
        >>> with_taken({"date": "1960"}, "2026-01-31T12:30:05")
        {'date': '1960', 'taken': '2026-01-31T12:30:05'}
    """
    if moment is None or metadata.get("taken") is not None:
        return dict(metadata)
    own = {"date": moment[:_SECONDS], "taken": moment}
    return own | {
        name: value for name, value in metadata.items() if value is not None or name not in own
    }


def without_taken(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The inverse of :func:`with_taken`.

    Example:
        >>> without_taken({"date": "2026-01-31T12:30:05", "taken": "2026-01-31T12:30:05Z", "a": 1})
        ({'a': 1}, '2026-01-31T12:30:05Z')
    """
    given = dict(metadata)
    moment = given.pop("taken", None)
    if not isinstance(moment, str):
        return dict(metadata), None
    if given.get("date") == moment[:_SECONDS]:
        del given["date"]
    return given, moment
