import json
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmref.data.dataset import RetrievalDataset
from mmref.errors import DataError, PathError, UsageError
from mmref.evaluation.evaluator import evaluate
from mmref.experiments import transfer as module
from mmref.experiments.heat_map import draw_heat_map
from mmref.experiments.transfer import run_transfer
from mmref.experiments.transfer_inputs import in_domain
from mmref.experiments.transfer_tables import in_words, matrix_sheets, remarks
from mmref.model import MMRef

_spec = spec_from_file_location("runs", Path(__file__).parents[1] / "cli" / "runs.py")
made = module_from_spec(_spec)
_spec.loader.exec_module(made)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two sets of one kind, one with shorter vectors and one of pictures alone, and their runs."""
    root = tmp_path_factory.mktemp("transfer")
    made.write_data(root / "figures")
    made.write_data(root / "birds", seed=1)
    made.write_data(root / "short", length=3)
    made.write_data(root / "pictures", length=0, pixels=True, splits=("train", "val"))
    made.write_run(root / "figures", root / "run-figures")
    made.write_run(root / "birds", root / "run-birds", seed=1, refined=False)
    made.write_run(root / "pictures", root / "run-pixels", kind="compact", refined=False)
    return root


RUNS, SETS = ("run-figures", "run-birds"), ("figures", "birds")


def asked(place, out, runs=RUNS, sets=SETS, **options):
    options = {"picture": False, "resamples": 100, **options}
    return run_transfer([place / r for r in runs], [str(place / s) for s in sets], out, **options)


def test_every_cell_is_what_evaluate_says(place, tmp_path):
    values = asked(place, tmp_path / "out", split="test").values
    for row, run in enumerate(RUNS):
        for column, name in enumerate(SETS):
            cell = values["cells"][row][column]
            model = MMRef.from_pretrained(place / run)
            report = evaluate(model, RetrievalDataset.load(place / name), "test", bootstrap=100)
            assert cell["t2i"] == report.t2i
            assert cell["ci95"] == report.ci95
            assert cell["unrefined"] == report.unrefined
            assert cell["chance"] == {"R@1": report.chance, "mAP": report.chance_map}
            assert cell["in_domain"] == (row == column)
    assert values["cells"][0][0]["refinement"]["form"] == "posterior"
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == values
    plain = asked(place, tmp_path / "plain", split="test", refine=False).values
    assert plain["cells"][0][0]["t2i"] == values["cells"][0][0]["unrefined"]


def test_shares_are_of_the_run_at_home(place, tmp_path):
    values = asked(place, tmp_path / "out", metric="R@5").values
    for column in (0, 1):
        home = values["cells"][column][column]["t2i"]["R@5"]
        for row in (0, 1):
            cell = values["cells"][row][column]
            assert cell["share"] == pytest.approx(100 * cell["t2i"]["R@5"] / home)
    abroad = asked(place, tmp_path / "abroad", RUNS[:1], SETS[1:])
    assert abroad.values["cells"][0][0]["share"] is None
    assert len(matrix_sheets(abroad.values)) == 1
    assert any("No run was trained" in line for line in remarks(abroad.values))


def test_what_cannot_be_computed_has_its_reason_and_the_rest_goes_on(place, tmp_path):
    everything = ("figures", "short", "pictures")
    found = asked(place, tmp_path / "out", (*RUNS, "run-pixels"), everything, split="test")
    reasons = [[cell["reason"] for cell in row] for row in found.values["cells"]]
    assert reasons[0][0] is None
    assert "vectors of 6 numbers" in reasons[0][1]
    assert "has no split 'test'" in reasons[2][2]
    assert "holds features but no image files" in reasons[2][0]
    assert len(found.failures) == 7
    text = in_words(found.values)
    assert "- (1)" in text
    assert "- (1) this run takes vectors of 6 numbers" in text
    val = asked(place, tmp_path / "val", ("run-pixels",), ("pictures", "figures")).values
    assert val["cells"][0][0]["in_domain"]
    assert val["cells"][0][0]["t2i"]["mAP"] > 0


def test_a_damaged_run_fails_alone(place, tmp_path):
    broken = made.write_run(place / "figures", tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"half")
    runs = [place / "run-birds", broken]
    found = run_transfer(runs, [str(place / "figures")], tmp_path / "out", picture=False)
    assert found.values["cells"][0][0]["reason"] is None
    assert "is damaged" in found.values["cells"][1][0]["reason"]
    (broken / "model.json").unlink()
    found = run_transfer(runs, [str(place / "figures")], tmp_path / "out", picture=False)
    assert "lacks model.json" in found.values["cells"][1][0]["reason"]


class KilledError(BaseException):
    pass


def test_a_stopped_transfer_goes_on_where_it_was(place, tmp_path, monkeypatch):
    whole = asked(place, tmp_path / "whole").values
    real, count = module.evaluate, []

    def dying(*words, **options):
        count.append(1)
        if len(count) == 3:
            raise KilledError
        return real(*words, **options)

    monkeypatch.setattr(module, "evaluate", dying)
    with pytest.raises(KilledError):
        asked(place, tmp_path / "out")
    assert len(list((tmp_path / "out" / "cells").iterdir())) == 2
    again = asked(place, tmp_path / "out")
    assert again.computed == 2
    assert again.values["cells"] == whole["cells"]
    count.clear()
    third = asked(place, tmp_path / "out", metric="R@1")
    assert (third.computed, count) == (0, [])
    assert third.values["metric"] == "R@1"


def test_other_weights_data_or_questions_are_computed_again(place, tmp_path):
    out = tmp_path / "out"
    data = made.write_data(tmp_path / "figures")
    run = made.write_run(data, tmp_path / "run")

    def computed(**options):
        options = {"picture": False, "resamples": 50, **options}
        return run_transfer([run], [str(data)], out, **options).computed

    assert [computed(), computed()] == [1, 0]
    assert [computed(split="test"), computed(refine=False), computed(resamples=60)] == [1, 1, 1]
    made.write_run(data, run, seed=3)
    assert [computed(), computed()] == [1, 0]
    np.save(data / "features.npy", np.load(data / "features.npy") + 1)
    assert [computed(), computed()] == [1, 0]
    for cell in (out / "cells").iterdir():
        cell.write_text("{")
    assert computed() == 1


def test_in_domain_is_known_from_what_training_recorded(place):
    data = RetrievalDataset.load(place / "figures")
    part = {"name": "figures", "objects": 6, "fingerprint": "x"}
    record = {"train": part, "val": part | {"objects": 2}, "held_out": False}
    assert not in_domain(record, data)
    assert in_domain(record | {"held_out": True}, data)
    assert not in_domain(record | {"held_out": True}, replace(data, name="other"))
    fingerprint = data.split("train").fingerprint()
    assert in_domain(record | {"train": part | {"fingerprint": fingerprint}}, data)
    chosen = {"fingerprint": data.split("val").fingerprint(), "objects": 1}
    assert in_domain(record | {"val": chosen}, data)
    assert not in_domain(record, data.split("val"))
    assert not in_domain(None, data)


@pytest.mark.parametrize(
    ("runs", "sets", "error", "message"),
    [
        (["run-figures", "gone"], ["figures"], PathError, "no run folder at"),
        (["run-figures"], ["gone"], PathError, "does not exist"),
        (["run-figures", "run-figures"], ["figures"], UsageError, "is named twice"),
        (["run-figures"], ["figures", "figures"], UsageError, "is named twice"),
        ([], ["figures"], UsageError, "at least one run"),
        (["run-figures"], [], UsageError, "at least one data set"),
    ],
)
def test_what_is_asked_wrongly_leaves_nothing(place, tmp_path, runs, sets, error, message):
    with pytest.raises(error, match=message):
        asked(place, tmp_path / "out", runs, sets)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(place, tmp_path):
    (tmp_path / "photo.png").write_bytes(b"mine")
    with pytest.raises(PathError, match="holds other files"):
        asked(place, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["photo.png"]


def test_an_unreadable_data_set_is_said_before_anything(place, tmp_path):
    (tmp_path / "bad").mkdir()
    with pytest.raises(DataError, match="empty folder"):
        run_transfer([place / "run-figures"], [str(tmp_path / "bad")], tmp_path / "out")


def test_names_that_are_equal_become_paths(place, tmp_path):
    other = made.write_data(tmp_path / "figures", seed=4)
    run = made.write_run(other, tmp_path / "run-figures", seed=4)
    values = run_transfer(
        [place / "run-figures", run], [str(place / "figures"), str(other)], tmp_path / "out",
        picture=False, resamples=50,
    ).values  # fmt: skip
    assert [one["name"] for one in values["runs"]] == [str(place / "run-figures"), str(run)]
    assert [one["name"] for one in values["data"]] == [str(place / "figures"), str(other)]
    assert [[c["in_domain"] for c in row] for row in values["cells"]] == [
        [True, False],
        [False, True],
    ]


def test_the_picture_shows_every_cell(place, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig

    def keeping(figure, *words, **options):
        drawn.append(figure)
        save(figure, *words, **options)

    monkeypatch.setattr(Figure, "savefig", keeping)
    found = asked(place, tmp_path / "out", (*RUNS, "run-pixels"), (*SETS, "short"), picture=True)
    with Image.open(found.picture) as image:
        assert min(image.size) > 400
    (figure,) = drawn
    texts = [text.get_text() for text in figure.axes[0].texts]
    for row in found.values["cells"]:
        for cell in row:
            if cell["reason"] is None:
                low, high = cell["ci95"]["mAP"]
                assert f"{cell['t2i']['mAP']:.1f}" in texts
                assert any(text.startswith(f"[{low:.1f}, {high:.1f}]") for text in texts)
    assert sum("in-domain" in text for text in texts) == 2
    assert sum("not possible" in text for text in texts) == 5
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["run-figures", "run-birds", "run-pixels"]
    sets = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    chance = found.values["cells"][0][0]["chance"]["mAP"]
    assert sets == [f"figures\nby chance {chance:.1f}", f"birds\nby chance {chance:.1f}", "short"]
    assert "mAP in percent, 0 to" in figure.axes[1].get_ylabel()
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    inside = figure.bbox
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 for box in boxes)


def test_without_matplotlib_the_tables_are_written_and_it_is_said(place, tmp_path, monkeypatch):
    monkeypatch.setattr("mmref.experiments.plots.find_spec", lambda name: None)
    found = asked(place, tmp_path / "out", picture=True)
    assert "pip install 'mmref[plots]'" in found.notice
    assert found.picture is None
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"cells", "results.json", "results.md"}


def test_the_screen_takes_four_sets_at_a_time(place, tmp_path):
    values = asked(place, tmp_path / "out").values
    values["data"] = values["data"] * 3
    values["cells"] = [row * 3 for row in values["cells"]]
    sheets = matrix_sheets(values, screen=True)
    assert [len(sheet.header) for sheet in sheets] == [5, 3, 5, 3]
    assert len(matrix_sheets(values)) == 2
    draw_heat_map(values, tmp_path / "wide.png")


def test_progress_ends_at_all_cells(place, tmp_path):
    seen = []
    asked(place, tmp_path / "out", progress=lambda *step: seen.append(step))
    assert seen[-1][:2] == (4, 4)
    assert [done for done, *_ in seen] == sorted(done for done, *_ in seen)
    assert any("images" in note for _, _, note, _ in seen)
    assert sum(line.endswith("mAP") for *_, line in seen) == 4
