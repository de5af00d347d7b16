"""A model whose vectors are known: the mean colours of a picture's quarters."""

import hashlib
import os
import time

import numpy as np
import torch
from PIL import Image

from mmref.references.refinement import Refiner

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 40, 220),
    "white": (250, 250, 250),
    "black": (5, 5, 5),
    "yellow": (230, 220, 20),
}
DIMENSION = 12


class ColourModel:
    """A sentence is the colours that it names, over the whole picture."""

    def __init__(
        self, kind="compact", refine="posterior", *, name="colours", digest="c0ffee", pause=0.0
    ):
        self.kind, self.id, self.digest, self.dimension = kind, name, digest, DIMENSION
        self.image_size = None if kind == "features" else (8, 8)
        self.pause, self.encoded = pause, 0
        references = torch.randn(30, DIMENSION, generator=torch.Generator().manual_seed(1))
        self.refiner = refine and Refiner(
            references, refine, weight=0.5, temperature=0.2, kept=6, **means(refine)
        )

    def to(self, device):
        return self

    def encode_text(self, texts, batch_size=256):
        rows = []
        for text in texts:
            named = [colour for name, colour in COLOURS.items() if name in text.split()]
            rows.append(np.tile(np.mean(named, axis=0) / 255 - 0.5, 4) if named else np.zeros(12))
        return torch.nn.functional.normalize(torch.tensor(np.array(rows)).float(), dim=1)

    def encode_image(self, items, batch_size=256):
        self.encoded += len(items)
        time.sleep(self.pause)
        if self.kind == "features":
            return torch.nn.functional.normalize(torch.as_tensor(items).float(), dim=1)
        if not isinstance(items, np.ndarray):
            items = np.stack(
                [np.asarray(i.resize((8, 8)).convert("RGB")).transpose(2, 0, 1) for i in items]
            )
        quarters = items.reshape(len(items), 3, 2, 4, 2, 4).mean(axis=(3, 5)) / 255 - 0.5
        flat = quarters.transpose(0, 2, 3, 1).reshape(len(items), DIMENSION)
        return torch.nn.functional.normalize(torch.tensor(flat).float(), dim=1)


def means(form):
    if form != "centred":
        return {}
    return {"text_mean": torch.full((12,), 0.1), "image_mean": torch.full((12,), -0.1)}


def picture(path, seed, colour=None, size=(10, 12)):
    """Write a picture: one colour, or quarters of colours drawn by ``seed``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if colour is not None:
        Image.new("RGB", size, COLOURS[colour]).save(path)
    else:
        quarters = np.random.default_rng(seed).integers(0, 256, (2, 2, 3)).astype(np.uint8)
        Image.fromarray(quarters.repeat(6, 0).repeat(6, 1)).save(path)
    return path


def pictures(folder, count, start=0):
    """``count`` different pictures."""
    return [picture(folder / f"{n:04d}.png", n) for n in range(start, start + count)]


def contents(store):
    """All that a store says of its items but for their numbers: comparable between stores."""
    items = {item.place.path: item for item in store.items()}
    vectors = store.vectors([item.id for item in items.values()])
    return {
        path: (item.digest, item.place.size, hashlib.sha256(vector.tobytes()).hexdigest())
        for (path, item), vector in zip(items.items(), vectors, strict=True)
    }


def unprivileged():
    """Whether permissions bind this process."""
    return os.geteuid() != 0
