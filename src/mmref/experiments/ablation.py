"""A plan -> its runs, resumable one by one -> ``results.json``, ``results.md``, ``results.png``.

The folder::

    ablation.json    the preset, what it is of, and the settings of each variant
    data/            drawn sets, one for each seed
    runs/VARIANT/    UNIT.json and UNIT.npz of each finished run
    work/            jobs in progress, and what failed runs said
    results.*        the outcome, written anew each time
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmref.data.dataset import RetrievalDataset
from mmref.environment import describe_environment
from mmref.errors import ConfigError, PathError, SplitError, UsageError
from mmref.experiments.curves import curve_results
from mmref.experiments.demo import cores, reported_split
from mmref.experiments.drawn import draw, fingerprint
from mmref.experiments.grid import FORMAT, Entry, Plan, Unit, differing, plain
from mmref.experiments.plots import plot, require_matplotlib
from mmref.experiments.pooling import Pool, Runs
from mmref.experiments.refinement_table import refinement_results
from mmref.experiments.scheduling import Done, run_apart, run_here
from mmref.experiments.sheets import sheets
from mmref.experiments.worker import development, read_result
from mmref.files import PARTIAL_MARK, atomic_write, require_writable_folder, write_json

MARK = "ablation.json"
RESULTS = "results"

Progress = Callable[[str, float, int, str], None]
"""Called with what is done ("drawing", "runs"), how much of it, of how much, and a line to say."""


@dataclass
class Results:
    """What an ablation found.

    Attributes:
        values: what ``results.json`` holds.
        failures: run -> why it failed.
        folder: where it all lies.
    """

    values: dict[str, Any]
    failures: dict[str, str] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The table: row -> figures, intervals, differences and costs."""
        rows: dict[str, dict[str, Any]] = self.values["rows"]
        return rows


def run_ablation(
    plan: Plan,
    out: str | Path,
    *,
    only: Sequence[str] = (),
    jobs: int | None = None,
    picture: bool = True,
    progress: Progress | None = None,
) -> Results:
    """Do the runs of a plan that are not done yet, and write the results of all that are.

    Args:
        plan: the runs.
        out: the folder, a new one or that of the same ablation. Finished runs are kept.
        only: names of variants; the others' finished runs are still in the results.
        jobs: runs at a time, each in a process of one thread; all cores by default, and 0 for
            one after the other in this process.
        picture: write ``results.png`` (matplotlib, the extra ``plots``).
        progress: told how far it is, and a line for each run that ends.

    Returns:
        The results. A run that fails is in ``failures``; the others go on.

    Raises:
        ConfigError: an unknown variant, or the folder's runs are of other settings or data.
        PathError: the folder holds something else, or cannot be written.
        UsageError: another process is at work in the folder.
        MissingExtraError: matplotlib is not there and a picture is wanted.

    Example::

        grid = grid_of("components", Settings())
        plan = Plan("components", grid, units(5), source="data/flags")
        run_ablation(plan, "ablations/flags").rows["full refined"]["to_base"]
    """
    say = progress or (lambda *_: None)
    if picture:
        require_matplotlib()
    wanted = plan.runs(only)
    folder = Path(out)
    _require_ours(folder, plan)
    sources = _Sources(plan, folder / "data")
    plan = sources.plan
    with _alone(require_writable_folder(folder)):
        _tidy(folder)
        write_json(folder / MARK, _described(plan))
        if plan.drawn is not None:
            for number, unit in enumerate(plan.units):
                say("drawing", number, len(plan.units), "")
                sources.of(unit)
            say("drawing", len(plan.units), len(plan.units), "")
        waiting = []
        for entry, unit in plan.runs():
            job = _job(plan, entry, unit, sources, folder)
            if not _is_done(job) and (entry, unit) in wanted:
                waiting.append((f"{entry.name}/{unit.name}", job))
        ended = _do(waiting, folder, jobs, len(wanted), say)
        runs = _finished(plan, sources, folder)
        failures = {done.name: done.message for done in ended if done.message is not None}
        values = results_of(plan, runs) | {"failures": failures, "notes": _notes(plan, runs)}
        _write(values, folder, picture)
    return Results(values, failures, folder)


def results_of(plan: Plan, runs: Runs) -> dict[str, Any]:
    """What is written of the finished runs."""
    pool = Pool(plan, runs)
    return {
        "format": FORMAT,
        "title": _title(plan, runs),
        **_described(plan),
        "finished_runs": len(runs),
        "all_runs": len(plan.runs()),
        "rows": pool.table(),
        "curves": [curve_results(pool, curve) for curve in plan.grid.curves],
        "refinement": refinement_results(pool, plan.grid.entries[0].name)
        if plan.grid.task == "refinement"
        else None,
        "runs": [
            {"variant": name, "unit": unit, **_short(facts)}
            for (name, unit), (facts, _) in runs.items()
        ],
        **describe_environment(),
    }


def _short(facts: dict[str, Any]) -> dict[str, Any]:
    """A run's facts without what is long, or written elsewhere."""
    left_out = {"identity", "npz", "history", "refinement_search", "refinements", "versions"}
    return {name: value for name, value in facts.items() if name not in {*left_out, "machine"}}


def _title(plan: Plan, runs: Runs) -> str:
    of = plan.source or f"drawn {plan.drawn.domain if plan.drawn else ''}"
    folds = len({unit.fold for unit in plan.units} - {None})
    seeds = len({unit.seed for unit in plan.units})
    what = f"{folds} folds" if folds else f"{seeds} seed{'s' if seeds > 1 else ''}"
    splits = {facts["split"] for facts, _ in runs.values()}
    split = "held-out objects" if folds else f"{', '.join(sorted(splits)) or '-'} split"
    return f"{plan.preset} on {Path(of).name if plan.source else of}: {split}, {what}"


def _described(plan: Plan) -> dict[str, Any]:
    return {
        "preset": plan.preset,
        "source": plan.source,
        "synthetic": plain(plan.drawn),
        "units": [unit.name for unit in plan.units],
        "variants": {
            entry.name: {
                "title": entry.title,
                "settings": entry.settings.model_dump(mode="json"),
                "synth": dict(entry.synth),
            }
            for entry in plan.grid.entries
        },
    }


def _notes(plan: Plan, runs: Runs) -> list[str]:
    notes = [*plan.grid.notes, *Pool(plan, runs).unequal_steps()]
    for facts, _ in runs.values():
        notes += [note for note in facts["notes"] if note not in notes]
    missing = len(plan.runs()) - len(runs)
    if missing:
        notes.append(f"{missing} of {len(plan.runs())} runs are not finished")
    return notes


class _Sources:
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


def _job(plan: Plan, entry: Entry, unit: Unit, sources: _Sources, folder: Path) -> dict[str, Any]:
    source, mark = sources.of(unit)
    target = folder.resolve() / "runs" / entry.name / unit.name
    return {
        "source": source,
        "target": str(target),
        "identity": json.loads(json.dumps(plan.identity(entry, unit, mark))),
    }


def _is_done(job: dict[str, Any]) -> bool:
    """Whether the job's run is finished.

    Raises:
        ConfigError: a run of other settings or data stands in its place.
    """
    target = Path(job["target"])
    if not target.with_name(f"{target.name}.json").is_file():
        return False
    found = read_result(target)
    if found is None:
        return False  # damaged: it is done again
    other = differing(found[0].get("identity"), job["identity"])
    if other:
        raise ConfigError(
            f"{target.parent.name}/{target.name} was run with another "
            f"{', '.join(name.removeprefix('settings.') for name in other[:3])}: "
            "name another folder, or remove it"
        )
    return True


def _do(
    waiting: list[tuple[str, dict[str, Any]]],
    folder: Path,
    jobs: int | None,
    total: int,
    say: Progress,
) -> list[Done]:
    before = total - len(waiting)

    def tick(done: float, ended: Done | None) -> None:
        say("runs", before + done, total, "" if ended is None else _line(ended, waiting))

    say("runs", before, total, f"{before} of {total} runs are finished already" if before else "")
    if not waiting:
        return []
    if jobs == 0:
        return run_here(waiting, tick)
    return run_apart(waiting, folder / "work", jobs or cores(), tick)


def _line(ended: Done, jobs: list[tuple[str, dict[str, Any]]]) -> str:
    """What to say of a run that has ended."""
    if ended.message is not None:
        return f"{ended.name} failed: {ended.message}"
    found = read_result(Path(dict(jobs)[ended.name]["target"]))
    figures = found[0]["figures"] if found else {}
    said = ", ".join(f"{way} {values['mAP']:.1f}" for way, values in figures.items())
    return f"{ended.name}: mAP {said} ({ended.seconds:.0f} s)"


def _finished(plan: Plan, sources: _Sources, folder: Path) -> Runs:
    """All finished runs of the plan, of variants that were not asked for this time too."""
    runs: Runs = {}
    for entry, unit in plan.runs():
        job = _job(plan, entry, unit, sources, folder)
        if _is_done(job):
            found = read_result(Path(job["target"]))
            if found is not None:
                runs[entry.name, unit.name] = found
    return runs


def _require_ours(folder: Path, plan: Plan) -> None:
    """Refuse a folder of something else, before anything is written.

    Raises:
        PathError: it is not empty and of no ablation.
        ConfigError: it is of another preset or data set.
    """
    if folder.is_dir() and (folder / MARK).is_file():
        try:
            known = json.loads((folder / MARK).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return  # it is written anew, and each run is checked by itself
        if known.get("preset") != plan.preset:
            raise ConfigError(
                f"{folder} holds the ablation {known.get('preset')!r}, not {plan.preset!r}: "
                "name another folder"
            )
        return
    if folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir()):
        raise PathError(f"{folder} is not empty and of no ablation: name another folder")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, where the system has such locks.

    Raises:
        UsageError: another process holds it.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"another ablation is at work in {folder}: wait for it") from error
        yield


def _tidy(folder: Path) -> None:
    """Remove what a kill left half written."""
    for place in (folder, folder / "data", folder / "work", *(folder / "runs").glob("*")):
        for partial in place.glob(f"{PARTIAL_MARK}*"):
            if partial.is_dir():
                shutil.rmtree(partial, ignore_errors=True)
            else:
                partial.unlink(missing_ok=True)


def _write(values: dict[str, Any], folder: Path, picture: bool) -> None:
    write_json(folder / f"{RESULTS}.json", values)
    with atomic_write(folder / f"{RESULTS}.md") as partial:
        partial.write_text(markdown(values), encoding="utf-8")
    if picture and values["rows"]:
        plot(values, folder / f"{RESULTS}.png")


def markdown(values: dict[str, Any]) -> str:
    """The tables with what must be said beside them."""
    parts = [f"# {values['title']}", *(sheet.markdown() for sheet in sheets(values))]
    parts.append("\n".join(f"- {line}" for line in remarks(values)))
    return "\n\n".join(part for part in parts if part) + "\n"


def remarks(values: dict[str, Any]) -> list[str]:
    """How the tables are to be read."""
    rows = values["rows"].values()
    lines = []
    if rows:
        most = max(rows, key=lambda row: row["queries"])
        runs = "a run" if most["runs"] == 1 else f"{most['runs']} runs"
        lines.append(
            f"{most['queries']:,} queries of {most['objects']:,} objects in {runs} of each "
            "variant; intervals and p-values by bootstrap over objects."
        )
    lines += [
        "Choices (epoch, part shares, refinement) were made on validation objects.",
        "Refined rows are compared with the control refined, others with its cosine.",
    ]
    lines += values.get("notes", [])
    lines += [f"{name} failed: {why}" for name, why in values.get("failures", {}).items()]
    return lines
