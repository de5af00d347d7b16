"""What is needed next is made while the present is used."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
AHEAD = 2


class Ahead(Iterator[T]):
    """Items in their order, each made in a thread before it is asked for.

    To be used as a context manager, so that the threads end with the block.

    Args:
        make: the number of an item to the item; a function of the number alone.
        count: how many items there are.
        ahead: how many are made before they are asked for, beside those being made.
        threads: that make them.

    Attributes:
        waited: seconds that the user waited for items.

    Example:
        >>> with Ahead(lambda k: k * k, 4) as squares:
        ...     list(squares)
        [0, 1, 4, 9]
    """

    def __init__(
        self, make: Callable[[int], T], count: int, *, ahead: int = AHEAD, threads: int = 1
    ) -> None:
        self._make, self._numbers = make, iter(range(count))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="mmref-ahead")
        self._waiting = deque(
            self._pool.submit(make, number)
            for _, number in zip(range(ahead + threads - 1), self._numbers, strict=False)
        )
        self.waited = 0.0

    def __enter__(self) -> "Ahead[T]":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __next__(self) -> T:
        if not self._waiting:
            raise StopIteration
        begun = time.monotonic()
        item = self._waiting.popleft().result()
        self.waited += time.monotonic() - begun
        number = next(self._numbers, None)
        if number is not None:
            self._waiting.append(self._pool.submit(self._make, number))
        return item
