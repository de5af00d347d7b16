"""Settings that follow from the data set where nobody named them: encoder and image size."""

from collections.abc import Collection

import numpy as np

from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.data.images import load_image
from mmref.errors import ImageError

AREA = 64 * 64
STEP = 16
SAMPLE = 48
_SIZE = ("encoder.image_height", "encoder.image_width")


def fitting_settings(
    dataset: RetrievalDataset, settings: Settings, given: Collection[str] = ()
) -> tuple[Settings, list[str]]:
    """Choose what was not given: the encoder's kind, and for ``compact`` the image size.

    ``features`` when the data set has features, else ``compact``, with the image size that has
    the median shape of a sample of images at about 64 x 64 pixels in all. Our choice.

    Args:
        dataset: the data set to train on.
        settings: what is set so far.
        given: dotted names of the settings that stand as they are.

    Returns:
        The settings, and a sentence for each choice, to be said aloud.

    Example:
        >>> from mmref.data.dataset import build_table
        >>> from pathlib import Path
        >>> table = build_table(["a.png"], [["red"]], ["x"], ["train"])
        >>> data = RetrievalDataset(table, Path("/nowhere"), "one", "manifest")
        >>> chosen, notes = fitting_settings(data, Settings())
        >>> chosen.encoder.kind, notes
        ('compact', ['encoder: compact, for the data set has no features'])
    """
    notes: list[str] = []
    values: dict[str, object] = {}
    kind = settings.encoder.kind
    if "encoder.kind" not in given:
        kind = "features" if dataset.has_features else "compact"
        values["encoder.kind"] = kind
        why = (
            "for the data set has them; --encoder compact trains on pixels"
            if dataset.has_features
            else "for the data set has no features"
        )
        notes.append(f"encoder: {kind}, {why}")
    if kind == "compact" and not set(_SIZE) & set(given):
        ratio = median_shape(dataset)
        if ratio is not None:
            height, width = size_for_shape(ratio)
            values |= dict(zip(_SIZE, (height, width), strict=True))
            notes.append(
                f"image size: {height} x {width} (height x width), the median shape of the images"
            )
    return settings.with_values(values), notes


def median_shape(dataset: RetrievalDataset, sample: int = SAMPLE) -> float | None:
    """Median height / width of evenly drawn readable images; None when none can be read."""
    rows = np.unique(np.linspace(0, max(0, len(dataset) - 1), sample).astype(int))
    ratios = []
    for row in rows if len(dataset) else []:
        try:
            image = load_image(dataset.image_paths[row], near=(64, 64))
        except ImageError:
            continue
        ratios.append(image.height / image.width)
    return float(np.median(ratios)) if ratios else None


def size_for_shape(ratio: float) -> tuple[int, int]:
    """Height and width, multiples of 16, of about 64 x 64 pixels for a height / width.

    Example:
        >>> [size_for_shape(ratio) for ratio in (1.0, 2.0, 0.5, 0.67, 9.0)]
        [(64, 64), (96, 48), (48, 96), (48, 80), (112, 32)]
    """
    ratio = min(max(ratio, 1 / 3), 3.0)
    height, width = (AREA * ratio) ** 0.5, (AREA / ratio) ** 0.5
    return max(STEP, STEP * round(height / STEP)), max(STEP, STEP * round(width / STEP))
