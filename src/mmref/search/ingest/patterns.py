"""Patterns of paths, such as ``photos/**/*.jpg``, for shells that do not expand them."""

import os
import re
from fnmatch import translate
from pathlib import PurePath

_WILD = re.compile(r"[*?[]")


def is_pattern(path: str) -> bool:
    """Whether a path holds a wildcard.

    Example:
        >>> is_pattern("photos/*.jpg"), is_pattern("photos/a.jpg")
        (True, False)
    """
    return _WILD.search(path) is not None


class Pattern:
    """Files and folders by wildcards: ``*``, ``?`` and ``[...]`` within a name, ``**`` for folders.

    A folder that fits brings all that is in it, as it does when a shell expands the pattern.

    Args:
        text: the pattern as it was given.
        folder: absolute path of :meth:`folder_of` the pattern.

    Example:
        >>> pattern = Pattern("photos/20*/**/*.jpg", "/home/me/photos")
        >>> pattern.covers("/home/me/photos/2024/may/a.jpg")
        True
        >>> pattern.covers("/home/me/photos/1999/a.jpg"), pattern.leads_into("/home/me/photos/1999")
        (False, False)
    """

    def __init__(self, text: str, folder: str) -> None:
        self.folder = folder
        self._start = folder.rstrip(os.sep) + os.sep
        parts = PurePath(text[len(self.folder_of(text)) :]).parts
        self._parts = [None if part == "**" else re.compile(translate(part)) for part in parts]

    @staticmethod
    def folder_of(text: str) -> str:
        """The folders before the first wildcard.

        Example:
            >>> Pattern.folder_of("photos/20*/a.jpg"), Pattern.folder_of("*.jpg")
            ('photos/', '')
        """
        found = _WILD.search(text)
        return text if found is None else text[: text.rfind(os.sep, 0, found.start()) + 1]

    def covers(self, path: str) -> bool:
        """Whether a path, or a folder that it is in, fits."""
        return len(self._parts) in self._reached(path)

    def leads_into(self, path: str) -> bool:
        """Whether something in this folder may fit."""
        return bool(self._reached(path))

    def _reached(self, path: str) -> set[int]:
        """How many parts of the pattern the path's names may have used up; all: it is covered."""
        if not path.startswith(self._start):
            return set()
        last = len(self._parts)
        states = self._skipped({0})
        for name in PurePath(path[len(self._start) :]).parts:
            after = set()
            for state in states:
                part = self._parts[state] if state < last else None
                if state == last:
                    return {last}
                if part is None:
                    after |= {state, state + 1} if state == last - 1 else {state}
                elif part.match(name):
                    after.add(state + 1)
            states = self._skipped(after)
        return states

    def _skipped(self, states: set[int]) -> set[int]:
        """With ``**`` standing for no folder; but a pattern's last part must use up a name."""
        found = set()
        for state in states:
            end = state
            while end < len(self._parts) - 1 and self._parts[end] is None:
                end += 1
            found |= set(range(state, end + 1))
        return found
