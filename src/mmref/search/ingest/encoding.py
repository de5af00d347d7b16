"""Who encodes, and how its batches pass between reading and writing."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, Protocol, Self, TypeVar

from mmref.search.ingest.pipeline import AHEAD, BEHIND
from mmref.search.ingest.reading import NOT_FINITE, Encoding, decode, encode
from mmref.search.records import Model

Answers = list[Encoding | str]  # encodings, or the reasons why there are none


class Encoder(Protocol):
    """Turns the contents of files into encodings."""

    slots: int
    """Batches that it encodes at a time, elsewhere; 0 when the calling thread itself does."""

    def prepare(self, content: bytes) -> Any:
        """What a batch takes of a file's content; called by the reading threads.

        Raises:
            ImageError: it cannot be decoded; the message is the reason alone.
        """

    def __call__(self, items: Sequence[Any]) -> Answers:
        """Encode one batch: prepared contents, or features."""


class LocalEncoder:
    """Encodes in the calling thread what the reading threads decoded.

    Args:
        model: the run's model.
    """

    slots = 0

    def __init__(self, model: Model) -> None:
        self.model = model

    def prepare(self, content: bytes) -> Any:
        """The pixels; see :func:`mmref.search.ingest.reading.decode`."""
        return decode(content, self.model.image_size)

    def __call__(self, items: Sequence[Any]) -> Answers:
        """Encode one batch."""
        return [NOT_FINITE if one is None else one for one in encode(self.model, items)]


class File(Protocol):
    """One file on its way from reading to writing."""

    @property
    def digest(self) -> str:
        """Of its content."""

    @property
    def pixels(self) -> Any:
        """What the encoder takes; None when there is nothing to encode."""

    def lighter(self) -> Self:
        """This file without its pixels."""

    def encoded(self, answer: Encoding | str) -> Self:
        """This file with its encoding, or with the reason why it has none."""


F = TypeVar("F", bound=File)


@dataclass(frozen=True, slots=True)
class _Batch(Generic[F]):
    """Files on their way, where the answer to each will be, and what is encoded for this batch."""

    files: list[F]
    places: list[tuple[Future[Answers], int] | None]
    own: Future[Answers]

    def ended(self) -> tuple[list[F], int]:
        files = [
            file if place is None else file.encoded(place[0].result()[place[1]])
            for file, place in zip(self.files, self.places, strict=True)
        ]
        return files, sum(isinstance(one, Encoding) for one in self.own.result())


def encoded(
    batches: Iterable[list[F]], encoder: Encoder, size: int
) -> Iterator[tuple[list[F], int]]:
    """Have batches encoded; content that is still on its way is not encoded again.

    Args:
        batches: files that were read.
        encoder: who encodes; each of its slots has a batch at work and one waiting.
        size: files in a batch.

    Yields:
        The files of each batch, in order, and how many encodings were made for it.
    """
    waiting: deque[_Batch[F]] = deque()
    on_their_way: OrderedDict[str, tuple[Future[Answers], int]] = OrderedDict()
    most = (AHEAD + BEHIND + 2 + 2 * encoder.slots) * size
    threads = ThreadPoolExecutor(2 * encoder.slots or 1, thread_name_prefix="mmref-encode")
    try:
        for batch in batches:
            fresh = {
                file.digest: file.pixels
                for file in batch
                if file.pixels is not None and file.digest not in on_their_way
            }
            items = list(fresh.values())
            own = threads.submit(encoder, items) if encoder.slots else _done(encoder, items)
            on_their_way.update((digest, (own, row)) for row, digest in enumerate(fresh))
            places = [None if f.pixels is None else on_their_way[f.digest] for f in batch]
            waiting.append(_Batch([file.lighter() for file in batch], places, own))
            while len(on_their_way) > most:
                on_their_way.popitem(last=False)
            if len(waiting) > 2 * encoder.slots:
                yield waiting.popleft().ended()
        while waiting:
            yield waiting.popleft().ended()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)


def _done(call: Callable[[Sequence[Any]], Answers], items: Sequence[Any]) -> Future[Answers]:
    future: Future[Answers] = Future()
    future.set_result(call(items) if items else [])
    return future
