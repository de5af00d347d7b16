"""``compact``: a small dual encoder trained from scratch on pixels, for CPUs and little data.

An image is described twice (our choice): by its colour layout, a coarse grid of cells, from which
the closed-form part learns at once; and by a small residual convolutional net whose map is pooled
in cells (head to foot, left to right), because where a detail sits matters.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmref.config import EncoderSettings
from mmref.data.text import CaptionTokeniser, NGramVocabulary
from mmref.encoders.parts import PartsEncoder, read_architecture


class CompactEncoder(PartsEncoder):
    """Takes uint8 pixels Tensor[n, 3, h, w] of its own size.

    Args:
        settings: the encoder's settings.
        tokeniser: learnt from the training captions.
        ngrams: likewise.
    """

    kind = "compact"
    mean: Tensor
    deviation: Tensor

    def __init__(
        self, settings: EncoderSettings, tokeniser: CaptionTokeniser, ngrams: NGramVocabulary
    ) -> None:
        size = (settings.image_height, settings.image_width)
        self.cells = layout_cells(size, settings.grid)
        length = 3 * self.cells[0] * self.cells[1]
        super().__init__(settings, tokeniser, ngrams, length)
        self.register_buffer("mean", torch.zeros(length))
        self.register_buffer("deviation", torch.ones(length))
        if settings.deep:
            self.net = ConvNet(size, settings.width, settings.deep, settings.dropout)

    @classmethod
    def build(cls, architecture: dict[str, Any]) -> "CompactEncoder":
        """Build from :meth:`architecture`, weights untrained."""
        return cls(*read_architecture(architecture))

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pixels it takes."""
        return self.settings.image_height, self.settings.image_width

    @property
    def feature_length(self) -> None:
        """It takes no vectors."""
        return

    def layout(self, images: Tensor) -> Tensor:
        """Mean colour of each cell in [-1, 1], Tensor[n, 3 * cells]."""
        return F.adaptive_avg_pool2d(_unit(images), self.cells).flatten(1)

    @torch.no_grad()
    def standardise(self, images: Tensor) -> None:
        """Take mean and deviation of the colour layout from the training images."""
        layouts = torch.cat([self.layout(part) for part in torch.split(images, 1024)])
        self.mean.copy_(layouts.mean(dim=0))
        # A cell that hardly varies (a plain border) is left nearly as it is.
        self.deviation.copy_(layouts.std(dim=0, correction=0).clamp(min=0.02))

    def describe(self, images: Tensor) -> Tensor:
        """The standardised colour layout of unit length, Tensor[n, 3 * cells]."""
        return F.normalize((self.layout(images) - self.mean) / self.deviation, dim=1)

    def deep_image(self, images: Tensor) -> Tensor:
        """The convolutional net's output, Tensor[n, deep]."""
        out: Tensor = self.net(_unit(images))
        return out


def _unit(images: Tensor) -> Tensor:
    """Uint8 or float pixels 0..255 -> -1..1."""
    return images.float() / 127.5 - 1.0


def layout_cells(size: tuple[int, int], cells: int) -> tuple[int, int]:
    """Rows and columns of about ``cells`` nearly square cells.

    Example:
        >>> layout_cells((64, 64), 96), layout_cells((128, 64), 96)
        ((10, 10), (14, 7))
    """
    height, width = size
    rows = max(1, min(height, round((cells * height / width) ** 0.5)))
    columns = max(1, min(width, round((cells * width / height) ** 0.5)))
    return rows, columns


class ConvNet(nn.Module):
    """Four stages that halve the map, residual, pooled in parts."""

    def __init__(self, size: tuple[int, int], width: int, out: int, dropout: float) -> None:
        super().__init__()
        channels = [width, 2 * width, 4 * width, 4 * width]
        stages: list[nn.Module] = [_stage(3, width, residual=False)]
        for before, after in pairwise(channels):
            stages.append(_stage(before, after, residual=True))
        self.stages = nn.Sequential(*stages)
        self.parts = (max(1, size[0] // 16), max(1, size[1] // 16))
        self.parts = (min(self.parts[0], 6), min(self.parts[1], 4))
        self.reduce = nn.Sequential(
            nn.Conv2d(channels[-1], 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width), nn.GELU()
        )
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(2 * width * self.parts[0] * self.parts[1], out)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels in -1..1, Tensor[n, 3, h, w] -> Tensor[n, out]."""
        maps = self.reduce(self.stages(pixels.contiguous(memory_format=torch.channels_last)))
        pooled = F.adaptive_avg_pool2d(maps, self.parts).flatten(1)
        out: Tensor = self.out(self.dropout(pooled))
        return out


def _stage(before: int, after: int, *, residual: bool) -> nn.Module:
    down = nn.Sequential(
        nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.GELU(),
    )
    return nn.Sequential(down, Residual(after)) if residual else down


class Residual(nn.Module):
    """x + BN(conv(x)), then GELU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Tensor[n, c, h, w] -> the same shape."""
        return F.gelu(maps + self.norm(self.conv(maps)))
