"""Captions in a store, as a user meets them."""

import json
import shutil

import pytest
from PIL import Image

from mmref.model import MMRef
from mmref.search.stores import milvus

from .colours import COLOURS, load, save_features, save_pictures, save_run


@pytest.fixture(autouse=True)
def colour_runs(monkeypatch):
    monkeypatch.setattr(MMRef, "from_pretrained", load)


@pytest.fixture
def folder(tmp_path):
    """A run, and pictures with text files beside them."""
    save_run(tmp_path / "run")
    pics = save_pictures(tmp_path / "pics")
    for name in COLOURS:
        (pics / f"{name}.txt").write_text(f"a {name} card\na {name} sheet of card\n")
    return tmp_path


def index(run_mmref, folder, *words, run="run"):
    return run_mmref("index", folder / run, *words, "--store", folder / "s")


def indexed(run_mmref, folder):
    done = index(run_mmref, folder, folder / "pics", "--captions")
    assert done.status == 0, done.err
    return done


def search(run_mmref, folder, *words, store="s"):
    return run_mmref("search", "--store", folder / store, *words)


def sentences(done):
    return [hit["metadata"]["caption"] for hit in json.loads(done.out)["results"]]


def test_an_image_finds_its_sentences(run_mmref, folder):
    done = indexed(run_mmref, folder)
    assert "captions: added 12  updated 0  removed 0  unchanged 0  skipped 0\n" in done.out
    assert "indexing captions" in done.err
    red = folder / "pics" / "red.png"
    found = search(run_mmref, folder, "--captions", "--image", red, "-k", "2")
    lines = found.out.splitlines()
    assert lines[0].split() == ["rank", "score", "base", "ref", "caption,", "image"]
    assert max(map(len, lines[:-1])) <= 80
    assert lines[2].rstrip().endswith("   a red card")
    assert lines[3].split() == ["red.png"]
    assert lines[-1] == f"in {folder / 'pics'}/"
    document = search(run_mmref, folder, "--captions", "--image", red, "-k", "2", "--json")
    assert sentences(document) == ["a red card", "a red sheet of card"]
    first = json.loads(document.out)["results"][0]
    assert first["metadata"]["image"] == str(red)
    grouped = search(run_mmref, folder, "--captions", "red", "--group-by", "name")
    assert "group" in grouped.out.splitlines()[0]
    assert "red.png#1" in grouped.out
    similar = search(run_mmref, folder, "--captions", "a blue thing", "-k", "1", "--json")
    assert sentences(similar) == ["a blue card"]
    assert len(json.loads(search(run_mmref, folder, "red", "--json").out)["results"]) == 6


def test_what_has_changed_is_brought_up_to_date(run_mmref, folder):
    indexed(run_mmref, folder)
    pics = folder / "pics"
    (pics / "red.txt").write_text("red all over")
    (pics / "blue.txt").unlink()
    Image.new("RGB", (9, 9), (9, 120, 60)).save(pics / "new.png")
    note = index(run_mmref, folder, pics)
    assert "note: the store holds captions too: --captions brings them up to date" in note.err
    document = json.loads(index(run_mmref, folder, pics, "--captions", "--json").out)
    assert document["unchanged"] == 7
    counts = {name: document["captions"][name] for name in ("added", "updated", "removed")}
    assert counts == {"added": 0, "updated": 1, "removed": 1}
    again = index(run_mmref, folder, pics, "--captions", "--prune")
    assert "captions: added 0  updated 0  removed 2  unchanged 9  skipped 0" in again.out
    silent = index(run_mmref, folder, pics)
    assert "captions" not in silent.err


def test_store_verbs_cover_both(run_mmref, folder):
    indexed(run_mmref, folder)
    document = json.loads(run_mmref("store", "info", folder / "s", "--json").out)
    assert (document["images"], document["captions"]) == (6, 12)
    assert "captions         12\n" in run_mmref("store", "info", folder / "s").out
    verified = run_mmref("store", "verify", folder / "s", "--content")
    assert verified.out == f"{folder / 's'}: 6 images, 12 captions, nothing wrong\n"
    assert run_mmref("store", "compact", folder / "s").status == 0
    done = run_mmref("store", "export", folder / "s", folder / "out")
    assert done.out == f"{folder / 'out'}: 6 images, 12 captions\n"
    assert (folder / "out" / "captions" / "items.parquet").is_file()
    done = run_mmref("store", "import", folder / "out", "--store", folder / "t", "--json")
    assert json.loads(done.out)["captions"] == 12
    words = ("--captions", "--image", folder / "pics" / "red.png", "--json")
    one, two = (search(run_mmref, folder, *words, store=name) for name in ("s", "t"))
    assert json.loads(one.out)["results"] == json.loads(two.out)["results"]

    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(folder / "s" / "captions" / "store.sqlite")) as database:
        database.execute("UPDATE vectors_1 SET vector = zeroblob(48) WHERE id = 3")
        database.commit()
    done = run_mmref("store", "verify", folder / "s")
    assert done.status == 1
    assert done.out.startswith(f"captions: {folder}/pics/")
    assert run_mmref("store", "verify", folder / "s", "--repair").status == 0
    assert run_mmref("store", "verify", folder / "s").status == 0
    mended = indexed(run_mmref, folder)
    assert "captions: added 1  " in mended.out


def test_reencode_takes_both(run_mmref, folder):
    indexed(run_mmref, folder)
    save_run(folder / "other", digest="decade", form="hubs")
    done = index(run_mmref, folder, "--reencode", "--storage", "fp16", "--json", run="other")
    document = json.loads(done.out)
    assert (document["updated"], document["captions"]["updated"]) == (6, 12)
    words = ("--captions", "--image", folder / "pics" / "red.png", "--json")
    assert sentences(search(run_mmref, folder, *words))[0] == "a red card"
    facts = json.loads(run_mmref("store", "info", folder / "s", "--json").out)
    assert facts["captions_run"] == facts["run"]["id"] == "other-decade"


def test_half_of_a_reencoding_is_told(run_mmref, folder):
    from mmref.search.ingest.reencode import reencode

    indexed(run_mmref, folder)
    other = save_run(folder / "other", digest="decade")
    reencode(load(other), folder / "s", run=other)
    lines = run_mmref("store", "info", folder / "s").out
    assert "captions         12, of the run run-c0ffee still: mmref index RUN --reencode" in lines
    refused = index(run_mmref, folder, folder / "pics", "--captions", run="other")
    assert refused.status == 1
    assert f"the captions of {folder / 's'} were made by the run run-c0ffee" in refused.err
    assert f"mmref index {other} --store {folder / 's'} --reencode" in refused.err
    words = ("--captions", "--image", folder / "pics" / "red.png", "--json")
    assert sentences(search(run_mmref, folder, *words))[0] == "a red card"
    done = index(run_mmref, folder, "--reencode", run="other")
    assert "captions: added 0  updated 12  " in done.out
    assert search(run_mmref, folder, *words).status == 0


def test_features_find_captions_by_id(run_mmref, tmp_path):
    save_run(tmp_path / "run", kind="features", form=None)
    source = save_features(tmp_path / "data")
    done = index(run_mmref, tmp_path, source, "--captions")
    assert "captions: added 6  " in done.out
    words = ("--captions", "--image", "green-id", "--json")
    assert sentences(search(run_mmref, tmp_path, *words))[0] == "a green card"


def test_many_questions_a_table_and_a_sheet(run_mmref, folder):
    indexed(run_mmref, folder)
    lines = [json.dumps({"image": str(folder / "pics" / f"{name}.png")}) for name in COLOURS]
    (folder / "q.txt").write_text("\n".join(lines))
    words = ("--captions", "--queries", folder / "q.txt", "-k", "1", "--json")
    done = search(run_mmref, folder, *words, "--csv", folder / "t.csv", "--sheet", folder / "s.png")
    first = [
        json.loads(line)["results"][0]["metadata"]["caption"] for line in done.out.splitlines()
    ]
    assert first == [f"a {name} card" for name in COLOURS]
    head = (folder / "t.csv").read_text().splitlines()[0]
    assert head.endswith("meta.caption,meta.image")
    with Image.open(folder / "s.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert set(COLOURS.values()) <= colours


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["index", "{run}", "{bare}", "--store", "{t}", "--captions"], 1, "no captions in"),
        (["index", "{run}", "--store", "{s}", "--captions"], 2, "name what to index"),
        (["index", "{run}", "--store", "{s}", "--reencode", "--captions"], 2, "leave --captions"),
        (["index", "{run}", "{bare}", "--store", "{s}/captions"], 2, "name --store {s} "),
        (["index", "{run}", "--store", "{s}/captions", "--reencode"], 2, "name --store {s} "),
        (["search", "--store", "{plain}", "--captions", "red"], 2, "holds no captions"),
        (["search", "--store", "{s}", "--captions", "red", "--copy-to", "{t}"], 2, "--copy-to"),
        (["search", "--store", "{s}", "--captions", "--image", "{t}"], 2, "neither an image file"),
    ],
)
def test_mistakes_are_one_line(run_mmref, folder, words, status, message):
    indexed(run_mmref, folder)
    shutil.copytree(folder / "s", folder / "plain")
    shutil.rmtree(folder / "plain" / "captions")
    names = {name: folder / name for name in ("run", "s", "plain", "t")}
    names["bare"] = save_pictures(folder / "bare")
    done = run_mmref(*(word.format(**names) for word in words))
    assert done.status == status
    assert message.format(**names) in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not (folder / "t").exists()


def test_on_milvus(run_mmref, folder, monkeypatch):
    pytest.importorskip("pymilvus", reason="pymilvus is not installed")
    pytest.importorskip("milvus_lite", reason="milvus-lite is not installed")
    from milvus_lite.server_manager import server_manager_instance

    monkeypatch.setattr(milvus, "GRACE", 0.0)
    store = f"milvus-lite://{folder}/pictures.db/colours"
    try:
        run, pics = folder / "run", folder / "pics"
        done = run_mmref("index", run, pics, "--store", store, "--captions")
        assert done.status == 0, done.err
        assert "captions: added 12  " in done.out
        indexed(run_mmref, folder)
        words = ("--captions", "--image", pics / "red.png", "--json")
        here = run_mmref("search", "--store", store, *words)
        there = search(run_mmref, folder, *words)
        assert sentences(here)[0] == "a red card"
        assert sentences(here) == sentences(there)
        facts = json.loads(run_mmref("store", "info", store, "--json").out)
        assert (facts["images"], facts["captions"]) == (6, 12)
        refused = run_mmref("index", run, pics, "--store", f"{store}_captions")
        assert (refused.status, f"name --store {store} " in refused.err) == (2, True)
        (pics / "red.txt").write_text("red all over")
        again = run_mmref("index", run, pics, "--store", store, "--captions")
        assert "captions: added 0  updated 1  removed 1  unchanged 10" in again.out
        assert run_mmref("store", "verify", store).status == 0
        assert run_mmref("store", "compact", store).status == 0
        other = save_run(folder / "other", digest="decade", form="hubs")
        anew = run_mmref("index", other, "--store", store, "--reencode", "--json")
        assert json.loads(anew.out)["captions"]["updated"] == 11
        words = ("--captions", "--image", pics / "blue.png", "--json")
        assert sentences(run_mmref("search", "--store", store, *words))[0] == "a blue card"
        run_mmref("store", "export", store, folder / "out")
        copied = run_mmref("store", "import", folder / "out", "--store", folder / "t", "--json")
        assert (copied.status, json.loads(copied.out)["captions"]) == (0, 11)
        assert sentences(search(run_mmref, folder, *words, store="t"))[0] == "a blue card"
    finally:
        server_manager_instance.release_server(str(folder / "pictures.db"))
