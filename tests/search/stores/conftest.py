"""Milvus for tests: Lite in a temporary folder, and one server process for all test processes."""

import importlib.util
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

SERVER = Path(__file__).with_name("milvus_server.py")
PATIENCE = 180.0


@pytest.fixture
def lite(tmp_path):
    """The address of a store of Milvus Lite that is not there yet."""
    pytest.importorskip("pymilvus", reason="pymilvus is not installed")
    pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
    from milvus_lite.server_manager import server_manager_instance

    yield f"milvus-lite://{tmp_path}/pictures.db/flags"
    server_manager_instance.release_server(str(tmp_path / "pictures.db"))


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory):
    """``host:port`` of a Milvus server process, shared among the processes of the test run."""
    pytest.importorskip("pymilvus", reason="pymilvus is not installed")
    if importlib.util.find_spec("milvus") is None:
        pytest.skip("a Milvus server is not installed: pip install milvus==2.3.5")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "milvus"
    (folder / "users").mkdir(parents=True, exist_ok=True)
    user = folder / "users" / str(os.getpid())
    user.touch()
    try:
        yield f"127.0.0.1:{_port(folder)}"
    finally:
        user.unlink(missing_ok=True)


def _port(folder):
    end = time.monotonic() + PATIENCE
    while not (folder / "port").exists():
        try:
            (folder / "started").mkdir()
        except FileExistsError:  # by another test process
            time.sleep(0.1)
        else:
            with (folder / "server.log").open("ab") as log:
                command = [sys.executable, str(SERVER), str(folder)]
                subprocess.run(command, stdout=log, stderr=log, check=True)
        if (folder / "failed").exists() or time.monotonic() > end:
            text = (folder / "server.log").read_text(encoding="utf-8", errors="replace")
            pytest.fail(f"the Milvus server does not start: {text[-2000:]}")
    return int((folder / "port").read_text(encoding="ascii"))


class LoadedCollections:
    """Empty loaded collections, made many at a time: the server takes 2 s to load one, or twelve.

    A store that makes a collection gets one of them, by renaming it.
    """

    AT_ONCE = 12

    def __init__(self, server):
        self.server = server
        self.ready = {}
        self.made = 0

    def take(self, connection, name, schema, index, properties):
        names = tuple(field.name for field in schema.fields)
        wanted = (schema.fields[-1].params["dim"], index["index_type"], names)
        ready = self.ready.setdefault(wanted, [])
        if not ready:
            ready += self._fresh(connection, schema, index)
        connection.call("rename_collection", ready.pop(), name)
        for key, value in properties.items():
            connection.set_property(name, key, value)

    def _fresh(self, connection, schema, index):
        names = [f"ready_{os.getpid()}_{self.made + number}" for number in range(self.AT_ONCE)]
        self.made += len(names)
        params = connection._client.prepare_index_params()
        params.add_index("vector", **index)
        for name in names:
            connection.call("create_collection", name, schema=schema, consistency_level="Strong")
            connection.call("create_index", name, params, sync=False)
            connection.call("load_collection", name, _async=True)
        for name in names:
            connection.load(name)
        return names


@pytest.fixture(scope="session")
def loaded(milvus_server):
    """A stock of collections on the server."""
    return LoadedCollections(milvus_server)


@pytest.fixture
def quick_collection(collection, loaded, monkeypatch):
    """As ``collection``; what the store makes on the server is taken from the stock."""
    from mmref.search.stores.milvus_connection import Connection

    def create(self, *given):
        loaded.take(self, *given)

    monkeypatch.setattr(Connection, "create", create)
    return collection


@pytest.fixture
def collection(milvus_server):
    """The address of a store on the server that is not there yet."""
    name = f"t{uuid.uuid4().hex[:12]}"
    yield f"milvus://{milvus_server}/{name}"
    from pymilvus import MilvusClient

    client = MilvusClient(f"http://{milvus_server}")
    if client.has_collection(name):
        client.drop_alias(name)
    for one in client.list_collections():
        if one.startswith(name):
            client.drop_collection(one)
    client.close()
