"""What a store is: a Protocol, and a registry of one dict by the scheme of its address.

To add a store, write a class that satisfies :class:`VectorStore` and name a function that opens
it in ``STORES``.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from mmref.errors import UsageError
from mmref.search.records import Candidates, Changes, Item, RunIdentity, Vector


class VectorStore(Protocol):
    """Items with vectors and profiles, all made by one run.

    Readers may share one store object among threads. There is one writer at a time.
    """

    @property
    def uri(self) -> str:
        """The address under which the store was opened."""

    @property
    def identity(self) -> RunIdentity:
        """The run that made the store."""

    def __len__(self) -> int:
        """Number of items."""

    def items(self) -> dict[str, Item]:
        """Every item by its path."""

    def get(self, ids: Sequence[int]) -> list[Item]:
        """These items in this order; those that are gone are left out."""

    def find(self, name: str) -> Item | None:
        """The item of this path or, for a number, of this id."""

    def find_digest(self, digest: str) -> list[int]:
        """Ids of the items with this content."""

    def vectors(self, ids: Sequence[int]) -> Vector:
        """Stored vectors, float32 [n, d]; raises StoreError when one is gone."""

    def candidates(self, vector: Vector, count: int) -> Candidates:
        """The ``count`` items nearest to a unit vector by cosine, with their profiles."""

    def apply(self, changes: Changes) -> None:
        """Write all of ``changes`` in one transaction."""

    def finish(self) -> None:
        """Bring whatever makes search quick up to date; called after the last change."""

    def info(self) -> dict[str, Any]:
        """Plain facts: at least ``images``, ``dimension`` and ``run``."""

    def close(self) -> None:
        """Give back files and locks."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


Opener = Callable[[str, RunIdentity | None], VectorStore]


def _open_local(uri: str, writer: RunIdentity | None) -> VectorStore:
    from mmref.search.stores.local import LocalStore

    return LocalStore(uri, writer)


STORES: dict[str, Opener] = {"": _open_local}


def open_store(uri: str, writer: RunIdentity | None = None) -> VectorStore:
    """Open a store for reading, or for writing by one run.

    Args:
        uri: a folder's path, or an address with a scheme.
        writer: the run that is going to write. The store is made when there is none.

    Raises:
        UsageError: the address is empty or its scheme is unknown.
        PathError: there is no store at that path, or it cannot be written.
        StoreMismatchError: another run made the store.
        StoreError: the store is damaged, of a newer version, or has another writer.

    Example:
        >>> open_store("postgres://host/pictures")
        Traceback (most recent call last):
        ...
        mmref.errors.UsageError: no store of the kind 'postgres': give the path of a folder
    """
    if not uri.strip():
        raise UsageError("the store's address is empty: give the path of a folder")
    scheme, mark, _ = uri.partition("://")
    opener = STORES.get(scheme if mark else "")
    if opener is None:
        raise UsageError(f"no store of the kind {scheme!r}: give the path of a folder")
    return opener(uri, writer)
