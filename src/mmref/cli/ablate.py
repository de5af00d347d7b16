"""``mmref ablate``: a grid of variants x seeds or folds on one data set, under one budget."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmref.cli.console import emit_json, err, out, progress_bar, say

if TYPE_CHECKING:
    from mmref.experiments.ablation import Results
    from mmref.experiments.grid import Plan

EPILOG = (
    "Example: mmref ablate --domain figures --synth omit=0.5,contradict=0.15 "
    "--preset components --seeds 5 --out ablations/figures"
)
SEEDS = 3


def command(
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="A new folder, or one to go on with.")
    ],
    preset: Annotated[
        Literal["components", "losses", "ambiguity", "refinement", "references"] | None,
        typer.Option(help="The grid of variants."),
    ] = None,
    recipes: Annotated[
        list[Path] | None,
        typer.Option(
            "--recipe",
            metavar="F.yaml",
            help="Instead of a preset: a variant is a file of settings or a recipe; repeatable, "
            "the first is what others are compared with.",
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="The data set: a path, or format:path.")
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Draw a set a seed instead: figures, birds, flowers."),
    ] = None,
    synth: Annotated[
        str | None,
        typer.Option(metavar="K=V,...", help="How to draw: objects=400,omit=0.5,image_size=64x32"),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help=f"Seeds; default: {SEEDS}, or 1 with --folds."),
    ] = None,
    folds: Annotated[
        int, typer.Option(metavar="K", min=0, help="Deal the objects into K folds instead.")
    ] = 0,
    config: Annotated[
        Path | None, typer.Option(metavar="F.yaml", help="A file of settings; --set wins over it.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting by dotted name; repeatable."),
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Run these variants alone, for now.")
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Runs at a time; default: one a core; 0: in here."),
    ] = None,
    split: Annotated[
        Literal["test", "val"] | None,
        typer.Option("--test-split", help="The split to report; default: test if there is one."),
    ] = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Go on although the code changed between runs.")
    ] = False,
    plot: Annotated[
        bool, typer.Option("--plot/--no-plot", help="Draw results.png (needs mmref[plots]).")
    ] = True,
    json: Annotated[
        bool, typer.Option("--json", help="Print results.json on stdout instead of tables.")
    ] = False,
) -> None:
    """Train a grid of variants and compare them, paired and with intervals.

    All variants have the same data, epochs and batches, and so steps with images. What some do
    beside them, steps with captions alone and of the decoder, stands in the table of costs. Every
    choice is made on validation objects. components: the method step by step; losses: the base
    losses of other papers; ambiguity: base, control and full as captions leave out more or say
    more that is wrong (drawn data); refinement: every refinement of one model a seed; references:
    how references are trained.

    Each run is a process of one core. An interrupted grid goes on with the same command: finished
    runs are kept. DIR gets results.json, results.md and results.png.
    """
    from mmref.experiments.ablation import run_ablation

    plan = _plan(
        preset, recipes or [], data, domain, synth, seeds, folds, config, assignments or [], split
    )
    if jobs is None and any(e.settings.encoder.kind == "clip" for e in plan.grid.entries):
        jobs = 0  # one after the other, with all cores or the GPU
    for note in plan.grid.notes:
        say(f"note: {note}")
    with progress_bar() as bar:
        tasks: dict[str, Any] = {}
        names = {"drawing": "drawing sets", "runs": "runs"}

        def progress(what: str, done: float, total: int, line: str) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(names[what], total=total, note="")
            bar.update(tasks[what], completed=done)
            if line:
                bar.console.print(line, markup=False, soft_wrap=True)

        names_only = [name.strip() for name in (only or "").split(",") if name.strip()]
        results = run_ablation(
            plan,
            folder,
            only=names_only,
            jobs=jobs,
            picture=plot,
            mixed=mixed,
            progress=progress,
        )
    _show(results, json, plot)


def _plan(
    preset: str | None,
    recipes: list[Path],
    data: str | None,
    domain: str | None,
    synth: str | None,
    seeds: int | None,
    folds: int,
    config: Path | None,
    assignments: list[str],
    split: str | None,
) -> "Plan":
    """The runs that the options ask for; whatever is wrong with them is said here."""
    from mmref.cli.settings import given_values, keys_of
    from mmref.config import Settings
    from mmref.errors import UsageError

    if (data is None) == (domain is None):
        raise UsageError("name a data set by --data, or a domain to draw by --domain")
    if synth is not None and domain is None:
        raise UsageError("--synth says how to draw: it goes with --domain, not with --data")
    if (preset is None) == (not recipes):
        raise UsageError("name the variants by --preset, or by --recipe, once for each")
    if recipes and (domain is not None or config is not None):
        raise UsageError("--recipe goes with --data, and takes the place of --config")
    values = given_values(assignments)
    if recipes:
        return _of_recipes(recipes, str(data), values, seeds, folds, split)
    base = (Settings() if config is None else Settings.from_yaml(config)).with_values(values)
    given = {*values, *keys_of(config)}

    from mmref.data.dataset import RetrievalDataset
    from mmref.experiments.drawn import fitting_drawn, synthetic_settings
    from mmref.experiments.grid import units
    from mmref.experiments.presets import plan_of
    from mmref.training.fitting import fitting_settings

    chosen = units(seeds or (1 if folds else SEEDS), folds)
    assert preset is not None
    if domain is not None:
        drawn = synthetic_settings(domain, synth or "")
        settings = fitting_drawn(drawn, base, given)
        return plan_of(preset, settings, chosen, drawn=drawn, split=split)
    settings, notes = fitting_settings(RetrievalDataset.load(str(data)), base, given)
    for note in notes:
        say(f"note: {note}")
    return plan_of(preset, settings, chosen, source=data, split=split)


def _of_recipes(
    recipes: list[Path],
    data: str,
    values: dict[str, Any],
    seeds: int | None,
    folds: int,
    split: str | None,
) -> "Plan":
    """A variant for each recipe, all on one data set."""
    from mmref.cli.settings import keys_of
    from mmref.config import Settings

    read = [Settings.from_yaml(recipe).with_values(values) for recipe in recipes]

    from mmref.data.dataset import RetrievalDataset
    from mmref.experiments.grid import units
    from mmref.experiments.presets import recipes_plan
    from mmref.training.fitting import fitting_settings

    dataset = RetrievalDataset.load(data)
    named = []
    for recipe, settings in zip(recipes, read, strict=True):
        fitted, notes = fitting_settings(dataset, settings, {*values, *keys_of(recipe)})
        named.append((recipe.stem, fitted))
        for note in notes:
            say(f"note: {recipe.stem}: {note}")
    chosen = units(seeds or (1 if folds else SEEDS), folds)
    return recipes_plan(named, chosen, source=data, split=split)


def _show(results: "Results", json: bool, plot: bool) -> None:
    """The tables, where they were written, and an error at the end when a run failed."""
    from mmref.errors import TrainingError
    from mmref.experiments.sheets import remarks, sheets

    console = err() if json else out()
    console.print(results.values["title"], markup=False)
    for sheet in sheets(results.values):
        console.print()
        console.print(sheet.rich())
    console.print()
    for line in remarks(results.values):
        console.print(line, markup=False)
    if json:
        emit_json(results.values)
    suffixes = "json, .md and .png" if plot and results.rows else "json and .md"
    say(f"wrote {results.folder / 'results'}.{suffixes}")
    if results.failures:
        first, reason = next(iter(results.failures.items()))
        count = len(results.failures)
        failed = f"{count} runs failed (first: " if count > 1 else "1 run failed ("
        raise TrainingError(f"{failed}{first}: {reason}); the same command tries again")
