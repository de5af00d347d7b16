"""Processes that draw, and leave nothing behind when the one that started them is killed.

Fresh interpreters: a fork of a parent with threads (torch has them) may hang, and multiprocessing's
other ways need a parent whose main module can be imported again. Each worker holds the reading end
of a pipe from its parent. The pipe ends when the parent does, by whatever signal; then the worker
removes the unfinished folder and ends too. So workers stay until the parent lets them go.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from mmref.errors import DataError

_CODE = "from mmref.data.synthetic.generate import work_share; work_share()"
_POLL_SECONDS = 0.05


class Workers:
    """Worker processes of one folder; leaving the block ends them.

    Example:
        >>> with Workers() as workers:
        ...     workers.run([], [], [])
    """

    def __init__(self) -> None:
        self._workers: list[subprocess.Popen[bytes]] = []
        self._said: list[IO[bytes]] = []

    def __enter__(self) -> "Workers":
        """Nothing is started before `run`."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the workers and wait for them."""
        self._end()

    def run(
        self,
        jobs: Sequence[dict[str, Any]],
        parts: Sequence[Path],
        lines: Sequence[int],
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Give each worker a job and wait until all lines are written.

        Args:
            jobs: what ``work_share`` reads, JSON.
            parts: the file that each worker writes.
            lines: how many lines each of them will have.
            progress: called with the number of lines that are written, and of all.

        Raises:
            DataError: a worker failed.
        """
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        try:
            for job in jobs:
                self._said.append(tempfile.TemporaryFile())  # noqa: SIM115
                command = [sys.executable, "-c", _CODE, json.dumps(job)]
                self._workers.append(
                    subprocess.Popen(
                        command,
                        env=environment,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.DEVNULL,
                        stderr=self._said[-1],
                    )
                )
            self._wait(parts, lines, progress)
        except BaseException:
            self._end(kill=True)  # before the folder is taken away under them
            raise

    def _wait(
        self,
        parts: Sequence[Path],
        lines: Sequence[int],
        progress: Callable[[int, int], None] | None,
    ) -> None:
        counters = [_Lines(part) for part in parts]
        before = -1
        while True:
            ended = [worker.poll() is not None for worker in self._workers]
            written = [counter.count() for counter in counters]
            if progress is not None and sum(written) != before:
                before = sum(written)
                progress(before, sum(lines))
            for share, (over, done, wanted) in enumerate(zip(ended, written, lines, strict=True)):
                if over and done < wanted:
                    self._said[share].seek(0)
                    said = self._said[share].read().decode("utf-8", "replace").strip()
                    reason = (said.splitlines() or ["no message"])[-1]
                    raise DataError(f"drawing failed ({reason}): try again with processes=1")
            if all(done >= wanted for done, wanted in zip(written, lines, strict=True)):
                return
            time.sleep(_POLL_SECONDS)

    def _end(self, *, kill: bool = False) -> None:
        for worker in self._workers:
            if kill:
                worker.kill()
            with worker, suppress(OSError):  # closes its pipe and waits for it
                pass
        for file in self._said:
            file.close()
        self._workers, self._said = [], []


class _Lines:
    """Counts the lines of a file that another process writes."""

    def __init__(self, path: Path) -> None:
        self._path, self._place, self._lines = path, 0, 0

    def count(self) -> int:
        with suppress(FileNotFoundError), self._path.open("rb") as file:
            file.seek(self._place)
            new = file.read()
            self._place += len(new)
            self._lines += new.count(b"\n")
        return self._lines


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines so that another process may count them as they come."""
    with path.open("w", encoding="utf-8", newline="\n", buffering=1) as file:
        file.writelines(lines)


@contextmanager
def tied_to_parent(folder: Path) -> Iterator[None]:
    """In a worker: do the work, then stay until the parent ends, and remove what it left.

    When the parent has finished, the folder has its final name, and there is nothing to remove.
    """
    orphaned = threading.Event()

    def wait() -> None:
        with suppress(OSError, ValueError):
            while os.read(0, 1):
                pass
        orphaned.set()
        while folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)

    guard = threading.Thread(target=wait, daemon=True)
    guard.start()
    try:
        yield
    except BaseException:
        if orphaned.is_set():  # drawing failed because the folder is being removed
            guard.join()
        raise
    guard.join()
