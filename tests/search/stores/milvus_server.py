"""Runs a Milvus server in a folder for as long as one of the test processes noted there lives.

    python milvus_server.py FOLDER

``FOLDER/users`` holds a file for each process that uses it, named by its number; when none of them
is alive the server ends and its data is deleted. ``FOLDER/port`` appears when it answers,
``FOLDER/failed`` when it cannot be started.
"""

import os
import shutil
import socket
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

# Waits of a real cluster, in ms, that only make tests slow
QUICK = {
    "proxy.timeTickInterval": 50,
    "queryCoord.checkInterval": 100,
    "queryCoord.distPullInterval": 50,
    "queryCoord.taskMergeCap": 1,
    "dataCoord.segment.sealProportion": 0.12,
}
TRIES = 3


# The embedded etcd listens on its own fixed ports unless it is told otherwise.
ETCD = """name: default
listen-client-urls: http://127.0.0.1:{client}
advertise-client-urls: http://127.0.0.1:{client}
listen-peer-urls: http://127.0.0.1:{peer}
initial-advertise-peer-urls: http://127.0.0.1:{peer}
initial-cluster: default=http://127.0.0.1:{peer}
"""


def free_ports(count):
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


def started(folder):
    from milvus import MilvusServer, MilvusServerConfig

    for left in reversed(range(TRIES)):
        proxy, client, peer, web = free_ports(4)
        etcd = folder / "etcd.yaml"
        etcd.write_text(ETCD.format(client=client, peer=peer), encoding="ascii")
        config = MilvusServerConfig(proxy_port=proxy, etcd_port=client)
        text = config.template_text
        config.template_text = text.replace("\netcd:\n", f"\netcd:\n  config:\n    path: {etcd}\n")
        config.extra_configs = dict(QUICK)
        server = MilvusServer(config)
        server.set_base_dir(str(folder / "data"))
        server.webservice_port = web
        try:
            server.start()
        except RuntimeError:  # it ended at once: somebody took a port in between
            server.stop()
            if not left:
                raise
        else:
            return server
    return None


def used(folder):
    for user in (folder / "users").iterdir():
        with suppress(ProcessLookupError, ValueError):
            os.kill(int(user.name), 0)
            return True
        user.unlink(missing_ok=True)
    return False


def main(folder):
    try:
        server = started(folder)
    except BaseException:
        (folder / "failed").touch()
        raise
    try:
        (folder / "port.partial").write_text(str(server.listen_port), encoding="ascii")
        (folder / "port.partial").rename(folder / "port")
        while server.server_proc.poll() is None and used(folder):
            time.sleep(0.3)
    finally:
        (folder / "port").unlink(missing_ok=True)
        server.stop()
        shutil.rmtree(folder / "data", ignore_errors=True)
        (folder / "started").rmdir()


if __name__ == "__main__":
    if os.fork() == 0:  # it goes on by itself; who called it need not wait for it
        os.setsid()
        main(Path(sys.argv[1]))
