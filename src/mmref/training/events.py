"""TensorBoard events of a training, written at once and without a thread of their own.

They are an extra: when they cannot be written any more (a full disk), training goes on without.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mmref.training.run_folder import EVENTS_FOLDER

LOGGER = logging.getLogger("mmref")


class EventLog:
    """One event file: an epoch's losses and validation mAP, by epoch.

    Args:
        folder: the run's folder; the file goes into its ``events``.
        epoch: epochs done; events of later ones, of a session that was killed, are void.
    """

    def __init__(self, folder: Path, epoch: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event = Event
        self._writer: Any = None
        try:
            (folder / EVENTS_FOLDER).mkdir(exist_ok=True)
            name = f"events.out.tfevents.{time.time():.6f}.mmref"
            self._writer = RecordWriter((folder / EVENTS_FOLDER / name).open("wb"))
        except OSError as error:
            self._give_up(error)
        self._write(file_version="brain.Event:2")
        self._write(step=epoch + 1, session_log=SessionLog(status=SessionLog.START))

    def __call__(self, row: dict[str, Any]) -> None:
        """Write an epoch's row of the history."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = {f"loss/{name}": value for name, value in row["losses"].items()}
        if row.get("mAP") is not None:
            values["val/mAP"] = row["mAP"]
        summary = Summary(
            value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        )
        self._write(step=row["epoch"], summary=summary)

    def close(self) -> None:
        """Close the file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except OSError as error:
                self._give_up(error)

    def _write(self, **parts: Any) -> None:
        if self._writer is None:
            return
        try:
            self._writer.write(self._event(wall_time=time.time(), **parts).SerializeToString())
            self._writer.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):
                writer.close()
        LOGGER.warning("no more TensorBoard events: %s", error.strerror or error)


@contextmanager
def event_log(folder: Path, epoch: int) -> Iterator[EventLog]:
    """An event log that is closed in the end."""
    log = EventLog(folder, epoch)
    try:
        yield log
    finally:
        log.close()
