"""Settings that follow from the data set where nobody named them: encoder and image size."""

from collections.abc import Collection

import numpy as np

from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.data.images import load_image
from mmref.errors import ImageError

AREA = 64 * 64
STEP = 16
PERSON_SIZE = (384, 128)
CLIP_DEFAULTS: dict[str, object] = {  # docs: the method's defaults for CLIP backbones
    "loss.temperature": 0.02,
    "references.temperature": 0.05,
    "references.learning_rate": 1e-3,
    "references.caption_epochs": 0.0,
    "references.decoder_learning_rate": 1e-2,
    "training.epochs": 60,
    "training.batch_size": 64,
    "training.learning_rate": 1e-5,
    "training.deep_learning_rate": 5e-5,
    "training.warmup": 5 / 60,
    "training.augmentation": "crop",
    "training.flip": True,
}
SAMPLE = 48
_SIZE = ("encoder.image_height", "encoder.image_width")


def fitting_settings(
    dataset: RetrievalDataset, settings: Settings, given: Collection[str] = ()
) -> tuple[Settings, list[str]]:
    """Choose what was not given: the encoder's kind and what goes with it.

    ``features`` when the data set has features, else ``compact``, with the image size that has
    the median shape of a sample of images at about 64 x 64 pixels in all. For ``clip``, which is
    taken when it is asked for, the method's defaults for such backbones: rates, epochs,
    temperatures, augmentation, and 384 x 128 for persons, else the checkpoint's own size. Our
    choice.

    Args:
        dataset: the data set to train on.
        settings: what is set so far.
        given: dotted names of the settings that stand as they are.

    Returns:
        The settings, and a sentence for each choice, to be said aloud.

    Raises:
        PathError: kind clip, and there is no such checkpoint.
        ModelError: kind clip, and the checkpoint cannot be had or is none of CLIP or SigLIP.

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
    if kind == "clip":
        chosen = clip_defaults(dataset, settings, given)
        values |= chosen
        if chosen:
            said = ", ".join(f"{name} {_shown(value)}" for name, value in chosen.items())
            notes.append(f"defaults for clip: {said}")
        if settings.references.caption_epochs > 0 and "references.caption_epochs" in given:
            notes.append(
                "references.caption_epochs counts for nothing: a pre-trained text tower does not "
                "learn from captions alone"
            )
    return settings.with_values(values), notes


def clip_defaults(
    dataset: RetrievalDataset, settings: Settings, given: Collection[str]
) -> dict[str, object]:
    """What is set for ``clip`` where nobody named it.

    Raises:
        PathError: there is no such checkpoint.
        ModelError: it cannot be had, or is none of CLIP or SigLIP.
    """
    from mmref.encoders.clip.encoder import native_image_size

    height, width, patch = native_image_size(settings.encoder.checkpoint)
    if dataset.protocol == "person":
        height, width = (max(1, side // patch) * patch for side in PERSON_SIZE)
    values = {name: value for name, value in CLIP_DEFAULTS.items() if name not in given}
    if not set(_SIZE) & set(given):
        values |= dict(zip(_SIZE, (height, width), strict=True))
    return values


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


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
