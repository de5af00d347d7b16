import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from mmref import files
from mmref.config import Settings
from mmref.errors import ConfigError, DataError, ModelError, PathError, TrainingError
from mmref.files import PARTIAL_MARK
from mmref.model import MMRef
from mmref.training import run_folder
from mmref.training.checkpoint import CHECKPOINT_FILE
from mmref.training.run_folder import begin_run, is_finished, run_report, stored_settings, write_run
from mmref.training.scoring import SHARES
from mmref.training.trainer import Trainer, train

from .sets import copied, load_set, report, small, without_times

FILES = {
    "README.md",
    "config.yaml",
    "events",
    "metrics.json",
    "model.json",
    "model.safetensors",
    "references.safetensors",
}


class KilledError(BaseException):
    pass


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load_set(tmp_path_factory.mktemp("data"), held_out=True)


@pytest.fixture(scope="module")
def outcome(dataset):
    return Trainer(dataset, small()).run()


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """An undisturbed run."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train(dataset, run, small())
    return run


def test_settings_of_another_version_are_said_to_be_so(tmp_path):
    text = small().to_yaml().replace("  warmup:", "  warm_steps:")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"was begun by another version of mmref \(unknown"):
        stored_settings(tmp_path)


def test_so_are_those_of_a_checkpoint_alone(tmp_path, monkeypatch):
    tree = small().model_dump(mode="json")
    saved = {}, {"identity": {"settings": tree}}
    monkeypatch.setattr("mmref.training.run_folder.load_checkpoint", lambda folder: saved)
    assert stored_settings(tmp_path) == small()
    tree["training"]["warm_steps"] = 1
    with pytest.raises(ConfigError, match=r"was begun by another version of mmref \(unknown"):
        stored_settings(tmp_path)


def names(folder):
    return {entry.name for entry in folder.iterdir()}


def test_a_run_folder_holds_its_files_and_nothing_else(whole, outcome):
    assert names(whole) == FILES
    assert is_finished(whole)
    assert stored_settings(whole) == small()
    assert MMRef.from_pretrained(whole).digest == outcome.model.digest
    assert report(whole)["model"]["digest"] == outcome.model.digest


def test_metrics_hold_figures_with_intervals_and_where_they_come_from(outcome, dataset):
    found = run_report(outcome)
    assert json.loads(json.dumps(found)) == found
    validation = found["validation"]
    for way, metrics in outcome.validation.items():
        assert validation[way] == metrics
        for name, (low, high) in validation["ci95"][way].items():
            assert 0 <= low <= metrics[name] <= high <= 100
    assert (validation["queries"], validation["gallery"], validation["objects"]) == (12, 16, 4)
    assert validation["chance"] == pytest.approx(25.0)
    assert found["train"] == {
        "name": dataset.name,
        "objects": 8,
        "images": 32,
        "captions": 96,
        "queries": 24,
        "fingerprint": dataset.split("train").fingerprint(),
    }
    assert found["val"]["fingerprint"] == dataset.split("val").fingerprint()
    assert found["history"] == outcome.history
    assert [row["epoch"] for row in found["history"]] == [0, 1, 2, 3]
    assert found["refinement_search"] == outcome.refinement_search
    assert found["parameters"]["references"] == 8 * (16 + 8)
    assert found["model"]["deep_share"] in SHARES
    assert found["versions"]["torch"]
    assert found["machine"]["cores"] >= 1
    assert (found["seed"], found["notes"], found["skipped"]) == (0, [], [])
    if outcome.model.refinement is not None:
        assert found["refinement"] == vars(outcome.model.refinement)
        assert validation["gain_mAP"]["difference"] == pytest.approx(
            validation["refined"]["mAP"] - validation["unrefined"]["mAP"]
        )


def test_masked_words_are_measured_on_held_out_captions_alone(dataset, tmp_path):
    outcome = Trainer(dataset, small(training__epochs=2), validate=False).run()
    words = run_report(outcome)["masked_words"]
    kinds = ("right", "shuffled", "none", "words")
    assert set(words) == {*kinds, *(f"attribute_{kind}" for kind in kinds)}
    assert words["words"] >= max(8, words["attribute_words"])
    plain = load_set(tmp_path / "plain")
    assert run_report(Trainer(plain, small(), validate=False).run())["masked_words"] is None
    outcome.best_epoch = 0
    assert run_report(outcome)["masked_words"] is not None  # the decoder learnt behind it
    beside = {"references.decoder_epochs": 0, "references.reconstruction_weight": 0.2}
    outcome = Trainer(dataset, small().with_values(beside), validate=False).run()
    assert run_report(outcome)["masked_words"] is not None
    outcome.best_epoch = 0
    assert run_report(outcome)["masked_words"] is None


def test_captions_that_were_trained_on_are_not_held_out(dataset):
    column = dataset.table.column_names.index("held_out_captions")
    seen = dataset.table.set_column(column, "held_out_captions", dataset.table["captions"])
    outcome = Trainer(replace(dataset, table=seen), small(), validate=False).run()
    assert run_report(outcome)["masked_words"] is None


def test_settings_stand_in_the_folder_before_the_preparation(tmp_path):
    with begin_run(tmp_path / "run", small(), resume=False) as finished:
        assert not finished
        assert names(tmp_path / "run") == {"config.yaml"}
        assert stored_settings(tmp_path / "run") == small()
        assert not is_finished(tmp_path / "run")
    with (
        pytest.raises(PathError, match="add --resume"),
        begin_run(tmp_path / "run", small(), resume=False),
    ):
        pytest.fail("the folder is taken")
    with begin_run(tmp_path / "run", Settings(), resume=True):
        assert stored_settings(tmp_path / "run") == Settings()  # nothing was trained yet


@pytest.mark.parametrize("there", [False, True])
def test_a_folder_begun_for_nothing_is_taken_back(tmp_path, there):
    if there:
        (tmp_path / "run").mkdir()
    with pytest.raises(DataError), begin_run(tmp_path / "run", small(), resume=False):
        raise DataError("no images")
    assert (tmp_path / "run").exists() == there
    assert names(tmp_path) == ({"run"} if there else set())


def test_leftovers_of_a_kill_are_no_contents_and_are_swept(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f"{PARTIAL_MARK}config-x.yaml").write_text("half")
    with begin_run(tmp_path / "run", small(), resume=False):
        assert names(tmp_path / "run") == {"config.yaml"}


def test_other_folders_are_never_written_to(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_text("x")
    (tmp_path / "file").write_text("x")
    for folder, resume, message in (
        ("pictures", False, "is not empty"),
        ("pictures", True, "holds other files and no run"),
        ("file", False, "is a file"),
        ("file", True, "is a file"),
    ):
        with (
            pytest.raises(PathError, match=message),
            begin_run(tmp_path / folder, small(), resume=resume),
        ):
            pytest.fail("it must not be begun")
    assert names(tmp_path / "pictures") == {"a.png"}
    with (
        pytest.raises(PathError, match="cannot write"),
        begin_run(Path("/proc/mmref"), small(), resume=False),
    ):
        pytest.fail("it must not be begun")


def test_damaged_settings_are_said(tmp_path):
    (tmp_path / "config.yaml").write_text("training:\n  epochs: [")
    with pytest.raises(ConfigError, match="is not YAML"):
        stored_settings(tmp_path)
    assert stored_settings(tmp_path / "absent") is None
    (tmp_path / "config.yaml").unlink()
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"half")
    with pytest.raises(ModelError, match="is damaged"):
        stored_settings(tmp_path)


@pytest.mark.parametrize("name", sorted(FILES - {"events"}))
def test_a_kill_while_the_run_is_written_loses_nothing(dataset, whole, tmp_path, monkeypatch, name):
    run = tmp_path / "run"
    original = files.atomic_write

    def dying(path):
        if str(path).endswith(f"/{name}") and (run / CHECKPOINT_FILE).exists():
            raise KilledError
        return original(path)

    for module in ("mmref.files", "mmref.model", "mmref.training.run_folder"):
        monkeypatch.setattr(f"{module}.atomic_write", dying)
    with pytest.raises(KilledError):
        train(dataset, run, small())
    monkeypatch.undo()
    assert not is_finished(run)
    with pytest.raises(ModelError, match="lacks"):
        MMRef.from_pretrained(run)
    train(dataset, run, resume=True)
    assert names(run) == FILES
    assert report(run) == report(whole)
    assert (run / "model.json").read_bytes() == (whole / "model.json").read_bytes()


def test_a_kill_before_the_checkpoint_is_swept_leaves_a_finished_run(
    dataset, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    monkeypatch.setattr("pathlib.Path.unlink", lambda *a, **k: None)
    model = train(dataset, run, small())
    monkeypatch.undo()
    assert (run / CHECKPOINT_FILE).exists()
    assert is_finished(run)
    assert train(dataset, run, resume=True).digest == model.digest
    assert names(run) == FILES


@pytest.mark.parametrize("name", ["model.json", "model.safetensors", "references.safetensors"])
def test_a_finished_run_that_lacks_a_file_is_trained_again(dataset, whole, tmp_path, name):
    run = copied(whole, tmp_path / "run")
    (run / name).unlink()
    assert not is_finished(run)
    train(dataset, run, resume=True)
    assert (run / "model.json").read_bytes() == (whole / "model.json").read_bytes()
    assert (run / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    "error", [PathError("cannot write x: No space left on device"), SafetensorError("No space")]
)
def test_a_full_disk_at_the_end_is_one_clear_line(outcome, tmp_path, monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(MMRef, "save_pretrained", full)
    with pytest.raises(TrainingError, match=r"trained but not written .*No space.*--resume") as it:
        write_run(outcome, tmp_path)
    assert it.value.exit_status == 1
    assert "\n" not in str(it.value)


def test_a_disk_that_fills_up_keeps_the_checkpoint_before(dataset, whole, tmp_path):
    code = """
import os, resource, sys
from pathlib import Path
from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.training import trainer
from mmref.training.trainer import train

run = Path(sys.argv[2])
def progress(stage, done, total, note):
    checkpoint = run / "checkpoint.safetensors"
    if checkpoint.exists():
        resource.setrlimit(resource.RLIMIT_FSIZE, (checkpoint.stat().st_size // 2, -1))
try:
    train(RetrievalDataset.load(sys.argv[1]), run, Settings.from_yaml(sys.argv[3]),
          progress=progress)
except Exception as error:
    print(type(error).__name__, error)
"""
    (tmp_path / "config.yaml").write_text(small().to_yaml())
    run = tmp_path / "run"
    words = [sys.executable, "-c", code, dataset.root, run, tmp_path / "config.yaml"]
    threads = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=True, env=threads
    )
    assert done.stdout.startswith(f"TrainingError cannot write the checkpoint of {run} (")
    assert names(run) == {"config.yaml", "events", CHECKPOINT_FILE}
    train(dataset, run, resume=True)
    assert (run / "model.json").read_bytes() == (whole / "model.json").read_bytes()


def test_reports_of_two_equal_trainings_are_equal(dataset, outcome):
    again = Trainer(dataset, small()).run()
    assert without_times(run_report(again)) == without_times(run_report(outcome))


def test_run_folder_names_are_those_of_the_house():
    assert {run_folder.METRICS_FILE, run_folder.CARD_FILE, run_folder.EVENTS_FOLDER} <= FILES
