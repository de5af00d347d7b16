import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mmref.cli import evaluate as verb
from mmref.errors import MMRefError, ModelError, PathError, SplitError

from .runs import write_data, write_run

_spec = spec_from_file_location(
    "layouts", Path(__file__).parents[1] / "data" / "readers" / "layouts.py"
)
layouts = module_from_spec(_spec)
_spec.loader.exec_module(layouts)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """24 objects with a vector and two captions each, in three splits."""
    return write_data(tmp_path_factory.mktemp("data") / "things")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """An untrained but whole run folder with references and a refinement."""
    return write_run(data, tmp_path_factory.mktemp("runs") / "run")


def call(*words):
    app = typer.Typer()
    app.command(epilog=verb.EPILOG)(verb.command)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_table_on_stdout_and_json_in_a_file(run, data, tmp_path):
    target = tmp_path / "report.json"
    result = call(run, "--data", data, "--i2t", "--controls", "--json", target)
    assert result.exception is None
    report = json.loads(target.read_text())
    assert (report["split"], report["queries"], report["gallery"]) == ("val", 16, 8)
    assert report["unrefined"] is not None
    assert report["refinement"]["form"] == "posterior"
    assert "text to image, refined" in result.stdout
    assert "uses all queries" in result.stdout
    assert "--split test" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) <= 80


def test_the_selection_and_what_was_measured_with_are_said(run, data, tmp_path):
    result = call(run, "--data", data, "--json", tmp_path / "report.json")
    text = " ".join(result.stdout.split())
    assert "epoch 2 of 5" in text
    assert "very objects that the run was chosen on" in text
    assert "seed 0" in text
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["selection"]["val"]["objects"] == 8
    assert report["published"] is None
    assert {"python", "torch", "mmref"} <= set(report["versions"])


def test_json_on_stdout_is_one_document(run, data):
    result = call(run, "--data", data, "--split", "test", "--no-refine", "--json", "-")
    report = json.loads(result.stdout)
    assert (report["split"], report["unrefined"], report["i2t"]) == ("test", None, None)
    assert "text to image" in result.stderr


@pytest.mark.parametrize("ties", ["pessimistic", "expected"])
def test_the_tie_rule_is_passed_on(run, data, ties):
    result = call(run, "--data", data, "--ties", ties, "--json", "-")
    assert json.loads(result.stdout)["ties"] == ties


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["RUN", "--data", "nowhere"], PathError),
        (["RUN", "--data", "DATA", "--split", "dev"], SplitError),
        (["nowhere", "--data", "DATA"], PathError),
        (["DATA", "--data", "DATA"], ModelError),
    ],
)
def test_what_is_wrong_is_an_error_of_ours(run, data, words, error):
    places = {"RUN": run, "DATA": data}
    result = call(*(places.get(word, word) for word in words))
    assert isinstance(result.exception, error)
    assert isinstance(result.exception, MMRefError)
    assert "\n" not in str(result.exception)
    assert result.stdout == ""


def test_help_holds_an_example():
    result = call("--help")
    assert result.exit_code == 0
    assert "mmref evaluate" in result.stdout


@pytest.fixture(scope="module")
def persons(tmp_path_factory):
    """RSTPReid in miniature: 8 persons a split, a picture and two captions each."""
    root = tmp_path_factory.mktemp("sets") / "RSTPReid"
    things = write_data(root.parent / "things", length=0, pixels=True)
    (root / "imgs").mkdir(parents=True)
    items = []
    for number, line in enumerate(read_lines(things)):
        (things / line["image"]).rename(root / "imgs" / line["image"])
        items.append(
            {
                "id": number,
                "img_path": line["image"],
                "captions": line["captions"],
                "split": line["split"],
            }
        )
    (root / "data_captions.json").write_text(json.dumps(items))
    return root


@pytest.fixture(scope="module")
def person_run(persons, tmp_path_factory):
    return write_run(persons, tmp_path_factory.mktemp("runs") / "run", kind="compact")


def read_lines(folder):
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


def test_published_figures_stand_beside_the_test_split(person_run, persons, tmp_path):
    source, target = f"rstpreid:{persons}", tmp_path / "report.json"
    result = call(person_run, "--data", source, "--split", "test", "--json", target)
    assert result.exception is None
    text = " ".join(result.stdout.split())
    assert "RSTPReid, test, text to image: as published, and this run" in text
    assert "8 objects instead of 200" in text
    assert "picks its epoch on the test split" in text
    assert max(map(len, result.stdout.splitlines())) <= 80
    assert len(json.loads(target.read_text())["published"]["rows"]) == 11
    without = call(person_run, "--data", source, "--split", "test", "--no-published")
    assert "as published" not in without.stdout


def test_beside_val_they_are_shown_when_asked_for(person_run, persons):
    plain = call(person_run, "--data", persons)
    assert "as published" not in plain.stdout
    assert "--published" in plain.stdout
    asked = call(person_run, "--data", persons, "--published")
    assert "as published" in asked.stdout
    assert "this run's are of val" in " ".join(asked.stdout.split())


def test_a_class_set_is_scored_by_classes_too(tmp_path):
    folder = layouts.write_flowers(tmp_path / "flowers")
    run = write_run(folder, tmp_path / "run", kind="compact")
    result = call(run, "--data", folder, "--split", "test", "--i2t", "--json", tmp_path / "r.json")
    assert result.exception is None
    found = json.loads((tmp_path / "r.json").read_text())["classes"]
    assert found["AP@50"] <= found["AP@50 ceiling"] < 100
    assert set(found["ci95"]) == set(found["unrefined"]) == {"AP@50", "i2t R@1"}
    row = next(line for line in result.stdout.splitlines() if "AP@50" in line and "│" in line)
    assert f"{found['AP@50']:.1f}" in row
    assert f"{found['AP@50 ceiling']:.1f}" in row
    text = " ".join(result.stdout.split())
    assert "Reed et al. 2016" in text
    assert f"no more than {found['AP@50 ceiling']:.1f} can be reached" in text
    assert max(map(len, result.stdout.splitlines())) <= 80
