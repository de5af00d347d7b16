import json
from dataclasses import replace

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


def asked_as(data, protocol, format="manifest"):
    return replace(data, protocol=protocol, format=format)


def test_the_person_protocol_asks_every_caption(tmp_path):
    data = folder_of_greys(tmp_path)
    plain, person = evaluate(FakeModel(), data), evaluate(FakeModel(), asked_as(data, "person"))
    assert (plain.queries, person.queries) == (OBJECTS * 4, OBJECTS * 6)
    assert person.gallery == plain.gallery
    assert person.protocol.startswith("every caption of every image is a query")
    assert person.classes is None
    assert person.published is None


@pytest.mark.parametrize("refiner", [None, posterior()])
def test_the_class_protocol_reports_classes_as_wholes(tmp_path, refiner):
    data = asked_as(folder_of_greys(tmp_path), "class", "cub")
    report = evaluate(FakeModel(refiner=refiner), data)
    found = report.classes
    assert report.queries == OBJECTS * 6
    assert (found["classes"], found["smallest_class"]) == (OBJECTS, 3)
    assert found["AP@50 ceiling"] == pytest.approx(100 * 3 / 50)
    assert found["AP@50"] == pytest.approx(found["AP@50 ceiling"])  # 24 images: all in the top 50
    assert 100 / OBJECTS < found["i2t R@1"] < 100
    assert (found["unrefined"] is None) == (refiner is None)
    assert set(found["ci95"]) == {"AP@50", "i2t R@1"}
    assert "Reed et al. 2016" in report.protocol
    assert any("no more than 6.0" in line for line in report.remarks())
    assert json.loads(json.dumps(report.to_dict()))["classes"] == found
    assert evaluate(FakeModel(), data, bootstrap=0).classes["ci95"] is None


@pytest.mark.parametrize("format", ["cuhk-pedes", "icfg-pedes", "rstpreid"])
def test_person_sets_have_published_figures_beside_them(tmp_path, format):
    data = asked_as(folder_of_greys(tmp_path), "person", format)
    test = evaluate(FakeModel(), data, "test").published
    assert len(test["rows"]) == 11
    assert "8 objects instead of" in test["remarks"][0]
    assert "of val" in evaluate(FakeModel(), data).published["remarks"][0]


def test_how_and_with_what_it_was_measured(tmp_path):
    data, model = folder_of_greys(tmp_path), FakeModel()
    report = evaluate(model, data)
    assert report.selection is None
    assert {"mmref", "python", "torch"} <= set(report.versions)
    assert report.machine["device"] == "cpu"
    assert report.model["backbone"] == "compact"
    assert any("not recorded" in line for line in report.remarks())
    assert any(report.fingerprint[:12] in line for line in report.remarks())
    model.path = tmp_path / "run"
    model.path.mkdir()
    part = {"name": "greys", "objects": 8, "fingerprint": report.fingerprint}
    record = {"best_epoch": 2, "epochs": 5, "seed": 7, "train": {}, "val": part}
    (model.path / "metrics.json").write_text(json.dumps(record))
    again = evaluate(model, data)
    assert again.selection["best_epoch"] == 2
    text = " ".join(again.remarks())
    assert "epoch 2 of 5" in text
    assert "seed 7" in text
    assert "very objects that the run was chosen on" in text
    assert "very objects" not in " ".join(evaluate(model, data, "test").remarks())


def test_both_directions_have_intervals(tmp_path):
    report = evaluate(FakeModel(), folder_of_greys(tmp_path), i2t=True)
    for name in METRICS:
        low, high = report.i2t_ci95[name]
        assert low <= report.i2t[name] <= high


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
