import json

import pytest

from mmref.experiments import profile as module

SMALL = {
    "encoder.kind": "compact",
    "encoder.block": 8,
    "encoder.deep": 8,
    "encoder.kernel_features": 16,
    "encoder.width": 8,
    "encoder.grid": 8,
    "encoder.image_height": 16,
    "encoder.image_width": 16,
    "training.batch_size": 8,
}
QUICK = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    for name, value in {"GALLERY": 200, "_DISTINCT": 20, "_SAMPLE": 60, "_PICTURES": 2}.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr("mmref.experiments.profile_cost.REPEATS", 1)
    monkeypatch.setattr("mmref.experiments.profile_cost._PATIENCE", 0.0)


def test_tables_and_json(run_mmref):
    words = ("profile", "--config", "rstpreid-compact", *QUICK)
    done = run_mmref(*words, "--batch", "4", "--json")
    assert done.status == 0
    found = json.loads(done.out)
    assert (found["of"], found["measured_batch"], found["batch"]) == ("RSTPReid", 4, 8)
    assert len(found["sets"]) == 5
    for said in (
        "compact encoder, 16 x 16 pixels, batch 8",
        "those of RSTPReid, 3,701 objects",
        "measured with 4 pairs and scaled to 8",
        f"{found['parameters']['total']:,}",
        "of the losses: fusion",
        "A query among 200 images",
        "CUHK-PEDES",
        "Predicted for this machine",
        "Not in it: the closed-form start",
    ):
        assert said in done.err
    assert max(map(len, done.err.replace("\r", "\n").splitlines())) <= 80
    again = run_mmref(*words, "--batch", "2")
    assert again.status == 0
    assert "Predicted for this machine" in again.out
    assert "Predicted for this machine" not in again.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "nothing.yaml"], "no settings file at nothing.yaml"),
        (["--set", "training.epoch=1"], "did you mean 'training.epochs'"),
        (["--batch", "1"], "--batch"),
        (["--data", "nowhere"], "nowhere"),
        (
            ["--config", "rstpreid", "--set", "encoder.checkpoint=me/mine"],
            "the shape of me/mine is not known here",
        ),
    ],
)
def test_what_is_asked_wrongly(run_mmref, words, message):
    left = run_mmref("profile", *words)
    assert left.status == 2
    assert left.out == ""
    assert message in left.err.splitlines()[-1]
