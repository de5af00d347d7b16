"""How processes end together: one cause, told once, and no process left waiting.

The store is the launcher's small table of texts. The first process that fails writes there why; the
others find it, end with the same exception, and leave the telling to the first. A process that
was killed writes nothing: its connections close, and the others say which one is gone.
"""

import json
import logging
import os
import re
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

import mmref.errors
from mmref.errors import MMRefError, TrainingError
from mmref.processes.launch import Place

LOGGER = logging.getLogger("mmref")
PATIENCE = 3.0  # seconds in which the cause may follow a connection that closed
GRACE = 5.0  # seconds between SIGTERM and the end of a process that is stuck
_CAUSE, _TOLD, _ENDING = "ended/cause", "ended/told", "ended/ending"
_BROKEN = re.compile(
    r"gloo|nccl|connection|broken pipe|socket|peer|store|timed? ?out|process group", re.IGNORECASE
)


class BrokenGroupError(RuntimeError):
    """Another process has ended; :meth:`Endings.from_others` says why."""


class TerminatedError(BaseException):
    """SIGTERM: the launcher ends this process, mostly because another one has ended."""


class Endings:
    """What the processes of a group tell one another when one of them ends.

    Args:
        place: which process this is.
        store: the launcher's.
        work: "training" or "evaluation".
        advice: what to do after an end that nobody wanted.
    """

    def __init__(self, place: Place, store: Store, work: str, advice: str) -> None:
        self.place, self.store, self.work, self.advice = place, store, work, advice
        self.done = False
        store.set(f"pid/{place.rank}", f"{socket.gethostname()} {os.getpid()}")

    def look(self) -> None:
        """Raise BrokenGroupError when another process has ended."""
        if self.cause() is not None or self.gone():
            raise BrokenGroupError("another process has ended")

    def cause(self) -> dict[str, Any] | None:
        """What the first process that failed wrote; None when none did, or it cannot be read."""
        with suppress(RuntimeError):
            if self.store.check([_CAUSE]):
                found: dict[str, Any] = json.loads(self.store.get(_CAUSE))
                return found
        return None

    def gone(self) -> list[int]:
        """The ranks of this machine's processes that do not run any more."""
        found = []
        for rank in range(self.place.count):
            key = f"pid/{rank}"
            with suppress(RuntimeError):
                if rank != self.place.rank and self.store.check([key]):
                    host, pid = self.store.get(key).decode().rsplit(" ", 1)
                    if host == socket.gethostname() and not runs(int(pid)):
                        found.append(rank)
        return found

    def tell(self, error: BaseException) -> None:
        """Write why this process ends; the first to do so is the one that is heard."""
        self.done = True
        text = " ".join(str(error).split())
        cause = {"type": type(error).__name__, "message": text, "rank": self.place.rank}
        with suppress(RuntimeError):
            first = self.store.compare_set(_CAUSE, "", json.dumps(cause))
            silence(error, json.loads(first)["rank"] != self.place.rank)
        self._ends()

    def from_others(self) -> BaseException:
        """The exception with which to end because another process has."""
        self.done = True
        until = time.monotonic() + PATIENCE
        cause, gone = self.cause(), self.gone()
        while cause is None and time.monotonic() < until:
            time.sleep(0.05)
            cause, gone = self.cause(), self.gone()
            if gone and time.monotonic() > until - PATIENCE + 0.5:
                break
        self._ends()
        if cause is None:
            error = TrainingError(self.saying(gone))
            silence(error, not self.claim())
            return error
        kind = getattr(mmref.errors, cause["type"], None)
        if cause["type"] == "KeyboardInterrupt":
            other: BaseException = KeyboardInterrupt()
        elif isinstance(kind, type) and issubclass(kind, MMRefError):
            other = kind.__new__(kind)
            other.args = (cause["message"],)
        else:
            other = TrainingError(f"process {cause['rank']} failed: {cause['message']}")
        silence(other, True)
        return other

    def _ends(self) -> None:
        """Say that this process knows why the group ends."""
        with suppress(RuntimeError):
            self.store.set(f"{_ENDING}/{self.place.rank}", "")

    def wait_for_others(self, seconds: float) -> None:
        """Stay while others may be reading why: without an agent the store is rank 0's own."""
        until = time.monotonic() + seconds
        waiting = set(range(self.place.count)) - {self.place.rank}
        with suppress(RuntimeError):
            while waiting and time.monotonic() < until:
                waiting -= {r for r in waiting if self.store.check([f"{_ENDING}/{r}"])}
                waiting -= set(self.gone())
                time.sleep(0.01)

    def saying(self, gone: list[int]) -> str:
        """The message about processes that ended without a word."""
        which = f"rank {', '.join(map(str, gone))}" if gone else "killed, or out of reach"
        return f"a process of this {self.work} ended ({which}): {self.advice}"

    def claim(self) -> bool:
        """Whether this process is the one to tell about those that are gone."""
        try:
            return bool(self.store.add(_TOLD, 1) == 1)
        except RuntimeError:  # the store is gone too
            return True

    def watch(self) -> None:
        """Turn SIGTERM into an exception, and into the end where no exception gets through."""
        main = threading.current_thread() is threading.main_thread()
        if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return
        read, write = os.pipe()
        os.set_blocking(write, False)
        signal.signal(signal.SIGTERM, self._terminated)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        threading.Thread(target=self._wait, args=(read,), name="mmref-end", daemon=True).start()

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if not self.done:
            self.done = True
            raise TerminatedError

    def _wait(self, read: int) -> None:
        """In a thread: a collective on a device may wait for the dead and see no exception."""
        while os.read(read, 1) != bytes([signal.SIGTERM]):
            pass
        time.sleep(GRACE)
        if self.cause() is None and self.claim():
            LOGGER.error("mmref: %s", self.saying(self.gone()))
        os._exit(1)


def silence(error: BaseException, told: bool) -> None:
    """Mark an exception as told by another process or not: the command line is silent if so."""
    error.elsewhere = told  # type: ignore[attr-defined]


def is_broken(error: BaseException) -> bool:
    """Whether an exception comes of another process's end.

    Example:
        >>> is_broken(RuntimeError("Connection closed by peer [127.0.0.1]:4711"))
        True
        >>> is_broken(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
        False
    """
    if isinstance(error, BrokenGroupError | TerminatedError | dist.DistError):
        return True
    return type(error) is RuntimeError and _BROKEN.search(str(error)) is not None


def runs(pid: int) -> bool:
    """Whether a process of this machine runs; one that is dead but not yet buried does not.

    Example:
        >>> runs(os.getpid())
        True
    """
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return False
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
