import json
import shlex
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import yaml

from mmref.cli import main
from mmref.model import MMRef
from mmref.training.run_folder import stored_settings

_spec = spec_from_file_location("sets", Path(__file__).parents[1] / "training" / "sets.py")
sets = module_from_spec(_spec)
_spec.loader.exec_module(sets)
QUICK = sets.words({k: v for k, v in sets.SMALL.items() if not k.startswith("encoder.image")})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return sets.write_set(tmp_path_factory.mktemp("sets") / "coats")


@pytest.fixture(scope="module")
def tall(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "people"
    return sets.write_set(folder, pixels=True, size=(40, 20))


def test_a_run_is_trained_and_said(run_mmref, data, tmp_path):
    run = tmp_path / "run"
    done = run_mmref("train", "--data", data, *QUICK, "--out", run)
    assert done.status == 0
    report = json.loads((run / "metrics.json").read_text())
    plain = report["validation"]["unrefined"]
    lines = done.out.splitlines()
    assert "coats, val: 12 captions, 16 images, 4 objects" in lines[0]
    row = next(line for line in lines if "text to image, unrefined" in line)
    assert [f"{plain[name]:.1f}" for name in ("R@1", "R@5", "R@10", "mAP", "mINP")] == [
        word for word in row.replace("│", " ").split() if word[0].isdigit()
    ]
    assert any("Chance: R@1 25.00" in line for line in lines)
    table = lines[: next(n for n, line in enumerate(lines) if line == "Next:")]
    assert max(map(len, table)) <= 80
    assert "note: encoder: features, for the data set has them" in done.err
    assert "training" in done.err
    assert "100%" in done.err
    assert stored_settings(run).encoder.kind == "features"


def test_what_is_said_to_type_next_works(run_mmref, data, tmp_path, monkeypatch):
    run = tmp_path / "a run"
    verbs = main.VERBS
    done = run_mmref("train", "--data", data, *QUICK, "--out", run)
    commands = [shlex.split(line) for line in done.out.splitlines() if line.startswith("  mmref ")]
    assert [words[1] for words in commands] == ["evaluate", "index", "search"]
    for words in commands:
        monkeypatch.setattr(main, "VERBS", verbs)
        assert run_mmref(*words[1:]).status == 0


def test_pixels_get_a_size_that_fits_and_it_is_said(run_mmref, tall, tmp_path):
    done = run_mmref(
        "train", "--data", tall, *QUICK, "--set", "training.epochs=0", "--out", tmp_path / "run"
    )
    assert done.status == 0
    assert "note: encoder: compact, for the data set has no features" in done.err
    assert "note: image size: 96 x 48 (height x width)" in done.err
    assert MMRef.from_pretrained(tmp_path / "run").image_size == (96, 48)
    assert "PICTURES" in done.out
    assert "decoding" in done.err


def settings_of(run_mmref, data, run, *words):
    done = run_mmref("train", "--data", data, *words, "--out", run)
    assert done.status == 0, done.err
    return stored_settings(run)


def test_a_file_comes_before_the_encoder_and_the_encoder_before_set(run_mmref, data, tmp_path):
    tree = {"training": {"epochs": 0, "seed": 7}, "encoder": {"kind": "compact", "deep": 16}}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(tree))
    config = ["--config", tmp_path / "a.yaml"]
    one = settings_of(
        run_mmref, data, tmp_path / "1", *config, "--encoder", "features", "--set",
        "training.seed=9",
    )  # fmt: skip
    assert (one.encoder.kind, one.encoder.deep) == ("features", 16)
    assert (one.training.epochs, one.training.seed) == (0, 9)
    two = settings_of(
        run_mmref, data, tmp_path / "2", *config, "--encoder", "compact", "--set",
        "encoder.kind=features",
    )  # fmt: skip
    assert two.encoder.kind == "features"
    assert two.training.seed == 7


def test_a_size_that_is_given_is_kept(run_mmref, tall, tmp_path):
    found = settings_of(
        run_mmref, tall, tmp_path / "run", *QUICK, "--set", "training.epochs=0", "--set",
        "encoder.image_height=32", "--set", "encoder.image_width=16",
    )  # fmt: skip
    assert (found.encoder.image_height, found.encoder.image_width) == (32, 16)
    assert found.training.epochs == 0


@pytest.mark.parametrize(
    "assignment",
    [
        "refinement.weights=[0.5, -1]",
        "refinement.weights=[.inf]",
        "refinement.temperatures=[0]",
        "loss.temperature=1e-9",
        "references.temperature=.nan",
        "references.guidance_weight=inf",
        "references.decoder_learning_rate=inf",
        "references.caption_epochs=1e9",
        "training.learning_rate=.inf",
        "training.deep_learning_rate=nan",
        "training.gradient_clip=inf",
        "training.batch_size=0",
        "training.batch_size=1",
        "training.seed=9223372036854775808",
        "training.epochs=-1",
        "encoder.lora_alpha=.inf",
    ],
)
def test_senseless_values_are_refused_before_anything_is_read(run_mmref, tmp_path, assignment):
    run = tmp_path / "run"
    done = run_mmref("train", "--data", tmp_path / "none", "--set", assignment, "--out", run)
    assert (done.status, run.exists()) == (2, False)
    assert done.err.startswith(f"mmref: setting {assignment.partition('=')[0]}")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--data", "{data}", "--set", "training.epoch=1"], 2, "did you mean 'training.epochs'?"),
        (["--data", "{data}", "--set", "training.epochs"], 2, "--set takes key=value"),
        (["--data", "{data}", "--set", "training.epochs=many"], 2, "setting training.epochs: "),
        (["--data", "{data}", "--set", "training.epochs=["], 2, "setting training.epochs: "),
        (["--data", "{data}", "--config", "{tmp}/none.yaml"], 2, "no settings file at"),
        (["--data", "{data}", "--config", "{tmp}/bad.yaml"], 2, "is not YAML"),
        (["--data", "{data}", "--encoder", "clap"], 2, "'clap' is not one of"),
        (["--data", "{tmp}/absent"], 2, "absent"),
        (["--data", "{tmp}/empty"], 1, "is an empty folder"),
        (["--data", "nothing:{data}"], 2, "nothing"),
        (["--data", "{valonly}"], 2, "has no train split"),
        (["--data", "{one}"], 1, "1 training object"),
        (["--data", "{data}", "--encoder", "compact"], 1, "use the features encoder"),
        (["--data", "{pixels}", "--encoder", "features"], 1, "use the compact encoder"),
        ([], 2, "--data"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    run_mmref, data, tall, tmp_path, words, status, message
):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.yaml").write_text("a: [")
    one = sets.write_set(tmp_path / "one", objects=2)
    valonly = sets.write_set(tmp_path / "valonly", objects=4)
    rows = [row | {"split": "val"} for row in sets.read_manifest(valonly)]
    sets.write_manifest(valonly, rows)
    names = {"data": data, "pixels": tall, "tmp": tmp_path, "one": one, "valonly": valonly}
    filled = [word.format(**names) for word in words]
    done = run_mmref("train", *filled, "--out", tmp_path / "run")
    assert done.status == status
    last = done.err.splitlines()[-1]
    assert last.startswith("mmref: ")
    assert message.format(**names) in last
    assert "Traceback" not in done.err
    assert done.out == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("/proc/run", "cannot write to /proc/run"),
        ("{tmp}/file", "is a file: name a folder"),
        ("{tmp}/file/run", "cannot write to"),
        ("{tmp}/full", "is not empty: add --resume"),
    ],
)
def test_a_folder_that_cannot_be_written_is_said(run_mmref, data, tmp_path, out, message):
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.png").write_text("x")
    done = run_mmref("train", "--data", data, *QUICK, "--out", out.format(tmp=tmp_path))
    assert done.status == 2
    assert message in done.err.splitlines()[-1]
    assert done.out == ""
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["a.png"]


def test_a_loss_that_is_no_number_leaves_with_1_and_advice(run_mmref, data, tmp_path):
    for name in ("training.learning_rate", "training.deep_learning_rate"):
        rate = ["--set", f"{name}=1e30"]
        done = run_mmref("train", "--data", data, *QUICK, *rate, "--out", tmp_path / name)
        assert done.status == 1
        assert f"lower {name}" in done.err.splitlines()[-1]


class KilledError(BaseException):
    pass


def killed(run_mmref, monkeypatch, data, run, *words):
    """Train; a kill comes after the second epoch's checkpoint."""
    from mmref.training import resumption

    save, count = resumption.save_checkpoint, [0]

    def saving(*parts):
        save(*parts)
        count[0] += 1
        if count[0] == 2:
            raise KilledError

    monkeypatch.setattr(resumption, "save_checkpoint", saving)
    with pytest.raises(KilledError):
        run_mmref("train", "--data", data, *QUICK, *words, "--out", run)
    monkeypatch.setattr(resumption, "save_checkpoint", save)


def test_a_run_is_resumed_with_its_own_settings(run_mmref, data, tmp_path, monkeypatch):
    words = ["--set", "training.seed=5", "--set", "training.epochs=3"]
    whole, run = tmp_path / "whole" / "run", tmp_path / "torn" / "run"
    assert run_mmref("train", "--data", data, *QUICK, *words, "--out", whole).status == 0
    killed(run_mmref, monkeypatch, data, run, *words)
    refused = run_mmref("train", "--data", data, *QUICK, "--out", run)
    assert (refused.status, "add --resume" in refused.err) == (2, True)
    done = run_mmref("train", "--data", data, "--out", run, "--resume")
    assert done.status == 0
    assert sets.report(run) == sets.report(whole)
    assert stored_settings(run).training.seed == 5
    again = run_mmref("train", "--data", data, "--out", run, "--resume")
    assert again.status == 0
    assert "is finished already" in " ".join(again.err.split())
    assert again.out == done.out


def test_other_settings_are_not_resumed(run_mmref, data, tmp_path, monkeypatch):
    run = tmp_path / "run"
    killed(run_mmref, monkeypatch, data, run)
    done = run_mmref("train", "--data", data, "--set", "training.seed=8", "--out", run, "--resume")
    assert done.status == 2
    assert "begun with another training.seed" in done.err.splitlines()[-1]
    other = sets.write_set(tmp_path / "other", seed=3)
    done = run_mmref("train", "--data", other, "--out", run, "--resume")
    assert done.status == 2
    assert "other settings or data" in done.err.splitlines()[-1]
    (run / "checkpoint.safetensors").write_bytes(b"half")
    done = run_mmref("train", "--data", data, "--out", run, "--resume")
    assert done.status == 1
    assert "is damaged" in done.err.splitlines()[-1]


def test_resuming_nothing_begins_and_says_so(run_mmref, data, tmp_path):
    done = run_mmref("train", "--data", data, *QUICK, "--out", tmp_path / "run", "--resume")
    assert done.status == 0
    assert "note: nothing to resume in" in " ".join(done.err.split())
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_text("x")
    done = run_mmref("train", "--data", data, "--out", tmp_path / "pictures", "--resume")
    assert done.status == 2
    assert "no run to go on with" in done.err.splitlines()[-1]


def test_skipped_pictures_are_named(run_mmref, tall, tmp_path):
    data = shutil.copytree(tall, tmp_path / "data")
    (data / "00_0.png").write_bytes(b"bad")
    done = run_mmref(
        "train", "--data", data, *QUICK, "--set", "training.epochs=0", "--out", tmp_path / "run"
    )
    assert done.status == 0
    assert f"skipped {data / '00_0.png'}: " in done.err
    for number in range(5):
        (data / f"{number:02d}_1.png").unlink()
    done = run_mmref("train", "--data", data, *QUICK, "--out", tmp_path / "two")
    assert done.status == 1
    assert not (tmp_path / "two").exists()


def test_without_a_val_split_objects_are_held_out_aloud(run_mmref, tmp_path):
    data = sets.write_set(tmp_path / "data")
    sets.write_manifest(data, [row | {"split": "train"} for row in sets.read_manifest(data)])
    done = run_mmref("train", "--data", data, *QUICK, "--out", tmp_path / "run")
    assert done.status == 0
    assert "no val split: 2 of 12 training objects are held out" in " ".join(done.err.split())


def test_help_has_an_example(run_mmref):
    done = run_mmref("train", "--help")
    assert done.status == 0
    assert "Example: mmref train --data data/flags" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
