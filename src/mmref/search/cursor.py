"""Cursors: where a list of hits goes on, as one short word.

Items are ranked in *tiers* of falling cosine: first all whose cosine is at least that of the
candidates' last, ranked by score; behind them the next tier, once the first is through. A cursor
holds the tiers' bounds and the (score, id) of the last hit shown. An item's tier and score depend
on nothing but the query and the item, so that whatever is added to the store or removed from it in
the meantime, no old item comes twice and none is left out; new ones that belong before the cursor
are not shown.
"""

import base64
import hashlib
import struct
from dataclasses import dataclass

from mmref.errors import UsageError

_VERSION = 1
_CHECK = 4
_HEAD = struct.Struct(">B8sQHdqI")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list of hits.

    Attributes:
        query: digest of the question and its options, 16 hexadecimal digits.
        generation: the store's when the first page was made.
        bounds: the least cosine of each tier so far, falling; single precision.
        tier: tier of the last hit shown, from 0.
        score: its score.
        id: its id.
        shown: hits shown so far.

    Example:
        >>> place = Cursor("00112233aabbccdd", 7, (0.25,), 0, 0.52, 1041, 20)
        >>> Cursor.read(place.token(), "00112233aabbccdd") == place
        True
        >>> Cursor.read(place.token(), "ff112233aabbccdd")
        Traceback (most recent call last):
        ...
        mmref.errors.UsageError: the cursor is of another question: give the same words and options
    """

    query: str
    generation: int
    bounds: tuple[float, ...]
    tier: int
    score: float
    id: int
    shown: int

    def token(self) -> str:
        """It as letters, digits, - and _; the last ones are a check sum."""
        head = _HEAD.pack(
            _VERSION,
            bytes.fromhex(self.query),
            self.generation,
            self.tier,
            self.score,
            self.id,
            self.shown,
        )
        body = head + struct.pack(f">{len(self.bounds)}f", *self.bounds)
        return base64.urlsafe_b64encode(body + _sum(body)).decode().rstrip("=")

    @classmethod
    def read(cls, token: str, query: str) -> "Cursor":
        """The inverse of :meth:`token`.

        Raises:
            UsageError: the token is damaged, or of another question than ``query``.
        """
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
            body, check = raw[:-_CHECK], raw[-_CHECK:]
            version, asked, *rest = _HEAD.unpack(body[: _HEAD.size])
            if check != _sum(body) or version != _VERSION:
                raise ValueError
            count = (len(body) - _HEAD.size) // 4
            bounds = struct.unpack(f">{count}f", body[_HEAD.size :])
        except (ValueError, struct.error):
            raise UsageError(
                "the cursor is damaged: copy all of what the page before said, or leave it out"
            ) from None
        if asked.hex() != query:
            raise UsageError("the cursor is of another question: give the same words and options")
        generation, tier, score, number, shown = rest
        return cls(query, generation, bounds, tier, score, number, shown)


def _sum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECK]
