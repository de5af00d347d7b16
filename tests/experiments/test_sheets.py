import pytest

from mmref.experiments.ablation import results_of
from mmref.experiments.grid import Grid, Plan, units
from mmref.experiments.sheets import curve_sheets, markdown, sheets

from .sets import DRAWN, made_run, methods, plan_on

OBJECTS = ["x", "x", "y", "z"]


@pytest.fixture
def values():
    runs = {
        ("base", "seed-0"): made_run(OBJECTS, {"unrefined": {"mAP": [1.0, 2.0, 3.0, 4.0]}}),
        ("full", "seed-0"): made_run(
            OBJECTS,
            {
                "unrefined": {"mAP": [2.0, 3.0, 4.0, 5.0], "R@1": [0.0, 0.0, 0.0, 100.0]},
                "refined": {"mAP": [4.0, 5.0, 6.0, 7.0]},
            },
            profile=30,
        ),
    }
    return results_of(plan_on("data/birds"), runs)


def test_the_tables_hold_the_figures(values):
    figures, differences, gains, costs = sheets(values)
    assert figures.header == ("", "R@1", "R@5", "R@10", "mAP", "mAP, 95 %", "runs")
    assert [row[0] for row in figures.rows] == ["base", "full", "full refined"]
    assert figures.rows[1][1:5] == ("25.0", "3.5", "3.5", "3.5")
    assert differences.rows[1][1].startswith("+3.0 [+3.0, +3.0] .0002")
    assert gains.rows == [("full refined", "+2.00 [+2.00, +2.00] .0002")]
    assert costs.rows[2][1:] == ("2", "10", "1,000", "100 + 30")


def test_markdown_is_a_document(values):
    text = markdown(values | {"notes": ["a note"], "failures": {"base/seed-1": "no luck"}})
    assert text.startswith("# mine on birds: test split, 1 seed\n")
    assert "| full refined | 5.5 | 5.5 | 5.5 | 5.5 |" in text
    assert text.endswith("- a note\n- base/seed-1 failed: no luck\n")
    assert text.count("|---|") == 4


def test_the_ceiling_is_said(values):
    plan = Plan("mine", Grid(methods()), units(1), drawn=DRAWN)
    runs = {
        (name, "seed-0"): made_run(OBJECTS, {"unrefined": {"mAP": [mean] * 4}})
        for name, mean in (("base", 10.0), ("full", 20.0))
    }
    known = {("seed-0", ""): {"mAP": 50.0, "R@1": 44.0, "queries": 4}}
    found = results_of(plan, runs, known)
    assert found["rows"]["full"]["gap_closed"] == 25.0
    assert "R@1 44.0, mAP 50.0. Of the gap from base to it: full 25 %." in markdown(found)
    assert values["oracle"] is None
    assert "oracle" not in markdown(values)


def test_tables_fit_a_screen(values):
    from rich.console import Console

    for sheet in sheets(values):
        lines = _printed(Console(width=80), sheet)
        assert max(map(len, lines)) <= 80
        assert not any("…" in line for line in lines)


def _printed(console, sheet):
    with console.capture() as captured:
        console.print(sheet.rich())
    return [line.rstrip() for line in captured.get().splitlines()]


def test_a_curve_is_a_table():
    points = [{"mAP": 40.0, "low": 1, "high": 2, "runs": 1}, None]
    shared = [{**points[0], "oracle": 80.0, "share": 50.0}, None]
    curve = {
        "name": "training omit",
        "of": "training",
        "levels": [0.0, 0.75],
        "lines": {"base": points},
        "losses": {
            "base": {"mAP": 9.0, "of_base": {"ratio": 0.5, "low": 0.41, "high": 0.6}},
        },
    }
    (sheet,) = curve_sheets(curve)
    assert sheet.header == ("omit", "0", "0.75", "lost", "of base's loss")
    assert sheet.rows == [("base", "40.0", "", "9.0", "0.50 [0.41, 0.60]")]
    test = {**curve, "of": "test", "lines": {"base": shared}, "losses": {}}
    (sheet,) = curve_sheets(test)
    assert sheet.rows == [("base", "40.0 (50 %)", "")]
