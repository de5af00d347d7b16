"""The values that pass between ingest, stores and the search engine."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mmref.references.refinement import TEMPERED, Refiner

Vector = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]


class Model(Protocol):
    """What search asks of a model; ``mmref.model.MMRef`` has it all."""

    @property
    def id(self) -> str:
        """Name of the run."""

    @property
    def digest(self) -> str:
        """Hexadecimal digest of the weights."""

    @property
    def kind(self) -> str:
        """``compact``, ``clip`` or ``features``."""

    @property
    def dimension(self) -> int:
        """Numbers in one vector."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the pixels that the encoder takes, or None."""

    @property
    def refiner(self) -> Refiner | None:
        """The refinement that validation chose, or None."""

    def encode_text(self, texts: Sequence[str], batch_size: int = 256) -> Any:
        """Sentences to unit vectors, Tensor[n, d]."""

    def encode_image(self, items: Any, batch_size: int = 256) -> Any:
        """Pixels, pictures or features to unit vectors, Tensor[n, d]."""


@dataclass(frozen=True)
class RunIdentity:
    """Which run made a store: a store answers to no other.

    Attributes:
        id: name of the run.
        digest: digest of the weights.
        kind: kind of the encoder.
        dimension: numbers in one vector.
        image_size: height and width that pictures are resized to, or None.
        refinement: what a stored profile depends on (form, temperature, kept), or None.
        path: the run's folder when the store was made; it may have moved since.

    Example:
        >>> one = RunIdentity("flags", "ab12", "compact", 64, (96, 96), None, "runs/flags")
        >>> other = RunIdentity("flags", "cd34", "compact", 64, (96, 96), None, "/elsewhere")
        >>> one.difference(one), one.difference(other)
        (None, 'other weights (ab12 in the store, cd34 in the run)')
    """

    id: str
    digest: str
    kind: str
    dimension: int
    image_size: tuple[int, int] | None
    refinement: dict[str, Any] | None
    path: str

    @classmethod
    def of(cls, model: Model, path: str) -> "RunIdentity":
        """The identity of a model that was loaded from ``path``."""
        refiner = model.refiner
        refinement: dict[str, Any] | None = None
        if refiner is not None:
            refinement = {"form": refiner.form}
            if refiner.form in TEMPERED:
                refinement["temperature"] = refiner.temperature
            if refiner.form == "posterior":
                refinement["kept"] = refiner.kept
        size = model.image_size
        return cls(
            model.id,
            model.digest,
            model.kind,
            int(model.dimension),
            None if size is None else (int(size[0]), int(size[1])),
            refinement,
            path,
        )

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "RunIdentity":
        """The inverse of :meth:`as_dict`; unknown keys are left out."""
        known = {name.name: value[name.name] for name in fields(cls)}
        size = known["image_size"]
        known["image_size"] = None if size is None else (int(size[0]), int(size[1]))
        return cls(**known)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @property
    def form(self) -> str:
        """The form of refinement that profiles are for; empty without refinement."""
        return "" if self.refinement is None else str(self.refinement["form"])

    def difference(self, run: "RunIdentity") -> str | None:
        """Why vectors of ``run`` do not belong in this store, or None when they do."""
        if self.digest != run.digest:
            return f"other weights ({self.digest[:12]} in the store, {run.digest[:12]} in the run)"
        for name in ("kind", "dimension", "image_size", "refinement"):
            mine, theirs = getattr(self, name), getattr(run, name)
            if mine != theirs:
                return f"another {name.replace('_', ' ')} ({mine} in the store, {theirs} now)"
        return None


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item is found and what is known of it without reading it.

    Attributes:
        path: absolute path of the picture, or the id of an item that has features only.
        size: bytes of the file; 0 for features.
        mtime_ns: time of the last change, nanoseconds; 0 for features.
        metadata: JSON values by name.
        source: folder, file or manifest that the item came in by.
    """

    path: str
    size: int
    mtime_ns: int
    metadata: dict[str, Any]
    source: str


@dataclass(frozen=True, slots=True)
class Record:
    """One item to write: its place, the digest of its content, its vector and its profile."""

    place: Place
    digest: str
    vector: Vector
    profile: Mapping[str, npt.NDArray[Any]] | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A vector and a profile of another run for an item that a store holds.

    Attributes:
        id: the item's number.
        digest: of the content that was encoded; of an item that has changed since it is void.
        vector: unit vector, float32 [d].
        profile: arrays by name.
    """

    id: int
    digest: str
    vector: Vector
    profile: Mapping[str, npt.NDArray[Any]] | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """One item as a store holds it, without its vector."""

    id: int
    place: Place
    digest: str


@dataclass
class Changes:
    """What one transaction writes: all of it or nothing.

    Attributes:
        records: items to add, or to put in the place of those with the same path.
        placed: items whose content stays: (id, new place).
        removed: ids of items to forget.
    """

    records: list[Record] = field(default_factory=list)
    placed: list[tuple[int, Place]] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.records or self.placed or self.removed)


@dataclass(frozen=True, slots=True)
class Candidates:
    """The nearest items of one vector, best first; equal scores stand by id.

    Attributes:
        ids: int64 [c].
        scores: exact cosines, float32 [c].
        profiles: stored profiles in the same order, arrays [c, ...] by name; empty if none.
    """

    ids: npt.NDArray[np.int64]
    scores: Vector
    profiles: Arrays


def content_digest(content: bytes) -> str:
    """The digest of a file's content, or a vector's, as stores keep it: 32 hexadecimal digits.

    Example:
        >>> content_digest(b"")
        'cae66941d9efbd404e4d88758ea67670'
    """
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Skipped:
    """One file that was not indexed, and why."""

    path: str
    reason: str
