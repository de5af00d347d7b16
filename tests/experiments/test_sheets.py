import pytest

from mmref.experiments.ablation import _notes, results_of
from mmref.experiments.grid import Entry, Grid, Plan, units
from mmref.experiments.sheets import curve_sheets, markdown, sheets

from .sets import DRAWN, made_run, methods, plan_on, small

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
    assert costs.rows[2][1:] == ("2", "10+0+0", "1,000", "100 + 30")


def test_steps_without_images_stand_beside_those_with_them():
    runs = {
        (name, "seed-0"): made_run(OBJECTS, {"unrefined": {"mAP": [1.0, 2.0, 3.0, 4.0]}}, **steps)
        for name, steps in {
            "base": {},
            "identity": {},
            "full": {"caption_steps": 1200, "decoder_steps": 7},
        }.items()
    }
    values = results_of(plan_on("data/birds"), runs)
    *_, costs = sheets(values)
    assert "captions alone" in costs.title
    assert {row[0]: row[2] for row in costs.rows}["full"] == "10+1,200+7"
    notes = _notes(plan_on("data/birds"), runs)
    assert notes[:2] == [
        "beside the image steps: base, identity took no caption step and no decoder step",
        "beside the image steps: full took 1,200 caption steps and 7 decoder steps",
    ]
    del runs["full", "seed-0"][0]["caption_steps"]  # a run of older code
    *_, costs = sheets(results_of(plan_on("data/birds"), runs))
    assert {row[0]: row[2] for row in costs.rows}["full"] == "10+?+7"


def test_each_variant_stands_beside_its_own_control():
    entries = (
        *methods(),
        Entry("identity-captions", "fair", small(), control="identity-captions"),
        Entry("best", "best", small(), control="identity-captions"),
        Entry("lonely", "its control is in no grid", small(), control="elsewhere"),
    )
    means = {"base": 1, "identity": 2, "full": 6, "identity-captions": 4, "best": 9, "lonely": 5}
    runs = {
        (name, "seed-0"): made_run(OBJECTS, {"unrefined": {"mAP": [float(mean)] * 4}})
        for name, mean in means.items()
    }
    values = results_of(plan_on("data", entries=entries), runs)
    best = values["rows"]["best"]
    assert (best["to_identity"]["difference"], best["to_control"]["difference"]) == (7, 5)
    assert best["to_control"]["against"] == "identity-captions"
    assert values["rows"]["identity-captions"]["to_control"] is None
    assert values["rows"]["lonely"]["to_control"]["against"] == "identity"
    text = markdown(values)
    assert "| best | +8.0 [+8.0, +8.0] .0002 | +7.0 [+7.0, +7.0] .0002 |" in text
    assert "| best | identity-captions | +5.0 [+5.0, +5.0] .0002 |" in text
    assert "| full | identity |" not in text  # said in the other table already


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
