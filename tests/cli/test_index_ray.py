"""``mmref index --ray`` as a user meets it: two nodes, one of them killed while it indexes."""

import json
import threading
import time

import numpy as np
import pytest
from PIL import Image

from .runs import write_data, write_run

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
IMAGES = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ray")
    data = write_data(folder / "data", pixels=True, length=0)
    write_run(data, folder / "run", kind="compact")
    (folder / "pictures").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (IMAGES, 24, 24, 3)).astype(np.uint8)
    for row, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"pictures/{row:03d}.png")
        if row % 10 == 0:  # the same bytes again: encoded once
            Image.fromarray(pixels).save(folder / f"pictures/{row:03d}-copy.png")
    (folder / "pictures/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing more")
    return folder


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    checks = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 300,
              "health_check_failure_threshold": 5}  # fmt: skip
    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={**node, "_system_config": checks})
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.mark.slow
def test_every_image_is_in_the_store_once_when_a_node_dies(cluster, folder, run_mmref):
    node = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)

    def kill():
        time.sleep(4)  # the first batches are under way
        cluster.remove_node(node, allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    store = folder / "ray.store"
    words = ("index", folder / "run", folder / "pictures", "--store", store, "--json")
    found = run_mmref(*words, "--ray", cluster.address)
    assert found.status == 0, found.err
    assert not killer.is_alive()  # so the node died while batches were under way
    report = json.loads(found.out)  # and nothing else, whatever Ray has to say
    assert report["added"] == IMAGES + IMAGES // 10
    assert report["encoded"] == IMAGES
    assert [skip["reason"] for skip in report["skipped"]] == [
        "broken or truncated (Truncated File Read)"
    ]
    assert run_mmref("store", "verify", store).status == 0

    # the same as without a cluster
    assert run_mmref(*words[:-2], folder / "own.store").status == 0
    for query in ("a red cup", "a blue bag"):
        lists = []
        for one in (store, folder / "own.store"):
            answer = run_mmref("search", "--store", one, query, "-k", "450", "--json")
            lists.append({hit["path"]: hit["score"] for hit in json.loads(answer.out)["results"]})
        assert lists[0].keys() == lists[1].keys()
        assert len(lists[0]) == IMAGES + IMAGES // 10
        assert all(lists[0][path] == pytest.approx(lists[1][path], abs=1e-5) for path in lists[0])


def test_what_a_cluster_cannot_do_is_refused(folder, run_mmref):
    pytest.importorskip("ray")
    words = ("index", folder / "run", folder / "pictures", "--store", folder / "none.store")
    wrong = run_mmref(*words, "--ray", "nowhere")
    assert wrong.status == 2
    assert "no address of a Ray cluster" in wrong.err
    absent = run_mmref(*words, "--ray", "127.0.0.1:9")
    assert absent.status == 1
    assert "no Ray cluster at 127.0.0.1:9" in absent.err
    watched = run_mmref(*words, "--ray", "auto", "--watch")
    assert watched.status == 2
    assert not (folder / "none.store").exists()
