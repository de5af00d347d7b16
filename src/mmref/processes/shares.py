"""Who takes which rows, and vectors of all from the vectors of each.

A batch belongs to all processes; each encodes a part of it, and the losses need the vectors of all.
"""

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor


class Share(NamedTuple):
    """One process's rows of a batch.

    Attributes:
        start: its first row.
        stop: the row behind its last.
        sizes: rows of each process; empty when every process takes all rows.
        rank: of the process.
    """

    start: int
    stop: int
    sizes: tuple[int, ...] = ()
    rank: int = 0

    @property
    def divided(self) -> bool:
        """Whether other processes take other rows."""
        return len(self.sizes) > 1

    @property
    def rows(self) -> slice:
        """As a slice."""
        return slice(self.start, self.stop)


def share_of(total: int, rank: int, count: int) -> Share:
    """The rows of one process: neighbours, as many as the others or one more.

    Of fewer rows than processes, every process takes all.

    Args:
        total: rows in all.
        rank: the process.
        count: how many processes there are.

    Example:
        >>> share_of(129, 0, 2), share_of(129, 1, 2).rows
        (Share(start=0, stop=65, sizes=(65, 64), rank=0), slice(65, 129, None))
        >>> share_of(2, 1, 3).divided
        False
    """
    if count == 1 or total < count:
        return Share(0, total, rank=rank)
    sizes = tuple(total // count + (number < total % count) for number in range(count))
    start = sum(sizes[:rank])
    return Share(start, start + sizes[rank], sizes, rank)


def gather_rows(own: Tensor, sizes: tuple[int, ...], rank: int) -> Tensor:
    """All processes' rows, one process after another, on each of them.

    The gradient of each process's rows is the sum of what all processes' losses say about them.

    Args:
        own: this process's rows, Tensor[sizes[rank], d].
        sizes: rows of each process; 0 is possible.
        rank: of this process.

    Returns:
        Tensor[sum(sizes), d].

    Example:
        >>> x = torch.eye(2)
        >>> gather_rows(x, (2,), 0) is x
        True
    """
    if len(sizes) == 1:
        return own
    gathered: Tensor = _GatherRows.apply(own, sizes, rank)  # type: ignore[no-untyped-call]
    return gathered


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, sizes: tuple[int, ...], rank: int) -> Tensor:
        start = sum(sizes[:rank])
        ctx.rows = slice(start, start + sizes[rank])
        padded = own.new_zeros(max(sizes), *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total[ctx.rows], None, None
