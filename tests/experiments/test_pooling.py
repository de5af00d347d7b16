import numpy as np
import pytest

from mmref.errors import DataError
from mmref.experiments.curves import curve_results
from mmref.experiments.grid import Curve, Entry, Grid, Plan, units
from mmref.experiments.pooling import Pool, Row
from mmref.metrics.bootstrap import intervals, paired_difference

from .sets import DRAWN, made_run, plan_on, small

OBJECTS = ["x", "x", "y", "z"]


def runs():
    """Base, control and full in two seeds; figures chosen by hand."""
    base = ([10.0, 20.0, 30.0, 40.0], [0.0, 0.0, 10.0, 10.0])
    full = ([20.0, 20.0, 50.0, 40.0], [10.0, 0.0, 20.0, 10.0])
    found = {}
    for seed in (0, 1):
        unit = f"seed-{seed}"
        found["base", unit] = made_run(OBJECTS, {"unrefined": {"mAP": base[seed]}})
        ways = {"unrefined": {"mAP": base[seed]}, "refined": {"mAP": full[seed]}}
        found["identity", unit] = made_run(OBJECTS, ways, profile=10)
        higher = [value + 5 for value in full[seed]]
        ways = {"unrefined": {"mAP": full[seed]}, "refined": {"mAP": higher}}
        found["full", unit] = made_run(OBJECTS, ways, profile=30, run_seconds=2.0 + 4 * seed)
    return found


def test_the_table_is_that_of_a_hand_computation():
    table = Pool(plan_on("data", seeds=2), runs()).table()
    assert list(table) == ["base", "identity", "identity refined", "full", "full refined"]
    assert table["base"]["metrics"]["mAP"] == 120 / 8
    assert table["full"]["metrics"]["mAP"] == 170 / 8
    assert table["full refined"]["metrics"]["mAP"] == 210 / 8
    gain = table["full refined"]["to_base"]
    assert gain["difference"] == 90 / 8
    assert gain["relative"] == pytest.approx(75.0)
    assert (gain["against"], gain["runs"]) == ("base", 2)
    # Refined against the control refined, the cosine against its cosine.
    assert table["full refined"]["to_control"]["against"] == "identity refined"
    assert table["full refined"]["to_control"]["difference"] == 5
    assert table["full refined"]["to_control"]["p_value"] < 0.001
    assert table["full"]["to_control"]["against"] == "identity"
    assert table["full"]["to_control"]["difference"] == 50 / 8
    assert table["full"]["to_identity"] == table["full"]["to_control"]
    assert table["full refined"]["to_unrefined"]["difference"] == 5
    assert table["full"]["to_unrefined"] is None
    assert table["base"]["to_base"] is None
    assert table["identity refined"]["to_control"] is None


def test_costs():
    table = Pool(plan_on("data", seeds=2), runs()).table()
    assert (table["full"]["seconds"], table["full"]["parameters"]) == (4.0, 1000)
    assert (table["full"]["profile_bytes"], table["full"]["bytes_per_image"]) == (0, 100)
    refined = table["full refined"]
    assert (refined["profile_bytes"], refined["bytes_per_image"]) == (30, 130)
    assert refined["runs"] == 2


def test_seeds_on_one_data_set_ask_the_same_objects():
    table = Pool(plan_on("data", seeds=2), runs()).table()
    row = table["full"]
    assert (row["queries"], row["objects"]) == (8, 3)
    values = np.array([20.0, 20, 50, 40, 10, 0, 20, 10])
    right = intervals({"mAP": values}, OBJECTS * 2)["mAP"]
    assert row["ci95"]["mAP"] == pytest.approx(right)
    base = np.array([10.0, 20, 30, 40, 0, 0, 10, 10])
    test = paired_difference(base, values, OBJECTS * 2)
    found = row["to_base"]
    assert (found["low"], found["high"], found["p_value"]) == (test.low, test.high, test.p_value)


def test_drawn_sets_hold_other_objects():
    plan = Plan("mine", plan_on("data").grid, units(2), drawn=DRAWN)
    row = Pool(plan, runs()).table()["full"]
    assert (row["queries"], row["objects"]) == (8, 6)
    values = np.array([20.0, 20, 50, 40, 10, 0, 20, 10])
    apart = [f"{seed}/{name}" for seed in (0, 1) for name in OBJECTS]
    seeds = [name[0] for name in apart]
    right = intervals({"mAP": values}, apart, runs=seeds)["mAP"]
    assert row["ci95"]["mAP"] == pytest.approx(right)
    assert right != intervals({"mAP": values}, apart)["mAP"]


def test_differences_are_over_the_units_that_both_have():
    some = runs()
    del some["base", "seed-1"]
    table = Pool(plan_on("data", seeds=2), some).table()
    assert table["base"]["runs"] == 1
    assert table["full"]["runs"] == 2
    assert table["full"]["to_base"]["runs"] == 1
    assert table["full"]["to_base"]["difference"] == 30 / 4
    del some["base", "seed-0"]
    assert Pool(plan_on("data", seeds=2), some).table()["full"]["to_base"] is None


def test_other_queries_are_no_pair():
    some = runs()
    some["base", "seed-0"][1]["objects"][0] = "q"
    with pytest.raises(DataError, match="base and full were asked different queries"):
        Pool(plan_on("data", seeds=2), some).difference(
            Row("base", "base", "unrefined"), Row("full", "full", "unrefined")
        )


def test_one_object_has_no_interval():
    alone = {
        (name, "seed-0"): made_run(["x", "x"], {"unrefined": {"mAP": [1.0, 2.0]}})
        for name in ("base", "full")
    }
    table = Pool(plan_on("data"), alone).table()
    assert table["full"]["ci95"] is None
    assert table["full"]["to_base"] is None


def test_unequal_steps_are_said():
    some = runs()
    assert Pool(plan_on("data", seeds=2), some).unequal_steps() == []
    some["full", "seed-1"][0]["steps"] = 7
    (note,) = Pool(plan_on("data", seeds=2), some).unequal_steps()
    assert note.startswith("seed-1: full took 7 steps with images, base 10")


@pytest.fixture
def curved():
    """Base falls from 40 to 10, full refined from 40 to 30; a test sweep with an oracle."""
    at = {"base": ("base", "base-1"), "full": ("full", "full-1")}
    entries = tuple(Entry(name, "", small(), {}) for names in at.values() for name in names)
    swept = ("test_omit=0", "test_omit=1")
    curves = (
        Curve("training omit", (0.0, 1.0), at),
        Curve("test omit", (0.0, 1.0), {"base": ("base",), "full": ("full",)}, swept),
    )
    plan = Plan("mine", Grid(entries, curves=curves), units(2), drawn=DRAWN)
    found = {}
    for unit in ("seed-0", "seed-1"):
        for name, plain, refined in (
            ("base", 40.0, None),
            ("base-1", 10.0, None),
            ("full", 41.0, 40.0),
            ("full-1", 20.0, 30.0),
        ):
            ways = {"unrefined": {"mAP": [plain + k for k in range(4)]}}
            if refined is not None:
                ways["refined"] = {"mAP": [refined + k for k in range(4)]}
            facts, arrays = made_run(OBJECTS, ways)
            for sweep in swept:
                lower = {way: {"mAP": [v / 2 for v in vs["mAP"]]} for way, vs in ways.items()}
                more, others = made_run(OBJECTS, lower)
                facts["sweeps"][sweep] = more
                arrays |= {f"{sweep}/{key}": value for key, value in others.items()}
            found[name, unit] = facts, arrays
    return Pool(plan, found)


def test_a_curve_and_what_is_lost_along_it(curved):
    found = curve_results(curved, curved.plan.grid.curves[0], {})
    assert list(found["lines"]) == ["base", "full", "full refined"]
    assert [p["mAP"] for p in found["lines"]["base"]] == [41.5, 11.5]
    assert found["losses"]["base"] == {"mAP": 30.0}
    loss = found["losses"]["full refined"]
    assert loss["mAP"] == 10.0
    assert loss["of_base"]["ratio"] == pytest.approx(1 / 3)
    assert loss["of_base"]["low"] == pytest.approx(1 / 3)  # the same of every object
    assert found["losses"]["full"]["of_base"]["ratio"] == pytest.approx(0.7)


def test_a_test_curve_is_a_share_of_the_oracle(curved):
    oracles = {
        (unit, sweep): {"mAP": 20.0 + high, "R@1": 1.0, "queries": 2 + 2 * number}
        for number, unit in enumerate(("seed-0", "seed-1"))
        for sweep, high in (("test_omit=0", 30.0 + 45 * number), ("test_omit=1", 30.0))
    }
    found = curve_results(curved, curved.plan.grid.curves[1], oracles)
    first, last = found["lines"]["full refined"]
    assert first["mAP"] == last["mAP"] == 20.75
    assert (first["oracle"], last["oracle"]) == (80.0, 50.0)
    assert first["share"] == pytest.approx(100 * 20.75 / 80)
    assert found["losses"] == {}
    del oracles["seed-1", "test_omit=1"]
    first, last = curve_results(curved, curved.plan.grid.curves[1], oracles)["lines"]["base"]
    assert "share" in first
    assert "share" not in last


def test_a_missing_run_is_a_gap(curved):
    for unit in ("seed-0", "seed-1"):
        del curved.runs["base-1", unit]
    found = curve_results(curved, curved.plan.grid.curves[0], {})
    assert found["lines"]["base"][1] is None
    assert "base" not in found["losses"]
    assert "of_base" not in found["losses"]["full"]
