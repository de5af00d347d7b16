"""Cleaning of captions as the field's files hold them: blank ones, and lost characters."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

# U+FFFD stands where a character was lost; half a surrogate pair is no character either.
_LOST = re.compile("[\ufffd\ud800-\udfff]")


@dataclass
class CaptionCleaner:
    r"""Cleans captions one list at a time and counts what it changed.

    Characters that were lost become a space, as do line breaks and runs of spaces; a caption of
    which nothing is left is dropped. Nothing else is changed, and repeated captions stay.

    Attributes:
        blank: captions dropped.
        damaged: captions with a lost character.

    Example:
        >>> cleaner = CaptionCleaner()
        >>> cleaner.clean(["A man\ufffds coat. ", " ", "A red hat."])
        ['A man s coat.', 'A red hat.']
        >>> cleaner.notes()
        ['blank captions dropped: 1', 'captions with lost characters (U+FFFD), cleaned: 1']
    """

    blank: int = 0
    damaged: int = 0

    def clean(self, texts: Iterable[str]) -> list[str]:
        """The captions of which something is left, in order."""
        kept = []
        for text in texts:
            if not text.isascii() and _LOST.search(text):
                self.damaged += 1
            caption = " ".join(_LOST.sub(" ", text).split())
            if caption:
                kept.append(caption)
            else:
                self.blank += 1
        return kept

    def notes(self) -> list[str]:
        """What was changed, a sentence for each kind."""
        said = []
        if self.blank:
            said.append(f"blank captions dropped: {self.blank:,}")
        if self.damaged:
            said.append(f"captions with lost characters (U+FFFD), cleaned: {self.damaged:,}")
        return said
