import json
import shutil
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from mmref.data.dataset import RetrievalDataset
from mmref.errors import (
    ConfigError,
    MissingExtraError,
    PathError,
    SplitError,
    TrainingError,
    UsageError,
)
from mmref.evaluation.evaluator import evaluate
from mmref.experiments import ablation, plots, scheduling, worker
from mmref.experiments.ablation import run_ablation
from mmref.experiments.code_state import code_state
from mmref.experiments.folds import cross_validate
from mmref.experiments.grid import Grid, Plan, units
from mmref.experiments.presets import plan_of
from mmref.training.captions import caption_steps
from mmref.training.trainer import Trainer

from .sets import DRAWN, methods, plan_on, small, write_set

PICTURE = find_spec("matplotlib") is not None


def ablate(plan, out, **options):
    return run_ablation(plan, out, **{"jobs": 0, "picture": False, **options})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """A finished ablation of two seeds: its folder, results and what was said."""
    folder = tmp_path_factory.mktemp("out") / "ablation"
    said = []
    results = ablate(
        plan_on(data, seeds=2), folder, picture=PICTURE, progress=lambda *words: said.append(words)
    )
    return folder, results, said


@pytest.fixture
def no_training(monkeypatch):
    def refuse(*_):
        raise AssertionError("nothing is to be trained")

    monkeypatch.setattr(worker, "run_job", refuse)


def test_figures_are_those_of_training_and_evaluating(done, data):
    _, results, _ = done
    dataset = RetrievalDataset.load(data)
    trained = Trainer(dataset, small(training__seed=1)).run()
    report = evaluate(trained.model, dataset, "test", bootstrap=0)
    row = results.rows["full refined"]
    assert row["units"]["seed-1"] == report.t2i
    plain = report.unrefined or report.t2i
    assert results.rows["full"]["units"]["seed-1"] == plain
    both = [results.rows["full"]["units"][unit]["mAP"] for unit in ("seed-0", "seed-1")]
    assert results.rows["full"]["metrics"]["mAP"] == pytest.approx(np.mean(both))
    (run,) = [r for r in results.values["runs"] if (r["variant"], r["unit"]) == ("full", "seed-1")]
    assert run["epoch"] == trained.best_epoch
    assert run["steps"] == 2
    assert run["caption_steps"] == caption_steps(Trainer(dataset, small()).pairs, small()) > 0
    assert run["decoder_steps"] > 0
    (base,) = [r for r in results.values["runs"] if (r["variant"], r["unit"]) == ("base", "seed-1")]
    assert (base["caption_steps"], base["decoder_steps"]) == (0, 0)
    assert run["code"] == base["code"] == code_state()
    assert run["index"]["vector"] == 4 * trained.model.dimension


def test_all_is_written(done):
    folder, results, said = done
    assert json.loads((folder / "results.json").read_text()) == results.values
    assert results.values["finished_runs"] == results.values["all_runs"] == 6
    assert set(results.values["variants"]) == {"base", "identity", "full"}
    assert {"machine", "versions"} <= set(results.values)
    text = (folder / "results.md").read_text()
    assert "| full refined |" in text
    assert "to identity" in text
    assert sorted(p.name for p in (folder / "runs" / "base").iterdir()) == [
        "seed-0.json", "seed-0.npz", "seed-1.json", "seed-1.npz",
    ]  # fmt: skip
    lines = [line for _, _, _, line in said if line]
    assert len(lines) == 6
    assert lines[0].startswith("base/seed-0: mAP unrefined ")
    assert said[-1][:3] == ("runs", 6, 6)


@pytest.mark.skipif(not PICTURE, reason="matplotlib is not installed")
def test_the_picture_can_be_opened(done):
    with Image.open(done[0] / "results.png") as picture:
        assert picture.width > 500
        assert len(np.unique(np.asarray(picture))) > 10


def test_values_of_each_query_are_kept(done, data):
    with np.load(done[0] / "runs" / "full" / "seed-0.npz") as arrays:
        queries = RetrievalDataset.load(data).split("test").queries()
        assert arrays["objects"].tolist() == [query.object for query in queries]
        mean = arrays["refined/mAP"].mean()
    assert mean == pytest.approx(done[1].rows["full refined"]["units"]["seed-0"]["mAP"])


def test_finished_runs_are_not_done_again(done, data, no_training):
    folder, results, _ = done
    again = ablate(plan_on(data, seeds=2), folder)
    assert again.values["rows"] == results.values["rows"]


def test_more_seeds_go_on(done, data, no_training):
    results = ablate(plan_on(data, seeds=3), done[0], only=["base"])
    assert list(results.failures) == ["base/seed-2"]
    assert results.values["finished_runs"] == 6
    assert "3 of 9 runs are not finished" in results.values["notes"]


def test_a_damaged_run_is_done_again(done, data, monkeypatch):
    file = done[0] / "runs" / "base" / "seed-1.npz"
    whole, asked = file.read_bytes(), []
    file.write_bytes(whole[:-20])
    monkeypatch.setattr(worker, "run_job", lambda job, share: asked.append(job["target"]))
    ablate(plan_on(data, seeds=2), done[0])
    file.write_bytes(whole)
    assert [target.split("/")[-2:] for target in asked] == [["base", "seed-1"]]


def test_other_settings_are_refused(done, data, no_training):
    before = (done[0] / "results.json").read_bytes()
    other = plan_on(data, seeds=2, entries=methods(small(references__temperature=0.3)))
    with pytest.raises(ConfigError, match=r"with another references.temperature: name another"):
        ablate(other, done[0])
    assert (done[0] / "results.json").read_bytes() == before


def test_other_data_are_refused(done, tmp_path, no_training):
    other = write_set(tmp_path / "other", seed=1)
    with pytest.raises(ConfigError, match="base/seed-0 was run with another data"):
        ablate(plan_on(other, seeds=2), done[0])


def test_another_preset_is_refused(done, data, no_training):
    plan = plan_of("losses", small(), units(1), source=str(data))
    with pytest.raises(ConfigError, match="holds the ablation 'mine', not 'losses'"):
        ablate(plan, done[0])


def test_a_refusal_leaves_the_folder_as_it_is(tmp_path, no_training):
    settings = small(encoder__kind="compact")
    folder = tmp_path / "out"
    plan = Plan("mine", Grid(methods(settings)), units(1), drawn=DRAWN)
    ablate(plan, folder)  # every run fails, but the set is drawn
    identity = json.loads(json.dumps(plan.identity(plan.entry("base"), units(1)[0], "somewhere")))
    facts = {"identity": identity | {"split": "test"}, "figures": {}, "code": code_state()}
    worker.write_result(folder / "runs" / "base" / "seed-0", facts, {})
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(ConfigError, match="base/seed-0 was run with another data"):
        ablate(plan, folder)
    other = Plan("mine", Grid(methods(small(training__weight_decay=0.5))), units(3), drawn=DRAWN)
    with pytest.raises(ConfigError, match="with another"):
        ablate(other, folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_runs_of_other_code_are_not_mixed_unless_asked(done, data, tmp_path, monkeypatch):
    folder = shutil.copytree(done[0], tmp_path / "copy")
    monkeypatch.setattr(ablation, "code_state", lambda: "9+other")
    with pytest.raises(ConfigError, match=r"6 finished runs .* by .*9\+other now: .* --mixed"):
        ablate(plan_on(data, seeds=3), folder)
    whole = ablate(plan_on(data, seeds=2), folder)  # nothing is to be run: nothing is mixed
    assert not any("different code" in note for note in whole.values["notes"])
    monkeypatch.setattr(worker, "code_state", lambda: "9+other")
    mixed = ablate(plan_on(data, seeds=3), folder, only=["base"], mixed=True)
    (note,) = [note for note in mixed.values["notes"] if "different code" in note]
    assert f"6 by {code_state()}, 1 by 9+other" in note


def test_only_some_variants(data, tmp_path):
    results = ablate(plan_on(data), tmp_path / "out", only=["base"])
    assert list(results.rows) == ["base"]
    assert results.values["notes"][-1] == "2 of 3 runs are not finished"
    with pytest.raises(ConfigError, match="no variant 'bass'"):
        ablate(plan_on(data), tmp_path / "new", only=["bass"])
    assert not (tmp_path / "new").exists()


def test_a_run_that_fails_leaves_the_others(data, tmp_path, monkeypatch):
    whole = worker.run_job

    def sometimes(job, share):
        if "/base/" in job["target"]:
            raise TrainingError("the loss became nan")
        whole(job, share)

    monkeypatch.setattr(worker, "run_job", sometimes)
    said = []
    results = ablate(
        plan_on(data), tmp_path, only=["base", "identity"], progress=lambda *w: said.append(w[3])
    )
    assert results.failures == {"base/seed-0": "the loss became nan"}
    assert "base/seed-0 failed: the loss became nan" in said
    assert list(results.rows) == ["identity", "identity refined"]
    assert "base/seed-0 failed: the loss became nan" in (tmp_path / "results.md").read_text()


def test_folds_are_those_of_cross_validation(data, tmp_path):
    dataset = worker.development(RetrievalDataset.load(data))
    assert "test" not in dataset.split_names
    settings = small()
    right = cross_validate(dataset, {"full": settings}, folds=2, inner_share=0.2, seed=0)
    results = ablate(plan_on(data, folds=2), tmp_path, only=["full"])
    assert results.rows["full"]["metrics"]["mAP"] == pytest.approx(right["full"].mean("mAP"))
    refined = results.rows["full refined"]
    assert refined["metrics"]["R@1"] == pytest.approx(right["full refined"].mean("R@1"))
    assert refined["queries"] == len(right["full"].objects)
    assert refined["objects"] == len(dataset.object_names)


def test_drawn_sets_one_a_seed(tmp_path):
    settings = small(encoder__kind="compact", encoder__image_width=32, encoder__grid=8,
                     encoder__width=8)  # fmt: skip
    plan = Plan("mine", Grid(methods(settings)), units(2), drawn=DRAWN)
    results = ablate(plan, tmp_path, only=["base"])
    assert len(list((tmp_path / "data").iterdir())) == 2
    assert results.rows["base"]["objects"] == 8
    assert results.values["synthetic"]["objects"] == 8


def test_test_ambiguity_is_swept_with_one_model(tmp_path):
    settings = small(encoder__kind="compact", encoder__image_width=32, encoder__grid=8,
                     encoder__width=8)  # fmt: skip
    plan = plan_of("ambiguity", settings, units(1), drawn=DRAWN)
    results = ablate(plan, tmp_path, only=["base", "base-omit=0.75"])
    curves = {curve["name"]: curve for curve in results.values["curves"]}
    points = curves["test omit"]["lines"]["base"]
    assert len({point["mAP"] for point in points}) > 1
    (run,) = [r for r in results.values["runs"] if r["variant"] == "base"]
    assert points[0]["mAP"] == pytest.approx(
        run["sweeps"]["test_omit=0"]["figures"]["unrefined"]["mAP"]
    )
    training = curves["training omit"]["lines"]["base"]
    assert [point is None for point in training] == [True, True, True, False]


def test_refinements_of_one_model(data, tmp_path):
    grid = {"refinement__forms": ["posterior", "linear"], "refinement__weights": [1.0]}
    plan = plan_of("refinement", small(**grid), units(1), source=str(data))
    results = ablate(plan, tmp_path, picture=PICTURE)
    found = results.values["refinement"]
    assert found["unrefined"]["mAP"] == pytest.approx(results.rows["full"]["metrics"]["mAP"])
    assert set(found["chosen"]) == {"posterior", "linear"}
    for form, point in found["smallest"].items():
        whole = [
            p for p in found["points"]
            if p["form"] == form and not p["depth"] and not p["kept"]
            and p["temperature"] == point["temperature"]
        ]  # fmt: skip
        assert point["mAP"] >= whole[0]["mAP"] - 0.1
    text = (tmp_path / "results.md").read_text()
    assert "| cosine |" in text
    assert "cheapest within 0.1 mAP" in text


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"source": "nowhere"}, PathError, "nowhere"),
        ({"split": "dev"}, SplitError, "no dev split"),
        ({"units": units(1, 9)}, ConfigError, "too few for 9 folds"),
        ({"units": units(1, 2), "split": "test"}, ConfigError, "leave out the test split"),
        ({"source": None, "drawn": DRAWN, "split": "dev"}, SplitError, "no dev objects"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(data, tmp_path, change, error, message):
    plan = Plan(**{"preset": "mine", "grid": Grid(methods()), "units": units(1),
                   "source": str(data), **change})  # fmt: skip
    with pytest.raises(error, match=message):
        ablate(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_refused(data, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(PathError, match="of no ablation"):
        ablate(plan_on(data), tmp_path)


def test_what_a_kill_left_half_written_is_removed(done, data, no_training):
    folder = done[0]
    (folder / "runs" / "base" / ".partial-seed-0.npz").write_bytes(b"half")
    (folder / "data" / ".partial-figures").mkdir(parents=True)
    ablate(plan_on(data, seeds=2), folder)
    assert list(folder.rglob(".partial-*")) == []


def test_two_at_once_in_one_folder_are_refused(data, tmp_path):
    pytest.importorskip("fcntl")
    with ablation._alone(tmp_path), pytest.raises(UsageError, match="at work"):
        ablate(plan_on(data), tmp_path)


def test_a_picture_without_matplotlib_is_refused_at_once(data, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"mmref\[plots\]"):
        ablate(plan_on(data), tmp_path / "out", picture=True)
    assert not (tmp_path / "out").exists()


def test_a_process_that_dies_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(scheduling.sys, "executable", "/bin/false")
    (done,) = scheduling.run_apart([("a/b", {})], tmp_path, 1, lambda *_: None)
    assert done.message == "ended with status 1 (it said nothing)"
