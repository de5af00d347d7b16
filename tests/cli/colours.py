"""A small run that knows colours, and pictures to index with it."""

import json

import numpy as np
import torch
from PIL import Image

from mmref.config import Settings
from mmref.encoders.build import new_encoder, start, tokeniser_for
from mmref.model import MMRef, References, RefinementChoice

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 40, 220),
    "white": (250, 250, 250),
    "black": (5, 5, 5),
    "yellow": (230, 220, 20),
}


def save_run(folder, *, kind="compact", form="posterior", seed=0):
    """A whole run folder: closed-form start on plain colours, random references."""
    torch.manual_seed(seed)
    names = list(COLOURS)
    values = {"encoder.kind": kind, "encoder.block": 8, "encoder.width": 8}
    sizes = {"encoder.image_height": 16, "encoder.image_width": 16, "encoder.grid": 4}
    settings = Settings().with_values(values | sizes | {"encoder.kernel_features": 64})
    captions = [f"a {name} {word}" for name in names for word in ("card", "sheet")]
    tokeniser = tokeniser_for(captions)
    images = torch.tensor([COLOURS[name] for name in names]).float()
    if kind == "compact":
        images = images.to(torch.uint8)[:, :, None, None].expand(-1, 3, 16, 16).contiguous()
    rows = torch.arange(len(captions)) // 2
    encoder = new_encoder(settings.encoder, tokeniser, tokeniser.ids(captions), images)
    start(encoder, tokeniser.ids(captions), rows, images, seed)
    vectors = torch.nn.functional.normalize(torch.randn(10, encoder.dimension), dim=1)
    mean = vectors.mean(0)
    references = References(vectors, tuple(map(str, range(10))), mean, mean.clone(), {})
    choice = form and RefinementChoice(form, 0.5, 0.1, 4)
    MMRef(encoder, settings, references, choice).save_pretrained(folder)
    return folder


def save_pictures(folder, names=tuple(COLOURS)):
    """One picture of each colour."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (20, 20), COLOURS[name]).save(folder / f"{name}.png")
    return folder


def save_features(folder):
    """The colours as a SOURCE that has features alone."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "features.npy", np.array(list(COLOURS.values()), dtype=np.float32))
    rows = [
        {"image": f"{name}-id", "captions": [f"a {name} card"], "identity": name}
        | {"split": "val" if row else "train", "feature_row": row}
        for row, name in enumerate(COLOURS)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "manifest.jsonl").write_text(text, encoding="utf-8")
    return folder
