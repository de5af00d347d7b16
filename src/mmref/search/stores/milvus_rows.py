"""What a Milvus store writes: one row for each version of an item, and the head of the store.

A server has no transactions, so a store keeps *versions*. A row was born with a generation and
dies with a later one; a reader of generation g asks for ``born <= g and died > g``. A writer
writes the rows of generation g + 1, which no reader sees, and then the head, which is one
property of the collection and changes at one moment. What a killed writer leaves is not of any
generation, and the next writer clears it away.

===========================  ====================================================================
``pk``                       ``id`` and ``born`` in one number, so that writing again changes
                             nothing
``id``                       the item's number
``born``, ``died``           the generations from which, and up to which, the row is to be seen
``vector``                   float32 [d]; a unit vector, compared by inner product
``path``, ``path_key``       the path, and a number of 64 bits that stands for it in look-ups
``size``, ``mtime_ns``,      as in :class:`mmref.search.records.Place`; the metadata is JSON text
``source``, ``metadata``
``columns``                  what filters compare (:mod:`mmref.search.stores.milvus_filter`)
``digest``                   of the content
``profile``                  the arrays of the profile one behind the other, in base 64
``grp``, ``own``,            of a grouped edition alone: the group, or nothing; the vector and the
``own_profile``              profile as they were encoded, in base 64
===========================  ====================================================================
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import numpy as np

from mmref.errors import StoreError
from mmref.search.filters import columns_of
from mmref.search.groups.grouping import Grouping
from mmref.search.records import Arrays, Item, Place, RunIdentity, Vector
from mmref.search.stores.coding import Coding
from mmref.search.stores.milvus_connection import pymilvus
from mmref.search.stores.milvus_filter import FIELD, typed_columns
from mmref.search.stores.rows import Layout, as_layout, layout_of, values_of

FORMAT = 2  # 2: an edition may be grouped
HEAD = "mmref.head"
ALIVE = (1 << 62) - 1
ITEM = ("id", "path", "size", "mtime_ns", "metadata", "source", "digest")
ALL = ("pk", *ITEM, "born", "died", "path_key", FIELD, "profile", "vector")
OWN = ("grp", "own", "own_profile")
_BORN_BITS = 27
_TEXT_BYTES = 65_535
_TEXTS = {
    "path": _TEXT_BYTES,
    "source": _TEXT_BYTES,
    "metadata": _TEXT_BYTES,
    "digest": 128,
    "profile": _TEXT_BYTES,
}
_WHOLE = ("id", "born", "died", "path_key", "size", "mtime_ns")


@dataclass(frozen=True)
class MilvusHead:
    """The facts of one generation.

    Attributes:
        run: the run that made the vectors.
        storage: how vectors are rounded.
        edition: counts the runs that the store has had.
        generation: number of write transactions so far.
        images: number of items.
        next_id: the number of the next new item.
        written: the server's time of the last write; -1 where that is not known.
        layout: the arrays of a profile, or None while that is not decided.
        forgotten: what died up to this generation is gone.
        next: the edition that is being made, if one is: run, storage, edition, layout, grouping.
        grouping: which images share a vector, or None.
        format: version of the rows.
    """

    run: RunIdentity
    storage: str
    edition: int = 1
    generation: int = 0
    images: int = 0
    next_id: int = 1
    written: int = 0
    layout: Layout | None = None
    forgotten: int = 0
    next: dict[str, Any] | None = None
    grouping: Grouping | None = None
    format: int = field(default=FORMAT)

    @classmethod
    def read(cls, properties: Mapping[str, str], name: str) -> Self | None:
        """The head among a collection's properties; None where another program made it.

        Raises:
            StoreError: a newer version made the store, or the head is damaged.
        """
        text = properties.get(HEAD)
        if text is None:
            return None
        try:
            facts = json.loads(text)
            version = int(facts["format"])
            if version <= FORMAT:
                facts["run"] = RunIdentity.from_dict(facts["run"])
                facts["layout"] = None if facts["layout"] is None else as_layout(facts["layout"])
                facts["grouping"] = Grouping.from_dict(facts.get("grouping"))
                return cls(**facts | {"format": FORMAT})
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{name} is damaged: its property {HEAD} cannot be read") from error
        raise StoreError(f"{name} was made by a newer mmref: upgrade it (pip install -U mmref)")

    def text(self) -> str:
        """As the property keeps it."""
        return json.dumps(asdict(self))

    def following(self, **changes: Any) -> "MilvusHead":
        """The head of the transaction that comes next."""
        return replace(self, generation=self.generation + 1, **changes)

    def written_at(self, time: int) -> "MilvusHead":
        """The head after one more write: what was written before is seen when that is."""
        return replace(self, written=time)

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the edition's rows."""
        return ALL if self.grouping is None else (*ALL, *OWN)

    @property
    def coding(self) -> Coding:
        """How vectors are rounded."""
        return Coding(self.storage, self.run.dimension)

    @property
    def profile_bytes(self) -> int:
        """Bytes of one profile."""
        return sum(np.dtype(kind).itemsize * width for _, kind, width in self.layout or ())

    @property
    def alive(self) -> str:
        """The expression for what is to be seen of this generation."""
        return alive(self.generation)


def alive(generation: int) -> str:
    """The expression for what is to be seen of a generation."""
    return f"((born <= {generation}) and (died > {generation}))"


def schema(dimension: int, note: str, grouped: bool = False) -> Any:
    """The fields of a collection."""
    module = pymilvus()
    kinds = module.DataType
    made = module.MilvusClient.create_schema(
        auto_id=False, enable_dynamic_field=False, description=note
    )
    made.add_field("pk", kinds.INT64, is_primary=True)
    for name in _WHOLE:
        made.add_field(name, kinds.INT64)
    for name, most in _TEXTS.items():
        made.add_field(name, kinds.VARCHAR, max_length=most)
    for name in OWN if grouped else ():
        made.add_field(name, kinds.VARCHAR, max_length=_TEXT_BYTES)
    made.add_field(FIELD, kinds.JSON)
    made.add_field("vector", kinds.FLOAT_VECTOR, dim=dimension)
    return made


def key_of(number: int, born: int) -> int:
    """The primary key of an item's version.

    Raises:
        StoreError: there were too many transactions.
    """
    if born >= 1 << _BORN_BITS:
        raise StoreError("too many transactions: export the store and import it into a new one")
    return number << _BORN_BITS | born


def path_key(path: str) -> int:
    """A number of 64 bits that stands for a path in look-ups.

    Example:
        >>> path_key("/p/a.png") == path_key("/p/a.png") != path_key("/p/b.png")
        True
    """
    digest = hashlib.blake2b(path.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def place_fields(place: Place) -> dict[str, Any]:
    """The fields of a row that say where an item is.

    Raises:
        StoreError: a text is longer than Milvus keeps.
    """
    path, size, mtime_ns, metadata, source = values_of(place)
    columns = typed_columns(columns_of(place))
    texts = {"path": path, "metadata": metadata, "source": source}
    for name, text in {**texts, "metadata ": json.dumps(columns)}.items():
        if len(text.encode()) > _TEXT_BYTES:
            raise StoreError(
                f"{path[:200]}: its {name.strip()} has more than the {_TEXT_BYTES:,} bytes that "
                "Milvus keeps: shorten it, or keep a local store"
            )
    numbers = {"size": size, "mtime_ns": mtime_ns, "path_key": path_key(path)}
    return {**texts, **numbers, FIELD: columns}


def item_of(row: Mapping[str, Any]) -> Item:
    """The item of a row."""
    place = Place(
        row["path"],
        int(row["size"]),
        int(row["mtime_ns"]),
        json.loads(row["metadata"]),
        row["source"],
    )
    return Item(int(row["id"]), place, row["digest"])


def packed_profile(profile: Mapping[str, Any] | None, layout: Layout) -> str:
    """One item's profile as a row keeps it.

    Raises:
        ValueError: it is not of the store's layout.
        StoreError: it is longer than Milvus keeps.
    """
    if layout_of(profile) != layout:
        raise ValueError(f"a profile of {layout_of(profile)} does not fit {layout}")
    parts = [np.ascontiguousarray((profile or {})[name]).tobytes() for name, _, _ in layout]
    text = base64.b64encode(b"".join(parts)).decode("ascii")
    if len(text) > _TEXT_BYTES:
        raise StoreError(
            f"a profile of {len(text):,} letters is longer than the {_TEXT_BYTES:,} that Milvus "
            "keeps: let the run refine by posterior, or keep a local store"
        )
    return text


def profiles_of(texts: Sequence[str], layout: Layout | None, name: str) -> Arrays:
    """Profiles of rows, arrays [n, ...] by name.

    Raises:
        StoreError: one has not the length that it should have.
    """
    length = sum(np.dtype(kind).itemsize * width for _, kind, width in layout or ())
    try:
        blobs = [base64.b64decode(text, validate=True) for text in texts]
    except ValueError:
        blobs = [b"\0" * (length + 1)]
    if any(len(blob) != length for blob in blobs):
        raise StoreError(
            f"{name} is damaged (a profile has a wrong length): find out which with mmref store "
            f"verify {name}, and mend it with --repair"
        )
    arrays: Arrays = {}
    start = 0
    for part, kind, width in layout or ():
        dtype = np.dtype(kind)
        end = start + dtype.itemsize * width
        joined = b"".join(blob[start:end] for blob in blobs)
        arrays[part] = np.frombuffer(joined, dtype).reshape(len(blobs), width)
        start = end
    return arrays


def packed_vector(vector: Vector, coding: Coding) -> str:
    """What was encoded of an item as a row keeps it, from a vector that is rounded already.

    Raises:
        StoreError: it is longer than Milvus keeps.
    """
    text = base64.b64encode(coding.packed(vector[None]).tobytes()).decode("ascii")
    if len(text) > _TEXT_BYTES:
        raise StoreError(
            f"vectors of {len(vector):,} numbers are too long to be kept beside those of groups: "
            "keep a local store, or one without groups"
        )
    return text


def own_vectors_of(rows: Iterable[Mapping[str, Any]], coding: Coding, name: str) -> Vector:
    """What was encoded of rows of a grouped edition, float32 [n, d].

    Raises:
        StoreError: one has not the length that it should have.
    """
    try:
        blobs = [base64.b64decode(row["own"], validate=True) for row in rows]
    except ValueError:
        blobs = [b""]
    if any(len(blob) != coding.bytes for blob in blobs):
        raise StoreError(
            f"{name} is damaged (a vector has a wrong length): find out which with mmref store "
            f"verify {name}, and mend it with --repair"
        )
    packed = np.frombuffer(b"".join(blobs), coding.dtype).reshape(len(blobs), coding.width)
    return coding.vectors(packed)


def vectors_of(rows: Iterable[Mapping[str, Any]], dimension: int) -> Vector:
    """Vectors of rows, float32 [n, d]."""
    found = [np.asarray(row["vector"], dtype=np.float32) for row in rows]
    return np.stack(found) if found else np.zeros((0, dimension), np.float32)


def rounded(vectors: Vector, coding: Coding) -> Vector:
    """Vectors as a store of this storage keeps them.

    Raises:
        ValueError: one is not finite, or of another length.
    """
    if vectors.shape[1:] != (coding.dimension,) or not np.isfinite(vectors).all():
        raise ValueError(f"a vector must be {coding.dimension} finite numbers")
    return coding.vectors(coding.packed(vectors))
