"""What is sent to a cluster and what comes back; ``tests/cli/test_index_ray.py`` has a real one."""

import socket
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mmref.config import Settings
from mmref.data.images import load_batch
from mmref.encoders.build import new_encoder, tokeniser_for
from mmref.errors import StoreError, UsageError
from mmref.model import MMRef
from mmref.search.ingest import ray_cluster
from mmref.search.ingest.ray_cluster import FATAL, RayEncoder

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{row}.png" for row in range(6)]
    for row, path in enumerate(paths):
        Image.new("RGB", (16, 16), (10 * row, 40, 200 - 8 * row)).save(path)
    return paths


@pytest.fixture(scope="module")
def model(pictures):
    """An encoder that nothing was trained for."""
    small = {"block": 16, "deep": 8, "width": 8, "grid": 8, "image_height": 16, "image_width": 16}
    settings = Settings().with_values({f"encoder.{name}": value for name, value in small.items()})
    tokeniser = tokeniser_for(["a red cup"])
    images = torch.from_numpy(load_batch(pictures, (16, 16)).pixels)
    ids = tokeniser.ids(["a red cup"])
    return MMRef(new_encoder(settings.encoder, tokeniser, ids, images), settings)


class Cluster:
    """In the place of Ray: the task runs here, when its answer is asked for."""

    exceptions = ray.exceptions

    def __init__(self, task):
        self.task = SimpleNamespace(remote=lambda *words: lambda: task(*words))
        self.asked = 0

    def get(self, answer):
        self.asked += 1
        return answer() if callable(answer) else answer


@pytest.fixture
def encoder(model, monkeypatch):
    def made(task):
        cluster = Cluster(task)
        monkeypatch.setattr(ray_cluster, "_ray", lambda: cluster)
        made = object.__new__(RayEncoder)
        made._ray, made._task = cluster, cluster.task
        made._digest, made._run = model.digest, ray_cluster._files(model)
        return made

    return made


def test_the_run_travels_and_encodes_as_it_does_here(encoder, model, pictures, monkeypatch):
    monkeypatch.setattr(ray_cluster, "_MODELS", {})
    there = encoder(ray_cluster._encode_batch)
    found = there([b"no picture", *(there.prepare(path.read_bytes()) for path in pictures)])
    assert found[0] == "not an image"
    wanted = model.encode_image([str(path) for path in pictures]).numpy()
    np.testing.assert_allclose([one.vector for one in found[1:]], wanted, atol=1e-6)
    there([pictures[0].read_bytes()])
    assert there._ray.asked == 3  # the run was fetched once


def test_another_version_over_there_is_said(encoder, monkeypatch):
    monkeypatch.setattr(ray_cluster, "_MODELS", {})
    there = encoder(ray_cluster._encode_batch)
    there._digest = "another"
    with pytest.raises(StoreError, match="install the same mmref everywhere"):
        there([b""])


@pytest.mark.parametrize("place", range(5))
def test_a_content_that_ends_its_process_is_found(encoder, place):
    def task(digest, run, contents):
        if b"deadly" in contents:
            raise ray.exceptions.WorkerCrashedError
        return [content.decode() for content in contents]

    contents = [b"a", b"b", b"c", b"d"]
    contents.insert(place, b"deadly")
    wanted = ["a", "b", "c", "d"]
    wanted.insert(place, FATAL)
    assert encoder(task)(contents) == wanted


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (ray.exceptions.RayError("gone\nmore"), r"cannot be reached any more \(gone\).*goes on"),
        (ConnectionError("closed"), r"cannot be reached any more \(closed\)"),
        (ray.exceptions.RayTaskError("f", "trace", ValueError("bad\nworse")), "failed: bad$"),
    ],
)
def test_what_fails_over_there_is_one_line(encoder, raised, said):
    def task(*words):
        raise raised

    with pytest.raises(StoreError, match=said):
        encoder(task)([b"a"])


def test_a_cluster_that_is_not_there_is_said_at_once(model):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(StoreError, match=r"no Ray cluster at 127\.0\.0\.1:.*ray start --head"):
        RayEncoder(f"127.0.0.1:{port}", model)
    for wrong in ("nowhere", "host:", ":1", "ray://x", "host:port"):
        with pytest.raises(UsageError, match="no address of a Ray cluster"):
            RayEncoder(wrong, model)


def test_features_need_no_cluster():
    with pytest.raises(UsageError, match="leave --ray out"):
        RayEncoder("auto", SimpleNamespace(kind="features"))
