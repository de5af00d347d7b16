"""Runs side by side, each in a process of one thread; a failure stops that run alone."""

import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmref.files import write_json

_POLL = 0.1


@dataclass(frozen=True)
class Done:
    """A run that ended.

    Attributes:
        name: of the run.
        message: why it failed, in one line; None when it is finished.
        seconds: that it took.
    """

    name: str
    message: str | None
    seconds: float


Tick = Callable[[float, Done | None], None]
"""Called with the number of runs done, parts of runs counted, and a run that has just ended."""


def run_here(jobs: Sequence[tuple[str, dict[str, Any]]], tick: Tick) -> list[Done]:
    """Do jobs in this process, one after the other.

    Args:
        jobs: name and job of each.
        tick: told how far it is.
    """
    from mmref.experiments.worker import describe_failure, run_job

    ended: list[Done] = []
    for number, (name, job) in enumerate(jobs):
        begun, message = time.monotonic(), None
        try:
            run_job(job, lambda share, number=number: tick(number + share, None))  # type: ignore[misc]
        except Exception as error:
            message = describe_failure(error)["message"]
        ended.append(Done(name, message, time.monotonic() - begun))
        tick(number + 1, ended[-1])
    return ended


def run_apart(
    jobs: Sequence[tuple[str, dict[str, Any]]], folder: Path, processes: int, tick: Tick
) -> list[Done]:
    """Do jobs in processes of their own, so many at a time.

    When this process ends, however it ends, so do they.

    Args:
        jobs: name and job of each.
        folder: for the jobs' files and what they say.
        processes: how many at a time.
        tick: told how far it is.

    Returns:
        How each ended, in that order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    waiting, running, ended = deque(jobs), list[_Running](), list[Done]()
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running.append(_Running(*waiting.popleft(), folder))
            time.sleep(_POLL)
            for run in list(running):
                if run.process.poll() is not None:
                    running.remove(run)
                    ended.append(run.end())
                    tick(len(ended) + sum(r.share() for r in running), ended[-1])
            tick(len(ended) + sum(run.share() for run in running), None)
    finally:
        for run in running:
            run.stop()
    return ended


class _Running:
    def __init__(self, name: str, job: dict[str, Any], folder: Path) -> None:
        self.name, self.begun = name, time.monotonic()
        self.file = folder / f"{name.replace('/', '--')}.json"
        for suffix in (".progress", ".failed"):
            self.file.with_suffix(suffix).unlink(missing_ok=True)
        write_json(self.file, job)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        environment = {
            **os.environ,
            **dict.fromkeys(names, "1"),
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
        }
        with self.file.with_suffix(".log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mmref.experiments.worker", str(self.file)],
                env=environment,
                stdin=subprocess.PIPE,  # closed when this process dies: the worker then ends
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def share(self) -> float:
        """The share that is done."""
        try:
            text = self.file.with_suffix(".progress").read_text(encoding="ascii")
            return min(max(float(text), 0.0), 1.0)
        except (OSError, ValueError):
            return 0.0

    def end(self) -> Done:
        """Tidy up after a process that has ended."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        seconds = time.monotonic() - self.begun
        self.file.with_suffix(".progress").unlink(missing_ok=True)
        if self.process.returncode == 0:
            for suffix in (".json", ".log"):
                self.file.with_suffix(suffix).unlink(missing_ok=True)
            return Done(self.name, None, seconds)
        return Done(self.name, self._reason(), seconds)

    def _reason(self) -> str:
        with suppress(OSError, ValueError, KeyError):
            failed = json.loads(self.file.with_suffix(".failed").read_text(encoding="utf-8"))
            return str(failed["message"])
        status = self.process.returncode
        ended = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
        log = self.file.with_suffix(".log")
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"{ended} ({said[-1][:200] if said else 'it said nothing'})"

    def stop(self) -> None:
        """Kill it."""
        self.process.kill()
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()
        self.file.with_suffix(".progress").unlink(missing_ok=True)
