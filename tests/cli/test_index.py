import json
import os
import signal

import pytest

from mmref.model import MMRef
from mmref.search.ingest import watch as watching
from mmref.search.records import RunIdentity
from mmref.search.stores.base import open_store

from .colours import load, save_features, save_pictures, save_run


@pytest.fixture(autouse=True)
def colour_runs(monkeypatch):
    monkeypatch.setattr(MMRef, "from_pretrained", load)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_run(tmp_path_factory.mktemp("runs") / "colours")


@pytest.fixture
def pics(tmp_path):
    return save_pictures(tmp_path / "pics")


def test_indexing_says_what_was_done(run_mmref, run, pics, tmp_path):
    first = run_mmref("index", run, pics, "--store", tmp_path / "s")
    assert first.status == 0
    assert "added 6" in first.out
    assert "indexing" in first.err
    (pics / "red.png").rename(pics / "crimson.png")
    (pics / "blue.png").unlink()
    (pics / "bad.png").write_bytes(b"bad")
    again = run_mmref("index", run, pics, "--store", tmp_path / "s", "--prune")
    assert again.status == 0
    line = "added 0  updated 0  moved 1  removed 1  unchanged 4  skipped 1"
    assert line in again.out.splitlines()
    assert f"skipped {pics}/bad.png: " in again.err


def test_json_is_one_document(run_mmref, run, pics, tmp_path):
    (pics / "bad.png").write_bytes(b"bad")
    done = run_mmref("index", run, pics, "--store", tmp_path / "s", "--json")
    document = json.loads(done.out)
    assert (document["added"], document["encoded"]) == (6, 6)
    assert [skip["path"] for skip in document["skipped"]] == [str(pics / "bad.png")]


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["absent-run", "{pics}", "--store", "{s}"], 2, "no run folder at absent-run"),
        (["{pics}", "{pics}", "--store", "{s}"], 1, "lacks"),
        (["{run}", "{pics}/absent", "--store", "{s}"], 2, "does not exist"),
        (["{run}", "{bare}", "--store", "{s}"], 1, "no images in"),
        (["{run}", "{pics}", "--store", "/proc/s"], 2, "cannot write"),
        (["{run}", "{pics}", "--store", "{pics}"], 2, "holds other files"),
        (["{run}", "{pics}", "--store", "{pics}/red.png"], 2, "is a file"),
        (["{run}", "{pics}", "--store", "ftp://x"], 2, "no store of the kind 'ftp'"),
        (["{run}", "{pics}", "--store", ""], 2, "address is empty"),
        (["{run}", "{features}", "--store", "{s}"], 1, "encodes pixels"),
        (["{run}", "{pics}"], 2, "--store"),
        (["{run}"], 2, "--store"),
        (["{run}", "--store", "{s}"], 2, "IMAGES..."),
        (["{run}", "{pics}", "--store", "{s}", "--storage", "fp8"], 2, "fp32, fp16, int8"),
        (["{run}", "{pics}/*.gif", "--store", "{s}"], 2, "fits no image"),
        (["{run}", "{pics}", "--store", "{s}", "--every", "3"], 2, "goes with --watch"),
        (["{run}", "{pics}", "--store", "{s}", "--watch", "--captions"], 2, "leave --reencode"),
        (["{run}", "{pics}", "--store", "{s}", "--watch", "--every", "0"], 2, "above 0"),
        (["{run}", "{pics}", "--store", "{s}", "--watch", "--every", "inf"], 2, "up to 86400"),
        (["{run}", "{pics}/absent", "--store", "{s}", "--watch"], 2, "does not exist"),
        (["{run}", "--store", "{s}", "--reencode"], 2, "does not exist"),
        (["{run}", "{pics}", "--store", "{s}", "--reencode"], 2, "leave IMAGES out"),
    ],
)
def test_mistakes_are_one_line_and_make_nothing(
    run_mmref, run, pics, tmp_path, words, status, message
):
    (tmp_path / "bare").mkdir()
    save_features(tmp_path / "features")
    names = {"run": run, "pics": pics, "s": tmp_path / "s", "bare": tmp_path / "bare"}
    names["features"] = tmp_path / "features"
    done = run_mmref("index", *(word.format(**names) for word in words))
    assert done.status == status
    assert message in done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not (tmp_path / "s").exists()


def test_all_broken_leaves_with_1(run_mmref, run, tmp_path):
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "a.png").write_bytes(b"bad")
    done = run_mmref("index", run, tmp_path / "pics", "--store", tmp_path / "s")
    assert done.status == 1
    assert "a.png: " in done.err
    assert "nothing could be indexed" in done.err


def test_another_run_is_refused_and_the_repair_named(run_mmref, run, pics, tmp_path):
    run_mmref("index", run, pics, "--store", tmp_path / "s")
    other = save_run(tmp_path / "other", digest="decade")
    done = run_mmref("index", other, pics, "--store", tmp_path / "s")
    assert done.status == 1
    assert f"was made by the run {run.name}-" in done.err
    assert f"mmref index {other} IMAGES... --store NEW" in done.err


def test_a_store_in_use_is_refused(run_mmref, run, pics, tmp_path):
    run_mmref("index", run, pics, "--store", tmp_path / "s")
    with open_store(str(tmp_path / "s")) as store:
        identity = RunIdentity.from_dict(store.identity.as_dict())
    with open_store(str(tmp_path / "s"), identity):
        done = run_mmref("index", run, pics, "--store", tmp_path / "s")
    assert done.status == 1
    assert "being written by another command" in done.err


def test_features_are_indexed_from_a_source(run_mmref, tmp_path):
    run = save_run(tmp_path / "features-run", kind="features")
    source = save_features(tmp_path / "data")
    done = run_mmref("index", run, source, "--store", tmp_path / "s")
    assert done.status == 0
    assert "added 6" in done.out


def test_patterns_reach_it_unexpanded(run_mmref, run, pics, tmp_path):
    save_pictures(pics / "inner", ["red"])
    done = run_mmref("index", run, f"{tmp_path}/**/r*.png", "--store", tmp_path / "s", "--json")
    assert json.loads(done.out)["added"] == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("words", [[], ["--json"]])
def test_watching_tells_each_round_and_ends_when_told_to(
    run_mmref, run, pics, tmp_path, monkeypatch, number, words
):
    steps = iter(
        [
            lambda: save_pictures(pics / "more", ["red"]),
            (pics / "blue.png").unlink,
            lambda: (pics / "bad.png").write_bytes(b"bad"),
            lambda: None,
            lambda: None,
            lambda: os.kill(os.getpid(), number),
        ]
    )
    real = watching.watch
    monkeypatch.setattr(
        watching, "watch", lambda *a, **o: real(*a, **o, sleep=lambda _: next(steps)())
    )
    handler = signal.getsignal(number)
    done = run_mmref(
        "index",
        run,
        pics,
        "--store",
        tmp_path / "s",
        "--watch",
        "--prune",
        "--every",
        "0.1",
        *words,
    )
    assert done.status == 0
    assert signal.getsignal(number) is handler
    assert "stopped" in done.err
    lines = done.out.splitlines()
    assert len(lines) == 4
    if words:
        rounds = [json.loads(line) for line in lines]
        names = ("added", "removed")
        assert [[one[n] for n in names] for one in rounds] == [[6, 0], [1, 0], [0, 1], [0, 0]]
        assert rounds[3]["skipped"][0]["path"] == str(pics / "bad.png")
    else:
        assert [line.split(" ", 1)[1] for line in lines] == [
            *("added 6", "added 1", "removed 1", "skipped 1")
        ]
        assert "bad.png: not an image" in done.err


def test_help_has_an_example(run_mmref):
    done = run_mmref("index", "--help")
    assert done.status == 0
    assert "Example: mmref index runs/flags" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
