"""Low-rank adapters (Hu et al. 2022) through peft: the checkpoint stays, small matrices learn."""

from typing import Any

from torch import nn

from mmref.encoders.clip.towers import TOWERS, blocks

LINEAR = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
_NAME = "default"


def add_adapters(
    model: nn.Module,
    *,
    rank: int,
    alpha: float,
    dropout: float,
    frozen: tuple[int, int] = (0, 0),
) -> int:
    """Freeze a model and put adapters beside the attention and MLP projections of its blocks.

    At the start they add nothing. Blocks that are frozen by depth get none.

    Args:
        model: of transformers; changed.
        rank: r of the adapters.
        alpha: they count alpha / r times.
        dropout: of their input.
        frozen: the lowest blocks of the image and the text tower without adapters; -1: all.

    Returns:
        How many projections have an adapter.
    """
    from peft import LoraConfig, inject_adapter_in_model

    share: Any = alpha  # peft scales by any number, but is typed for whole ones
    names = [
        f"{tower}.encoder.layers.{number}.{name}"
        for tower, lowest in zip(TOWERS, frozen, strict=True)
        for number, block in enumerate(blocks(model, tower))
        if 0 <= lowest <= number
        for name, part in block.named_modules()
        if isinstance(part, nn.Linear) and name.rsplit(".", 1)[-1] in LINEAR
    ]
    model.requires_grad_(False)
    if names:
        config = LoraConfig(
            r=rank, lora_alpha=share, lora_dropout=dropout, target_modules=names, bias="none"
        )
        inject_adapter_in_model(config, model, adapter_name=_NAME)
    return len(names)


def merge_adapters(model: nn.Module) -> None:
    """Add each adapter to its projection and leave the plain projection in its place."""
    from peft.tuners.lora import LoraLayer

    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge()
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, layer.get_base_layer())
