"""Reading ahead and writing behind: three stages that overlap, with bounded queues between them.

Threads read (Pillow lets go of the interpreter while it decodes and scales), the caller encodes,
one thread writes. So there are at most ``AHEAD`` batches read and waiting, one being encoded, and
``BEHIND`` waiting to be written; beside them each reading thread holds one file and its picture.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

AHEAD = 2
BEHIND = 2
_PART = 8  # files that a thread takes at a time: handing over each alone costs the encoder time

T = TypeVar("T")
R = TypeVar("R")


def read_ahead(
    batches: Iterable[Sequence[T]], read: Callable[[T], R], workers: int
) -> Iterator[list[R]]:
    """Read batches with several threads, some batches before they are asked for.

    Args:
        batches: what to read; taken as room comes free.
        read: called in a thread for each; what it raises is raised here.
        workers: threads.

    Yields:
        The results in the order of ``batches``.

    Example:
        >>> list(read_ahead([[1, 2], [3]], lambda number: 10 * number, 2))
        [[10, 20], [30]]
    """

    def read_all(part: Sequence[T]) -> list[R]:
        return [read(one) for one in part]

    def ended(parts: list[Future[list[R]]]) -> list[R]:
        return [one for part in parts for one in part.result()]

    waiting: deque[list[Future[list[R]]]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="mmref-read") as pool:
        try:
            for batch in batches:
                size = max(1, min(_PART, len(batch) // workers))
                parts = [batch[start : start + size] for start in range(0, len(batch), size)]
                waiting.append([pool.submit(read_all, part) for part in parts])
                if len(waiting) > AHEAD:
                    yield ended(waiting.popleft())
            while waiting:
                yield ended(waiting.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class WriteBehind(Generic[T]):
    """Writes batches in order, in one thread, while the caller makes the next.

    When a write fails nothing more is written, and the next call says why. When the block is left
    by an error, what waits is dropped and the write under way is completed.

    Args:
        write: writes one batch.

    Example:
        >>> written = []
        >>> with WriteBehind(written.append) as writer:
        ...     writer.put("one")
        ...     writer.put("two")
        >>> written
        ['one', 'two']
    """

    def __init__(self, write: Callable[[T], None]) -> None:
        self._write = write
        self._waiting: deque[Future[None]] = deque()
        self._failed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mmref-write")

    def put(self, batch: T) -> None:
        """Have a batch written; waits while too many are waiting.

        Raises:
            Exception: what an earlier write raised.
        """
        while self._waiting and (len(self._waiting) >= BEHIND or self._waiting[0].done()):
            self._waiting.popleft().result()
        self._waiting.append(self._thread.submit(self._one, batch))

    def _one(self, batch: T) -> None:
        if self._failed:
            return
        try:
            self._write(batch)
        except BaseException:
            self._failed = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            while error is None and self._waiting:
                self._waiting.popleft().result()
        finally:
            self._thread.shutdown(wait=True, cancel_futures=True)
