import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from mmref.cli import ablate
from mmref.errors import TrainingError
from mmref.experiments import worker
from mmref.experiments.presets import PRESETS

_spec = spec_from_file_location(
    "ablation_sets", Path(__file__).parents[1] / "experiments" / "sets.py"
)
sets = module_from_spec(_spec)
_spec.loader.exec_module(sets)

QUICK = ["--jobs", "0", "--no-plot"] + [
    word for name, value in sets.SMALL.items() for word in ("--set", f"{name}={value}")
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return sets.write_set(tmp_path_factory.mktemp("data"))


def test_a_grid_on_a_data_set(run_mmref, data, tmp_path):
    words = ("ablate", "--data", data, "--preset", "losses", "--seeds", "1", *QUICK)
    some = run_mmref(*words, "--only", "base,full", "--out", tmp_path / "out")
    assert some.status == 0
    assert "full refined" in some.out
    assert "to identity" in some.out
    assert max(map(len, some.out.splitlines())) <= 80
    assert "base/seed-0: mAP unrefined" in some.err
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert list(rows) == ["base", "full", "full refined"]
    assert f"{rows['base']['metrics']['mAP']:.1f}" in some.out
    again = run_mmref(*words, "--only", "base, identity", "--out", tmp_path / "out", "--json")
    assert again.status == 0
    assert "1 of 2 runs are finished already" in again.err
    results = json.loads(again.out)
    assert list(results["rows"]) == ["base", "identity", "identity refined", "full", "full refined"]
    unknown = {"to_control": None, "to_identity": None}  # the control was not there yet
    assert results["rows"]["full"] | unknown == rows["full"]
    assert not (tmp_path / "out" / "results.png").exists()


def test_a_drawn_set_takes_the_compact_encoder(run_mmref, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(worker, "run_job", lambda job, share: asked.append(job["identity"]))
    done = run_mmref(
        "ablate", "--domain", "figures", "--preset", "components", "--only", "base",
        "--synth", "objects=4,val_objects=2,test_objects=2,images=1,omit=0.5,image_size=128x64",
        "--seeds", "2", "--jobs", "0", "--no-plot", "--out", tmp_path / "out",
    )  # fmt: skip
    assert done.status == 0
    assert [job["unit"]["seed"] for job in asked] == [0, 1]
    encoder = asked[0]["settings"]["encoder"]
    assert (encoder["kind"], encoder["image_height"], encoder["image_width"]) == ("compact", 96, 48)
    assert (asked[1]["synth"]["seed"], asked[1]["synth"]["test_omit"]) == (1, 0.5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "everything", "--data", "DATA"], "'everything' is not one of"),
        (["--preset", "losses"], "name a data set by --data"),
        (["--preset", "losses", "--data", "DATA", "--domain", "figures"], "or a domain"),
        (["--preset", "losses", "--data", "DATA", "--synth", "omit=1"], "goes with --domain"),
        (["--preset", "losses", "--domain", "cars"], "no domain 'cars'"),
        (["--preset", "losses", "--domain", "figures", "--folds", "3"], "folds are for a data set"),
        (["--preset", "losses", "--domain", "figures", "--synth", "omit"], "name=value"),
        (["--preset", "ambiguity", "--data", "DATA"], "it takes --domain"),
        (["--preset", "losses", "--data", "nowhere"], "nowhere"),
        (["--preset", "losses", "--data", "DATA", "--set", "training.epoch=1"], "training.epochs"),
        (["--preset", "losses", "--data", "DATA", "--only", "full,best"], "no variant 'best'"),
        (["--preset", "losses", "--data", "DATA", "--seeds", "0"], "--seeds"),
        (["--preset", "losses", "--data", "DATA", "--folds", "1"], "2 folds or more"),
        (["--preset", "losses", "--data", "DATA", "--config", "no.yaml"], "no settings file"),
    ],
)
def test_what_is_asked_wrongly(run_mmref, data, tmp_path, words, message):
    filled = [data if word == "DATA" else word for word in words]
    left = run_mmref("ablate", *filled, *QUICK, "--out", tmp_path / "out")
    assert left.status == 2
    assert left.out == ""
    assert message in left.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_failed_run_is_status_one_at_the_end(run_mmref, data, tmp_path, monkeypatch):
    whole = worker.run_job

    def sometimes(job, share):
        if "/full/" in job["target"]:
            raise TrainingError("the loss became nan")
        whole(job, share)

    monkeypatch.setattr(worker, "run_job", sometimes)
    words = ("--preset", "losses", "--seeds", "1", "--only", "full,base", *QUICK)
    left = run_mmref("ablate", "--data", data, *words, "--out", tmp_path / "out")
    assert left.status == 1
    assert "base" in left.out
    assert "full/seed-0 failed: the loss became nan" in left.err
    last = left.err.splitlines()[-1]
    assert last.startswith("mmref: 1 run failed (full/seed-0: the loss became nan)")


def test_the_presets_are_those_of_the_library():
    hints = get_type_hints(ablate.command, include_extras=True)
    named, _ = get_args(get_args(hints["preset"])[0])  # one of them, or none
    assert set(get_args(named)) == set(PRESETS)
