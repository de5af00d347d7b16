"""What a launcher (torchrun, accelerate launch) told this process; loads no torch."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from mmref.errors import UsageError

TOGETHER = ("train", "evaluate")  # the verbs that several processes may do


@dataclass(frozen=True)
class Place:
    """Which of several processes this is.

    Attributes:
        rank: its number, from 0.
        count: how many there are in all.
        local_rank: its number on this machine.
        local_count: how many there are on this machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1


def place(environment: Mapping[str, str] | None = None) -> Place:
    """This process's place by the launcher's variables; alone without them.

    Args:
        environment: ``os.environ`` by default.

    Example:
        >>> place({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
        Place(rank=3, count=4, local_rank=1, local_count=2)
        >>> place({}).count
        1
    """
    found = os.environ if environment is None else environment
    try:
        count = int(found.get("WORLD_SIZE", "1"))
        if count < 2 or "RANK" not in found:
            return Place()
        rank = int(found["RANK"])
        return Place(
            rank,
            count,
            int(found.get("LOCAL_RANK", rank)),
            int(found.get("LOCAL_WORLD_SIZE", count)),
        )
    except ValueError:
        return Place()


def require_alone(verb: str) -> None:
    """Refuse a verb that several processes cannot do together.

    Raises:
        UsageError: a launcher started several.

    Example:
        >>> require_alone("index")
    """
    count = place().count
    if count > 1 and verb not in TOGETHER:
        raise UsageError(
            f"mmref {verb} is one process, not {count}: start it without torchrun and accelerate"
        )


@contextmanager
def together(work: str, advice: str) -> Iterator[None]:
    """A block that fails in all processes when it fails in one; torch loads if there are several.

    Args:
        work: "training" or "evaluation", for the message about a process that was killed.
        advice: what to do then.

    Example:
        >>> with together("training", "go on with --resume"):
        ...     place().count
        1
    """
    if place().count == 1:
        yield
        return
    from mmref.processes.group import join

    with join().guarded(work, advice):
        yield


def is_silent(error: BaseException) -> bool:
    """Whether another process tells of an error: rank 0 where none has said so.

    Example:
        >>> is_silent(ValueError())
        False
    """
    return bool(getattr(error, "elsewhere", place().rank > 0))
