"""What an ablation is made of: entries x units on one data set, under one budget.

An *entry* is a variant with all its settings; a *unit* is a seed or a fold; an entry in a unit is
one run. A plan says which runs there are, and refuses entries that do not train equally long.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from mmref.config import Settings
from mmref.data.synthetic import SyntheticSettings
from mmref.errors import ConfigError

FORMAT = 1
BASE, CONTROL, CAPTIONS_CONTROL = "base", "identity", "identity-captions"
Task = Literal["train", "refinement"]
_NAME = re.compile(r"[\w+=.-]+")
_BUDGET = ("epochs", "batch_size", "patience")


@dataclass(frozen=True)
class Entry:
    """A variant of a grid.

    Attributes:
        name: as in ``--only`` and as a folder's name.
        title: a few words for tables.
        settings: all settings; the unit sets the seed.
        synth: generator values that differ from the plan's (drawn data alone).
        control: the entry that is trained as this one is but for the references.
        sweeps: further test sets on which the trained model is scored, each a name and the
            generator values that make it (drawn data alone).
    """

    name: str
    title: str
    settings: Settings
    synth: Mapping[str, Any] = field(default_factory=dict)
    sweeps: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    control: str = CONTROL


@dataclass(frozen=True)
class Unit:
    """A seed, or one fold of the objects as a seed deals them.

    Example:
        >>> Unit(1).name, Unit(0, 2, 5).name
        ('seed-1', 'seed-0-fold-2')
    """

    seed: int
    fold: int | None = None
    folds: int = 0

    @property
    def name(self) -> str:
        """For folders and tables."""
        return f"seed-{self.seed}" + ("" if self.fold is None else f"-fold-{self.fold}")


@dataclass(frozen=True)
class Curve:
    """Entries along one kind of ambiguity.

    Attributes:
        name: what changes, such as ``training omit``.
        levels: its values, rising.
        entries: method -> the entry of each level (or, for ``swept``, the one entry trained).
        swept: the names of the sweeps, one for each level; empty when training changes.
    """

    name: str
    levels: tuple[float, ...]
    entries: Mapping[str, tuple[str, ...]]
    swept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grid:
    """What a preset makes of settings.

    Attributes:
        entries: the variants.
        task: ``train``, or ``refinement`` for a grid of refinements of each trained model.
        curves: for the preset ``ambiguity``.
        base: the entry with which the others are compared.
        notes: what to say aloud, such as a variant that was left out.
    """

    entries: tuple[Entry, ...]
    task: Task = "train"
    curves: tuple[Curve, ...] = ()
    base: str = BASE
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All runs of an ablation.

    Attributes:
        preset: the grid's name.
        grid: its entries.
        units: seeds or folds.
        source: the data set; None when it is drawn.
        drawn: the generator's settings; each seed draws its own set.
        split: the split that is reported; None for test where there is one.

    Raises:
        ConfigError: names clash, budgets differ, or folds are asked of drawn data.

    Example:
        >>> entry = Entry("base", "base", Settings().base_objective())
        >>> plan = Plan("mine", Grid((entry,)), units(2), source="data/flags")
        >>> [(entry.name, unit.name) for entry, unit in plan.runs()]
        [('base', 'seed-0'), ('base', 'seed-1')]
    """

    preset: str
    grid: Grid
    units: tuple[Unit, ...]
    source: str | None = None
    drawn: SyntheticSettings | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        if (self.source is None) == (self.drawn is None):
            raise ConfigError("an ablation is of one data set: a source, or a domain to draw")
        if self.drawn is not None and any(unit.fold is not None for unit in self.units):
            raise ConfigError("folds are for a data set: drawn sets have splits of their own")
        entries = self.grid.entries
        if not entries or not self.units:
            raise ConfigError("an ablation needs at least one variant, and one seed or fold")
        names = [entry.name for entry in entries]
        bad = [name for name in names if not _NAME.fullmatch(name) or names.count(name) > 1]
        if bad:
            raise ConfigError(f"variant {bad[0]!r}: names are unique, of letters, digits and -_.+=")
        if self.drawn is None and any(entry.synth or entry.sweeps for entry in entries):
            raise ConfigError(f"{self.preset} changes the captions: it takes --domain, not --data")
        require_one_budget(entries)

    def entry(self, name: str) -> Entry:
        """The entry of this name."""
        return next(entry for entry in self.grid.entries if entry.name == name)

    def runs(self, only: Sequence[str] = ()) -> list[tuple[Entry, Unit]]:
        """The runs, all variants of one unit before the next unit.

        Args:
            only: names of entries; all when empty.

        Raises:
            ConfigError: there is no such variant.
        """
        names = [entry.name for entry in self.grid.entries]
        for name in only:
            if name not in names:
                raise ConfigError(
                    f"{self.preset} has no variant {name!r}: choose from {', '.join(names)}"
                )
        return [
            (entry, unit)
            for unit in self.units
            for entry in self.grid.entries
            if not only or entry.name in only
        ]

    def settings(self, entry: Entry, unit: Unit) -> Settings:
        """The settings of one run."""
        return entry.settings.with_values({"training.seed": unit.seed})

    def synthetic(self, unit: Unit, values: Mapping[str, Any]) -> SyntheticSettings | None:
        """The generator's settings of one unit with some values replaced; None for a source."""
        return None if self.drawn is None else replace(self.drawn, seed=unit.seed, **values)

    def identity(self, entry: Entry, unit: Unit, fingerprint: str) -> dict[str, Any]:
        """All that decides what a run finds (JSON); runs of equal identity are one."""
        synthetic = self.synthetic(unit, entry.synth)
        return {
            "format": FORMAT,
            "task": self.grid.task,
            "settings": self.settings(entry, unit).model_dump(mode="json"),
            "data": fingerprint,
            "split": self.split,
            "unit": asdict(unit),
            "synth": plain(synthetic),
            "sweeps": {
                name: plain(self.synthetic(unit, {**entry.synth, **values}))
                for name, values in entry.sweeps
            },
        }


def plain(settings: SyntheticSettings | None) -> dict[str, Any] | None:
    """The generator's settings as JSON has them."""
    if settings is None:
        return None
    return {**asdict(settings), "image_size": list(settings.image_size)}


def units(seeds: int, folds: int = 0, first: int = 0) -> tuple[Unit, ...]:
    """The units of so many seeds, or of so many folds for each seed.

    Raises:
        ConfigError: no seed, or a single fold.

    Example:
        >>> [unit.name for unit in units(1, 2)]
        ['seed-0-fold-0', 'seed-0-fold-1']
    """
    if seeds < 1 or folds == 1 or folds < 0:
        raise ConfigError("an ablation takes 1 seed or more, and 2 folds or more")
    numbers = range(first, first + seeds)
    if not folds:
        return tuple(Unit(seed) for seed in numbers)
    return tuple(Unit(seed, fold, folds) for seed in numbers for fold in range(folds))


def require_one_budget(entries: Sequence[Entry]) -> None:
    """All entries train for the same number of epochs and in equal batches.

    Raises:
        ConfigError: one differs from the first; the message names both.

    Example:
        >>> long = Settings().with_values({"training.epochs": 99})
        >>> require_one_budget([Entry("a", "", Settings()), Entry("b", "", long)])
        Traceback (most recent call last):
        ...
        mmref.errors.ConfigError: variants a and b differ in training.epochs (8 and 99): ...
    """
    first = entries[0]
    for entry in entries[1:]:
        for name in _BUDGET:
            one = getattr(first.settings.training, name)
            other = getattr(entry.settings.training, name)
            if one != other:
                raise ConfigError(
                    f"variants {first.name} and {entry.name} differ in training.{name} "
                    f"({one} and {other}): give all the same budget"
                )


def differing(one: Any, other: Any, prefix: str = "") -> list[str]:
    """Dotted names of what differs between two trees of JSON.

    Example:
        >>> differing({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
        ['a.c']
    """
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return [] if one == other else [prefix or "value"]
    found: list[str] = []
    for name in sorted(set(one) | set(other)):
        inner = f"{prefix}.{name}" if prefix else name
        found += differing(one.get(name), other.get(name), inner)
    return found
