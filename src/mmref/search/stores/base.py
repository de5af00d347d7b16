"""What a store is: three Protocols, and a registry of one dict by the scheme of its address.

To add a store, write a class that satisfies :class:`VectorStore` and name a function that opens
it in ``STORES``; ``tests/search/stores/contract.py`` holds the tests that every store passes.

A store counts its write transactions: the *generation*. What is read within one :class:`View` is
of one generation. All vectors and profiles are of one run; a :class:`Migration` makes those of
another run beside them and changes over at one moment.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, Self

from mmref.errors import UsageError
from mmref.search.filters import Filter
from mmref.search.groups.grouping import Grouping, Regrouping
from mmref.search.records import Arrays, Candidates, Changes, Encoded, Item, RunIdentity, Vector

STORAGES = ("fp32", "fp16", "int8")


class View(Protocol):
    """What can be read of a store."""

    @property
    def generation(self) -> int:
        """Number of write transactions behind what is read here."""

    def __len__(self) -> int:
        """Number of items."""

    def items(self, after: int = 0) -> Iterator[Item]:
        """Every item with an id above ``after``, by rising id; streamed, for there are millions."""

    def get(self, ids: Sequence[int]) -> list[Item]:
        """These items in this order; those that are gone are left out."""

    def find(self, name: str) -> Item | None:
        """The item of this path or, for a number, of this id."""

    def at(self, paths: Sequence[str]) -> dict[str, Item]:
        """The items of these paths by path; unknown paths are left out."""

    def find_digest(self, digest: str) -> list[int]:
        """Ids of the items with this content, rising."""

    def vectors(self, ids: Sequence[int]) -> Vector:
        """Stored vectors in this order, float32 [n, d]; raises StoreError when one is gone."""

    def profiles(self, ids: Sequence[int]) -> Arrays:
        """Stored profiles in this order, arrays [n, ...] by name; raises as ``vectors``."""

    def column_names(self) -> set[str] | None:
        """The names of the columns that items have; None where finding them out takes time."""

    @property
    def grouping(self) -> Grouping | None:
        """Which images share a vector and a profile (:mod:`mmref.search.groups`), or None."""

    def own(self, ids: Sequence[int]) -> tuple[Vector, Arrays]:
        """What was encoded of these items, in this order, before their groups shared it.

        Of a store that is not grouped that is ``vectors`` and ``profiles``; raises as these do.
        """

    def groups(self, ids: Sequence[int]) -> dict[int, str]:
        """The groups of these items by id; items that stand alone are left out."""

    def candidates(self, vector: Vector, count: int, where: Filter | None = None) -> Candidates:
        """The items nearest to a unit vector by cosine, with their profiles.

        Args:
            vector: float32 [d].
            count: how many; fewer are given only where fewer match.
            where: what ``Filter.matches`` must say of an item's ``columns_of``; items that do not
                match take no place among the ``count``.

        Returns:
            By falling score, equal scores by rising id. Scores are exact cosines of the stored
            vectors; which items are among them may be approximate in large stores.
        """


class Migration(Protocol):
    """What is made beside what serves; see :meth:`VectorStore.migration`."""

    def pending(self) -> Iterator[Item]:
        """The items that have no vector of the new run yet, by rising id."""

    def write(self, encoded: Sequence[Encoded]) -> None:
        """Write vectors and profiles of the new run, all or none; searches do not see them."""

    def finish(self) -> None:
        """Change over: from one moment on, vectors, profiles and identity are the new run's.

        Raises:
            StoreError: an item is still pending.
        """

    def discard(self) -> None:
        """Forget what was made for the new run."""


class VectorStore(View, Protocol):
    """Items with vectors and profiles, all made by one run.

    Readers may share one store object among threads. There is one writer at a time. Reading from
    the store itself is reading from a view of that moment.
    """

    @property
    def uri(self) -> str:
        """The address under which the store was opened."""

    @property
    def identity(self) -> RunIdentity:
        """The run that made the store's vectors."""

    @property
    def storage(self) -> str:
        """How vectors are kept: one of ``STORAGES``."""

    def view(self) -> AbstractContextManager[View]:
        """One generation, the newest, to read from until the block ends.

        Raises:
            StoreMismatchError: the store has changed over to another run since it was opened.
        """

    def info(self) -> dict[str, Any]:
        """Plain facts: at least ``images``, ``dimension``, ``run``, ``storage``."""

    def apply(self, changes: Changes) -> None:
        """Write all of ``changes`` in one transaction."""

    def finish(self) -> None:
        """Bring whatever makes search quick up to date; called after the last change."""

    def migration(
        self,
        run: RunIdentity,
        storage: str | None = None,
        regrouping: Regrouping | None = None,
    ) -> Migration:
        """Begin to re-encode for another run, or take it up where it was left.

        The store is open for writing by its own run (``open_store(uri, store.identity)``) and
        serves all the while. Groups stay as they are, of the new run's vectors.

        Args:
            run: the new run.
            storage: how the new vectors are kept; by default as the store's.
            regrouping: other groups; such a migration begins anew each time. What is written is
                what was encoded (``own``).

        Raises:
            StoreError: it is to be regrouped while a re-encoding is not complete.
        """

    def verify(self, content: bool = False, repair: bool = False) -> list[str]:
        """Check all that is stored; give one line for each thing that is wrong.

        Args:
            content: read the pictures too, and compare them with the digests.
            repair: make caches again, and forget items that cannot be used, so that the next
                ``mmref index`` encodes them. The store is open for writing.
        """

    def compact(self) -> None:
        """Give back the room of what was removed. The store is open for writing."""

    def close(self) -> None:
        """Give back files and locks."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Opener(Protocol):
    """Opens the stores of one scheme."""

    def __call__(  # noqa: D102
        self, uri: str, writer: RunIdentity | None, storage: str | None, /
    ) -> VectorStore: ...


def _open_local(uri: str, writer: RunIdentity | None, storage: str | None) -> VectorStore:
    from mmref.search.stores.local import LocalStore

    return LocalStore(uri, writer, storage)


def _open_milvus(uri: str, writer: RunIdentity | None, storage: str | None) -> VectorStore:
    from mmref.search.stores.milvus import MilvusStore

    return MilvusStore(uri, writer, storage)


STORES: dict[str, Opener] = {
    "": _open_local,
    "milvus": _open_milvus,
    "milvus+https": _open_milvus,
    "milvus-lite": _open_milvus,
}


def open_store(
    uri: str, writer: RunIdentity | None = None, *, storage: str | None = None
) -> VectorStore:
    """Open a store for reading, or for writing by one run.

    Args:
        uri: a folder's path, or an address with a scheme.
        writer: the run that is going to write. The store is made when there is none.
        storage: how a new store keeps vectors (``fp32`` unless told); of an existing one it must
            be what it is.

    Raises:
        UsageError: the address is empty, its scheme is unknown, or ``storage`` is not one of
            ``STORAGES`` or not that of the store.
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
    if storage is not None and storage not in STORAGES:
        raise UsageError(f"no storage {storage!r}: it is one of {', '.join(STORAGES)}")
    scheme, mark, _ = uri.partition("://")
    opener = STORES.get(scheme if mark else "")
    if opener is None:
        raise UsageError(f"no store of the kind {scheme!r}: give the path of a folder")
    return opener(uri, writer, storage)
