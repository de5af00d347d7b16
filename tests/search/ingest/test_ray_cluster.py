"""Encoding on a cluster; ``tests/cli/test_index_ray.py`` has two nodes, one of which dies."""

import os
import socket
from concurrent.futures import ThreadPoolExecutor
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
from mmref.search.ingest.ray_cluster import FATAL, RayEncoder

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{row}.png" for row in range(24)]
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


@pytest.fixture(scope="module")
def cluster():
    """One node of one core."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=node)
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.mark.slow
def test_a_cluster_encodes_as_this_machine_does(cluster, model, pictures):
    contents = [picture.read_bytes() for picture in pictures]
    with RayEncoder(cluster.address, model) as encoder, ThreadPoolExecutor(3) as threads:
        assert encoder.slots == 1
        first = encoder([contents[0], b"no picture"])
        assert first[1] == "not an image"
        jobs = [threads.submit(encoder, contents) for _ in range(3)]
        found = [job.result() for job in jobs]
        wanted = model.encode_image([str(picture) for picture in pictures]).numpy()
        for encodings in found:
            np.testing.assert_allclose([one.vector for one in encodings], wanted, atol=1e-6)

        # a content that ends its process is found, and the others come through
        def deadly(digest, run, contents):
            if b"deadly" in contents:
                os._exit(1)
            return [len(content) for content in contents]

        encoder._task = encoder._ray.remote(deadly).options(max_retries=0)
        assert encoder([b"deadly", b"22", b"333"]) == [FATAL, 2, 3]


def test_a_cluster_that_is_not_there_is_said_at_once(model):
    pytest.importorskip("ray")
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
