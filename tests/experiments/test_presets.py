from dataclasses import replace

import pytest

from mmref.config import Settings
from mmref.errors import ConfigError
from mmref.experiments.grid import units
from mmref.experiments.presets import LEVELS, PRESETS, fixed_test, grid_of, plan_of

from .sets import DRAWN


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_a_plan_of_one_budget(preset):
    start = Settings().with_values({"training.epochs": 5})
    plan = plan_of(preset, start, units(2), drawn=DRAWN)
    assert {entry.settings.training.epochs for entry in plan.grid.entries} == {5}
    assert len(plan.runs()) == 2 * len(plan.grid.entries)
    assert plan.entry("full").settings == start


@pytest.mark.parametrize("preset", ["components", "losses", "ambiguity", "references"])
def test_base_and_control_are_there(preset):
    grid = grid_of(preset, Settings())
    found = {entry.name: entry.settings for entry in grid.entries}
    assert found["base"] == Settings().base_objective()
    assert found["identity"] == Settings().identity_control()


@pytest.mark.parametrize("preset", ["components", "losses", "references"])
def test_no_two_variants_are_the_same(preset):
    entries = grid_of(preset, Settings()).entries
    assert len({entry.settings for entry in entries}) == len(entries)


def test_an_unknown_preset_is_said():
    with pytest.raises(ConfigError, match="no preset 'all': choose from components, losses"):
        grid_of("all", Settings())


def test_training_ambiguity_leaves_the_test_captions_alone():
    drawn = replace(DRAWN, omit=0.5, contradict=0.15)
    plan = plan_of("ambiguity", Settings(), units(1), drawn=drawn)
    tests = set()
    for entry in plan.grid.entries:
        made = plan.synthetic(plan.units[0], entry.synth)
        tests.add((made.ambiguity("test"), made.paraphrasing("test")))
        assert made.ambiguity("train").omit == entry.synth.get("omit", 0.5)
        assert made.ambiguity("train").contradict == entry.synth.get("contradict", 0.15)
    assert len(tests) == 1
    assert fixed_test(drawn).ambiguity("test") == drawn.ambiguity("test")


def test_ambiguity_runs_each_set_once():
    drawn = replace(DRAWN, omit=0.5, contradict=0.15)
    grid = grid_of("ambiguity", Settings(), drawn)
    omit, contradict, test_omit, test_contradict = grid.curves
    assert omit.entries["full"] == ("full-omit=0", "full-omit=0.25", "full", "full-omit=0.75")
    assert contradict.entries["base"][2] == "base-contradict=0.5"
    assert len(grid.entries) == 3 + 3 * 3 + 3 * 4
    names = {entry.name for entry in grid.entries}
    for curve in (omit, contradict):
        assert {name for stops in curve.entries.values() for name in stops} <= names
    sweeps = dict(grid.entries[0].sweeps)
    assert {*test_omit.swept, *test_contradict.swept} == set(sweeps)
    assert [sweeps[name]["test_omit"] for name in test_omit.swept] == list(LEVELS)


def test_ambiguity_takes_no_data_set():
    with pytest.raises(ConfigError, match="it takes --domain, not --data"):
        plan_of("ambiguity", Settings(), units(1), source="data")


def test_references_change_one_thing_at_a_time():
    grid = grid_of("references", Settings())
    full = Settings().model_dump()
    for entry in grid.entries:
        if entry.name.startswith("full-"):
            tree = entry.settings.model_dump()
            changed = [f"{s}.{k}" for s in tree for k in tree[s] if tree[s][k] != full[s][k]]
            assert len(changed) == 1, entry.name
            assert changed[0].startswith("references.")
    for note in grid.notes:
        assert note.startswith("left out: references.")
