"""The model of transformers as this project uses it: built, filled with weights, taken apart."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmref.encoders.clip.checkpoint import Family
from mmref.encoders.clip.positions import PatchEmbeddings
from mmref.errors import ConfigError, ModelError

TOWERS = ("vision_model", "text_model")
UNUSED = ("logit_scale", "logit_bias")  # our losses have temperatures of their own


def full_config(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with every default filled in, as JSON.

    Raises:
        ModelError: a value that the model cannot have.
    """
    filled: dict[str, Any] = json.loads(_config(config).to_json_string(use_diff=False))
    return filled


def build_towers(config: dict[str, Any]) -> nn.Module:
    """Both towers with weights yet to be filled in.

    Raises:
        ModelError: the configuration is of no possible model.
    """
    from transformers import CLIPModel, SiglipModel

    try:
        from transformers.initialization import no_init_weights

        quick: Any = no_init_weights()
    except ImportError:
        quick = nullcontext()
    made = _config(config)
    kind = CLIPModel if made.model_type == "clip" else SiglipModel
    try:
        with quick, _quiet():
            model: nn.Module = kind(made)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(f"config.json describes no possible model ({reason})") from error
    return model


def fill(model: nn.Module, weights: dict[str, Tensor], where: object) -> None:
    """Put a checkpoint's weights into its towers.

    Raises:
        ModelError: weights are missing or have another shape.
    """
    wanted = model.state_dict()
    missing = [name for name in wanted if name not in weights and name not in UNUSED]
    if missing:
        raise ModelError(
            f"the weights of {where} lack {len(missing)} of {len(wanted)} tensors "
            f"({missing[0]}, ...): it is not the whole model; copy the whole checkpoint"
        )
    for name, value in wanted.items():
        if name in weights and weights[name].shape != value.shape:
            raise ModelError(
                f"the weights of {where} do not fit its config.json: {name} is "
                f"{list(weights[name].shape)}, not {list(value.shape)}"
            )
    with torch.no_grad():
        for name in set(UNUSED) & set(wanted) - set(weights):
            wanted[name].zero_()
    model.load_state_dict({k: v for k, v in weights.items() if k in wanted}, strict=False)


def set_image_size(model: nn.Module, size: tuple[int, int]) -> None:
    """Make the vision tower take pixels of this height and width.

    Raises:
        ConfigError: a side is no multiple of the patch.
    """
    vision = model.get_submodule("vision_model")
    embeddings = vision.get_submodule("embeddings")
    patch = cast(nn.Conv2d, embeddings.get_submodule("patch_embedding")).kernel_size[0]
    fitting = tuple(max(patch, side // patch * patch) for side in size)
    if fitting != size:
        raise ConfigError(
            f"encoder.image_height {size[0]} and encoder.image_width {size[1]} must be multiples "
            f"of the checkpoint's patch of {patch} pixels: {fitting[0]} and {fitting[1]} would do"
        )
    vision.add_module("embeddings", PatchEmbeddings(embeddings, size))


def set_checkpointing(model: Any, *, on: bool) -> None:
    """Compute blocks again in the backward pass instead of keeping what they computed, or not."""
    # The older of the two names goes with version 6 of transformers.
    way = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
    if on:
        getattr(model, f"{way}_checkpointing_enable")({"use_reentrant": False})
        # It makes the embeddings' outputs want a gradient, which other checkpoints than these need:
        # frozen blocks would be computed again, and backwards, for nothing.
        model.disable_input_require_grads()
    else:
        getattr(model, f"{way}_checkpointing_disable")()


def vector_length(config: dict[str, Any]) -> int:
    """d, the numbers of an image's or caption's vector.

    Example:
        >>> vector_length({"model_type": "clip", "projection_dim": 512})
        512
    """
    if config["model_type"] == "clip":
        return int(config["projection_dim"])
    return int(config["vision_config"]["hidden_size"])


def pooled(output: Any) -> Tensor:
    """The features in what transformers gives: a tensor, or an object that holds them."""
    found: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return found


def blocks(model: nn.Module, tower: str) -> nn.ModuleList:
    """The transformer blocks of a tower, the lowest first."""
    found = model.get_submodule(f"{tower}.encoder.layers")
    assert isinstance(found, nn.ModuleList)
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of transformers: SigLIP's own configurations give rise to some."""
    from transformers.utils import logging

    log: Any = logging
    before = log.get_verbosity()
    log.set_verbosity_error()
    try:
        yield
    finally:
        log.set_verbosity(before)


def _config(config: dict[str, Any]) -> Any:
    from transformers import CLIPConfig, SiglipConfig

    family: Family = config["model_type"]
    kind = CLIPConfig if family == "clip" else SiglipConfig
    try:
        with _quiet():
            return kind.from_dict(config)
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(f"config.json describes no possible {family} model ({reason})") from error
