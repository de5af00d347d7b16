import io
from dataclasses import replace

import pytest
from rich.console import Console

from mmref.evaluation.evaluator import evaluate
from mmref.evaluation.report import TIE_RULES

from .fakes import FakeModel, folder_of_greys
from .test_evaluator import posterior


@pytest.fixture
def report(tmp_path):
    return evaluate(
        FakeModel(refiner=posterior()), folder_of_greys(tmp_path), i2t=True, controls=True
    )


def printed(report, width=80, table=None):
    stream = io.StringIO()
    Console(file=stream, width=width).print(table or report.table())
    return stream.getvalue()


def test_the_table_fits_80_columns_with_full_figures(report):
    full = dict.fromkeys(report.t2i, 100.0)
    text = printed(replace(report, t2i=full, unrefined=full, queries=19_848, gallery=19_848))
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    assert sum(line.count("100.0") == 5 for line in text.splitlines()) == 2


def test_the_table_marks_what_uses_all_queries(report):
    text = printed(report)
    for label in (
        "text to image, refined",
        "text to image, unrefined",
        "image to text",
        "k-reciprocal (uses all queries)",
        "dual softmax (uses all queries)",
        "95 % from",
    ):
        assert label in text
    assert f"{report.t2i['mAP']:.1f}" in text


def test_the_table_of_a_plain_report_has_no_such_rows(tmp_path):
    text = printed(evaluate(FakeModel(), folder_of_greys(tmp_path), bootstrap=0))
    for label in ("refined", "95 %", "uses all", "image to text"):
        assert label not in text


def test_remarks_state_interval_ties_and_chance(report):
    text = "\n".join(report.remarks())
    assert "bootstrap over objects" in text
    assert TIE_RULES["pessimistic"] in text
    assert "R@1 12.50" in text
    assert "whole query and gallery set" in text
    assert "Refinement (posterior): mAP" in text
    expected = "\n".join(replace(report, ties="expected").remarks())
    assert TIE_RULES["expected"] in expected


@pytest.mark.parametrize("format", ["cuhk-pedes", "icfg-pedes", "rstpreid"])
def test_the_published_table_fits_80_columns_and_ends_with_this_run(tmp_path, format):
    data = replace(folder_of_greys(tmp_path), protocol="person", format=format)
    report = evaluate(FakeModel(), data, "test")
    text = printed(report, table=report.published_table())
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    assert "not stated" in text
    assert "on test" in text
    joined = " ".join(text.split())
    assert "Bi-IRRA +" in joined
    last = [line for line in lines if line.strip()][-1]
    assert last.startswith("this run (test)")
    assert f"{report.t2i['R@1']:.2f}" in last
    assert replace(report, published=None).published_table() is None


def test_the_table_of_classes(tmp_path):
    data = replace(folder_of_greys(tmp_path), protocol="class", format="cub")
    report = evaluate(FakeModel(refiner=posterior()), data)
    text = printed(report, table=report.class_table())
    row = next(line for line in text.splitlines() if "AP@50" in line)
    assert row.split()[-2] == "6.0"
    assert "8 classes as wholes" in text
    assert evaluate(FakeModel(), folder_of_greys(tmp_path)).class_table() is None
    bare = replace(report, classes=report.classes | {"ci95": None, "unrefined": None})
    assert max(map(len, printed(bare, table=bare.class_table()).splitlines())) <= 80
