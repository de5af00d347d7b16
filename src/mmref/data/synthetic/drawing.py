"""Vector shapes on a supersampled canvas, backgrounds, and what a camera does to a picture.

Coordinates are made with additions, products, quotients and square roots alone and then rounded to
whole canvas pixels, and pixels are computed in integers, so the same picture comes out on every
machine (with the same release of Pillow).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from mmref.data.synthetic.attributes import Draws

Colour = tuple[int, int, int]
Point = tuple[float, float]
Box = tuple[float, float, float, float]
# Cosine and sine of k/24 turns, in thousandths: a fixed table, so that no libm is asked.
_QUARTER = (1000, 966, 866, 707, 500, 259, 0)
_COS = tuple(
    (_QUARTER[k % 12] if k % 12 <= 6 else -_QUARTER[12 - k % 12]) * (1 if k < 12 else -1) / 1000
    for k in range(24)
)
CIRCLE: tuple[Point, ...] = tuple((_COS[k], _COS[k - 6]) for k in range(24))


def tinted(colour: Colour, factor: float) -> Colour:
    """A darker (factor below 1) or lighter (above 1, towards white) colour.

    Example:
        >>> tinted((100, 200, 50), 0.5), tinted((100, 200, 50), 1.5)
        ((50, 100, 25), (177, 227, 152))
    """
    if factor <= 1.0:
        r, g, b = (int(c * factor) for c in colour)
    else:
        r, g, b = (int(c + (255 - c) * (factor - 1.0)) for c in colour)
    return r, g, b


class Brush(NamedTuple):
    """How a shape is filled.

    Attributes:
        colour: the main colour.
        second: colour of the pattern.
        pattern: ``plain``, ``striped``, ``checked`` or ``dotted``.
        period: of the pattern, in drawing units.
    """

    colour: Colour
    second: Colour = (0, 0, 0)
    pattern: str = "plain"
    period: float = 7.0

    def tinted(self, factor: float) -> "Brush":
        """The same pattern, darker or lighter."""
        return self._replace(colour=tinted(self.colour, factor), second=tinted(self.second, factor))


class Canvas:
    """A picture to draw on, in units of the drawing.

    Args:
        size: height and width of the final picture, in pixels.
        unit: final pixels per drawing unit.
        origin: where the drawing's (0, 0) lies, in final pixels (x, y).
        lean: shift to the right, in units, per unit above y = ``ground``.
        ground: y of the ground in drawing units.
        samples: canvas pixels on each side of a final pixel; by default 4, or 2 for a picture
            more than 192 pixels high.

    Example:
        >>> canvas = Canvas((8, 8), unit=1.0, origin=(4.0, 4.0))
        >>> canvas.ellipse(0, 0, 3, 3, Brush((250, 0, 0)))
        >>> canvas.picture().shape, canvas.picture()[4, 4].tolist()
        ((8, 8, 3), [250, 0, 0])
    """

    def __init__(
        self,
        size: tuple[int, int],
        unit: float,
        origin: Point,
        lean: float = 0.0,
        ground: float = 0.0,
        samples: int | None = None,
    ) -> None:
        self.size = size
        self.samples = samples or (4 if size[0] <= 192 else 2)
        self.unit = unit
        self.origin = origin
        self._scale = unit * self.samples
        # Half a pixel to round, and 1000 so that nothing negative is cut towards zero.
        self._offset = (origin[0] * self.samples + 1000.5, origin[1] * self.samples + 1000.5)
        self.lean = lean
        self.ground = ground
        self.image = Image.new("RGB", (size[1] * self.samples, size[0] * self.samples))
        self._draw = ImageDraw.Draw(self.image)

    def place(self, point: Point) -> tuple[int, int]:
        """The canvas pixel of a point of the drawing."""
        x, y = point
        px = self._offset[0] + self._scale * (x + self.lean * (self.ground - y))
        return int(px) - 1000, int(self._offset[1] + self._scale * y) - 1000

    def polygon(self, points: Sequence[Point], brush: Brush, *, edge: float = 0.58) -> None:
        """Fill a polygon; ``edge`` is the tint of its outline, 0 for no outline."""
        s, ox, oy = self._scale, self._offset[0], self._offset[1]
        lean, ground = self.lean, self.ground
        pixels = [
            (int(ox + s * (x + lean * (ground - y))) - 1000, int(oy + s * y) - 1000)
            for x, y in points
        ]
        if brush.pattern == "plain":
            self._draw.polygon(pixels, fill=brush.colour)
        else:
            self._patterned(pixels, brush)
        if edge > 0:
            width = max(2, int(self.unit * self.samples * 0.62))
            self._draw.line([*pixels, pixels[0]], fill=tinted(brush.colour, edge), width=width)

    def _patterned(self, pixels: list[tuple[int, int]], brush: Brush) -> None:
        x0, y0 = min(p[0] for p in pixels), min(p[1] for p in pixels)
        x1, y1 = max(p[0] for p in pixels) + 1, max(p[1] for p in pixels) + 1
        mask = Image.new("L", (x1 - x0, y1 - y0))
        ImageDraw.Draw(mask).polygon([(x - x0, y - y0) for x, y in pixels], fill=255)
        ox, oy = self.place((0.0, 0.0))
        period = max(4, int(brush.period * self.unit * self.samples))
        # Measured from a point far up and left of the origin, so that no remainder is negative.
        x = (np.arange(x0, x1) - ox + 1000 * period) % period
        y = (np.arange(y0, y1) - oy + 1000 * period) % period
        share = _pattern_share(brush.pattern, x, y, period)
        first = np.asarray(brush.colour, dtype=np.int32)
        second = np.asarray(brush.second, dtype=np.int32)
        pixels_in = (first * (256 - share[..., None]) + second * share[..., None]) >> 8
        self.image.paste(Image.fromarray(pixels_in.astype(np.uint8)), (x0, y0), mask)

    def ellipse(
        self, x: float, y: float, rx: float, ry: float, brush: Brush, *, edge: float = 0.58
    ) -> None:
        """Fill an ellipse."""
        self.polygon([(x + rx * c, y + ry * s) for c, s in CIRCLE], brush, edge=edge)

    def limb(
        self, points: Sequence[Point], widths: Sequence[float], brush: Brush, *, edge: float = 0.58
    ) -> None:
        """Fill a bent limb with round ends.

        Args:
            points: its joints.
            widths: its half width at each joint.
            brush: its filling.
            edge: the outline's tint.
        """
        self.polygon(limb_outline(points, widths), brush, edge=edge)

    def picture(self) -> npt.NDArray[np.uint8]:
        """The picture at its final size, uint8 ``[h, w, 3]``."""
        return np.asarray(self.image.reduce(self.samples), dtype=np.uint8)


def _pattern_share(
    pattern: str, x: npt.NDArray[np.int64], y: npt.NDArray[np.int64], period: int
) -> npt.NDArray[np.int32]:
    """Share of the second colour at each pixel, in 256ths, ``[len(y), len(x)]``."""
    if pattern == "striped":
        rows = np.where(y * 2 < period, 256, 0)
        return np.broadcast_to(rows[:, None], (len(y), len(x))).astype(np.int32)
    if pattern == "checked":
        bands_x, bands_y = (x * 2 < period)[None, :], (y * 2 < period)[:, None]
        return (bands_x.astype(np.int32) + bands_y.astype(np.int32)) * 128
    # dotted: one dot in the middle and one at the corners of each period, so rows are offset
    half = period // 2
    dx, dy = x[None, :], y[:, None]
    radius = period * period * 6 // 100
    middle = (dx - half) ** 2 + (dy - half) ** 2 < radius
    ex, ey = np.minimum(dx, period - dx), np.minimum(dy, period - dy)
    return np.where(middle | (ex**2 + ey**2 < radius), 256, 0).astype(np.int32)


def limb_outline(points: Sequence[Point], widths: Sequence[float]) -> list[Point]:
    """Outline of a bent limb with round ends (a closed polygon)."""
    left: list[Point] = []
    right: list[Point] = []
    for k, (x, y) in enumerate(points):
        before, after = points[max(k - 1, 0)], points[min(k + 1, len(points) - 1)]
        dx, dy = after[0] - before[0], after[1] - before[1]
        norm = sqrt(dx * dx + dy * dy) or 1.0
        nx, ny = -dy / norm * widths[k], dx / norm * widths[k]
        left.append((x + nx, y + ny))
        right.append((x - nx, y - ny))
        for ends, sign in ((k == 0, -1.0), (k == len(points) - 1, 1.0)):
            if ends:  # three points of a half circle
                ux, uy = dx / norm * widths[k] * sign, dy / norm * widths[k] * sign
                cap = [
                    (x + 0.71 * nx + 0.71 * ux, y + 0.71 * ny + 0.71 * uy),
                    (x + ux, y + uy),
                    (x - 0.71 * nx + 0.71 * ux, y - 0.71 * ny + 0.71 * uy),
                ]
                left = [*cap[::-1], *left] if sign < 0 else [*left, *cap]
    return left + right[::-1]


def smooth(points: Sequence[Point], rounds: int = 2) -> list[Point]:
    """Cut the corners of a closed polygon (Chaikin's way), each round doubling its points."""
    curve = list(points)
    for _ in range(rounds):
        cut: list[Point] = []
        for (ax, ay), (bx, by) in zip(curve, [*curve[1:], curve[0]], strict=True):
            cut.append((0.75 * ax + 0.25 * bx, 0.75 * ay + 0.25 * by))
            cut.append((0.25 * ax + 0.75 * bx, 0.25 * ay + 0.75 * by))
        curve = cut
    return curve


def mirrored(half: Sequence[Point]) -> list[Point]:
    """A closed polygon from its right half, listed from the top to the bottom."""
    return [*half, *((-x, y) for x, y in reversed(half))]


@dataclass(frozen=True)
class ViewOptions:
    """How much views differ.

    Attributes:
        occlude: probability that something hides a part of the object.
        nuisance: strength of light, cast, blur, noise, clutter and movement; 1 is the default.
    """

    occlude: float = 0.35
    nuisance: float = 1.0


@dataclass(frozen=True)
class Rendering:
    """One drawn view.

    Attributes:
        pixels: uint8 ``[h, w, 3]``.
        visible: names of the attributes that show.
        view: how it was drawn, for the metadata.
    """

    pixels: npt.NDArray[np.uint8]
    visible: tuple[str, ...]
    view: dict[str, Any]


def paint_background(canvas: Canvas, horizon: float, draws: Draws, strength: float) -> str:
    """Paint what is behind the object; returns the kind of background.

    Args:
        canvas: the canvas, still empty.
        horizon: where the wall meets the floor, as a share of the height.
        draws: random draws.
        strength: of the clutter.
    """
    wide, high = canvas.image.size
    draw = ImageDraw.Draw(canvas.image)
    kind = draws.pick(("plain", "gradient", "room", "room", "street", "clutter"))
    base = _muted(draws)
    draw.rectangle((0, 0, wide, high), fill=base)
    floor = min(int(high * horizon), high)
    if kind == "gradient":
        ends = np.asarray([base, _muted(draws)], dtype=np.int64)
        t = np.arange(high)[:, None]
        column = (ends[0] * (high - t) + ends[1] * t) // high
        strip = Image.fromarray(column.astype(np.uint8)[:, None, :])
        canvas.image.paste(strip.resize((wide, high), Image.Resampling.NEAREST))
    if kind in ("room", "street"):
        draw.rectangle((0, floor, wide, high), fill=tinted(_muted(draws), 0.85))
    if kind == "street":
        x = -draws.below(wide // 3)
        while x < wide:
            house, top = wide // 5 + draws.below(wide // 3), int(floor * draws.uniform(0.05, 0.6))
            draw.rectangle((x, top, x + house, floor), fill=_muted(draws))
            x += house
    if kind == "clutter":
        for _ in range(3 + int(6 * strength * draws.random())):
            x, y = draws.below(wide), draws.below(high)
            rx, ry = (wide // 16 + draws.below(wide // 5) for _ in range(2))
            blob = [(int(x + rx * c), int(y + ry * s)) for c, s in CIRCLE]
            draw.polygon(blob, fill=_muted(draws))
    return kind


def _muted(draws: Draws) -> Colour:
    """A colour of walls and floors: not as strong as those of clothes."""
    grey = draws.uniform(110, 225)
    r, g, b = (int(min(245.0, max(60.0, grey + draws.uniform(-32, 32)))) for _ in range(3))
    return r, g, b


def hide(canvas: Canvas, draws: Draws, options: ViewOptions) -> tuple[str, Box | None]:
    """Put something before the object, perhaps.

    Returns:
        Its kind (``none``, ``pillar``, ``box``, ``bar``) and the hidden box as shares of the
        picture (left, top, right, bottom), or None.
    """
    if not draws.chance(options.occlude):
        return "none", None
    kind = draws.pick(("pillar", "box", "bar"))
    if kind == "pillar":
        left = draws.pick((draws.uniform(0.02, 0.22), draws.uniform(0.55, 0.75)))
        box = (left, 0.0, left + draws.uniform(0.18, 0.32), 1.0)
    elif kind == "box":
        left, right = draws.pick(
            ((-0.1, draws.uniform(0.5, 0.75)), (draws.uniform(0.25, 0.5), 1.1))
        )
        box = (left, draws.uniform(0.6, 0.82), right, 1.1)
    else:
        top = draws.pick((draws.uniform(0.3, 0.45), draws.uniform(0.5, 0.8)))
        box = (-0.1, top, 1.1, top + draws.uniform(0.08, 0.2))
    wide, high = canvas.image.size
    x0, y0, x1, y1 = (int(b * s) for b, s in zip(box, (wide, high, wide, high), strict=True))
    colour = tinted(_muted(draws), draws.uniform(0.5, 0.9))
    draw = ImageDraw.Draw(canvas.image)
    draw.rectangle((x0, y0, x1, y1), fill=colour)
    rim = 2 * canvas.samples
    draw.rectangle((x0, y0, x1, min(y0 + rim, y1)), fill=tinted(colour, 1.25))
    draw.rectangle((max(x1 - rim, x0), y0, x1, y1), fill=tinted(colour, 0.8))
    return kind, box


def develop(
    pixels: npt.NDArray[np.uint8], draws: Draws, strength: float
) -> tuple[npt.NDArray[np.uint8], dict[str, Any]]:
    """What light and camera do: light from one side, colour cast, blur, noise; in integers.

    Returns:
        The pixels, and light, cast, blur and noise for the metadata.
    """
    high, wide, _ = pixels.shape
    light = 256 + int(strength * draws.uniform(-72, 40))
    slope = int(strength * draws.uniform(-60, 60))
    cast = [256 + int(strength * draws.uniform(-28, 28)) for _ in range(3)]
    blur = draws.weighted(((0, 5.0), (1, 3.0 * strength), (2, 0.7 * strength)))
    noise = int(strength * draws.uniform(0, 18))
    ramp = light + slope * (2 * np.arange(wide, dtype=np.int32) - wide) // (2 * wide)
    gain = (ramp[:, None] * np.asarray(cast, dtype=np.int32)) >> 8
    value = (pixels.astype(np.int32) * gain) >> 8
    # The same blur of the scene at any size: a pass widens it by the square root.
    for _ in range(blur * max(1, high // 128) ** 2 if high >= 96 else min(blur, 1)):
        padded = np.pad(value, ((1, 1), (1, 1), (0, 0)), mode="edge")
        rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
        value = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:] + 8) >> 4
    if noise:
        grain = draws.generator.integers(0, 256, (2, high, wide, 3), dtype=np.uint8).astype(
            np.int32
        )
        value += ((grain[0] + grain[1] - 255) * noise) >> 8
    done = np.clip(value, 0, 255).astype(np.uint8)
    return done, {"light": light, "cast": cast, "blur": blur, "noise": noise}


def shown_share(canvas: Canvas, region: Box, hidden: Box | None) -> float:
    """Share of a region that lies inside the picture and is not hidden.

    Args:
        canvas: the canvas.
        region: left, top, right, bottom in drawing units.
        hidden: left, top, right, bottom as shares of the picture.
    """
    wide, high = canvas.image.size
    x0, y0 = canvas.place((region[0], region[1]))
    x1, y1 = canvas.place((region[2], region[3]))
    area = max(1, x1 - x0) * max(1, y1 - y0)
    inside = (max(x0, 0), max(y0, 0), min(x1, wide), min(y1, high))
    shown = max(0, inside[2] - inside[0]) * max(0, inside[3] - inside[1])
    if hidden is not None:
        over_x = min(inside[2], int(hidden[2] * wide)) - max(inside[0], int(hidden[0] * wide))
        over_y = min(inside[3], int(hidden[3] * high)) - max(inside[1], int(hidden[1] * high))
        shown -= max(0, over_x) * max(0, over_y)
    return max(0, shown) / area
