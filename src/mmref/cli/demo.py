"""``mmref demo``: the main job in one go, on drawn figures or on one's own data."""

import shlex
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmref.cli.console import err, out, progress_bar, say
from mmref.errors import PathError

if TYPE_CHECKING:
    from mmref.data.dataset import Query, RetrievalDataset
    from mmref.evaluation.report import Report

EPILOG = "Example: mmref demo --data data/flags --out demo-flags"
MARK = "demo.json"
SECONDS = 145.0
QUESTIONS, SHOWN = 3, 5
_OURS = ("data", "base", "mmref", "test.store", "val.store", "sheet.png", MARK)


def command(
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where everything goes.")
    ] = Path("demo"),
    data: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Your data set; figures are drawn without it."),
    ] = None,
    split: Annotated[
        Literal["val", "test"] | None,
        typer.Option(help="The split to report; default: test where there is one."),
    ] = None,
    encoder: Annotated[
        Literal["compact", "features"] | None,
        typer.Option(help="Default: pixels for small sets, features for large ones."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(metavar="N", min=1, help="Training time of each method.")
    ] = SECONDS,
) -> None:
    """Train, compare, index and search, offline, in about three minutes.

    Draws people-like figures with captions that omit and contradict (or takes your data set),
    trains MMRef and the base objective alone on one budget, prints their figures, indexes the
    test pictures, answers three sentences, and writes a contact sheet.
    """
    from mmref.data.dataset import RetrievalDataset
    from mmref.experiments import demo

    begun = time.monotonic()
    dataset = RetrievalDataset.load(data) if data is not None else None
    if dataset is not None:
        demo.reported_split(dataset, split)  # a wrong split is said before anything is written
    _make_room(folder)
    if dataset is None:
        with err().status("drawing figures"):
            dataset = demo.draw(folder / "data")
    training, split_name, notes = demo.reported_split(dataset, split)
    with err().status("measuring how fast this machine trains"):
        settings, more = demo.settings_for(training, encoder, seconds, drawn=data is None)
    for note in [*dataset.notes, *notes, *more]:
        say(f"note: {note}")
    runs = {"base": folder / "base", "MMRef": folder / "mmref"}
    with progress_bar() as bar:
        tasks = {name: bar.add_task(f"{name:5}", total=None, note="") for name in runs}

        def progress(name: str, done: int, total: int, note: str) -> None:
            bar.update(tasks[name], completed=done, total=total, note=" ".join(note.split()[:4]))

        demo.train_both(training, settings, runs, progress)
    reports = _compare(dataset, split_name, runs)
    source = data if data is not None else str(folder / "data")
    answers = _search(dataset, split_name, runs["MMRef"], folder)
    _finish(folder, source, split_name, reports, answers, time.monotonic() - begun)


def _make_room(folder: Path) -> None:
    """Empty the folder of an earlier demonstration; refuse any other that is not empty."""
    from mmref.files import require_writable_folder, write_json

    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise PathError(
            f"{folder} is not empty and not of an earlier demo: name another with --out"
        )
    require_writable_folder(folder)
    for name in _OURS:
        target = folder / name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
    write_json(folder / MARK, {"finished": False})


def _compare(dataset: "RetrievalDataset", split: str, runs: dict[str, Path]) -> dict[str, "Report"]:
    """Evaluate both runs and print one table."""
    from mmref.evaluation.evaluator import evaluate
    from mmref.evaluation.tables import add_figures, figures_table, figures_title
    from mmref.model import MMRef

    reports = {
        name: evaluate(MMRef.from_pretrained(path), dataset, split) for name, path in runs.items()
    }
    full = reports["MMRef"]
    title = figures_title(
        f"{dataset.name}, {split}",
        queries=full.queries,
        gallery=full.gallery,
        objects=full.objects,
    )
    table = figures_table(title)
    for name, figures in methods(reports).items():
        add_figures(table, name, figures)
    console = out()
    console.print(table)
    gain = difference(reports)
    console.print(
        f"Chance: R@1 {full.chance:.2f}; MMRef has {full.t2i['R@1'] / full.chance:.0f} times that.",
        markup=False,
    )
    console.print(
        f"MMRef over base: {gain['difference']:+.1f} mAP, 95 % from {gain['low']:+.1f} to "
        f"{gain['high']:+.1f} (bootstrap over objects).",
        markup=False,
    )
    if full.refinement["form"] is None:
        console.print("Validation found no refinement that helps: refined is unrefined here.")
    return reports


def methods(reports: dict[str, "Report"]) -> dict[str, Any]:
    """The table's rows: base, MMRef, MMRef refined."""
    full = reports["MMRef"]
    return {
        "base": reports["base"].unrefined or reports["base"].t2i,
        "MMRef": full.unrefined or full.t2i,
        "MMRef refined": full.t2i,
    }


def difference(reports: dict[str, "Report"]) -> dict[str, float]:
    """MMRef, as it is used, minus base in mAP, paired over the same captions."""
    from mmref.metrics.bootstrap import paired_difference

    first, second = reports["base"].figures["t2i"], reports["MMRef"].figures["t2i"]
    found = paired_difference(first.per_query["mAP"], second.per_query["mAP"], first.objects)
    return {
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
    }


def _search(
    dataset: "RetrievalDataset", split: str, run: Path, folder: Path
) -> list[dict[str, Any]]:
    """Index the split's pictures, answer its most detailed captions, draw the sheet."""
    from mmref.model import MMRef
    from mmref.search.engine import Searcher
    from mmref.search.ingest.index import index_images
    from mmref.search.sheet import Row, contact_sheet, tile_of

    part = dataset.split(split)
    store = folder / f"{split}.store"
    with err().status("indexing"):
        model = MMRef.from_pretrained(run)
        index_images(model, [part], str(store), run=str(run))
    objects = {str(path): name for path, name in zip(part.image_paths, part.objects, strict=True)}
    objects |= dict(zip(part.images, part.objects, strict=True))
    tall = model.image_size is not None and model.image_size[0] > 1.4 * model.image_size[1]
    answers, rows, console = [], [], out()
    console.print(f"\nThe {QUESTIONS} most detailed captions, asked as sentences:")
    with Searcher.open(str(store), model) as searcher:
        for query in most_detailed(part):
            hits = searcher.search(query.caption, k=SHOWN)
            marks = [objects.get(str(hit.path)) == query.object for hit in hits]
            console.print(f"\n{query.caption}", markup=False)
            for hit, right in zip(hits, marks, strict=True):
                sign = "right" if right else ""
                console.print(
                    f"  {hit.rank}. {hit.score:6.3f}  {Path(hit.path).name:28.28}  {sign}",
                    markup=False,
                )
            tiles = [tile_of(hit, mark) for hit, mark in zip(hits, marks, strict=True)]
            rows.append(Row(query.caption, tiles))
            answers.append(
                {
                    "query": query.caption,
                    "object": query.object,
                    "results": [h.as_dict() for h in hits],
                    "right": marks,
                }
            )
    contact_sheet(rows, folder / "sheet.png", tile=(192, 96) if tall else (144, 144))
    return answers


def most_detailed(part: "RetrievalDataset", count: int = QUESTIONS) -> list["Query"]:
    """The longest captions of different objects, longest first; ties in the set's order."""
    longest = sorted(part.queries(), key=lambda query: -len(query.caption.split()))
    chosen: dict[str, Query] = {}
    for query in longest:
        chosen.setdefault(query.object, query)
    return list(chosen.values())[:count]


def _finish(
    folder: Path,
    source: str,
    split: str,
    reports: dict[str, "Report"],
    answers: list[dict[str, Any]],
    seconds: float,
) -> None:
    """Write demo.json and say what to type next."""
    from mmref.environment import describe_environment
    from mmref.files import write_json

    full = reports["MMRef"]
    write_json(
        folder / MARK,
        {
            "finished": True,
            "source": source,
            "split": split,
            "queries": full.queries,
            "gallery": full.gallery,
            "objects": full.objects,
            "chance": {"R@1": full.chance},
            "methods": methods(reports),
            "ci95": {name: report.ci95 for name, report in reports.items()},
            "refinement": full.refinement,
            "MMRef - base": {"mAP": difference(reports)},
            "answers": answers,
            "seconds": round(seconds, 1),
            **describe_environment(),
        },
    )
    console = out()
    run, store = shlex.quote(str(folder / "mmref")), shlex.quote(str(folder / f"{split}.store"))
    console.print(f"\nDone in {seconds:.0f} s. Look at {folder / 'sheet.png'}. Next:", markup=False)
    for line in (
        f"mmref search --store {store} {shlex.quote(_short(answers))}",
        f"mmref evaluate {run} --data {shlex.quote(source)} --split {split} --i2t --controls",
        "mmref demo --data YOUR_FOLDER"
        if source.startswith(str(folder))
        else f"mmref train --data {shlex.quote(source)} --out runs/mine",
    ):
        console.print(f"  {line}", markup=False, soft_wrap=True)


def _short(answers: list[dict[str, Any]]) -> str:
    """A few words of the first sentence."""
    return " ".join(str(answers[0]["query"]).split()[:6]).rstrip(",.;") if answers else "words"
