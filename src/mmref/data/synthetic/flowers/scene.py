"""What is behind a flower and what gets in the way of seeing it."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from mmref.data.synthetic.attributes import Draws
from mmref.data.synthetic.drawing import (
    CIRCLE,
    Canvas,
    Colour,
    Point,
    ViewOptions,
    limb_outline,
    tinted,
)
from mmref.data.synthetic.flowers.petals import direction

BACKGROUNDS = ("soil", "grass", "sky", "wall", "foliage")
_BASE: dict[str, tuple[Colour, Colour]] = {
    "soil": ((104, 86, 70), (136, 114, 92)),
    "grass": ((128, 152, 100), (170, 190, 132)),
    "sky": ((150, 190, 226), (212, 228, 238)),
    "wall": ((150, 142, 134), (206, 198, 190)),
    "foliage": ((52, 74, 58), (98, 118, 92)),
}


def paint_backdrop(canvas: Canvas, draws: Draws, strength: float) -> str:
    """Fill the picture with something out of focus; returns its kind.

    Args:
        canvas: the canvas, still empty.
        draws: random draws.
        strength: of the clutter.
    """
    kind = draws.pick(BACKGROUNDS)
    low, high = (np.asarray(c, dtype=np.int64) for c in _BASE[kind])
    cells = {"soil": 24, "grass": 12, "sky": 4, "wall": 3, "foliage": 7}[kind]
    share = draws.generator.integers(0, 257, (cells, cells, 1))
    if kind == "sky":  # paler towards the horizon
        share = (share + 3 * 256 * np.arange(cells)[:, None, None] // (cells - 1)) // 4
    share = 128 + ((share - 128) * int(160 + 96 * min(1.0, strength)) >> 8)
    tone = draws.generator.integers(-14, 15, (1, 1, 3)) * int(8 * strength) // 8
    grid = np.clip((low * (256 - share) + high * share) // 256 + tone, 0, 255).astype(np.uint8)
    tall, wide = canvas.size
    soft = Image.fromarray(grid).resize((wide, tall), Image.Resampling.BILINEAR)
    canvas.image.paste(soft.resize(canvas.image.size, Image.Resampling.NEAREST))
    pen, (w, h) = ImageDraw.Draw(canvas.image), canvas.image.size
    base: Colour = (int(low[0]), int(low[1]), int(low[2]))
    if kind == "wall" and draws.chance(0.6):
        course = h // (5 + draws.below(4))
        for row, y in enumerate(range(draws.below(course), h, course)):
            pen.line((0, y, w, y), fill=tinted(base, 0.9), width=max(2, h // 128))
            for x in range((row % 2) * course, w, 2 * course):
                pen.line((x, y, x, y + course), fill=tinted(base, 0.9), width=max(2, h // 128))
    if kind == "grass":
        for _ in range(10 + int(14 * strength * draws.random())):
            x, top = draws.below(w), draws.below(h)
            bend = draws.below(w // 4) - w // 8
            shade = tinted(base, draws.uniform(0.8, 1.25))
            pen.polygon((x, h, x + w // 50, h, x + bend, top), fill=shade)
    if kind in ("foliage", "soil"):
        for _ in range(4 + int(6 * strength * draws.random())):
            x, y, r = draws.below(w), draws.below(h), w // 24 + draws.below(w // 14)
            shade = tinted(base, draws.uniform(0.8, 1.3))
            pen.ellipse((x - r, y - r * 3 // 4, x + r, y + r * 3 // 4), fill=shade)
    return kind


class Cover(NamedTuple):
    """What hides a part of the picture.

    Attributes:
        kind: ``none``, ``leaf``, ``blade``, ``butterfly`` or ``beetle``.
        mask: ``L`` picture of the final size, 255 where something is hidden; None for ``none``.
    """

    kind: str
    mask: Image.Image | None

    def shares(self, canvas: Canvas, spots: dict[str, list[Point]]) -> dict[str, float]:
        """Share of the points of each part that lie inside the picture and are not hidden."""
        high, wide = canvas.size
        places = np.asarray([spot for part in spots.values() for spot in part])
        x, y = (
            ((places[:, k] * canvas.unit + canvas.origin[k]) + 1000.0).astype(np.int64) - 1000
            for k in (0, 1)
        )
        shown = (x >= 0) & (x < wide) & (y >= 0) & (y < high)
        if self.mask is not None:
            mask = np.asarray(self.mask)
            shown &= mask[np.clip(y, 0, high - 1), np.clip(x, 0, wide - 1)] == 0
        found, done = shown.tolist(), 0
        shares: dict[str, float] = {}
        for name, part in spots.items():
            shares[name] = sum(found[done : done + len(part)]) / len(part)
            done += len(part)
        return shares


def cover_up(canvas: Canvas, bloom: Point, radius: float, draws: Draws, how: ViewOptions) -> Cover:
    """Put a leaf, blades of grass or an insect before the flower, perhaps.

    Args:
        canvas: with the flower on it.
        bloom: the middle of the bloom.
        radius: half of its size.
        draws: random draws.
        how: how often.
    """
    if not draws.chance(how.occlude):
        return Cover("none", None)
    kind = draws.pick(("leaf", "leaf", "leaf", "blade", "blade", "butterfly", "beetle"))
    shapes: list[tuple[list[Point], Colour]] = []
    if kind == "leaf":
        shapes = _leaf(draws)
    elif kind == "blade":
        x = draws.uniform(-40.0, 30.0)
        for n in range(1 + draws.below(3)):
            x, half = x + n * draws.uniform(9, 16), draws.uniform(4.5, 8.5)
            line = [(x, 80.0), (x + draws.uniform(-8, 8), 0.0), (x + draws.uniform(-25, 25), -80.0)]
            green = tinted((88, 132, 62), draws.uniform(0.8, 1.2))
            shapes.append((limb_outline(line, [half, half * 0.85, half * 0.3]), green))
    else:
        low = draws.chance(0.3)  # on the leaves and not on the bloom
        at = (bloom[0] + radius * draws.uniform(-0.5, 0.5),
              46.0 if low else bloom[1] + radius * draws.uniform(-0.5, 0.5))  # fmt: skip
        shapes = _insect(kind, at, draws)
    mask = Image.new("L", (canvas.size[1], canvas.size[0]))
    pen, shade = ImageDraw.Draw(canvas.image), ImageDraw.Draw(mask)
    for points, colour in shapes:
        pixels = [canvas.place(point) for point in points]
        pen.polygon(pixels, fill=colour)
        pen.line([*pixels, pixels[0]], fill=tinted(colour, 0.6), width=canvas.samples)
        shade.polygon([(x // canvas.samples, y // canvas.samples) for x, y in pixels], fill=255)
    return Cover(kind, mask)


def _leaf(draws: Draws) -> list[tuple[list[Point], Colour]]:
    """A large leaf that reaches into the picture from a side."""
    way = direction(draws.pick((draws.uniform(-0.06, 0.14), draws.uniform(0.36, 0.56))))
    sign = 1.0 if way[0] > 0 else -1.0
    x, y = -78.0 * sign, draws.uniform(-48.0, 46.0)
    length, half = draws.uniform(72.0, 108.0), draws.uniform(18.0, 27.0)

    def at(u: float, v: float) -> Point:
        return (x + u * length * way[0] - v * half * way[1],
                y + u * length * way[1] + v * half * way[0])  # fmt: skip

    upper = ((0.0, 0.5), (0.25, 0.95), (0.5, 1.0), (0.75, 0.75), (0.92, 0.3), (1.0, 0.0))
    outline = [at(u, v) for u, v in (*upper, *((u, -v) for u, v in reversed(upper) if v))]
    colour = tinted((72, 118, 60), draws.uniform(0.75, 1.2))
    rib = [at(0.0, 0.05), at(0.95, 0.0), at(0.0, -0.05)]
    return [(outline, colour), (rib, tinted(colour, 1.3))]


def _insect(kind: str, at: Point, draws: Draws) -> list[tuple[list[Point], Colour]]:
    """A butterfly or a beetle."""
    cos, sin = direction(draws.random())
    size = draws.uniform(1.1, 1.6)

    def oval(x: float, y: float, rx: float, ry: float) -> list[Point]:
        spots = [(size * (x + rx * c), size * (y + ry * s)) for c, s in CIRCLE[::2]]
        return [(at[0] + u * cos - v * sin, at[1] + u * sin + v * cos) for u, v in spots]

    dark: Colour = (44, 38, 40)
    if kind == "beetle":
        shell = draws.pick(((54, 60, 66), (60, 96, 84), (120, 70, 44)))
        return [
            (oval(0, -8, 4.5, 4), dark),
            (oval(0, 2, 7.5, 9), shell),
            (oval(0, 2, 0.6, 8), dark),
        ]
    wing = draws.pick(((230, 220, 190), (206, 134, 70), (128, 150, 176)))
    return [
        *((oval(s * 8, -4, 7.5, 6), wing) for s in (-1, 1)),
        *((oval(s * 6, 6, 5.5, 5), tinted(wing, 0.85)) for s in (-1, 1)),
        (oval(0, 0, 1.6, 9), dark),
    ]
