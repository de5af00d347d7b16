"""A connection to Milvus: calls that are tried again, and errors that say what to do.

pymilvus itself tries a call again while the server cannot be reached, each time after a longer
pause, until ``PATIENCE`` is over. What the server answers while it is starting, moving shards or
holding writes back (``TRANSIENT``) is tried again here in the same way.
"""

import functools
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from mmref.errors import MissingExtraError, PathError, StoreError
from mmref.search.stores.milvus_address import TOKEN, MilvusAddress

PATIENCE = 30.0  # seconds until a call is given up
REACH = 10.0  # seconds until a server is said to be down
_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
# not available, too many requests, rate limit, not loaded yet, channel or node on its way
TRANSIENT = frozenset({2, 4, 8, 101, 103, 106, 503, 901, 902})
_NO_COLLECTION = frozenset({100})
_DENIED = frozenset({65, 1100, 1401, 1800})
_POLL = 0.05
MOST_ROWS = 16_384  # of one answer of a Milvus server
_CONNECTING = threading.Lock()


@functools.cache
def pymilvus() -> Any:
    """The package, which takes seconds to import.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pymilvus
    except ImportError:
        raise MissingExtraError("pymilvus", "milvus") from None
    for name in ("pymilvus", "milvus_lite"):  # they log what they raise, with a traceback
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return pymilvus


class Connection:
    """A connection; threads may share it.

    Args:
        address: where to.

    Raises:
        MissingExtraError: pymilvus is not installed.
        StoreError: the server is down or denies access, or another process has the Lite folder.
    """

    def __init__(self, address: MilvusAddress) -> None:
        self.address = address
        self.name = address.shown
        module = pymilvus()
        self._failures: tuple[type[Exception], ...] = _failures(module)
        options: dict[str, Any] = {"token": address.token, "db_name": address.database}
        if address.lite:
            _require_lite(address)
        try:
            with _CONNECTING:  # two threads must not both start Milvus Lite
                self._client = module.MilvusClient(address.server, timeout=REACH, **options)
        except self._failures as error:
            raise self._refused(error) from None

    def close(self) -> None:
        """End the connection."""
        with suppress(*self._failures):
            self._client.close()

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of ``pymilvus.MilvusClient``, again after a pause where that may help.

        Raises:
            StoreError: the server cannot be reached, or refuses.
        """
        begun, pause = time.monotonic(), _PAUSE
        options.setdefault("timeout", PATIENCE)
        while True:
            try:
                return getattr(self._client, method)(*args, **options)
            except self._failures as error:
                code = getattr(error, "code", None)
                if code not in TRANSIENT or time.monotonic() - begun > PATIENCE:
                    raise self._error(error) from error
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    # ------------------------------------------------------------------ collections

    def described(self, collection: str) -> tuple[str, dict[str, str]] | None:
        """The true name and the properties of a collection or alias; None when there is none."""
        try:
            found = self._client.describe_collection(collection, timeout=PATIENCE)
        except self._failures as error:
            if getattr(error, "code", None) in _NO_COLLECTION:
                return None
            raise self._error(error) from error
        return str(found["collection_name"]), dict(found.get("properties") or {})

    def create(
        self, collection: str, schema: Any, index: Mapping[str, Any], properties: Mapping[str, str]
    ) -> None:
        """Make a collection whose field ``vector`` has an index, and load it."""
        self.call(
            "create_collection",
            collection,
            schema=schema,
            properties=dict(properties),
            consistency_level="Strong",
        )
        params = pymilvus().MilvusClient.prepare_index_params()
        params.add_index("vector", **index)
        self.call("create_index", collection, params, sync=False)
        self.load(collection)

    def load(self, collection: str) -> None:
        """Have a collection in the server's memory."""
        self.call("load_collection", collection, _async=True)
        begun = time.monotonic()
        while not self._is_loaded(collection):
            if time.monotonic() - begun > 10 * PATIENCE:
                raise StoreError(f"{self.name}: the server does not load it: look at its logs")
            time.sleep(_POLL)

    def _is_loaded(self, collection: str) -> bool:
        state = self.call("get_load_state", collection)["state"]
        return "Loaded" in str(state) and "Not" not in str(state)

    def drop(self, collection: str) -> None:
        """Drop a collection if it is there."""
        if self.described(collection) is not None:
            self.call("drop_collection", collection)

    def set_property(self, collection: str, name: str, value: str) -> None:
        """Write a property of a collection: seen whole or not at all, by everybody at once."""
        self.call("alter_collection_properties", collection, {name: value})

    # ------------------------------------------------------------------ rows

    def upsert(self, collection: str, rows: Sequence[Mapping[str, Any]]) -> int:
        """Write rows; the server's time of it, 0 where there is none (Lite)."""
        self.call("upsert", collection, list(rows))
        return self._written_at(collection)

    def delete(self, collection: str, keys: Sequence[int]) -> None:
        """Delete rows by their keys; servers do not say when that was."""
        self.call("delete", collection, filter=f"pk in {list(map(int, keys))}")

    def _written_at(self, collection: str) -> int:
        """When this client last wrote to a collection, for readers elsewhere to wait for."""
        from pymilvus.client.ts_utils import get_collection_ts

        endpoint = self.address.server.partition("://")[2]
        found = get_collection_ts(collection, endpoint, self.address.database or "default")
        if not found and not self.address.lite:  # another version keeps it elsewhere
            return -1
        return int(found or 0)

    def query(
        self, collection: str, where: str, fields: Sequence[str], since: int
    ) -> list[dict[str, Any]]:
        """Rows for which an expression holds, at most ``MOST_ROWS`` and in any order.

        Args:
            collection: its true name.
            where: the expression.
            fields: what to give of each.
            since: what was written until this time of the server is seen; -1: all that was.
        """
        rows = self.call(
            "query",
            collection,
            filter=where,
            output_fields=list(fields),
            limit=MOST_ROWS,
            **_seen(since),
        )
        return list(rows)

    def count(self, collection: str, where: str) -> int:
        """Number of rows for which an expression holds."""
        rows = self.call("query", collection, filter=where, output_fields=["count(*)"], **_seen(-1))
        return int(rows[0]["count(*)"])

    def search(
        self,
        collection: str,
        vector: Any,
        where: str,
        limit: int,
        fields: Sequence[str],
        since: int,
        params: Mapping[str, Any],
    ) -> list[dict[str, Any]]:
        """Rows nearest to a vector: ``distance`` and ``entity``."""
        found = self.call(
            "search",
            collection,
            data=[vector],
            anns_field="vector",
            filter=where,
            limit=limit,
            output_fields=list(fields),
            search_params={"metric_type": "IP", "params": dict(params)},
            **_seen(since),
        )
        return list(found[0])

    # ------------------------------------------------------------------ errors

    def _error(self, error: Exception) -> StoreError:
        text = _line(error)
        if "UNAVAILABLE" in text or "Retry timeout" in text or "connecting" in text:
            return StoreError(f"{self.name}: the server does not answer any more: start it again")
        if getattr(error, "code", None) in _DENIED or "auth" in text.lower():
            return self._denied()
        if getattr(error, "code", None) in _NO_COLLECTION:
            return StoreError(f"{self.name} was encoded anew or removed meanwhile: open it again")
        return StoreError(f"{self.name}: Milvus says: {self._without_token(text)}")

    def _refused(self, error: Exception) -> StoreError | PathError:
        text = _line(error)
        if self.address.lite:
            return StoreError(
                f"{self.name} is open in another process (Milvus Lite serves one at a time) or "
                "damaged: wait until it ends, or use a Milvus server"
            )
        if "auth" in text.lower() or getattr(error, "code", None) in _DENIED:
            return self._denied()
        if "database" in text.lower():
            return PathError(f"{self.name}: the server has no such database")
        return StoreError(
            f"{self.name}: no Milvus server answers at {self.address.server}: start it, or check "
            "host and port"
        )

    def _denied(self) -> StoreError:
        return StoreError(
            f"{self.name}: the server denies access: give milvus://user:password@host/... or set "
            f"{TOKEN}=user:password"
        )

    def _without_token(self, text: str) -> str:
        secrets = [self.address.token, self.address.token.partition(":")[2]]
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text


def _seen(since: int) -> dict[str, Any]:
    if since < 0:
        return {"consistency_level": "Strong"}
    return {"consistency_level": "Customized", "guarantee_timestamp": max(since, 1)}


def _failures(module: Any) -> tuple[type[Exception], ...]:
    import grpc

    return (module.MilvusException, grpc.RpcError)


def _line(error: Exception) -> str:
    text = str(getattr(error, "message", "") or error)
    return " ".join(text.split())[:400]


def _require_lite(address: MilvusAddress) -> None:
    import importlib.util
    from pathlib import Path

    if importlib.util.find_spec("milvus_lite") is None:
        raise MissingExtraError("milvus-lite", "milvus")
    parent = Path(address.server).absolute().parent
    if not parent.is_dir():
        raise PathError(f"{parent} is no folder: make it, or check the address {address.shown}")
