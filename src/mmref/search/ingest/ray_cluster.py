"""Encoding on many machines: batches of file contents as tasks of a Ray cluster.

The process that indexes reads and hashes the files, asks the store which contents are new, and
writes; the cluster decodes and encodes. So its machines need no shared disk and no access to the
store, and each content is written once, by one process, whatever becomes of the machines: Ray
gives the batches of a lost machine to the others. The run travels once to each of them.
"""

import functools
import os
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from mmref.errors import ImageError, MissingExtraError, StoreError, UsageError
from mmref.model import MMRef
from mmref.search.ingest.encoding import Answers
from mmref.search.ingest.reading import NOT_FINITE, decode, encode

PORT = 6379
PATIENCE = 5.0  # seconds
RETRIES = 3
FATAL = "it ended the process that decoded it"


class RayEncoder:
    """Encodes on the machines of a Ray cluster; threads may share it.

    Args:
        address: ``host:port`` of a cluster that this machine has joined, ``ray://host:port`` of
            one that it has not, ``auto`` for the one that runs here, or ``local`` to start one.
        model: the run's model, of an encoder that takes pictures.

    Raises:
        UsageError: a run of features, or an address that cannot be one.
        MissingExtraError: Ray is not installed.
        StoreError: there is no such cluster, or it runs another Ray or Python.

    Example::

        with RayEncoder("auto", model) as encoder:
            encodings = encoder([Path("a.jpg").read_bytes()])
    """

    def __init__(self, address: str, model: MMRef) -> None:
        if model.kind == "features":
            raise UsageError("a run of features has nothing to encode: leave --ray out")
        self._ray = _ray()
        _require_cluster(address)
        try:
            self._ray.init(address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise StoreError(f"cannot use the Ray cluster {address}: {_first(error)}") from error
        resources = self._ray.cluster_resources()
        self._graphics = resources.get("GPU", 0) > 0
        self.slots = max(1, int(resources.get("GPU" if self._graphics else "CPU", 1)))
        self._digest = model.digest
        self._run = self._ray.put(_files(model))
        task = self._ray.remote(_encode_batch)
        needs = {"num_cpus": 0, "num_gpus": 1} if self._graphics else {"num_cpus": 1}
        self._task = task.options(max_retries=RETRIES, **needs)

    def prepare(self, content: bytes) -> bytes:
        """The content as it is: the cluster decodes."""
        return content

    def __call__(self, items: Sequence[bytes]) -> Answers:
        """The encoding of each file's content, or the reason why there is none.

        Blocks. A content that ends its process again and again is found by halving its batch.

        Raises:
            StoreError: the cluster cannot be reached any more, or has another version of mmref.
        """
        exceptions = self._ray.exceptions
        try:
            # The run in a list is passed on as a reference, fetched where it is not known yet.
            found = self._ray.get(self._task.remote(self._digest, [self._run], list(items)))
            return list(found)
        except exceptions.RayTaskError as error:
            raise StoreError(
                f"a machine of the Ray cluster failed: {_first(error.cause)}"
            ) from None
        except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError):
            if len(items) == 1:
                return [FATAL]
            half = len(items) // 2
            return self(items[:half]) + self(items[half:])
        except (exceptions.RayError, ConnectionError) as error:
            raise StoreError(
                f"the Ray cluster cannot be reached any more ({_first(error)}): "
                "the same command goes on where it stopped"
            ) from error

    def close(self) -> None:
        """Leave the cluster."""
        self._ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _encode_batch(digest: str, run: list[Any], contents: list[bytes]) -> Answers:
    """The task: it runs on a machine of the cluster."""
    model = _model(digest, run[0])
    answers: Answers = []
    pixels, rows = [], []
    for content in contents:
        try:
            pixels.append(decode(content, model.image_size))
            rows.append(len(answers))
            answers.append(NOT_FINITE)
        except ImageError as error:
            answers.append(str(error))
    for row, encoding in zip(rows, encode(model, pixels), strict=True):
        if encoding is not None:
            answers[row] = encoding
    return answers


_MODELS: dict[str, MMRef] = {}  # of this process of the cluster


def _model(digest: str, run: Any) -> MMRef:
    if digest not in _MODELS:
        with tempfile.TemporaryDirectory(prefix="mmref-run-") as folder:
            for name, content in _ray().get(run).items():
                (Path(folder) / name).write_bytes(content)
            model = MMRef.from_pretrained(folder).to("auto")
        if model.digest != digest:
            raise StoreError("it reads the run as another one: install the same mmref everywhere")
        _MODELS[digest] = model
    return _MODELS[digest]


def _files(model: MMRef) -> Mapping[str, bytes]:
    """The run's files by name."""
    with tempfile.TemporaryDirectory(prefix="mmref-run-") as folder:
        model.save_pretrained(folder)
        return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


@functools.cache
def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "ray") from None
    return ray


def _require_cluster(address: str) -> None:
    """Ray itself waits long for a cluster that is not there."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise UsageError(
            f"{address!r} is no address of a Ray cluster: give host:{PORT}, ray://host:10001, "
            "auto or local"
        )
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise StoreError(
            f"no Ray cluster at {address} ({error}): start one with ray start --head"
        ) from error


def _first(error: BaseException) -> str:
    """The first line of what an error says."""
    return str(error).strip().split("\n")[0] or type(error).__name__
