"""A plan -> its runs, resumable one by one -> ``results.json``, ``results.md``, ``results.png``.

The folder::

    ablation.json    the preset, what it is of, and the settings of each variant
    data/, oracle/   drawn sets, one for each seed, and their ceilings
    runs/VARIANT/    UNIT.json and UNIT.npz of each finished run
    work/            jobs in progress, and what failed runs said
    results.*        the outcome, written anew each time
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmref.data.synthetic.generate import cores
from mmref.environment import describe_environment
from mmref.errors import ConfigError, PathError, UsageError
from mmref.experiments.code_state import code_state
from mmref.experiments.curves import curve_results
from mmref.experiments.grid import FORMAT, Entry, Plan, Unit, differing, plain
from mmref.experiments.oracles import Oracles, oracle_mean, oracles_of, with_oracle
from mmref.experiments.plots import plot, require_matplotlib
from mmref.experiments.pooling import Pool, Runs
from mmref.experiments.refinement_table import refinement_results
from mmref.experiments.scheduling import Done, run_apart, run_here
from mmref.experiments.sheets import markdown
from mmref.experiments.sources import Sources
from mmref.experiments.worker import read_result
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
    mixed: bool = False,
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
        mixed: go on even when finished runs were made by other code than there is now; the
            results say so.
        progress: told how far it is, and a line for each run that ends.

    Returns:
        The results. A run that fails is in ``failures``; the others go on.

    Raises:
        ConfigError: an unknown variant, or the folder's runs are of other settings, data or code.
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
    sources = Sources(plan, folder / "data")
    plan = sources.plan
    _require_same(plan, sources, folder, wanted, mixed)
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
        known = oracles_of(plan, _done_units(plan, runs), sources.places(), folder / "oracle")
        values = results_of(plan, runs, known) | {"failures": failures, "notes": _notes(plan, runs)}
        _write(values, folder, picture)
    return Results(values, failures, folder)


def results_of(plan: Plan, runs: Runs, oracles: Oracles | None = None) -> dict[str, Any]:
    """What is written of the finished runs.

    Args:
        plan: whose runs they are.
        runs: the finished ones.
        oracles: the oracle's figures of drawn sets.
    """
    pool, known = Pool(plan, runs), oracles or {}
    oracle = oracle_mean([known.get((unit.name, "")) for unit in _done_units(plan, runs)])
    return {
        "format": FORMAT,
        "title": _title(plan, runs),
        **_described(plan),
        "finished_runs": len(runs),
        "all_runs": len(plan.runs()),
        "oracle": oracle,
        "rows": with_oracle(pool.table(), oracle),
        "curves": [curve_results(pool, curve, known) for curve in plan.grid.curves],
        "refinement": refinement_results(pool, plan.grid.entries[0].name)
        if plan.grid.task == "refinement"
        else None,
        "runs": [
            {"variant": name, "unit": unit, **_short(facts)}
            for (name, unit), (facts, _) in runs.items()
        ],
        **describe_environment(),
    }


def _done_units(plan: Plan, runs: Runs) -> list[Unit]:
    done = {unit for _, unit in runs}
    return [unit for unit in plan.units if unit.name in done]


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
    notes += Pool(plan, runs).stage_steps()
    codes = Counter(str(facts.get("code", "unknown")) for facts, _ in runs.values())
    if len(codes) > 1:
        made = ", ".join(f"{count} by {code}" for code, count in codes.most_common())
        notes.append(f"the runs were made by different code ({made}): do not compare them closely")
    missing = len(plan.runs()) - len(runs)
    if missing:
        notes.append(f"{missing} of {len(plan.runs())} runs are not finished")
    return notes


def _job(plan: Plan, entry: Entry, unit: Unit, sources: Sources, folder: Path) -> dict[str, Any]:
    source, mark = sources.of(unit)
    return {
        "source": source,
        "target": str(_target(folder, entry, unit)),
        "identity": json.loads(json.dumps(plan.identity(entry, unit, mark))),
    }


def _target(folder: Path, entry: Entry, unit: Unit) -> Path:
    """Where a run's result goes, without a suffix."""
    return folder.resolve() / "runs" / entry.name / unit.name


def _require_same(
    plan: Plan,
    sources: Sources,
    folder: Path,
    wanted: list[tuple[Entry, Unit]],
    mixed: bool,
) -> None:
    """Refuse to go on with runs that cannot stand beside new ones, before anything is written.

    Raises:
        ConfigError: a finished run is of other settings or data, or there are runs to do and
            finished ones were made by other code.
    """
    others, waiting = Counter[str](), False
    for entry, unit in plan.runs():
        target, mark = _target(folder, entry, unit), sources.known(unit)
        found = read_result(target)
        waiting |= found is None and (entry, unit) in wanted
        if found is not None:
            facts = found[0]
            if mark is None:  # not drawn yet: the same settings draw the same
                mark = (facts.get("identity") or {}).get("data", "")
            _require_identity(facts, plan.identity(entry, unit, mark), target)
            if facts.get("code") != code_state():
                others[str(facts.get("code") or "code of which nothing is known")] += 1
    if others and waiting and not mixed:
        count, (code, _) = sum(others.values()), others.most_common(1)[0]
        raise ConfigError(
            f"{count} finished run{'s' if count > 1 else ''} in {folder} were made by {code}, "
            f"and the code is {code_state()} now: name another folder with --out, "
            "or go on all the same with --mixed"
        )


def _require_identity(facts: dict[str, Any], identity: dict[str, Any], target: Path) -> None:
    """Refuse a run of other settings or data.

    Raises:
        ConfigError: it is one.
    """
    other = differing(facts.get("identity"), json.loads(json.dumps(identity)))
    if other:
        raise ConfigError(
            f"{target.parent.name}/{target.name} was run with another "
            f"{', '.join(name.removeprefix('settings.') for name in other[:3])}: "
            "name another folder, or remove it"
        )


def _is_done(job: dict[str, Any]) -> bool:
    """Whether the job's run is finished; a damaged one is done again.

    Raises:
        ConfigError: a run of other settings or data stands in its place.
    """
    found = read_result(Path(job["target"]))
    if found is not None:
        _require_identity(found[0], job["identity"], Path(job["target"]))
    return found is not None


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


def _finished(plan: Plan, sources: Sources, folder: Path) -> Runs:
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
