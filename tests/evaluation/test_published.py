import json

import pytest

from mmref.data.published_counts import PUBLISHED, Counts
from mmref.evaluation.published import (
    NOT_STATED,
    SETS,
    beside,
    differences,
    published_for,
)


@pytest.mark.parametrize("format", SETS)
def test_every_set_has_every_method_with_a_recall(format):
    rows = published_for(format)
    assert len(rows) == 11
    recalls = [row.figures["R@1"] for row in rows]
    assert all(50 < value < 80 for value in recalls)
    assert all(row.figures.get("mAP", 0) < row.figures["R@1"] for row in rows)
    assert len({row.method for row in rows}) == 11


def test_figures_are_those_of_the_right_set():
    irra = {name: published_for(name)[3] for name in SETS}
    assert [irra[name].figures["R@1"] for name in SETS] == [73.38, 63.46, 60.20]
    assert [irra[name].figures["mAP"] for name in SETS] == [66.13, 38.06, 47.17]
    paper = published_for("icfg-pedes")[2]
    assert paper.figures == {"R@1": 63.50, "R@10": 83.73}


def test_what_is_not_known_says_so_and_nothing_is_blank():
    for row in published_for("cuhk-pedes"):
        facts = (row.backbone, row.person_pretraining, row.cross_encoder, row.epoch)
        assert all(facts)
        assert set(facts[1:]) <= {"yes", "no", "on test", NOT_STATED}
    cfine = published_for("cuhk-pedes")[1]
    assert (cfine.backbone, cfine.epoch, cfine.cross_encoder) == (NOT_STATED,) * 3


def test_what_differs_is_said():
    whole = PUBLISHED["icfg-pedes"].parts["test"]
    assert differences("icfg-pedes", "test", whole) == []
    (line,) = differences("icfg-pedes", "test", Counts(1000, 19_800, 19_848))
    assert "19,800 images instead of 19,848" in line
    assert "captions" not in line
    (line,) = differences("icfg-pedes", "val", whole)
    assert "this run's are of val" in line


def test_other_sets_have_none():
    assert beside("manifest", "test", Counts(1, 1, 1)) is None
    found = beside("rstpreid", "test", Counts(200, 1000, 2000))
    assert found["set"] == "RSTPReid"
    assert found["remarks"] == [found["remarks"][-1]]
    assert "picks its epoch on the test split" in found["remarks"][0]
    assert json.loads(json.dumps(found)) == found
