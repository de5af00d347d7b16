"""``mmref embed``: a data set's images as vectors, for the features encoder."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from mmref.cli.console import err, out, progress_bar, say

EPILOG = "Example: mmref embed openai/clip-vit-base-patch16 --data data/flags --out data/flags-clip"
_SHOWN = 5


def command(
    model: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run, or a CLIP or SigLIP checkpoint: folder or id."),
    ],
    data: Annotated[
        str, typer.Option(metavar="SOURCE", help="The data set: a path, or format:path.")
    ],
    target: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="The folder for them, a new one.")
    ],
    splits: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Which image or identity is in which split."),
    ] = None,
    half: Annotated[
        bool, typer.Option("--half", help="Half precision: half the size on disk.")
    ] = False,
) -> None:
    """Encode a data set's images once and write them as a data set of vectors.

    DIR then holds features.npy and manifest.jsonl with captions, identities, splits and metadata:
    mmref train --data DIR --encoder features trains on it in minutes without a GPU.
    """
    from mmref.data.dataset import RetrievalDataset
    from mmref.data.readers import with_split_file

    dataset = RetrievalDataset.load(with_split_file(data, splits))

    from mmref.evaluation.embedding import embed_dataset, require_new
    from mmref.model import MMRef

    require_new(target)
    encoder = MMRef.from_pretrained(model).to("auto")
    with progress_bar() as bar:
        tasks: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(f"encoding {what}", total=total, note="")
            bar.update(tasks[what], completed=done)

        done = embed_dataset(encoder, dataset, target, half=half, progress=progress)
    for note in done.notes:
        say(f"note: {note}")
    for bad in done.skipped[:_SHOWN]:
        err().print(f"skipped {bad.path}: {bad.reason}", markup=False, soft_wrap=True)
    if len(done.skipped) > _SHOWN:
        say(f"... and {len(done.skipped) - _SHOWN:,} more skipped")
    console = out()
    skipped = f", {len(done.skipped):,} images skipped" if done.skipped else ""
    console.print(
        f"{done.images:,} vectors of {done.dimension:,} numbers in {target}{skipped}",
        markup=False,
    )
    name = shlex.quote(str(target))
    console.print("Next:")
    console.print(
        f"  mmref train --data {name} --encoder features --out RUN", markup=False, soft_wrap=True
    )
