"""The commands on a Milvus address, as a user types them, on Milvus Lite."""

import json

import pytest

from mmref.model import MMRef
from mmref.search.stores import milvus

from .colours import load, save_pictures, save_run


@pytest.fixture(autouse=True)
def colour_runs(monkeypatch):
    pytest.importorskip("pymilvus", reason="pymilvus is not installed")
    monkeypatch.setattr(MMRef, "from_pretrained", load)
    monkeypatch.setattr(milvus, "GRACE", 0.0)


@pytest.fixture
def store(tmp_path):
    pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
    from milvus_lite.server_manager import server_manager_instance

    yield f"milvus-lite://{tmp_path}/pictures.db/colours"
    server_manager_instance.release_server(str(tmp_path / "pictures.db"))


def hits(run_mmref, store, *given):
    done = run_mmref("search", "--store", store, *given, "--json")
    assert done.status == 0, done.err
    return json.loads(done.out)["results"]


def test_every_verb(run_mmref, tmp_path, store):
    run = save_run(tmp_path / "run")
    pics = save_pictures(tmp_path / "pics")
    done = run_mmref("index", run, pics, "--store", store, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["added"] == 6
    run_mmref("index", run, pics, "--store", tmp_path / "local")
    mine = hits(run_mmref, store, "a red sheet", "-k", "3")
    assert mine == hits(run_mmref, tmp_path / "local", "a red sheet", "-k", "3")
    assert [mine[0]["path"], mine[0]["reference_score"] is None] == [str(pics / "red.png"), False]
    (one,) = hits(run_mmref, store, "a red sheet", "--filter", "name = 'blue.png'")
    assert one["path"] == str(pics / "blue.png")
    assert len(hits(run_mmref, store, "--image", str(pics / "red.png"))) == 5

    (pics / "red.png").unlink()
    (pics / "blue.png").rename(pics / "azure.png")
    pruned = json.loads(run_mmref("index", run, pics, "--store", store, "--prune", "--json").out)
    assert (pruned["moved"], pruned["removed"], pruned["encoded"]) == (1, 1, 0)
    assert hits(run_mmref, store, "a blue sheet")[0]["path"] == str(pics / "azure.png")

    facts = json.loads(run_mmref("store", "info", store, "--json").out)
    assert (facts["images"], facts["dimension"], facts["rows"]) == (5, 12, 7)
    assert "48 vector (fp32)" in run_mmref("store", "info", store).out
    verified = run_mmref("store", "verify", store, "--content")
    assert verified.out == f"{store}: 5 images, nothing wrong\n"
    assert run_mmref("store", "compact", store).status == 0
    assert json.loads(run_mmref("store", "info", store, "--json").out)["rows"] == 5

    other = save_run(tmp_path / "other", digest="beef")
    refused = run_mmref("index", other, pics, "--store", store)
    assert refused.status == 1
    assert f"mmref index {other} --store {store} --reencode" in refused.err
    assert run_mmref("search", "--store", store, "a red sheet", "--run", other).status == 1
    again = run_mmref("index", other, "--store", store, "--reencode")
    assert again.status == 0, again.err
    facts = json.loads(run_mmref("store", "info", store, "--json").out)
    assert (facts["run"]["digest"], facts["collection"]) == ("beef", "colours__mmref_2")
    assert hits(run_mmref, store, "a blue sheet")[0]["path"] == str(pics / "azure.png")

    assert run_mmref("store", "export", store, tmp_path / "out").status == 0
    copy = store.removesuffix("colours") + "copy"
    assert run_mmref("store", "import", tmp_path / "out", "--store", copy).status == 0
    mine, theirs = (hits(run_mmref, one, "a blue sheet") for one in (copy, store))
    assert [(h["path"], h["score"]) for h in mine] == [(h["path"], h["score"]) for h in theirs]


def test_what_is_wrong_is_said_in_a_line_without_the_password(run_mmref, tmp_path, monkeypatch):
    from mmref.search.stores import milvus_connection

    monkeypatch.setattr(milvus_connection, "REACH", 0.5)
    run, pics = save_run(tmp_path / "run"), save_pictures(tmp_path / "pics")
    address = "milvus://ann:secret@127.0.0.1:1/colours"
    for given in (
        ("index", run, pics, "--store", address),
        ("search", "--store", address, "a red sheet"),
        ("store", "info", address),
    ):
        done = run_mmref(*given)
        assert (done.status, done.out) == (1, "")
        assert "no Milvus server answers at http://127.0.0.1:1" in done.err
        assert "secret" not in done.err
    assert run_mmref("store", "info", "milvus://host").status == 2
    missing = f"milvus-lite://{tmp_path}/none/p.db"
    assert run_mmref("store", "info", missing).status == 2
