"""What a launcher (torchrun, accelerate launch) told this process; loads no torch."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from mmref.errors import UsageError

ALONE_HINT = "start it without torchrun or accelerate launch"


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
    """Refuse what cannot be done by several processes.

    Raises:
        UsageError: a launcher started several.
    """
    count = place().count
    if count > 1:
        raise UsageError(f"mmref {verb} is one process, not {count}: {ALONE_HINT}")
