import json

import numpy as np
import pytest
import torch

from mmref.data.dataset import RetrievalDataset, build_table
from mmref.errors import DataError, SplitError
from mmref.evaluation.evaluator import evaluate
from mmref.evaluation.vectors import evaluate_vectors
from mmref.metrics.protocols import METRICS
from mmref.references.refinement import Refiner

from .fakes import OBJECTS, FakeModel, folder_of_greys

KEYS = {"dataset", "split", "protocol", "queries", "gallery", "t2i", "i2t", "unrefined", "ci95"}


def posterior(weight=1.0):
    return Refiner(torch.eye(OBJECTS), "posterior", weight=weight, temperature=0.1, kept=4)


def test_each_distinct_caption_of_an_object_is_asked_once_against_every_image(tmp_path):
    data = folder_of_greys(tmp_path)
    model = FakeModel()
    report = evaluate(model, data)
    part = data.split("val")
    assert report.queries == len(model.texts_seen) == OBJECTS * (1 + 3)
    assert (report.gallery, report.objects, report.split) == (OBJECTS * 3, OBJECTS, "val")
    assert all("of val" in caption for caption in model.texts_seen)
    again = FakeModel()
    direct = evaluate_vectors(
        again.encode_text([q.caption for q in part.queries()]),
        again.encode_image(np.concatenate(model.images_seen)),
        [q.object for q in part.queries()],
        part.objects,
    )
    assert report.t2i == direct.metrics
    assert report.chance == pytest.approx(100 / OBJECTS)
    assert report.chance < report.t2i["R@1"] < 100


def test_an_unrefined_report(tmp_path):
    report = evaluate(FakeModel(), folder_of_greys(tmp_path), "validation")
    assert (report.split, report.unrefined, report.gain, report.i2t) == ("val", None, None, None)
    assert report.controls is None
    assert report.refinement["form"] is None
    for name in METRICS:
        low, high = report.ci95[name]
        assert low <= report.t2i[name] <= high


def test_a_refined_report_holds_both_and_their_paired_difference(tmp_path):
    data = folder_of_greys(tmp_path)
    plain = evaluate(FakeModel(), data)
    report = evaluate(FakeModel(refiner=posterior()), data, i2t=True)
    assert report.unrefined == plain.t2i
    assert report.t2i != plain.t2i
    assert report.refinement == {
        "form": "posterior", "weight": 1.0, "temperature": 0.1, "kept": 4
    }  # fmt: skip
    gain = report.gain["mAP"]
    assert gain["difference"] == pytest.approx(report.t2i["mAP"] - plain.t2i["mAP"])
    assert gain["low"] <= gain["difference"] <= gain["high"]
    assert set(report.i2t) == set(METRICS)
    assert report.figures["i2t"].queries == report.gallery
    off = evaluate(FakeModel(refiner=posterior()), data, refine=False)
    assert (off.t2i, off.unrefined) == (plain.t2i, None)


def test_the_report_is_json_and_repeats(tmp_path):
    data = folder_of_greys(tmp_path)
    options = {"i2t": True, "controls": True, "seed": 3, "bootstrap": 50}
    one = evaluate(FakeModel(refiner=posterior()), data, **options).to_dict()
    two = evaluate(FakeModel(refiner=posterior()), data, **options).to_dict()
    text = json.dumps(one, allow_nan=False)
    assert json.loads(text) == json.loads(json.dumps(two))
    assert set(one) >= KEYS | {"refinement", "controls", "ties", "skipped", "seed", "fingerprint"}
    assert "figures" not in one
    other = evaluate(FakeModel(refiner=posterior()), data, **{**options, "seed": 4}).to_dict()
    assert other["ci95"] != one["ci95"]
    assert other["t2i"] == one["t2i"]


def test_controls_name_what_they_use(tmp_path):
    report = evaluate(FakeModel(), folder_of_greys(tmp_path), controls=True)
    assert set(report.controls) == {"k_reciprocal", "dual_softmax"}
    for control in report.controls.values():
        assert control["uses"] == "the whole query and gallery set"
        assert set(control["figures"]) == set(METRICS)


def test_controls_too_large_for_memory_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mmref.evaluation.evaluator._CONTROL_BYTES", 1000)
    with pytest.raises(DataError, match="leave them out"):
        evaluate(FakeModel(), folder_of_greys(tmp_path), controls=True)


def test_unreadable_images_are_left_out_and_counted(tmp_path):
    data = folder_of_greys(tmp_path, per_object=2)
    (tmp_path / "val-0-0.png").write_bytes(b"no image")
    (tmp_path / "val-1-0.png").unlink()
    (tmp_path / "val-1-1.png").write_bytes(b"")
    report = evaluate(FakeModel(), data)
    assert [s["path"].rpartition("/")[2] for s in report.skipped] == [
        "val-0-0.png", "val-1-0.png", "val-1-1.png"
    ]  # fmt: skip
    assert all(s["reason"] for s in report.skipped)
    assert report.gallery == 2 * OBJECTS - 3
    assert report.skipped_queries == 3  # object 1 has no image left
    assert report.queries == 3 * (OBJECTS - 1)
    assert any("3 unreadable images" in line for line in report.remarks())
    assert any("3 captions" in line for line in report.remarks())


def test_not_one_readable_image(tmp_path):
    data = folder_of_greys(tmp_path, per_object=1)
    for file in tmp_path.glob("val-*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the 8 images"):
        evaluate(FakeModel(), data)


def features_only(tmp_path, splits):
    matrix = np.eye(OBJECTS, dtype=np.float32)
    table = build_table(
        [f"i{i}" for i in range(OBJECTS)],
        [[f"n{i} here"] for i in range(OBJECTS)],
        [f"o{i}" for i in range(OBJECTS)],
        splits,
        feature_rows=list(range(OBJECTS))[::-1],
    )
    return RetrievalDataset(table, tmp_path, "vectors", "manifest", matrix)


def test_features_are_taken_in_row_order(tmp_path):
    data = features_only(tmp_path, ["val"] * OBJECTS)
    report = evaluate(FakeModel("features", noise=0.0), data)
    assert report.t2i["R@1"] == 0  # the rows are reversed, so each caption finds another object
    assert report.gallery == OBJECTS
    with pytest.raises(DataError, match="this run reads pixels"):
        evaluate(FakeModel("compact"), data)
    with pytest.raises(DataError, match="has no features"):
        evaluate(FakeModel("features"), folder_of_greys(tmp_path))


def test_splits_that_cannot_be_asked(tmp_path):
    data = folder_of_greys(tmp_path, per_object=1, splits=("train", "val"))
    with pytest.raises(SplitError, match="has no split 'test': it has train, val"):
        evaluate(FakeModel(), data, "test")
    silent = RetrievalDataset(
        build_table(["a.png"], [[]], ["x"], ["val"]), tmp_path, "silent", "manifest"
    )
    with pytest.raises(SplitError, match="holds no captions"):
        evaluate(FakeModel(), silent)


def test_one_object_gives_no_interval(tmp_path):
    data = folder_of_greys(tmp_path).with_objects(["val-0"])
    report = evaluate(FakeModel(), data)
    assert (report.ci95, report.t2i["R@1"]) == (None, 100.0)
    assert any("No interval" in line for line in report.remarks())


def test_notes_say_closed_set_and_an_untouched_test_split(tmp_path):
    data = folder_of_greys(tmp_path)
    assert any("--split test" in note for note in evaluate(FakeModel(), data).notes)
    assert not any("--split" in note for note in evaluate(FakeModel(), data, "test").notes)
    names = [name.replace("val-", "train-") for name in data.objects]
    column = data.table.column_names.index("object")
    closed = RetrievalDataset(
        data.table.set_column(column, "object", [names]), tmp_path, "closed", "manifest"
    ).select([row for row, split in enumerate(data.splits) if split != "test"])
    assert any("Closed set" in note for note in evaluate(FakeModel(), closed).notes)


def test_progress_reaches_the_total(tmp_path):
    seen = []
    evaluate(FakeModel(), folder_of_greys(tmp_path), progress=lambda *step: seen.append(step))
    assert {("images", 24, 24), ("captions", 32, 32)} <= set(seen)
