import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from mmref.config import Settings
from mmref.errors import ConfigError
from mmref.experiments.grid import units
from mmref.experiments.presets import recipes_plan

_spec = spec_from_file_location(
    "recipe_sets", Path(__file__).parents[1] / "experiments" / "sets.py"
)
sets = module_from_spec(_spec)
_spec.loader.exec_module(sets)

QUICK = ["--jobs", "0", "--no-plot", "--seeds", "1"] + [
    word for name, value in sets.SMALL.items() for word in ("--set", f"{name}={value}")
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return sets.write_set(tmp_path_factory.mktemp("data"))


def test_recipes_side_by_side(run_mmref, data, tmp_path):
    (tmp_path / "plain.yaml").write_text("loss:\n  kind: tal\nreferences:\n  fusion_weight: 0\n")
    (tmp_path / "more.yaml").write_text("extends: plain\nreferences:\n  fusion_weight: 1\n")
    done = run_mmref(
        "ablate", "--data", data, "--out", tmp_path / "out", *QUICK,
        "--recipe", tmp_path / "plain.yaml", "--recipe", tmp_path / "more.yaml",
    )  # fmt: skip
    assert done.status == 0
    assert "recipes on" in done.out
    assert "to base: to plain" in done.out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {name: v["settings"]["loss"]["kind"] for name, v in results["variants"].items()} == {
        "plain": "tal",
        "more": "tal",
    }
    rows = results["rows"]
    assert rows["plain"]["to_base"] is None
    assert rows["more"]["to_base"]["against"] == "plain"
    gap = rows["more"]["metrics"]["mAP"] - rows["plain"]["metrics"]["mAP"]
    assert rows["more"]["to_base"]["difference"] == pytest.approx(gap, abs=1e-9)


def test_shipped_recipes_have_one_budget():
    for name in ("cuhk-pedes", "icfg-pedes", "rstpreid", "cub", "flowers"):
        names = [f"{name}-irra", f"{name}-rde", name, f"{name}-siglip"]
        plan = recipes_plan([(n, Settings.from_yaml(n)) for n in names], units(2), source="x")
        assert len(plan.runs()) == 8
    pair = [(n, Settings.from_yaml(n)) for n in ("cub", "cub-compact")]
    with pytest.raises(ConfigError, match=r"cub and cub-compact differ in training\."):
        recipes_plan(pair, units(1), source="x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "DATA"], "by --preset, or by --recipe"),
        (["--data", "DATA", "--preset", "losses", "--recipe", "cub"], "by --preset, or by"),
        (["--domain", "figures", "--recipe", "cub"], "--recipe goes with --data"),
        (["--data", "DATA", "--recipe", "cub", "--config", "cub"], "the place of --config"),
        (["--data", "DATA", "--recipe", "cubs"], "did you mean the recipe cub?"),
        (["--data", "DATA", "--recipe", "cub-compact", "--recipe", "cub-compact"], "unique"),
    ],
)
def test_what_is_asked_wrongly(run_mmref, data, tmp_path, words, message):
    filled = [data if word == "DATA" else word for word in words]
    left = run_mmref("ablate", *filled, *QUICK, "--out", tmp_path / "out")
    assert left.status == 2
    assert message in left.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
