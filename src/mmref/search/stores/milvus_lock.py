"""One writer at a time, across machines: a property of the store's collection names it.

Milvus has no locks. Who wants to write puts its name into the property, waits longer than such a
write takes, and writes only if the name is still its own (Fischer's algorithm). It renews the
property while it lives; one that was not renewed for ``LEASE`` seconds, or that a process of this
machine left that is gone, is void. Before each transaction a writer looks whether it still is the
one, so that a writer that was asleep cannot go on beside the next.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mmref.errors import StoreError
from mmref.search.stores.milvus_connection import Connection

WRITER = "mmref.writer"
LEASE = 60.0
_RENEW = 15.0
_LEAST_WAIT = 0.05


class WriterLock:
    """The right to write to a store.

    Args:
        connection: to the server.
        where: gives the true name of the store's collection and its properties.

    Raises:
        StoreError: there is another writer.
    """

    def __init__(
        self, connection: Connection, where: Callable[[], tuple[str, Mapping[str, str]]]
    ) -> None:
        self._connection = connection
        self._where = where
        self._name = uuid.uuid4().hex
        self._closed = threading.Event()
        self._take()
        self._renewing = threading.Thread(target=self._renew, name="mmref-writer", daemon=True)
        self._renewing.start()

    def text(self) -> str:
        """What the property is to hold now."""
        return json.dumps(
            {"name": self._name, "beat": time.time(), "pid": os.getpid(), "machine": _machine()}
        )

    def _take(self) -> None:
        collection, properties = self._where()
        if _is_held(properties.get(WRITER)):
            raise self._refusal()
        begun = time.monotonic()
        self._connection.set_property(collection, WRITER, self.text())
        time.sleep(max(_LEAST_WAIT, 3 * (time.monotonic() - begun)))
        if not self.held:
            raise self._refusal()

    @property
    def held(self) -> bool:
        """Whether the property names this writer."""
        return _parsed(self._where()[1].get(WRITER)).get("name") == self._name

    def require(self) -> None:
        """Refuse to go on where another writer has taken over.

        Raises:
            StoreError: it has.
        """
        if not self.held:
            raise StoreError(
                f"{self._connection.name} was taken over by another command, for this one did not "
                "answer: run it again when the other has ended"
            )

    def _renew(self) -> None:
        while not self._closed.wait(_RENEW):
            with suppress(StoreError):
                if self.held and not self._closed.is_set():
                    self._connection.set_property(self._where()[0], WRITER, self.text())

    def close(self) -> None:
        """Give the right back."""
        self._closed.set()
        self._renewing.join()
        with suppress(StoreError):
            if self.held:
                self._connection.set_property(self._where()[0], WRITER, "{}")

    def _refusal(self) -> StoreError:
        return StoreError(
            f"{self._connection.name} is being written by another command: wait until it ends "
            f"(one that was killed elsewhere counts for {LEASE:.0f} s)"
        )


def _is_held(text: str | None) -> bool:
    held = _parsed(text)
    if not held.get("name"):
        return False
    if held.get("machine") == _machine() and not _is_alive(int(held.get("pid", 0))):
        return False
    return abs(time.time() - float(held.get("beat", 0))) < LEASE


def _parsed(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0


def _machine() -> str:
    """This machine since it was started, and where its process numbers count."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(parts)
