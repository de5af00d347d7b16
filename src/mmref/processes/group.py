"""The group: what several processes of one training, or one evaluation, do together.

A process alone is a group of one, for which each method is what it would be without.
"""

import atexit
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from mmref.errors import UsageError
from mmref.processes.endings import Endings, is_broken
from mmref.processes.launch import Place, place
from mmref.processes.shares import gather_rows, share_of

TIMEOUT = timedelta(minutes=15)  # of one exchange; what one process does alone may take any time
LAST_WORDS = 10.0  # seconds that rank 0 waits for the others to leave
_LONGEST_NAP = 0.1


class Group:
    """The processes that a launcher started, as one of them sees it.

    Args:
        here: which of them this is.
        store: the launcher's; None for a process alone.

    Example:
        >>> alone = Group()
        >>> alone.main, alone.first(lambda: [1, 2])
        (True, [1, 2])
    """

    def __init__(self, here: Place | None = None, store: Store | None = None) -> None:
        self.here = here or Place()
        self._turn = 0
        self._store = store
        self.endings: Endings | None = None
        if store is not None:
            self.endings = Endings(self.here, store, "training", "go on with --resume")

    @property
    def rank(self) -> int:
        """This process's number."""
        return self.here.rank

    @property
    def count(self) -> int:
        """How many processes there are."""
        return self.here.count

    @property
    def main(self) -> bool:
        """Whether this is rank 0, the one that writes and speaks."""
        return self.rank == 0

    @contextmanager
    def guarded(self, work: str | None = None, advice: str | None = None) -> Iterator[None]:
        """A block whose failure in one process ends it in all of them, told once.

        Args:
            work: what it is, for the message about a process that was killed.
            advice: what to do then.

        Raises:
            MMRefError: what another process raised (with an attribute ``elsewhere``), or
                TrainingError when one was killed.
        """
        endings = self.endings
        if endings is not None and work is not None:
            endings.work, endings.advice = work, advice or "start it again"
        try:
            yield
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            if endings is None or getattr(error, "_mmref_ended", False):
                raise
            if is_broken(error):
                found = endings.from_others()
                found._mmref_ended = True  # type: ignore[attr-defined]
                raise found from error
            endings.tell(error)
            error._mmref_ended = True  # type: ignore[attr-defined]
            raise

    def first(self, action: Callable[[], Any], *, each_machine: bool = False) -> Any:
        """Let rank 0 do something, however long it takes, and tell all what it gave.

        Args:
            action: done by rank 0 alone; it gives something that JSON can hold.
            each_machine: done by the first process of each machine, for its neighbours.

        Returns:
            What it gave (on the other ranks tuples have become lists).
        """
        if self.count == 1:
            return action()
        leader = self.rank - self.here.local_rank if each_machine else 0
        key = f"{self._next_key()}/{leader}"
        if self.rank != leader:
            return json.loads(self._await(key))
        value = action()
        self._required_store().set(key, json.dumps(value))
        return value

    def each(self, value: Any) -> list[Any]:
        """What all processes say (JSON), by rank."""
        if self.count == 1:
            return [value]
        key = self._next_key()
        self._required_store().set(f"{key}/{self.rank}", json.dumps(value))
        return [json.loads(self._await(f"{key}/{rank}")) for rank in range(self.count)]

    def meet(self) -> None:
        """Go on when all processes have come here, however long that takes."""
        if self.count == 1:
            return
        key, store = self._next_key(), self._required_store()
        if store.add(f"{key}/here", 1) == self.count:
            store.set(key, "all")
        self._await(key)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give all processes rank 0's values, bit for bit, in place."""
        if self.count == 1:
            return
        for tensor in tensors:
            values = tensor.detach()
            sent = values.contiguous()
            if sent.numel():
                dist.broadcast(sent.reshape(-1).view(torch.uint8), 0)
            if sent.data_ptr() != values.data_ptr():
                values.copy_(sent)

    def send(self, tensors: dict[str, Tensor] | None) -> dict[str, Tensor]:
        """Rank 0's tensors by name on every process.

        Args:
            tensors: on rank 0 what is sent, on the CPU; ignored elsewhere.
        """
        mine = tensors or {}
        if self.count == 1:
            return mine
        told = self.first(lambda: {k: [[*v.shape], str(v.dtype)[6:]] for k, v in mine.items()})
        if not self.main:
            mine = {k: torch.empty(s, dtype=getattr(torch, kind)) for k, (s, kind) in told.items()}
        self.broadcast(mine.values())
        return mine

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Give all processes the mean over processes, in place."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.count
        for tensor, values in zip(
            tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True
        ):
            tensor.detach().copy_(values.view_as(tensor))

    def in_blocks(
        self, total: int, size: int, widths: Sequence[int], encode: Callable[[slice], list[Tensor]]
    ) -> list[Tensor]:
        """Encode rows block by block, each block by one process, and give all rows to all.

        Blocks begin where they would for a process alone, so the vectors are the same bits.

        Args:
            total: rows.
            size: of a block.
            widths: numbers of each part of a vector.
            encode: rows to parts, Tensor[rows, width] each.

        Returns:
            Each part on the CPU as float32, Tensor[total, width].
        """
        done = [
            encode(slice(start, min(start + size, total))) for start in self.own_blocks(total, size)
        ]
        found = [torch.zeros(0, width) for width in widths]
        if done:
            found = [torch.cat(part).float().cpu() for part in zip(*done, strict=True)]
        if self.count == 1:
            return found
        blocks = [self.own_blocks(total, size, rank) for rank in range(self.count)]
        sizes = tuple(sum(min(size, total - start) for start in own) for own in blocks)
        joined = gather_rows(torch.cat(found, dim=1), sizes, self.rank)
        return [part.contiguous() for part in torch.split(joined, list(widths), dim=1)]

    def own_blocks(self, total: int, size: int, rank: int | None = None) -> range:
        """Where the blocks begin that this process takes: neighbours, perhaps none.

        Args:
            total: rows.
            size: of a block.
            rank: of another process.

        Example:
            >>> list(Group().own_blocks(10, 4))
            [0, 4, 8]
        """
        blocks = range(0, total, size)
        number, count = self.rank if rank is None else rank, min(self.count, len(blocks))
        if number >= count:
            return range(0)
        return blocks[share_of(len(blocks), number, count).rows]

    def _next_key(self) -> str:
        self._turn += 1
        return f"turn/{self._turn}"

    def _required_store(self) -> Store:
        assert self._store is not None
        return self._store

    def _await(self, key: str) -> bytes:
        """A text of the store as soon as it is there; unless a process ends before."""
        assert self.endings is not None
        store, nap, looked = self._required_store(), 1e-3, time.monotonic()
        while not store.check([key]):
            time.sleep(nap)
            nap = min(2 * nap, _LONGEST_NAP)
            if time.monotonic() - looked > 0.5:
                self.endings.look()
                looked = time.monotonic()
        return bytes(store.get(key))


_joined: Group | None = None


def join() -> Group:
    """This process's group: those that a launcher started together, or this process alone.

    Raises:
        UsageError: the launcher's variables are incomplete, or there are fewer GPUs than
            processes on this machine.
    """
    global _joined  # noqa: PLW0603
    if _joined is None:
        here = place()
        _joined = Group() if here.count == 1 else _formed(here)
    return _joined


def on_cpu() -> bool:
    """Whether the group computes on CPUs: there is no GPU, or the launcher said ``--cpu``."""
    said = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return said or not torch.cuda.is_available()


def _formed(here: Place) -> Group:
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise UsageError(
            f"WORLD_SIZE is {here.count}, but {missing[0]} is not set: start the processes with "
            "torchrun or accelerate launch"
        )
    if not on_cpu():
        gpus = torch.cuda.device_count()
        if here.local_count > gpus:
            raise UsageError(
                f"{here.local_count} processes on a machine with {gpus} GPU(s): start as many "
                "processes as GPUs, or train on CPUs with ACCELERATE_USE_CPU=true"
            )
        torch.cuda.set_device(here.local_rank)
    store, _, _ = next(rendezvous("env://", here.rank, here.count, timeout=TIMEOUT))
    group = Group(here, PrefixStore("mmref", store))
    dist.init_process_group(
        "gloo" if on_cpu() else "cpu:gloo,cuda:nccl",
        store=PrefixStore("torch", store),
        rank=here.rank,
        world_size=here.count,
        timeout=TIMEOUT,
    )
    assert group.endings is not None
    group.endings.watch()
    atexit.register(_leave, group)
    return group


def _leave(group: Group) -> None:
    """Close connections after a good end; after a bad one, waiting for the dead would hang."""
    endings, store = group.endings, group._store
    if endings is None or store is None or not dist.is_initialized():
        return
    if endings.done:
        if group.main:
            endings.wait_for_others(LAST_WORDS)
        return
    with suppress(RuntimeError):
        store.add("left", 1)
        until = time.monotonic() + LAST_WORDS
        # Without a launcher's agent the store is rank 0's, and others may be reading yet.
        while group.main and store.add("left", 0) < group.count and time.monotonic() < until:
            if endings.gone():
                break
            time.sleep(0.01)
        dist.destroy_process_group()
