"""How much work a training and an evaluation are: of the five published sets, or of one on disk.

Also made-up captions and pictures of a set's usual length and size, to measure with. Numbers of
objects, images and captions are the published ones; caption lengths and picture sizes are about
what the sets' papers say, and serve predictions of time alone.
"""

import io
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.data.published_counts import PUBLISHED, Counts
from mmref.data.readers import person, reed
from mmref.training.validation import split_for_training

_WORDS = 2000  # of the made-up language
_SPREAD = 0.35  # of the logarithm of a caption's length
_TEN = 10  # captions a picture, Reed et al. 2016


class Usual(NamedTuple):
    """What a set's captions and pictures are usually like.

    Attributes:
        words: of a caption, mean.
        picture: height and width of a stored picture.
    """

    words: float
    picture: tuple[int, int]


USUAL: dict[str, Usual] = {
    "cuhk-pedes": Usual(23, (256, 96)),
    "icfg-pedes": Usual(37, (400, 160)),
    "rstpreid": Usual(26, (400, 160)),
    "cub": Usual(16, (375, 500)),
    "flowers": Usual(15, (500, 600)),
}
"""Rounded; our reading of the papers, and for CUB and Flowers a guess."""

HELD_OUT = {"icfg-pedes": person.VAL_SHARE, "cub": reed.VAL_SHARE, "flowers": reed.VAL_SHARE}
"""Share of the training objects that becomes val (CUB, Flowers: where the lists name none)."""


@dataclass(frozen=True)
class Work:
    """One set, as far as time goes.

    Attributes:
        name: its title.
        objects: m, training objects.
        images: training images.
        pairs: caption-image pairs of an epoch.
        captions: distinct training captions.
        val: images and queries of the validation.
        test: images and queries of the evaluation.
        words: mean words of a caption.
        picture: height and width of a stored picture; None where there are features alone.
    """

    name: str
    objects: int
    images: int
    pairs: int
    captions: int
    val: tuple[int, int]
    test: tuple[int, int]
    words: float
    picture: tuple[int, int] | None

    def steps(self, batch: int) -> int:
        """Optimiser steps of an epoch, as ``TrainingPairs.steps`` counts them.

        Example:
            >>> published_work("rstpreid").steps(64)
            579
        """
        full, rest = divmod(self.pairs, batch)
        return full + (1 if rest >= 2 else 0)


def published_work(name: str) -> Work:
    """One of the five sets; without a val split of its own, the share that its reader holds out.

    Example:
        >>> work = published_work("icfg-pedes")
        >>> work.objects, work.val
        (2947, (1734, 1734))
    """
    known, usual = PUBLISHED[name], USUAL[name]
    parts = {part: _counts(found) for part, found in known.parts.items()}
    if "val" in parts:
        train, val = parts["train"], parts["val"]
    else:
        whole, share = parts["train+val"], HELD_OUT[name]
        val = tuple(round(share * number) for number in whole)
        train = tuple(a - b for a, b in zip(whole, val, strict=True))
    objects, images, captions = train
    return Work(
        known.title,
        objects,
        images,
        captions,
        captions,
        (val[1], val[2]),
        (parts["test"][1], parts["test"][2]),
        usual.words,
        usual.picture,
    )


def _counts(found: Counts) -> tuple[int, ...]:
    captions = found.captions if found.captions is not None else _TEN * found.images
    return found.objects, found.images, captions


def work_of(dataset: RetrievalDataset, settings: Settings) -> Work:
    """A data set on disk, split as a training would split it; pictures are not opened.

    Raises:
        SplitError: there is no train split.
        TrainingError: there is no val split and too few objects to hold any out.
    """
    train, val, _ = split_for_training(dataset, settings.training)
    said = [caption for captions in train.captions for caption in captions]
    test = dataset.split("test") if "test" in dataset.split_names else val
    words = float(np.mean([len(caption.split()) for caption in said])) if said else 1.0
    return Work(
        dataset.name,
        len(train.object_names),
        len(train),
        len(said),
        len(set(said)),
        (len(val), len(val.queries())),
        (len(test), len(test.queries())),
        words,
        None if settings.encoder.kind == "features" else (256, 128),
    )


def made_captions(words: float, count: int, seed: int = 0) -> list[str]:
    """Captions of made-up words whose lengths spread as people's do.

    Args:
        words: mean length.
        count: how many.
        seed: of the draws.

    Example:
        >>> lengths = [len(caption.split()) for caption in made_captions(23, 400)]
        >>> 21 < sum(lengths) / 400 < 25, 35 < max(lengths) < 90
        (True, True)
    """
    rng = np.random.default_rng((seed, 7))
    mean = np.log(words) - _SPREAD**2 / 2
    lengths = np.maximum(1, np.rint(rng.lognormal(mean, _SPREAD, count))).astype(int)
    # Zipf: few words stand in most captions.
    frequency = 1 / np.arange(2, _WORDS + 2)
    numbers = rng.choice(_WORDS, size=int(lengths.sum()), p=frequency / frequency.sum())
    spoken = [_word(number) for number in range(_WORDS)]
    stops = np.cumsum(lengths)
    return [
        " ".join(spoken[n] for n in numbers[stop - length : stop])
        for length, stop in zip(lengths, stops, strict=True)
    ]


def _word(number: int) -> str:
    syllables = ("ba", "de", "ki", "lo", "mu", "na", "po", "ri", "sa", "tu", "ve", "zo", "gi")
    first, second, third = number % 13, number // 13 % 13, number // 169
    return syllables[first] + syllables[second] + syllables[third % 13]


def made_pictures(size: tuple[int, int], count: int, seed: int = 0) -> list[bytes]:
    """JPEG files of smooth made-up pictures, about as large on disk as photographs.

    Args:
        size: height and width.
        count: how many.
        seed: of the draws.

    Example:
        >>> [Image.open(io.BytesIO(picture)).size for picture in made_pictures((32, 16), 2)]
        [(16, 32), (16, 32)]
    """
    rng = np.random.default_rng((seed, 8))
    height, width = size
    files = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (max(2, height // 8), max(2, width // 8), 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 6, (height, width, 3))
        pixels = (np.asarray(image, dtype=np.float64) + grain).clip(0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files
