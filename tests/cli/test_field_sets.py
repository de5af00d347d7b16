"""The field's five sets from files to figures: data, train, evaluate."""

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest


def _module(*parts):
    file = Path(__file__).parents[1].joinpath(*parts)
    spec = spec_from_file_location(file.stem, file)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


layouts, sets = _module("data", "readers", "layouts.py"), _module("training", "sets.py")
QUICK = [
    *sets.words(sets.SMALL | {"training.epochs": 1, "encoder.grid": 4}),
    *("--encoder", "compact"),
]
SETS = {
    "cuhk-pedes": layouts.write_cuhk_pedes,
    "icfg-pedes": layouts.write_icfg_pedes,
    "rstpreid": layouts.write_rstpreid,
    "cub": layouts.write_cub,
    "flowers": layouts.write_flowers,
}


@pytest.mark.parametrize("name", sorted(SETS))
def test_data_train_evaluate(name, tmp_path, run_mmref):
    folder = SETS[name](
        tmp_path / "set", **({"quirks": True} if name in ("cuhk-pedes", "cub") else {})
    )
    run, report = tmp_path / "run", tmp_path / "report.json"
    found = json.loads(run_mmref("data", folder, "--json").out)
    assert found["format"] == name and found["problems"] == []
    assert set(found["splits"]) == {"train", "val", "test"}

    done = run_mmref("train", "--data", folder, *QUICK, "--out", run)
    assert done.status == 0, done.err
    assert f"--data {folder} --split test" in done.out

    done = run_mmref("evaluate", run, "--data", folder, "--split", "test", "--json", report)
    assert done.status == 0, done.err
    said = json.loads(report.read_text())
    test = found["splits"]["test"]
    assert said["split"] == "test" and said["gallery"] == test["images"]
    assert said["queries"] == test["captions"]  # every caption, repetitions included
    assert 0 <= said["t2i"]["R@1"] <= 100
    drawn = [note for note in found["notes"] if "held out as val" in note]
    assert len(drawn) == (name == "icfg-pedes")
    assert set(drawn) <= set(said["notes"])  # the report says it too


def test_a_split_file_goes_through_train_and_evaluate(tmp_path, run_mmref):
    folder = layouts.write_caption_all(tmp_path / "CUHK-PEDES")
    of_id = {item["id"]: item["split"] for item in layouts.cuhk_items()}
    file, run = layouts.write_json(tmp_path / "splits.json", of_id), tmp_path / "run"
    refused = run_mmref("train", "--data", folder, *QUICK, "--out", run)
    assert refused.status == 1 and "--splits FILE" in refused.err and not run.exists()
    done = run_mmref("train", "--data", folder, "--splits", file, *QUICK, "--out", run)
    assert done.status == 0, done.err
    assert f"splits are those of {file}" in " ".join(done.err.split())
    told = done.out.replace("'", "")
    assert f"--data {folder}?splits={file} --split test" in told
    words = ("--data", folder, "--split", "test")
    one = run_mmref("evaluate", run, *words, "--splits", file)
    two = run_mmref("evaluate", run, "--data", f"{folder}?splits={file}", "--split", "test")
    assert one.status == two.status == 0 and one.out == two.out
    assert run_mmref("evaluate", run, *words).status == 1
