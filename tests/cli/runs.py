"""Small data sets, and whole run folders that nothing was trained for: quick to make."""

import json

import numpy as np
import torch
from PIL import Image

from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.data.images import load_batch
from mmref.encoders.build import new_encoder, tokeniser_for
from mmref.files import write_json
from mmref.model import MMRef
from mmref.references.kept import References, RefinementChoice

COLOURS = ("red", "green", "blue", "white", "black", "brown")
THINGS = ("cup", "hat", "box", "bag")


def write_data(folder, *, length=6, pixels=False, seed=0, splits=("train", "val", "test")):
    """24 objects with an image and two captions each.

    Args:
        folder: made when it is missing.
        length: numbers of each image's vector; 0 for no vectors.
        pixels: write the image files.
        seed: of the vectors.
        splits: the objects take turns in them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    if length:
        np.save(folder / "features.npy", generator.standard_normal((24, length)).astype("f4"))
    lines = []
    for row in range(24):
        words = f"{COLOURS[row % 6]} {THINGS[row // 6]}"
        line = {
            "image": f"{row}.png",
            "captions": [f"a {words}", f"this {words} stands here"],
            "identity": f"o{row}",
            "split": splits[row % len(splits)],
        }
        lines.append(line | ({"feature_row": row} if length else {}))
        if pixels:
            Image.new("RGB", (16, 16), (10 * row, 40, 200 - 8 * row)).save(folder / f"{row}.png")
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def write_run(data, folder, *, kind="features", seed=0, refined=True, record=True):
    """An untrained but whole run folder with references, for this data set.

    Args:
        data: of :func:`write_data`.
        folder: of the run.
        kind: of the encoder.
        seed: of the weights.
        refined: with a refinement, as if validation had chosen it.
        record: write what a training writes about its data into ``metrics.json``.
    """
    whole = RetrievalDataset.load(data)
    part = whole.split("train")
    small = {"encoder.kind": kind, "encoder.block": 16, "encoder.deep": 8, "encoder.width": 8}
    small |= {"encoder.grid": 8, "encoder.image_height": 16, "encoder.image_width": 16}
    settings = Settings().with_values(small)
    captions = [query.caption for query in part.queries()]
    tokeniser = tokeniser_for(captions)
    torch.manual_seed(seed)
    if kind == "features":
        images = torch.from_numpy(part.features())
    else:
        images = torch.from_numpy(load_batch(part.image_paths, (16, 16)).pixels)
    encoder = new_encoder(settings.encoder, tokeniser, tokeniser.ids(captions), images)
    objects = tuple(part.object_names)
    drawn = torch.randn(len(objects), encoder.dimension)
    vectors = torch.nn.functional.normalize(drawn, dim=1)
    references = References(vectors, objects, vectors.mean(0), vectors.mean(0), {})
    choice = RefinementChoice("posterior", 1.0, 0.1, 4) if refined else None
    MMRef(encoder, settings, references, choice).save_pretrained(folder)
    if record:
        told = {
            name: {
                "name": whole.name,
                "objects": len(one.object_names),
                "fingerprint": one.fingerprint(),
            }
            for name, one in (("train", part), ("val", whole.split("val")))
        }
        choices = {"best_epoch": 2, "epochs": 5, "seed": seed, "refinement": None, "notes": []}
        write_json(folder / "metrics.json", choices | told)
    return folder
