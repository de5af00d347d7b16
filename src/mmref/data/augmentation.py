"""Augmentation of a batch of pixels at once, reproducible from one generator (our choice)."""

import math
import re

import torch
from torch import Tensor
from torch.nn import functional as F

PADDING = 10  # pixels round an image before it is cropped
GREY = (124, 117, 104)  # what fills an erased patch: the mean colour of CLIP's pre-training
_SIDE = re.compile(r"\b(?:left|right)", re.IGNORECASE)


def mentions_side(caption: str) -> bool:
    """Whether a caption says "left" or "right": its image must not be mirrored.

    Example:
        >>> mentions_side("A bag on the Left."), mentions_side("a bright bag")
        (True, False)
    """
    return _SIDE.search(caption) is not None


def augment(
    pixels: Tensor,
    chance: torch.Generator,
    *,
    mirrored: Tensor | None = None,
    among: tuple[int, slice] | None = None,
) -> Tensor:
    """Shift, zoom, relight, and erase a patch, each image on its own.

    Args:
        pixels: uint8 Tensor[n, 3, h, w]; unchanged.
        chance: the source of chance.
        mirrored: which images may be mirrored (half of them are), boolean Tensor[n]; None: none.
        among: how many images a larger batch has and which of them these are: they become what
            they would in that batch.

    Returns:
        float32 Tensor[n, 3, h, w] in 0..255.

    Example:
        >>> x = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
        >>> augment(x, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 8, 8])
    """
    count, _, height, width = pixels.shape
    drawn, own = among or (count, slice(None))

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(drawn, *shape, generator=chance)[own] * (high - low) + low

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


def crop_and_erase(
    pixels: Tensor,
    chance: torch.Generator,
    *,
    mirrored: Tensor | None = None,
    among: tuple[int, slice] | None = None,
) -> Tensor:
    """Mirror, pad by 10 and crop at random, erase a patch: how the field fine-tunes CLIP.

    Half of the images that may be are mirrored; half of all lose a patch of 0.02 to 0.4 of their
    area (Zhong et al. 2020). Pixels stay whole numbers, so that a batch is small on its way to the
    device.

    Args:
        pixels: uint8 Tensor[n, 3, h, w]; unchanged.
        chance: the source of chance.
        mirrored: which images may be mirrored, boolean Tensor[n]; None: none.
        among: as in :func:`augment`.

    Returns:
        uint8 Tensor[n, 3, h, w].

    Example:
        >>> x = torch.full((2, 3, 8, 8), 255, dtype=torch.uint8)
        >>> y = crop_and_erase(x, torch.Generator().manual_seed(0))
        >>> y.shape, y.dtype
        (torch.Size([2, 3, 8, 8]), torch.uint8)
    """
    count, _, height, width = pixels.shape
    drawn, own = among or (count, slice(None))
    draws = torch.rand(drawn, 8, generator=chance)[own]
    if mirrored is not None:
        flip = mirrored.to(draws.device) & (draws[:, 0] < 0.5)
        pixels = torch.where(flip[:, None, None, None].to(pixels.device), pixels.flip(3), pixels)
    padded = F.pad(pixels, (PADDING,) * 4)
    cropped = torch.empty_like(pixels)
    grey = torch.tensor(GREY, dtype=torch.uint8, device=pixels.device)[:, None, None]
    for number, draw in enumerate(draws.tolist()):
        top, left = (int(draw[k] * (2 * PADDING + 1)) for k in (1, 2))
        cropped[number] = padded[number, :, top : top + height, left : left + width]
        if draw[3] < 0.5:
            area = (0.02 + 0.38 * draw[4]) * height * width
            ratio = math.exp(math.log(10 / 3) * (2 * draw[5] - 1))  # height / width, 0.3 to 3.3
            tall = min(height, max(1, round((area * ratio) ** 0.5)))
            wide = min(width, max(1, round((area / ratio) ** 0.5)))
            top = int(draw[6] * (height - tall + 1))
            left = int(draw[7] * (width - wide + 1))
            cropped[number, :, top : top + tall, left : left + wide] = grey
    return cropped
