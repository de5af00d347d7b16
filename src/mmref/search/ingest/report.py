"""What ingest tells: counts, and what was skipped with reasons."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mmref.search.records import Skipped


@dataclass
class IngestReport:
    """What ``index_images`` did.

    Attributes:
        added: items that were new.
        updated: items whose content or metadata had changed.
        moved: items found at another path; not encoded again.
        removed: items whose picture is gone (``prune``).
        unchanged: items left alone.
        skipped: what could not be indexed, with reasons.
        encoded: how many were encoded.
        seconds: time taken.
        notes: what the SOURCEs have to say.
    """

    added: int = 0
    updated: int = 0
    moved: int = 0
    removed: int = 0
    unchanged: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    encoded: int = 0
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Pictures that are in the store now."""
        return self.added + self.updated + self.moved + self.unchanged

    @property
    def changed(self) -> int:
        """Items of the store that are not what they were."""
        return self.added + self.updated + self.moved + self.removed

    @property
    def failed(self) -> bool:
        """Whether nothing at all could be indexed."""
        return self.done == 0 and bool(self.skipped)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        counts = {
            name: getattr(self, name)
            for name in ("added", "updated", "moved", "removed", "unchanged", "encoded")
        }
        skipped = [{"path": skip.path, "reason": skip.reason} for skip in self.skipped]
        return {**counts, "skipped": skipped, "seconds": round(self.seconds, 3)}


Progress = Callable[[int, int, IngestReport], None]
