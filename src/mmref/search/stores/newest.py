"""Reading from a store itself: from a view of that moment, whatever kind of store it is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Self

from mmref.search.filters import Filter
from mmref.search.groups.grouping import Grouping
from mmref.search.records import Arrays, Candidates, Item, Vector
from mmref.search.stores.base import View


class Newest(ABC):
    """What all stores read in the same way; see :class:`mmref.search.stores.base.View`."""

    @abstractmethod
    def view(self) -> AbstractContextManager[View]:
        """One generation, the newest, to read from until the block ends."""

    @abstractmethod
    def close(self) -> None:
        """Give back files and locks."""

    @property
    def generation(self) -> int:
        """Number of write transactions so far."""
        with self.view() as view:
            return view.generation

    def __len__(self) -> int:
        """Number of items."""
        with self.view() as view:
            return len(view)

    def items(self, after: int = 0) -> Iterator[Item]:
        """Every item with an id above ``after``, by rising id, of one generation."""
        with self.view() as view:
            yield from view.items(after)

    def get(self, ids: Sequence[int]) -> list[Item]:
        """These items in this order; those that are gone are left out."""
        with self.view() as view:
            return view.get(ids)

    def find(self, name: str) -> Item | None:
        """The item of this path or, for a number, of this id."""
        with self.view() as view:
            return view.find(name)

    def at(self, paths: Sequence[str]) -> dict[str, Item]:
        """The items of these paths by path."""
        with self.view() as view:
            return view.at(paths)

    def find_digest(self, digest: str) -> list[int]:
        """Ids of the items with this content, rising."""
        with self.view() as view:
            return view.find_digest(digest)

    def vectors(self, ids: Sequence[int]) -> Vector:
        """Stored vectors in this order, float32 [n, d]."""
        with self.view() as view:
            return view.vectors(ids)

    def profiles(self, ids: Sequence[int]) -> Arrays:
        """Stored profiles in this order, arrays [n, ...] by name."""
        with self.view() as view:
            return view.profiles(ids)

    def column_names(self) -> set[str] | None:
        """The names of the columns that items have; None where finding them out takes time."""
        with self.view() as view:
            return view.column_names()

    @property
    def grouping(self) -> Grouping | None:
        """Which images share a vector, or None."""
        with self.view() as view:
            return view.grouping

    def own(self, ids: Sequence[int]) -> tuple[Vector, Arrays]:
        """What was encoded of these items, before their groups shared it."""
        with self.view() as view:
            return view.own(ids)

    def groups(self, ids: Sequence[int]) -> dict[int, str]:
        """The groups of these items by id; items that stand alone are left out."""
        with self.view() as view:
            return view.groups(ids)

    def candidates(self, vector: Vector, count: int, where: Filter | None = None) -> Candidates:
        """The items nearest to a unit vector by cosine, with their profiles."""
        with self.view() as view:
            return view.candidates(vector, count, where)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
