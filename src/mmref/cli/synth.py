"""``mmref synth``: draw a set of the ambiguity benchmark and say how well it could be searched."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from mmref.cli.console import emit_json, err, out, progress_bar

if TYPE_CHECKING:
    from mmref.data.synthetic import SyntheticSettings

EPILOG = (
    "Example: mmref synth --domain figures --objects 400 --omit 0.5 --contradict 0.15 "
    "--out data/figures"
)
_IMAGES_A_WORKER = 100
_FIGURES = ("R@1", "R@5", "R@10", "mAP")


def command(
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="A new folder, or a drawn set to replace.")
    ],
    domain: Annotated[
        Literal["figures", "birds", "flowers"], typer.Option(help="What to draw.")
    ] = "figures",
    objects: Annotated[int, typer.Option(metavar="N", help="Training objects.")] = 400,
    val_objects: Annotated[
        int | None, typer.Option(metavar="N", help="Default: a quarter of --objects.")
    ] = None,
    test_objects: Annotated[
        int | None, typer.Option(metavar="N", help="Default: three eighths of --objects.")
    ] = None,
    images: Annotated[int, typer.Option(metavar="K", help="Views of each object.")] = 4,
    captions: Annotated[int, typer.Option(metavar="C", help="Captions of each image.")] = 2,
    held_out_captions: Annotated[
        int, typer.Option(metavar="C", help="More of each training image, kept from training.")
    ] = 1,
    omit: Annotated[
        float, typer.Option(metavar="P", help="Share of attributes that a caption leaves out.")
    ] = 0.4,
    contradict: Annotated[
        float, typer.Option(metavar="Q", help="Share of stated attributes that are wrong.")
    ] = 0.1,
    vague: Annotated[
        float, typer.Option(metavar="V", help="Share of vague words, such as dark for navy.")
    ] = 0.15,
    paraphrase: Annotated[
        float, typer.Option(metavar="R", help="Share of words that are not the usual ones.")
    ] = 0.4,
    test_omit: Annotated[
        float | None, typer.Option(metavar="P", help="--omit of val and test captions, if another.")
    ] = None,
    test_contradict: Annotated[
        float | None,
        typer.Option(metavar="Q", help="--contradict of val and test captions, if another."),
    ] = None,
    test_vague: Annotated[
        float | None,
        typer.Option(metavar="V", help="--vague of val and test captions, if another."),
    ] = None,
    test_paraphrase: Annotated[
        float | None,
        typer.Option(metavar="R", help="--paraphrase of val and test captions, if another."),
    ] = None,
    lookalikes: Annotated[
        int, typer.Option(metavar="N", help="Objects in a group that share most attributes.")
    ] = 4,
    differences: Annotated[
        int, typer.Option(metavar="N", help="A look-alike differs in 2 to N attributes.")
    ] = 4,
    occlude: Annotated[
        float, typer.Option(metavar="P", help="Probability that something hides part of a view.")
    ] = 0.35,
    nuisance: Annotated[
        float, typer.Option(metavar="X", help="Light, colour cast, blur, noise, clutter: 0 to 1.5.")
    ] = 1.0,
    size: Annotated[
        str | None,
        typer.Option(metavar="HxW", help="Pixels, such as 64x32; default: the domain's own."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="S", help="Other objects, views and captions.")] = 0,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document instead of tables.")
    ] = False,
) -> None:
    """Draw a set of the ambiguity benchmark: pictures with captions whose faults are known.

    Objects differ in a few of many attributes; captions leave some out and get some wrong. The
    manifest tells the true attributes, what each view shows, and what each caption says, omits and
    contradicts. The same options give the same set on every machine.

    The table's ceilings: "oracle" ranks by the exact P(object | caption), from the true attributes
    and the error rates; "visible oracle" knows of each image only what it shows. Ties count
    against them, as they do in mmref evaluate; with * it is the mean over all orders of what ties.

    \b
    Clear training captions, ambiguous test captions:
      mmref synth --omit 0 --contradict 0 --test-omit 0.5 --out data/clear
    Small, for a quick look:
      mmref synth --domain birds --objects 40 --size 64x64 --out data/birds
    Then:
      mmref train --data data/figures --out runs/figures
    """  # noqa: D301
    from mmref.data.synthetic.generate import SyntheticSettings

    settings = SyntheticSettings(
        domain=domain,
        objects=objects,
        val_objects=val_objects,
        test_objects=test_objects,
        images=images,
        captions=captions,
        held_out_captions=held_out_captions,
        omit=omit,
        contradict=contradict,
        vague=vague,
        paraphrase=paraphrase,
        test_omit=test_omit,
        test_contradict=test_contradict,
        test_vague=test_vague,
        test_paraphrase=test_paraphrase,
        lookalikes=lookalikes,
        differences=differences,
        occlude=occlude,
        nuisance=nuisance,
        image_size=_size(size),
        seed=seed,
    )
    _refuse_other(folder)
    _draw(settings, folder)
    found = _look(settings, folder)
    if json:
        emit_json(found)
    else:
        _show(found)


def _size(text: str | None) -> tuple[int, int]:
    """Height and width; (0, 0) for the domain's own."""
    from mmref.errors import ConfigError

    if text is None:
        return 0, 0
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise ConfigError(f"--size is HEIGHTxWIDTH in pixels (64x32), not {text!r}")
    return int(sides[0]), int(sides[1])


def _refuse_other(folder: Path) -> None:
    """Only an empty folder or a drawn set, with nothing else in it, is replaced."""
    from mmref.data.synthetic.annotations import is_generated
    from mmref.errors import PathError

    if folder.exists() and not folder.is_dir():
        raise PathError(f"{folder} is a file: name a folder to write to")
    if folder.is_dir() and any(folder.iterdir()) and not is_generated(folder):
        raise PathError(
            f"{folder} holds something else than a drawn set: name a new folder, or empty it"
        )


def _draw(settings: "SyntheticSettings", folder: Path) -> None:
    from mmref.data.synthetic.generate import cores, generate

    total = sum(settings.counts.values()) * settings.images
    # Two at least: workers clean up when this process is killed.
    processes = max(2, min(cores(), total // _IMAGES_A_WORKER))
    with progress_bar() as bar:
        task = bar.add_task("drawing", total=total, note="")
        generate(
            settings,
            folder,
            processes=processes,
            progress=lambda done, _: bar.update(task, completed=done),
        )


def _look(settings: "SyntheticSettings", folder: Path) -> dict[str, Any]:
    """Read the set back: what it holds, and the ceilings of val and test."""
    from mmref.data.dataset import RetrievalDataset
    from mmref.data.synthetic.annotations import summary

    dataset = RetrievalDataset.load(folder)
    with err().status("ceilings"):
        from mmref.evaluation.oracle import ceilings

        known = {
            split: {name: one.to_dict() for name, one in ceilings(dataset, split).items()}
            for split in dataset.split_names
            if split != "train"
        }
    return {
        "folder": str(folder),
        "settings": asdict(settings),
        "splits": summary(dataset),
        "ceilings": known,
    }


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    console = out()
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("split")
    for name in ("objects", "images", "captions", "with a mistake", "statements", "left out"):
        table.add_column(name, justify="right")
    for split, one in found["splits"].items():
        table.add_row(
            split,
            *(f"{one[name]:,}" for name in ("objects", "images", "captions")),
            f"{one['contradicting']:.1f} %",
            *(f"{one[name]:.1f}" for name in ("statements", "omitted")),
        )
    console.print(table)
    console.print("statements, left out: attributes of a caption, on average\n")
    if found["ceilings"]:
        _show_ceilings(found["ceilings"])
    folder = shlex.quote(found["folder"])
    console.print("\nNext:")
    for line in (f"mmref data {folder}", f"mmref train --data {folder} --out runs/mine"):
        console.print(f"  {line}", markup=False, soft_wrap=True)


def _show_ceilings(ceilings: dict[str, dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    table.add_column("ceiling", no_wrap=True)
    for name in (*_FIGURES, "MRR", "R@1*", "mAP*"):
        table.add_column(name, justify="right")
    for split, ways in ceilings.items():
        for who, one in ways.items():
            shared = (one["expected"]["R@1"], one["expected"]["mAP"])
            values = (*(one[name] for name in _FIGURES), one["object MRR"], *shared)
            table.add_row(f"{split}, {who}", *(f"{value:.1f}" for value in values))
    console = out()
    console.print(table)
    console.print("percent, the gallery is every image; MRR: every object by its best image")
    console.print("*: tied images in any order; otherwise they rank before the right ones")
