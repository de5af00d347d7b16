import pytest

from mmref.config import Settings
from mmref.errors import ConfigError
from mmref.experiments.grid import Curve, Entry, Grid, Plan, differing, units

from .sets import DRAWN, methods, plan_on, small


def test_runs_take_all_variants_of_a_unit_first():
    plan = plan_on("data", seeds=2)
    assert [(entry.name, unit.name) for entry, unit in plan.runs(["base", "full"])] == [
        ("base", "seed-0"),
        ("full", "seed-0"),
        ("base", "seed-1"),
        ("full", "seed-1"),
    ]


def test_only_names_variants_that_exist():
    with pytest.raises(ConfigError, match="no variant 'ful': choose from base, identity, full"):
        plan_on("data").runs(["ful"])


@pytest.mark.parametrize("name", ["epochs", "batch_size", "patience"])
def test_another_budget_is_refused(name):
    other = Entry("long", "long", small(**{f"training__{name}": 77}))
    with pytest.raises(ConfigError, match=f"base and long differ in training.{name} .* and 77"):
        plan_on("data", entries=(*methods(), other))


@pytest.mark.parametrize("names", [["a", "a"], ["a/b"], ["../up"], [""], ["a b"]])
def test_names_are_those_of_folders(names):
    entries = tuple(Entry(name, "", Settings()) for name in names)
    with pytest.raises(ConfigError, match="names are unique"):
        plan_on("data", entries=entries)


def test_one_source_of_data():
    grid = Grid(methods())
    with pytest.raises(ConfigError, match="one data set"):
        Plan("mine", grid, units(1))
    with pytest.raises(ConfigError, match="one data set"):
        Plan("mine", grid, units(1), source="data", drawn=DRAWN)
    with pytest.raises(ConfigError, match="folds are for a data set"):
        Plan("mine", grid, units(1, 3), drawn=DRAWN)


def test_captions_of_a_data_set_cannot_be_changed():
    entries = (Entry("base", "", Settings(), {"omit": 0.5}),)
    with pytest.raises(ConfigError, match="it takes --domain"):
        plan_on("data", entries=entries)
    assert Plan("mine", Grid(entries), units(1), drawn=DRAWN).runs()


@pytest.mark.parametrize(("seeds", "folds"), [(0, 0), (1, 1), (1, -1)])
def test_units_make_sense(seeds, folds):
    with pytest.raises(ConfigError):
        units(seeds, folds)


def test_a_run_is_known_by_all_that_decides_it():
    plan, other = (
        plan_on("data", seeds=2),
        plan_on("data", seeds=2, entries=methods(small(training__remix=0.25))),
    )
    (entry, one), (_, two) = plan.runs(["full"])
    identity = plan.identity(entry, one, "print")
    assert identity == plan.identity(entry, one, "print")
    assert differing(identity, plan.identity(entry, two, "print")) == [
        "settings.training.seed",
        "unit.seed",
    ]
    assert differing(identity, plan.identity(entry, one, "other")) == ["data"]
    changed = other.identity(other.entry("full"), one, "print")
    assert differing(identity, changed) == ["settings.training.remix"]


def test_a_drawn_run_names_its_set_and_its_sweeps():
    entry = Entry("base", "", Settings(), {"omit": 0.1}, (("test_omit=0.9", {"test_omit": 0.9}),))
    plan = Plan("mine", Grid((entry,), curves=(Curve("x", (0.1,), {}),)), units(2), drawn=DRAWN)
    identity = plan.identity(entry, plan.units[1], "print")
    assert (identity["synth"]["seed"], identity["synth"]["omit"]) == (1, 0.1)
    assert identity["sweeps"]["test_omit=0.9"]["test_omit"] == 0.9
    assert identity["sweeps"]["test_omit=0.9"]["omit"] == 0.1
