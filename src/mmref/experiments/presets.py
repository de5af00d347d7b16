"""The grids that ``mmref ablate --preset`` knows.

To add one, write a function from a start's settings to a ``Grid`` and name it in ``PRESETS``.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from mmref.config import Settings, dotted_names
from mmref.data.synthetic import SyntheticSettings
from mmref.errors import ConfigError
from mmref.experiments.grid import BASE, CAPTIONS_CONTROL, CONTROL, Curve, Entry, Grid, Plan, Unit
from mmref.experiments.variants import (
    BASELINES,
    COMPONENTS,
    PROTOTYPES,
    VARIANTS,
    control_of,
    variant,
)

FULL = "full"
LEVELS = (0.0, 0.25, 0.5, 0.75)
METHODS = (BASE, CONTROL, FULL)
CONTROLS = (CONTROL, CAPTIONS_CONTROL)
AMBIGUITIES = ("omit", "contradict")

# The full method with one thing about its references changed, around the defaults.
_CHANGES: tuple[tuple[str, tuple[object, ...]], ...] = (
    ("references.init", ("random",)),
    ("references.caption_epochs", (0.0, 8.0)),
    ("references.text_rate", (0.0, 1.0)),
    ("references.learning_rate", (3e-5, 3e-3)),
    ("references.temperature", (0.05, 0.2)),
    ("references.reconstruction_weight", (0.2,)),
)


def _named(names: tuple[str, ...], settings: Settings) -> tuple[Entry, ...]:
    found = []
    for name in names:
        chosen = variant(name, settings)
        entry = Entry(name, VARIANTS[name].title, chosen, control=control_of(chosen))
        found.append(entry)
    return tuple(found)


def components(settings: Settings, drawn: SyntheticSettings | None = None) -> Grid:
    """The full method step by step, and prototypes in the place of learned references."""
    del drawn
    names = (*COMPONENTS, *PROTOTYPES)
    return Grid(_named(tuple(dict.fromkeys(names)), settings))


def losses(settings: Settings, drawn: SyntheticSettings | None = None) -> Grid:
    """The base losses of other papers between the base and the full method."""
    del drawn
    return Grid(_named(BASELINES, settings))


def ambiguity(settings: Settings, drawn: SyntheticSettings | None = None) -> Grid:
    """Base, control and full as the captions grow ambiguous, in training and then in the test.

    In training: omission, then contradiction, at four levels with the test captions fixed. In the
    test: one model, trained at the given rates, on test captions of each level.
    """
    plain = _named(METHODS, settings)
    sweeps = tuple(
        (f"test_{kind}={level:g}", {f"test_{kind}": level})
        for kind in AMBIGUITIES
        for level in LEVELS
    )
    entries = [replace(entry, sweeps=sweeps) for entry in plain]
    curves = []
    for kind in AMBIGUITIES:
        usual = None if drawn is None else getattr(drawn, kind)  # these runs are there already
        at: dict[str, list[str]] = {name: [] for name in METHODS}
        for level in LEVELS:
            for entry in plain:
                name = entry.name if level == usual else f"{entry.name}-{kind}={level:g}"
                at[entry.name].append(name)
                if level != usual:
                    title = f"{entry.title}, {kind} {level:g}"
                    entries.append(
                        Entry(name, title, entry.settings, {kind: level}, control=entry.control)
                    )
        stops = {name: tuple(names) for name, names in at.items()}
        curves.append(Curve(f"training {kind}", LEVELS, stops))
    once = {entry.name: (entry.name,) for entry in plain}
    curves += [
        Curve(f"test {kind}", LEVELS, once, tuple(f"test_{kind}={level:g}" for level in LEVELS))
        for kind in AMBIGUITIES
    ]
    return Grid(tuple(entries), curves=tuple(curves))


def refinement(settings: Settings, drawn: SyntheticSettings | None = None) -> Grid:
    """One full model a seed, and every refinement of it."""
    del drawn
    return Grid(_named((FULL,), settings), task="refinement")


def references(settings: Settings, drawn: SyntheticSettings | None = None) -> Grid:
    """The full method with one thing about its references changed at a time."""
    del drawn
    known = set(dotted_names(settings.model_dump()))
    tree = settings.model_dump()
    entries, notes = list(_named((BASE, *CONTROLS, FULL), settings)), list[str]()
    for name, values in _CHANGES:
        if name not in known:
            notes.append(f"left out: {name}, for there is no such setting")
            continue
        section, key = name.split(".")
        for value in values:
            if tree[section][key] != value:
                short = f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}"
                changed = variant(FULL, settings, {name: value})
                entries.append(
                    Entry(f"{FULL}-{short}", f"{key} {value}", changed, control=control_of(changed))
                )
    return Grid(tuple(entries), notes=tuple(notes))


PRESETS: dict[str, Callable[[Settings, SyntheticSettings | None], Grid]] = {
    "components": components,
    "losses": losses,
    "ambiguity": ambiguity,
    "refinement": refinement,
    "references": references,
}
"""Name -> function that makes the grid of settings and, where data are drawn, the generator's."""


def grid_of(preset: str, settings: Settings, drawn: SyntheticSettings | None = None) -> Grid:
    """A preset's grid.

    Raises:
        ConfigError: there is no such preset.

    Example:
        >>> [entry.name for entry in grid_of("components", Settings()).entries][:3]
        ['base', 'identity', 'captions']
    """
    if preset not in PRESETS:
        raise ConfigError(f"no preset {preset!r}: choose from {', '.join(PRESETS)}")
    return PRESETS[preset](settings, drawn)


def fixed_test(drawn: SyntheticSettings) -> SyntheticSettings:
    """The test captions' rates written out, so that they stay when training's are changed.

    Example:
        >>> fixed_test(SyntheticSettings(omit=0.3)).test_omit
        0.3
    """
    rates = drawn.ambiguity("test")
    return replace(
        drawn,
        test_omit=rates.omit,
        test_contradict=rates.contradict,
        test_vague=rates.vague,
        test_paraphrase=drawn.paraphrasing("test"),
    )


def plan_of(
    preset: str,
    settings: Settings,
    units: tuple[Unit, ...],
    *,
    source: str | None = None,
    drawn: SyntheticSettings | None = None,
    split: str | None = None,
) -> Plan:
    """The plan of a preset on a data set, or on sets drawn for each seed.

    Raises:
        ConfigError: there is no such preset, or it does not go with the data.

    Example:
        >>> from mmref.experiments.grid import units
        >>> len(plan_of("losses", Settings(), units(3), source="data/flags").runs())
        30
    """
    drawn = None if drawn is None else fixed_test(drawn)
    return Plan(preset, grid_of(preset, settings, drawn), units, source, drawn, split)


def recipes_plan(
    named: Sequence[tuple[str, Settings]],
    units: tuple[Unit, ...],
    *,
    source: str,
    split: str | None = None,
) -> Plan:
    """A plan with one variant for each recipe; differences are to the first.

    Args:
        named: the recipes' names and settings.
        units: seeds or folds.
        source: the data set.
        split: the split that is reported; None for test where there is one.

    Raises:
        ConfigError: names clash, or the recipes do not train equally long.

    Example:
        >>> from mmref.experiments.grid import units
        >>> pair = [(name, Settings.from_yaml(name)) for name in ("cub-irra", "cub")]
        >>> recipes_plan(pair, units(1), source="cub:/data/cub").grid.notes
        ('to base: to cub-irra, the first recipe',)
    """
    entries = tuple(Entry(name, name, settings) for name, settings in named)
    first = entries[0].name if entries else BASE
    notes = (f"to base: to {first}, the first recipe",)
    return Plan("recipes", Grid(entries, base=first, notes=notes), units, source, split=split)
