"""``compact``: a small dual encoder trained from scratch on pixels, for CPUs and little data.

An image is described twice (our choice): by its colour layout, a coarse grid of cells, from which
the closed-form part learns at once; and by a small convolutional net that looks at a dozen places
(``SlotNet``), because where a detail sits matters as much as what it is.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmref.config import EncoderSettings
from mmref.data.ngrams import NGramVocabulary
from mmref.data.text import CaptionTokeniser
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
            self.net = SlotNet(
                size, settings.width, settings.deep, settings.slots, settings.slot_dropout
            )

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
        """The slot net's output, Tensor[n, deep]."""
        out: Tensor = self.net(even_light(_unit(images)))
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


class SlotNet(nn.Module):
    """Each of K slots looks at one place of the picture and tells what it sees there.

    *Where* a slot looks is decided from a wide neighbourhood, *what* it sees is taken from a small
    one, and whole slots are dropped in training. So no output can be computed from the whole
    picture at once, which is how a plain net comes to recognise the few training objects instead
    of their details (measured: docs/results.md). Our choice, after attention pooling.

    Args:
        size: height and width of the pixels.
        width: channels of the first stage.
        out: numbers of the result.
        slots: K.
        dropout: share of slots dropped.
    """

    def __init__(
        self, size: tuple[int, int], width: int, out: int, slots: int, dropout: float
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            _stage(3, width, residual=False), _stage(width, 2 * width, residual=True)
        )
        self.context = nn.Sequential(
            _stage(2 * width, 4 * width, residual=True), nn.Conv2d(4 * width, 2 * width, 1)
        )
        self.what = nn.Sequential(
            nn.Conv2d(2 * width, 2 * width, 1, bias=False), nn.BatchNorm2d(2 * width), nn.GELU()
        )
        self.where = nn.Sequential(
            nn.BatchNorm2d(2 * width), nn.GELU(), nn.Conv2d(2 * width, slots, 1)
        )
        rows, columns = -(-size[0] // 4), -(-size[1] // 4)
        self.place = nn.Parameter(torch.zeros(1, slots, rows, columns))
        self.dropout = dropout
        self.out = nn.Linear(slots * 2 * width, out)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels about -1..1, Tensor[n, 3, h, w] -> Tensor[n, out]."""
        maps = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        around = F.interpolate(self.context(maps), size=maps.shape[-2:])
        looks = (self.where(maps + around) + self.place).flatten(2).float().softmax(dim=-1)
        details = self.what(maps).flatten(2)
        seen = looks.to(details.dtype) @ details.transpose(1, 2)
        if self.training and self.dropout:
            kept = torch.rand(seen.shape[:2], device=seen.device) >= self.dropout
            seen = seen * (kept / (1 - self.dropout)).to(seen.dtype)[..., None]
        out: Tensor = self.out(seen.flatten(1))
        return out


def even_light(pixels: Tensor) -> Tensor:
    """Each picture's mean colour removed and its contrast set to one half: casts and dusk go.

    Args:
        pixels: Tensor[n, 3, h, w].

    Example:
        >>> x = torch.rand(2, 3, 8, 8)
        >>> bool((even_light(x) - even_light(0.5 * x + 0.3)).abs().max() < 1e-5)
        True
    """
    centred = pixels - pixels.mean(dim=(2, 3), keepdim=True)
    return 0.5 * centred / centred.std(dim=(1, 2, 3), keepdim=True).clamp(min=0.1)


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
