"""A model whose vectors are known: it reads the object's number out of captions and images."""

import numpy as np
import torch
from PIL import Image

from mmref.data.dataset import RetrievalDataset, build_table

OBJECTS = 8


class FakeModel:
    """Caption "n3 of ..." and a grey image of level 3 both stand near axis 3."""

    id, digest, dimension = "fake-000000000000", "0" * 64, OBJECTS

    def __init__(self, kind="compact", refiner=None, noise=0.8):
        self.kind, self.refiner, self.noise = kind, refiner, noise
        self.image_size = (8, 8) if kind == "compact" else None
        self.texts_seen, self.images_seen = [], []

    def _near(self, axes, seed):
        vectors = torch.nn.functional.one_hot(torch.tensor(axes), OBJECTS).float()
        noise = torch.stack(
            [torch.randn(OBJECTS, generator=torch.Generator().manual_seed(s)) for s in seed]
        )
        return torch.nn.functional.normalize(vectors + self.noise * noise, dim=1)

    def encode_text(self, captions, batch_size=256):
        self.texts_seen += captions
        return self._near([int(c[1]) for c in captions], [hash_of(c) for c in captions])

    def encode_image(self, images, batch_size=256):
        self.images_seen.append(images)
        if self.kind == "features":
            return torch.nn.functional.normalize(torch.as_tensor(images), dim=1)
        levels = [round(float(image.mean()) / 20) for image in np.asarray(images)]
        return self._near(levels, [100 + 7 * i for i in range(len(levels))])


def hash_of(text):
    return sum((place + 1) * ord(letter) for place, letter in enumerate(text))


def folder_of_greys(root, per_object=3, splits=("train", "val", "test")):
    """Objects as grey levels, two captions an image; half the captions belong to the object."""
    images, captions, objects, chosen = [], [], [], []
    for split in splits:
        for number in range(OBJECTS):
            for view in range(per_object):
                name = f"{split}-{number}-{view}.png"
                Image.new("RGB", (8, 8), (20 * number,) * 3).save(root / name)
                images.append(name)
                captions.append([f"n{number} of {split}", f"n{number} view {view} of {split}"])
                objects.append(f"{split}-{number}")
                chosen.append(split)
    return RetrievalDataset(
        build_table(images, captions, objects, chosen), root, "greys", "manifest"
    )
