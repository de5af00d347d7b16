"""Where the data of an ablation's units lie, and how they are known again."""

from dataclasses import replace
from pathlib import Path

from mmref.data.dataset import RetrievalDataset
from mmref.errors import ConfigError, SplitError
from mmref.experiments.demo import reported_split
from mmref.experiments.drawn import draw, fingerprint, is_drawn
from mmref.experiments.grid import Plan, Unit
from mmref.experiments.worker import development


class Sources:
    """Where each unit's data lie, and their fingerprints.

    Args:
        plan: it is kept with the split that is reported by name.
        folder: for drawn sets.

    Raises:
        MMRefError: the data set cannot be read, or has no such split.
    """

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan, self._folder = plan, folder
        self._known: dict[str, tuple[str, str]] = {}
        if plan.source is not None:
            self._look(plan.source)
        elif plan.drawn is not None:
            split = plan.split or "test"
            if not plan.drawn.counts.get(split):
                raise SplitError(f"the drawn set has no {split} objects: report another split")
            self.plan = replace(plan, split=split)

    def _look(self, source: str) -> None:
        dataset, folds = RetrievalDataset.load(source), self.plan.units[0].folds
        if folds:
            if self.plan.split is not None:
                raise ConfigError("folds report their held-out objects: leave out the test split")
            dataset = development(dataset)
            objects = len(dataset.object_names)
            if objects < 4 * folds:
                raise ConfigError(f"{objects} objects are too few for {folds} folds")
        else:
            _, split, _ = reported_split(dataset, self.plan.split)
            self.plan = replace(self.plan, split=split)
        place = str(Path(source).resolve()) if Path(source).exists() else source
        self._known[""] = place, dataset.fingerprint()

    def of(self, unit: Unit) -> tuple[str, str]:
        """Address and fingerprint of a unit's data."""
        drawn = self.plan.synthetic(unit, {})
        if drawn is None:
            return self._known[""]
        if unit.name not in self._known:
            place = draw(drawn, self._folder)
            self._known[unit.name] = str(place.resolve()), fingerprint(place)
        return self._known[unit.name]

    def known(self, unit: Unit) -> str | None:
        """Fingerprint of a unit's data; None where they are still to be drawn."""
        drawn = self.plan.synthetic(unit, {})
        if drawn is not None and not is_drawn(drawn, self._folder):
            return None
        return self.of(unit)[1]

    def places(self) -> dict[str, Path]:
        """The folders of drawn sets, by unit."""
        return {name: Path(place) for name, (place, _) in self._known.items() if name}
