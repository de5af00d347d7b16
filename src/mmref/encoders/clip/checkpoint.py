"""A checkpoint's folder -> its configuration, pixel scaling and weights, or a clear error.

Nothing of a checkpoint is run: no remote code, and of a ``.bin`` file tensors alone are restored.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors.torch import load_file
from torch import Tensor

from mmref.encoders.clip.hub import CONFIG_FILE, is_checkpoint
from mmref.errors import ModelError

Family = Literal["clip", "siglip"]
INDEX_FILE = "model.safetensors.index.json"
SAFE_FILE = "model.safetensors"
BIN_FILE = "pytorch_model.bin"
_PIXEL_FILES = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True)
class PixelScaling:
    """How pixels of 0..255 become what the vision tower takes: (x * factor - mean) / deviation.

    Attributes:
        factor: usually 1/255.
        mean: of red, green and blue.
        deviation: likewise.
    """

    factor: float
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a checkpoint.

    Raises:
        ModelError: it is missing or no JSON object.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} lacks {path.name}: copy the whole checkpoint") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({_short(error)}): copy it again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} is damaged (no JSON object): copy it again")
    return found


def read_config(folder: Path) -> tuple[Family, dict[str, Any]]:
    """Family and configuration of a checkpoint.

    Raises:
        ModelError: no checkpoint of CLIP, SigLIP or fixed-resolution SigLIP 2.
    """
    if not is_checkpoint(folder):
        raise ModelError(
            f"{folder} is no checkpoint, it lacks {CONFIG_FILE}: give the folder of a CLIP or "
            "SigLIP model as transformers saves it"
        )
    config = read_json(folder / CONFIG_FILE)
    kind = config.get("model_type")
    if kind == "siglip2":
        raise ModelError(
            f"{folder} is SigLIP 2 with free aspect ratio (NaFlex), which has no fixed grid of "
            "positions: take a fixed-resolution one (google/siglip2-base-patch16-224)"
        )
    if kind not in ("clip", "siglip"):
        raise ModelError(
            f"{folder} holds a model of type {kind!r}, not both towers of CLIP or SigLIP: "
            "give a checkpoint of clip or siglip"
        )
    return cast(Family, kind), config


def native_size(config: dict[str, Any]) -> tuple[int, int, int]:
    """Height, width and patch of the pixels that a configuration is made for.

    Example:
        >>> native_size({"model_type": "clip", "vision_config": {"image_size": 224}})
        (224, 224, 32)
    """
    vision = config.get("vision_config") or {}
    patch = vision.get("patch_size", 32 if config.get("model_type") == "clip" else 16)
    size = vision.get("image_size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width), int(patch if isinstance(patch, int) else patch[0])


def read_scaling(folder: Path) -> PixelScaling:
    """The pixel scaling of a checkpoint.

    Raises:
        ModelError: it is missing or damaged.
    """
    for name in _PIXEL_FILES:
        if not (folder / name).is_file():
            continue
        found = read_json(folder / name)
        found = found.get("image_processor", found)
        try:
            factor = float(found.get("rescale_factor", 1 / 255))
            factor = factor if found.get("do_rescale", True) else 1.0
            if not found.get("do_normalize", True):
                return PixelScaling(factor, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
            mean, deviation = (tuple(map(float, found[k])) for k in ("image_mean", "image_std"))
            if len(mean) != 3 or len(deviation) != 3 or not all(deviation):
                raise ValueError("image_mean and image_std take three numbers")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"{folder / name} is damaged ({_short(error)}): copy it") from error
        return PixelScaling(factor, mean, deviation)
    raise ModelError(
        f"{folder} lacks {_PIXEL_FILES[0]}, which says how its pixels are scaled: copy it too"
    )


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All weights of a checkpoint by name, in single precision.

    safetensors are preferred; of ``pytorch_model.bin`` tensors alone are restored
    (``weights_only``), never code.

    Raises:
        ModelError: there are none, or a file is damaged.
    """
    files = _weight_files(folder)
    weights: dict[str, Tensor] = {}
    for file in files:
        try:
            if file.suffix == ".bin":
                weights |= torch.load(file, map_location="cpu", weights_only=True)
            else:
                weights |= load_file(file)
        except Exception as error:  # torch.load refuses with errors of many kinds
            raise _damaged(file, error) from error
    try:
        return {
            name: value.float() if value.is_floating_point() else value
            for name, value in weights.items()
            if not name.endswith("position_ids")  # older versions stored these counts
        }
    except AttributeError as error:
        raise _damaged(files[0], error) from error


def _weight_files(folder: Path) -> list[Path]:
    if (folder / SAFE_FILE).is_file():
        return [folder / SAFE_FILE]
    if (folder / INDEX_FILE).is_file():
        parts = read_json(folder / INDEX_FILE).get("weight_map") or {}
        names = sorted(set(map(str, parts.values())))
        missing = [name for name in names if not (folder / Path(name).name).is_file()]
        if missing or not names:
            raise ModelError(
                f"{folder} lacks {missing[0] if missing else 'its parts'}, which {INDEX_FILE} "
                "names: copy the whole checkpoint"
            )
        return [folder / Path(name).name for name in names]
    if (folder / BIN_FILE).is_file():
        return [folder / BIN_FILE]
    raise ModelError(
        f"{folder} has no weights ({SAFE_FILE} or {BIN_FILE}): copy the whole checkpoint "
        "(`hf download NAME --local-dir FOLDER` fetches one)"
    )


def _damaged(file: Path, error: Exception) -> ModelError:
    return ModelError(f"{file} is damaged or cut off ({_short(error)}): copy it again")


def _short(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:100]
