"""What of a checkpoint learns, and how fast: freezing by depth, rates that fall with depth."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from mmref.encoders.clip.towers import TOWERS, UNUSED, blocks
from mmref.errors import ConfigError

_NAMES = {"vision_model": "image", "text_model": "text"}
_PROJECTIONS = {"visual_projection": "vision_model", "text_projection": "text_model"}


@dataclass(frozen=True)
class Place:
    """Where a parameter stands.

    Attributes:
        tower: ``vision_model`` or ``text_model``; empty for what belongs to neither.
        depth: 0 for the embeddings, k for the k-th block from below, blocks + 1 above them.
        blocks: of the tower.
    """

    tower: str
    depth: int
    blocks: int

    @property
    def below_top(self) -> int:
        """Blocks above and at it: 0 for the head and the projection."""
        return self.blocks + 1 - self.depth


def place_of(name: str, counts: dict[str, int]) -> Place:
    """Where the parameter of this name stands.

    Args:
        name: its dotted name in the model of transformers.
        counts: blocks of each tower.

    Example:
        >>> place_of("text_model.encoder.layers.1.mlp.fc1.weight", {"text_model": 12})
        Place(tower='text_model', depth=2, blocks=12)
        >>> place_of("visual_projection.weight", {"vision_model": 2}).below_top
        0
    """
    first, *rest = name.split(".")
    tower = _PROJECTIONS.get(first, first)
    if tower not in counts:
        return Place("", 0, 0)
    count = counts[tower]
    if rest[:2] == ["encoder", "layers"]:
        return Place(tower, int(rest[2]) + 1, count)
    low = rest[:1] in (["embeddings"], ["pre_layrnorm"])
    return Place(tower, 0 if low else count + 1, count)


def freeze(model: nn.Module, image_layers: int, text_layers: int) -> None:
    """Take learning away from the lowest layers of both towers.

    Args:
        model: of transformers.
        image_layers: of the image tower: 0 none; n: the embeddings and the lowest n blocks;
            -1: the whole tower with its projection.
        text_layers: likewise of the text tower.

    Raises:
        ConfigError: more blocks than the tower has.
    """
    counts = block_counts(model)
    wanted = dict(zip(TOWERS, (image_layers, text_layers), strict=True))
    for tower, number in wanted.items():
        if number > counts[tower]:
            raise ConfigError(
                f"encoder.frozen_{_NAMES[tower]}_layers is {number}, but the tower has "
                f"{counts[tower]} blocks: -1 freezes it whole"
            )
    for name, parameter in model.named_parameters():
        place = place_of(name, counts)
        number = wanted.get(place.tower, -1)
        whole = number < 0 or name in UNUSED
        if whole or (number > 0 and place.depth <= number):
            parameter.requires_grad_(False)


def block_counts(model: nn.Module) -> dict[str, int]:
    """Blocks of each tower."""
    return {tower: len(blocks(model, tower)) for tower in TOWERS}


def rate_groups(
    named: Iterator[tuple[str, nn.Parameter]],
    counts: dict[str, int],
    *,
    rate: float,
    new_rate: float,
    layer_decay: float,
) -> list[dict[str, Any]]:
    """Groups of an optimiser for all that learns.

    Adapters learn at ``new_rate``, all else, being pre-trained, at ``rate``; both times
    ``layer_decay`` once for each block above and the parameter's own (Bao et al. 2022). Biases,
    normalisations and single vectors have no weight decay, as usual.

    Args:
        named: parameters by their names in the model of transformers.
        counts: blocks of each tower.
        rate: of what is pre-trained.
        new_rate: of what is new.
        layer_decay: at most 1; at 1 all blocks learn alike.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        base = new_rate if "lora_" in name else rate
        factor = layer_decay ** place_of(name, counts).below_top
        groups.setdefault((base * factor, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": found, "lr": own} | ({} if decays else {"weight_decay": 0.0})
        for (own, decays), found in groups.items()
    ]
