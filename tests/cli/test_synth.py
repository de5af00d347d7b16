import inspect
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, fields

import pytest

from mmref.cli import synth
from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import SyntheticSettings, domains
from mmref.data.synthetic.annotations import read_settings, summary
from mmref.evaluation.oracle import ceilings

SMALL = (
    "--objects", 4, "--val-objects", 3, "--test-objects", 5, "--images", 2, "--size", "64x32",
    "--omit", 0.6, "--contradict", 0.2, "--seed", 3,
)  # fmt: skip


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A place for a set that several tests look at."""
    return tmp_path_factory.mktemp("sets") / "figures"


def test_it_draws_and_prints_tables(run_mmref, drawn):
    done = run_mmref("synth", *SMALL, "--out", drawn)
    assert done.status == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 100
    rows = {line.split("│")[0].strip(): line for line in done.out.splitlines() if "│" in line}
    data = RetrievalDataset.load(drawn)
    found, known = summary(data), ceilings(data, "test")
    for split, one in found.items():
        cells = [cell.strip() for cell in rows[split].split("│")]
        assert cells[1:4] == [str(one[name]) for name in ("objects", "images", "captions")]
        assert cells[4] == f"{one['contradicting']:.1f} %"
        assert cells[5] == f"{one['statements']:.1f}"
    assert {"val, oracle", "val, visible oracle", "test, oracle"} < set(rows)
    cells = [cell.strip() for cell in rows["test, visible oracle"].split("│")]
    told = known["visible oracle"].to_dict()
    assert cells[1] == f"{told['R@1']:.1f}" and cells[4] == f"{told['mAP']:.1f}"
    assert cells[-1] == f"{told['expected']['mAP']:.1f}"
    assert f"mmref train --data {drawn}" in done.out
    assert "drawing" in done.err


def test_it_replaces_a_drawn_set_and_prints_json(run_mmref, drawn):
    done = run_mmref(
        "synth", *SMALL, "--test-omit", 0.1, "--domain", "birds", "--out", drawn, "--json"
    )
    assert done.status == 0, done.err
    found = json.loads(done.out)
    settings = read_settings(drawn)
    assert (settings.domain, settings.omit, settings.test_omit) == ("birds", 0.6, 0.1)
    assert settings.image_size == (64, 32)
    assert found["settings"] == json.loads(json.dumps(asdict(settings)))
    assert found["splits"] == summary(RetrievalDataset.load(drawn))
    assert list(found["ceilings"]) == ["val", "test"]
    for ways in found["ceilings"].values():
        assert list(ways) == ["oracle", "visible oracle"]
        assert ways["oracle"]["queries"] > 0 and 0 < ways["oracle"]["mAP"] <= 100
    assert sorted(path.name for path in drawn.parent.iterdir()) == ["figures"]


def test_every_setting_is_an_option_with_the_same_default(run_mmref, tmp_path, monkeypatch):
    parameters = inspect.signature(synth.command).parameters
    for field in fields(SyntheticSettings):
        if field.name != "image_size":
            assert parameters[field.name].default == field.default, field.name
    assert set(synth.command.__annotations__["domain"].__args__[0].__args__) == set(domains())
    asked = []
    monkeypatch.setattr(synth, "_draw", lambda settings, folder: asked.append(settings))
    monkeypatch.setattr(synth, "_look", lambda settings, folder: {})
    values = {
        "val_objects": 7, "test_objects": 8, "images": 3, "captions": 5, "held_out_captions": 0,
        "omit": 0.11, "contradict": 0.12, "vague": 0.13, "paraphrase": 0.14, "test_omit": 0.21,
        "test_contradict": 0.22, "test_vague": 0.23, "test_paraphrase": 0.24, "lookalikes": 6,
        "differences": 9, "occlude": 0.31, "nuisance": 0.32, "seed": 33, "objects": 34,
        "domain": "flowers",
    }  # fmt: skip
    words = [str(w) for n, v in values.items() for w in (f"--{n.replace('_', '-')}", v)]
    run = run_mmref("synth", *words, "--size", "96x80", "--out", tmp_path / "x", "--json")
    assert run.status == 0, run.err
    assert asked == [SyntheticSettings(**values, image_size=(96, 80))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--omit", "2"], "omit is 2.0: choose a value between 0 and 0.98"),
        (["--objects", "0"], "objects is 0: choose 1 or more"),
        (["--size", "64"], "--size is HEIGHTxWIDTH in pixels (64x32), not '64'"),
        (["--size", "8x8"], "image_size is (8, 8): choose height 64 to 1024"),
        (["--domain", "fish"], "'fish' is not one of"),
    ],
)
def test_wrong_options_are_one_line_and_2(run_mmref, tmp_path, words, message):
    done = run_mmref("synth", *words, "--out", tmp_path / "x")
    assert (done.status, done.out) == (2, "")
    assert message in done.err and len(done.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_other_folders_are_left_alone(run_mmref, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("all of it")
    done = run_mmref("synth", *SMALL, "--out", mine)
    assert done.status == 2
    assert "holds something else than a drawn set" in done.err
    assert (mine / "thesis.txt").read_text() == "all of it"
    done = run_mmref("synth", *SMALL, "--out", mine / "thesis.txt")
    assert done.status == 2 and "is a file" in done.err


def unfinished(folder):
    """Pictures that are drawn already in a folder that is not finished."""
    return list(folder.glob(".partial-*/images/*.png"))


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_killed_it_leaves_nothing_half_written(tmp_path, name):
    command = [sys.executable, "-m", "mmref", "synth", "--objects", "3000", "--size", "64x32",
               "--out", str(tmp_path / "figures")]  # fmt: skip
    # Where the tests run in the background of a shell, SIGINT is ignored, and would be inherited.
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    with process:
        deadline = time.monotonic() + 180
        while len(unfinished(tmp_path)) < 10 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(unfinished(tmp_path)) >= 10
        process.send_signal(getattr(signal, name))
        process.wait(timeout=120)
    assert process.returncode != 0
    while list(tmp_path.iterdir()) and time.monotonic() < deadline + 120:
        time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []
