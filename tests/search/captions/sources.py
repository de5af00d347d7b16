"""Small SOURCEs with captions, and how they are indexed."""

import json

from mmref.search.captions.index import index_captions
from mmref.search.captions.listing import list_captions
from mmref.search.ingest.index import index_images

from ..fakes import COLOURS, picture


def write_source(folder, rows):
    """A SOURCE: {picture: its captions}, a picture named after a colour shows it."""
    lines = []
    for number, (name, captions) in enumerate(rows.items()):
        colour = name.split("-")[0]
        if not (folder / f"{name}.png").is_file():
            picture(folder / f"{name}.png", number, colour if colour in COLOURS else None)
        split = "val" if number else "train"
        lines.append({"image": f"{name}.png", "captions": captions, "identity": colour}
                     | {"split": split, "camera": f"c-{name}"})  # fmt: skip
    (folder / "manifest.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder


def index_both(model, sources, store, **options):
    """As ``mmref index --captions`` does."""
    listing = list_captions(sources, features=model.kind == "features")
    report = index_images(model, sources, store, prune=options.get("prune", False))
    sweep = report.moved + report.removed > 0
    return index_captions(model, listing, store, sweep=sweep, **options)
