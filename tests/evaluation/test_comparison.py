import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from mmref.data.dataset import RetrievalDataset
from mmref.errors import DataError, SplitError
from mmref.evaluation.comparison import compare_runs
from mmref.evaluation.evaluator import evaluate
from mmref.metrics.bootstrap import paired_difference
from mmref.metrics.protocols import METRICS

from .fakes import OBJECTS, FakeModel, folder_of_greys
from .test_evaluator import posterior


def printed(found):
    stream = io.StringIO()
    Console(file=stream, width=80).print(found.table())
    return stream.getvalue()


class OtherModel(FakeModel):
    """Less noise: it finds more."""

    id, digest = "other-111111111111", "1" * 64

    def __init__(self, **options):
        super().__init__(noise=0.2, **options)


def test_figures_are_those_of_each_run_and_the_test_is_paired(tmp_path):
    data = folder_of_greys(tmp_path)
    first, second = FakeModel(refiner=posterior()), OtherModel()
    one, two = evaluate(first, data, i2t=True), evaluate(second, data, i2t=True)
    found = compare_runs(first, second, data, i2t=True, resamples=500, seed=4)
    for way in ("t2i", "i2t"):
        told = getattr(found, way)
        assert list(told) == list(METRICS)
        for name in METRICS:
            assert told[name]["first"] == pytest.approx(getattr(one, way)[name])
            assert told[name]["second"] == pytest.approx(getattr(two, way)[name])
            a, b = (report.figures[way].per_query[name] for report in (one, two))
            test = paired_difference(a, b, one.figures[way].objects, resamples=500, seed=4)
            for key in ("difference", "low", "high", "p_value"):
                assert told[name][key] == getattr(test, key)
    assert found.t2i["mAP"]["difference"] > 10
    assert found.t2i["mAP"]["p_value"] < 0.05
    assert [run["refinement"]["form"] for run in found.runs] == ["posterior", None]
    plain = compare_runs(first, second, data, refine=False, resamples=50)
    assert plain.t2i["mAP"]["first"] == pytest.approx(one.unrefined["mAP"])
    assert plain.i2t is None


def test_swapping_the_runs_turns_the_sign(tmp_path):
    data = folder_of_greys(tmp_path)
    one = compare_runs(FakeModel(), OtherModel(), data, resamples=500)
    two = compare_runs(OtherModel(), FakeModel(), data, resamples=500)
    for name in METRICS:
        assert one.t2i[name]["difference"] == pytest.approx(-two.t2i[name]["difference"])
        assert one.t2i[name]["low"] == pytest.approx(-two.t2i[name]["high"])
        assert one.t2i[name]["p_value"] == two.t2i[name]["p_value"]
    assert "B is better" in " ".join(one.remarks())
    assert "A is better" in " ".join(two.remarks())


def test_a_run_against_itself_differs_by_nothing_and_it_is_said(tmp_path):
    found = compare_runs(FakeModel(), FakeModel(), folder_of_greys(tmp_path), resamples=50)
    for told in found.t2i.values():
        assert (told["difference"], told["low"], told["high"], told["p_value"]) == (0, 0, 0, 1)
    text = " ".join(found.remarks())
    assert "the same model" in text
    assert "no difference" in text


class PickyModel(OtherModel):
    """It takes vectors, so it needs no image file."""

    def __init__(self):
        super().__init__(kind="features")


def test_only_images_that_both_can_use_are_compared(tmp_path):
    data = folder_of_greys(tmp_path, per_object=2)
    matrix = np.eye(OBJECTS, dtype="f4")[[int(name.split("-")[1]) for name in data.objects]]
    column = data.table.column_names.index("feature_row")
    rows = data.table.set_column(column, "feature_row", [list(range(len(data)))])
    both = replace(data, table=rows, feature_matrix=matrix)
    (tmp_path / "val-0-0.png").write_bytes(b"no image")
    (tmp_path / "val-1-0.png").unlink()
    (tmp_path / "val-1-1.png").unlink()
    found = compare_runs(PickyModel(), OtherModel(), both, names=("vectors", "pixels"))
    assert found.gallery == 2 * OBJECTS - 3
    assert found.queries == 3 * (OBJECTS - 1)
    assert found.left_out["queries"] == 3
    assert [bad["run"] for bad in found.left_out["images"]] == ["pixels"] * 3
    text = " ".join(found.remarks())
    assert "3 images" in text
    assert "3 captions" in text
    assert "A takes features inputs, B compact ones" in text
    assert found.t2i["mAP"]["first"] == 100  # each of its vectors stands for its own image
    direct = evaluate(OtherModel(), data)
    assert found.t2i["R@1"]["second"] == pytest.approx(direct.t2i["R@1"])


def test_errors_say_which_run(tmp_path):
    data = folder_of_greys(tmp_path, per_object=1)
    with pytest.raises(DataError, match=r"^two: .*has no features"):
        compare_runs(OtherModel(), PickyModel(), data, names=("one", "two"))
    with pytest.raises(SplitError, match="has no split 'dev'"):
        compare_runs(OtherModel(), OtherModel(), data, "dev")
    for file in tmp_path.glob("val-*.png"):
        file.unlink()
    with pytest.raises(DataError, match=r"^one: none of the 8 images"):
        compare_runs(OtherModel(), OtherModel(), data, names=("one", "two"))


def test_classes_are_compared_as_wholes(tmp_path):
    data = replace(folder_of_greys(tmp_path), protocol="class", format="cub")
    found = compare_runs(FakeModel(), OtherModel(), data, resamples=200)
    one, two = evaluate(FakeModel(), data), evaluate(OtherModel(), data)
    for name in ("AP@50", "i2t R@1"):
        told = found.classes[name]
        assert told["first"] == pytest.approx(one.classes[name])
        assert told["second"] == pytest.approx(two.classes[name])
    assert found.classes["i2t R@1"]["low"] > 0
    assert "classes, i2t R@1" in printed(found)


def test_one_object_cannot_be_tested(tmp_path):
    data = folder_of_greys(tmp_path).with_objects(["val-0"])
    found = compare_runs(FakeModel(), OtherModel(), data)
    assert found.t2i["mAP"]["p_value"] is None
    assert "No test" in " ".join(found.remarks())
    assert " - " in printed(found)


def test_the_table_fits_80_columns_and_json_holds_all(tmp_path):
    data: RetrievalDataset = folder_of_greys(tmp_path)
    found = compare_runs(FakeModel(), OtherModel(), data, i2t=True, resamples=50)
    text = printed(found)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    row = next(line for line in text.splitlines() if "text to image, mAP" in line)
    assert f"{found.t2i['mAP']['difference']:+.1f}" in row
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert {"dataset", "split", "protocol", "t2i", "i2t", "runs", "fingerprint", "seed"} <= set(
        told
    )
    assert {"mmref", "torch"} <= set(told["versions"])
