"""What is behind a bird, beneath it and before it: backgrounds, perches, leaves."""

from math import sqrt

from PIL import ImageDraw

from mmref.data.synthetic.attributes import Draws
from mmref.data.synthetic.drawing import (
    CIRCLE,
    Box,
    Brush,
    Canvas,
    Colour,
    Point,
    ViewOptions,
    tinted,
)

BACKGROUNDS = ("sky", "foliage", "water", "sand", "snow", "grass")
PERCHES = ("branch", "ground", "rock", "post")
_BANDS = 24
_LEAF: tuple[Point, ...] = ((0, -1), (0.42, -0.4), (0.42, 0.3), (0, 1), (-0.42, 0.3), (-0.42, -0.4))


def _near(colour: Colour, draws: Draws, spread: float = 18.0) -> Colour:
    """A colour near this one."""
    r, g, b = (int(min(250.0, max(20.0, c + draws.uniform(-spread, spread)))) for c in colour)
    return r, g, b


def paint_nature(canvas: Canvas, draws: Draws, strength: float) -> str:
    """Paint what is behind the bird; returns the kind of background."""
    wide, high = canvas.image.size
    draw = ImageDraw.Draw(canvas.image)
    kind = draws.pick(BACKGROUNDS)
    line = int(high * draws.uniform(0.55, 0.85))
    sky = _near(draws.pick(((158, 198, 236), (196, 212, 224), (226, 214, 200))), draws)
    if kind == "foliage":
        base = _near((122, 156, 104), draws, 26.0)
        draw.rectangle((0, 0, wide, high), fill=base)
        for _ in range(4 + int(9 * strength * draws.random())):
            _blob(draw, draws, canvas, tinted(base, draws.uniform(0.72, 1.3)), 0.0, 1.0)
        return kind
    pale = tinted(sky, 1.45)
    for k in range(_BANDS):  # paler towards the horizon
        r, g, b = ((p * (_BANDS - k) + q * k) // _BANDS for p, q in zip(sky, pale, strict=True))
        draw.rectangle((0, high * k // _BANDS, wide, high * (k + 1) // _BANDS), fill=(r, g, b))
    if kind == "sky":
        for _ in range(int(4 * strength * draws.random())):
            _blob(draw, draws, canvas, tinted(sky, 1.6), 0.0, 0.8, flat=0.4)
        return kind
    floor: dict[str, Colour] = {
        "water": (104, 150, 176), "sand": (216, 196, 150), "snow": (232, 238, 244),
        "grass": (128, 166, 92),
    }  # fmt: skip
    base = _near(floor[kind], draws, 14.0)
    draw.rectangle((0, line, wide, high), fill=base)
    if draws.chance(0.5):  # what grows at the horizon
        far = tinted(_near((118, 146, 112), draws), 1.15)
        draw.rectangle((0, line - int(high * draws.uniform(0.03, 0.2)), wide, line), fill=far)
    for _ in range(3 + int(6 * strength * draws.random())):
        x, y = draws.below(wide), line + draws.below(max(1, high - line))
        half, thick = wide // 16 + draws.below(wide // 6), 1 + draws.below(max(2, high // 64))
        shade = tinted(base, draws.uniform(0.84, 1.3))
        draw.ellipse((x - half, y - thick, x + half, y + thick), fill=shade)
    return kind


def _blob(
    draw: ImageDraw.ImageDraw, draws: Draws, canvas: Canvas, fill: Colour, top: float,
    bottom: float, flat: float = 0.8,
) -> None:  # fmt: skip
    wide, high = canvas.image.size
    x, y = draws.below(wide), int(high * draws.uniform(top, bottom))
    rx = wide // 12 + draws.below(wide // 5)
    draw.polygon([(int(x + rx * c), int(y + rx * flat * s)) for c, s in CIRCLE], fill=fill)


def paint_perch(canvas: Canvas, draws: Draws, upright: bool, ground: float, x: float) -> str:
    """Paint what the bird stands on; its upper edge is at ``ground``, below ``x``."""
    kind = draws.pick(("branch", "branch", "post") if upright else PERCHES)
    bark = Brush(_near((112, 86, 62), draws, 22.0))
    if kind == "branch":
        slope = draws.uniform(-3.0, 3.0)
        thick = draws.uniform(3.0, 5.0)
        y = ground + thick
        canvas.limb([(-90, y - slope * 2), (x, y), (90, y + slope * 2)], [thick] * 3, bark)
        for _ in range(draws.below(4)):
            leaf(canvas, (draws.uniform(-50, 50), y + draws.uniform(2, 8)), 7.0, draws)
    elif kind == "post":
        half = draws.uniform(9.0, 14.0)
        top = [(x - half, ground), (x + half, ground), (x + half, ground + 90)]
        canvas.polygon([*top, (x - half, ground + 90)], bark)
    elif kind == "rock":
        stone = Brush(_near((136, 132, 128), draws, 16.0))
        w = draws.uniform(24.0, 34.0)
        rock = [(x - w * 0.7, ground), (x + w * 0.6, ground), (x + w, ground + 14)]
        canvas.polygon([*rock, (x + w * 0.9, ground + 70), (x - w, ground + 70)], stone)
    else:
        soil = Brush(_near((164, 142, 108), draws, 24.0))
        canvas.polygon([(-120, ground), (120, ground), (120, ground + 120), (-120, ground + 120)],
                       soil, edge=0.8)  # fmt: skip
    return kind


def leaf(canvas: Canvas, at: Point, length: float, draws: Draws) -> None:
    """One leaf, turned at random."""
    s, half = draws.uniform(-0.9, 0.9), length / 2
    c = sqrt(1.0 - s * s)
    points = [(at[0] + half * (c * x + s * y), at[1] + half * (c * y - s * x)) for x, y in _LEAF]
    canvas.polygon(points, Brush(_near((70, 128, 54), draws, 26.0)), edge=0.7)


def cover(canvas: Canvas, draws: Draws, options: ViewOptions) -> tuple[str, Box | None]:
    """Put leaves, a trunk or grass before the bird, perhaps.

    Returns:
        Its kind and the hidden box as shares of the picture (left, top, right, bottom), or None.
    """
    if not draws.chance(options.occlude):
        return "none", None
    kind = draws.pick(("leaves", "leaves", "trunk", "grass"))
    u, (ox, oy) = canvas.unit, canvas.origin
    high, wide = canvas.size

    def at(x: float, y: float) -> Point:
        """The drawing's point at this share of the picture."""
        return (x * wide - ox) / u, (y * high - oy) / u

    if kind == "trunk":
        left = draws.pick((draws.uniform(-0.02, 0.2), draws.uniform(0.4, 0.7)))
        box = (left, -0.1, left + draws.uniform(0.16, 0.28), 1.1)
        (x0, y0), (x1, y1) = at(box[0], box[1]), at(box[2], box[3])
        bark = Brush(_near((104, 82, 62), draws, 22.0))
        canvas.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], bark)
        for _ in range(4):
            x, y = draws.uniform(x0 + 1, x1 - 1), draws.uniform(y0, y1)
            canvas.limb([(x, y), (x + 0.6, y + 12)], [0.5, 0.3], bark.tinted(0.8), edge=0)
    elif kind == "grass":
        top = draws.uniform(0.62, 0.8)
        box = (-0.1, top, 1.1, 1.1)
        base = _near((98, 142, 66), draws, 22.0)
        (x0, y0), (x1, y1) = at(0.0, top), at(1.0, 1.1)
        canvas.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], Brush(base), edge=0)
        for k in range(22):
            x, y = x0 + (x1 - x0) * (k + draws.random()) / 22, y0 + 6.0
            tip = (x + draws.uniform(-4, 4), y0 - draws.uniform(1, 9))
            blade = [(x - 2.2, y + 8), tip, (x + 2.2, y + 8)]
            canvas.polygon(blade, Brush(tinted(base, draws.uniform(0.75, 1.2))), edge=0)
    else:
        w, h = draws.uniform(0.26, 0.42), draws.uniform(0.24, 0.4)
        left, top = draws.uniform(0.02, 0.95 - w), draws.uniform(0.05, 0.95 - h)
        box = (left, top, left + w, top + h)
        (x0, y0), (x1, y1) = at(box[0], box[1]), at(box[2], box[3])
        size = max(x1 - x0, y1 - y0) / 1.9
        for row in range(4):
            for column in range(4):
                x = x0 + (x1 - x0) * (column + 0.5 * (row % 2) + 0.2) / 3.9
                y = y0 + (y1 - y0) * (row + 0.5) / 4.0
                leaf(canvas, (x + draws.uniform(-1, 1), y + draws.uniform(-1, 1)), size, draws)
    return kind, box
