"""Augmentation of a batch of pixels at once, reproducible from one generator (our choice)."""

import re

import torch
from torch import Tensor
from torch.nn import functional as F

_SIDE = re.compile(r"\b(?:left|right)", re.IGNORECASE)


def mentions_side(caption: str) -> bool:
    """Whether a caption says "left" or "right": its image must not be mirrored.

    Example:
        >>> mentions_side("A bag on the Left."), mentions_side("a bright bag")
        (True, False)
    """
    return _SIDE.search(caption) is not None


def augment(pixels: Tensor, chance: torch.Generator, *, mirrored: Tensor | None = None) -> Tensor:
    """Shift, zoom, relight, and erase a patch, each image on its own.

    Args:
        pixels: uint8 Tensor[n, 3, h, w]; unchanged.
        chance: the source of chance.
        mirrored: which images may be mirrored (half of them are), boolean Tensor[n]; None: none.

    Returns:
        float32 Tensor[n, 3, h, w] in 0..255.

    Example:
        >>> x = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> augment(x, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 8, 8])
    """
    count, _, height, width = pixels.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=chance) * (high - low) + low

    zoom_y = uniform(0.85, 1.15)
    zoom_x = zoom_y * uniform(0.95, 1.05)
    flip = torch.ones(count)
    if mirrored is not None:
        flip = torch.where(mirrored.cpu() & (uniform(0, 1) < 0.5), -1.0, 1.0)
    move = torch.zeros(count, 2, 3)
    move[:, 0, 0], move[:, 1, 1] = zoom_x * flip, zoom_y
    move[:, 0, 2], move[:, 1, 2] = uniform(-0.12, 0.12), uniform(-0.12, 0.12)
    grid = F.affine_grid(move, [count, 3, height, width], align_corners=False).to(pixels.device)
    moved = F.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)

    gain = uniform(0.8, 1.2, 1, 1, 1) * uniform(0.9, 1.1, 3, 1, 1)
    shift = uniform(-20, 20, 1, 1, 1)
    moved = (moved * gain.to(moved.device) + shift.to(moved.device)).clamp(0, 255)

    # Random erasing (Zhong et al. 2020): half of the images lose a patch, filled with a colour.
    tall, wide = uniform(0.1, 0.4) * height, uniform(0.1, 0.4) * width
    top, left = uniform(0, 1) * (height - tall), uniform(0, 1) * (width - wide)
    ys, xs = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    inside = (
        (ys >= top[:, None, None])
        & (ys < (top + tall)[:, None, None])
        & (xs >= left[:, None, None])
        & (xs < (left + wide)[:, None, None])
        & (uniform(0, 1) < 0.5)[:, None, None]
    )
    colour = uniform(0, 255, 3, 1, 1).to(moved.device)
    return torch.where(inside[:, None].to(moved.device), colour, moved)
