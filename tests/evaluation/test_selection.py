import json

import pytest

from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset, build_table
from mmref.evaluation.selection import chosen_on, recorded_selection, selection_remarks
from mmref.training.validation import split_for_training

PART = {"name": "flags", "objects": 30, "fingerprint": "f" * 64}
RECORD = {
    "best_epoch": 4,
    "epochs": 9,
    "seed": 3,
    "refinement": {"form": "hubs", "weight": 1.0, "temperature": 0.1, "kept": 32},
    "train": PART | {"objects": 120, "fingerprint": "a" * 64},
    "val": PART,
    "notes": ["a note"],
    "history": [1, 2, 3],
}


def written(folder, record):
    (folder / "metrics.json").write_text(json.dumps(record))
    return recorded_selection(folder)


def test_what_training_recorded(tmp_path):
    found = written(tmp_path, RECORD)
    assert (found["best_epoch"], found["epochs"], found["seed"]) == (4, 9, 3)
    assert "history" not in found
    assert found["held_out"] is False
    assert chosen_on(found) == "on val"
    lines = selection_remarks(found, "0" * 64)
    assert lines == [
        "Selection: epoch 4 of 9 and the refinement were chosen by mAP on 30 validation objects "
        "of flags; seed 3."
    ]


def test_the_objects_of_the_choice_are_recognised(tmp_path):
    found = written(tmp_path, RECORD)
    assert "very objects that the run was chosen on" in selection_remarks(found, "f" * 64)[1]
    assert "what it remembers" in selection_remarks(found, "a" * 64)[1]


def test_objects_held_out_and_no_validation_at_all(tmp_path):
    note = "no val split: 3 of 20 training objects are held out for validation by seed 0"
    found = written(tmp_path, RECORD | {"notes": [note]})
    assert chosen_on(found) == "held-out train"
    assert "training objects held out" in selection_remarks(found, "")[0]
    found = written(tmp_path, RECORD | {"val": None})
    assert chosen_on(found) == "last epoch"
    assert "Selection: none" in selection_remarks(found, "")[0]


def test_the_note_of_a_training_is_recognised(tmp_path):
    rows = [[f"{n}.png", ["words"], f"o{n}", "train"] for n in range(8)]
    data = RetrievalDataset(build_table(*zip(*rows, strict=True)), tmp_path, "few", "manifest")
    *_, note = split_for_training(data, Settings().training)
    assert written(tmp_path, RECORD | {"notes": [note]})["held_out"]


@pytest.mark.parametrize("text", [None, "", "{", "[]", "{}", '{"train": 3}', "\xff"])
def test_without_a_record_that_can_be_read(tmp_path, text):
    if text is not None:
        (tmp_path / "metrics.json").write_bytes(text.encode("latin-1"))
    assert recorded_selection(tmp_path) is None
    assert chosen_on(None) == "not stated"
    assert "not recorded" in selection_remarks(None, "")[0]


def test_a_checkpoint_as_it_is_was_chosen_by_nobody(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    found = recorded_selection(tmp_path)
    assert found == {"zero_shot": True}
    assert chosen_on(found) == "zero-shot"
    assert selection_remarks(found, "") == [
        "Selection: none, this is the checkpoint as it is, not trained here (zero-shot)."
    ]
    (tmp_path / "model.json").write_text("{}")
    assert recorded_selection(tmp_path) is None


def test_a_run_whose_start_was_best(tmp_path):
    found = written(tmp_path, RECORD | {"best_epoch": 0})
    assert "Selection: the start, before 9 epochs, and" in selection_remarks(found, "")[0]
