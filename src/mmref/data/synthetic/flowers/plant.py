"""Everything below the bloom: stem, leaves, side blooms and bud, and where all of it stands.

Units: the picture is 128 units high; (0, 0) is its middle and y grows downwards.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

from mmref.data.synthetic.attributes import Attributes, Draws
from mmref.data.synthetic.drawing import Brush, Colour, Point, smooth, tinted
from mmref.data.synthetic.flowers.bloom import Frame, Painter, draw_bloom, draw_bud, make_frame
from mmref.data.synthetic.flowers.petals import direction

_STEM: dict[str, Colour] = {
    "green": (98, 152, 58),
    "red": (186, 58, 60),
    "brown": (128, 88, 56),
    "purple": (122, 62, 140),
}
_LEAF: dict[str, Colour] = {
    "green": (74, 158, 56),
    "dark green": (22, 84, 46),
    "lime": (182, 218, 62),
    "silver": (182, 198, 196),
    "bronze": (142, 66, 54),
}
_HALF = {"thin": 1.1, "thick": 4.0, "hairy": 1.9}
# Upper halves from the base to the tip: (along, across) as shares of the length.
_LEAVES: dict[str, tuple[float, tuple[Point, ...]]] = {
    "narrow": (50.0, ((0, 0.02), (0.3, 0.065), (0.65, 0.05), (1, 0))),
    "oval": (38.0, ((0, 0.03), (0.18, 0.2), (0.45, 0.29), (0.75, 0.22), (0.94, 0.08), (1, 0))),
    "toothed": (41.0, ((0, 0.03), (0.16, 0.24), (0.22, 0.15), (0.36, 0.34), (0.42, 0.21),
                       (0.56, 0.32), (0.61, 0.18), (0.75, 0.24), (0.8, 0.11), (1, 0))),
    "lobed": (44.0, ((0, 0.03), (0.12, 0.06), (0.16, 0.30), (0.26, 0.36), (0.34, 0.26),
                     (0.36, 0.08),
                     (0.46, 0.08), (0.54, 0.34), (0.66, 0.36), (0.72, 0.22), (0.68, 0.08),
                     (0.78, 0.09), (0.88, 0.2), (0.98, 0.14), (1, 0))),
}  # fmt: skip
# Middle and radius of the main bloom and of the others; the side is mirrored by chance.
_LAYOUT: dict[str, tuple[tuple[float, float, float], ...]] = {
    "one": ((0, -21, 38.0),),
    "two": ((-14.0, -22.0, 34.5), (38.0, 3.0, 20.0)),
    "cluster": ((-17, -20, 33.5), (36, -42, 15.5), (44, -8, 16.5), (31, 18, 14.5)),
}


@dataclass(frozen=True)
class Plant:
    """Where the parts of a flower are, in drawing units.

    Attributes:
        main: the main bloom.
        middle: the middle of the main bloom.
        radius: half of its size.
        others: the other blooms.
        stem: points of the main stem, from the bloom to the ground.
        joint: where side stems leave it.
        side: the side of the other blooms, -1 or 1.
        leaves: base, direction (cosine, sine) of each leaf, and its size as a share.
        bud: foot and tip of the bud.
    """

    main: Frame
    middle: Point
    radius: float
    others: tuple[Frame, ...]
    stem: tuple[Point, ...]
    joint: Point
    side: int
    leaves: tuple[tuple[Point, Point, float], ...]
    bud: tuple[Point, Point]

    def spots(self, part: str, attributes: Attributes) -> list[Point]:
        """Points spread over a part, for what shows of it."""
        (x, y), r = self.middle, self.radius
        if part == "bloom":
            grid = (-0.75, -0.45, -0.15, 0.15, 0.45, 0.75)
            return [(x + r * i, y + r * j) for i in grid for j in grid if i * i + j * j < 0.8]
        if part == "centre":
            cx, cy = self.main.at(0.0, 0.0, self.main.posture.height + 0.1)
            return _square(cx, cy, 0.2 * r)
        if part == "stem":
            along = [spot for spot, _ in _walk(_curve(self.stem), 4.0)]
            return [s for s in along if s[1] < 58 and _apart(s, self.middle) > 0.9 * r]
        if part == "leaves" and attributes["leaves"] != "none":
            length = _LEAVES[str(attributes["leaves"])][0]
            return [
                (px + size * length * s * cos, py + size * length * s * sin)
                for (px, py), (cos, sin), size in self.leaves
                for s in (0.15, 0.35, 0.55, 0.75, 0.95)
            ]
        if part == "leaves":
            return _square(self.joint[0], 50.0, 12.0)
        if part == "bud":
            (fx, fy), (tx, ty) = self.bud
            return [(fx + s * (tx - fx), fy + s * (ty - fy)) for s in (0.0, 0.25, 0.5, 0.75, 1.0)]
        others = [frame.base for frame in self.others]
        others = others or [(self.side * 38.0, -30.0), (self.side * 38.0, 2.0)]
        return [spot for px, py in others for spot in _square(px, py, 7.0)]


def _square(x: float, y: float, step: float) -> list[Point]:
    """Nine points around a point."""
    return [(x + dx, y + dy) for dx in (-step, 0.0, step) for dy in (-step, 0.0, step)]


def make_plant(attributes: Attributes, look: int, draws: Draws, strength: float) -> Plant:
    """Draw how a flower stands.

    Args:
        attributes: the flower.
        look: an integer that belongs to the object: its proportions.
        draws: random draws.
        strength: how much views differ.
    """
    side = 1 if not strength or draws.chance(0.5) else -1
    places = _LAYOUT[str(attributes["blooms"])]
    own = 0.95 + 0.02 * (look // 729 % 5)

    def shaken(units: float) -> float:
        return strength * draws.uniform(-units, units)

    x, y, radius = places[0]
    middle = (side * x + shaken(2.0), y + shaken(2.5))
    main = make_frame(attributes, middle, radius * own, side * x / 400, draws, strength)
    others = tuple(
        make_frame(attributes, (side * x + shaken(2.0), y + shaken(2.0)), r * own,
                   0.06 * side, draws, strength)
        for x, y, r in places[1:]
    )  # fmt: skip
    foot = (side * -4.0 + shaken(6.0), 92.0)
    joint = (0.8 * foot[0] + 0.2 * middle[0], 37.0)
    if attributes["posture"] == "nodding":
        stem = _hook(main, joint, foot, -side if others else side)
    else:
        stem = (main.base, (0.5 * main.base[0] + 0.5 * joint[0], 14.0), joint, foot)
    leaves = tuple(
        (
            (0.9 * foot[0] + 0.1 * joint[0], 40.0 + 7.0 * n),
            direction((0.0 if way > 0 else 0.5) - way * (rise + shaken(0.02))),
            size,
        )
        for n, (way, rise, size) in enumerate(
            ((side, 0.055, 1.0), (-side, 0.035, 1.0), (side, -0.03, 0.85))[: 2 + look // 3645 % 2]
        )
    )
    tip = (-side * (46.0 + shaken(2.0)), 8.0 + shaken(3.0))
    return Plant(main, middle, radius, others, stem, joint, side, leaves,
                 ((tip[0] + side * 5.0, tip[1] + 19.0), tip))  # fmt: skip


def _hook(frame: Frame, joint: Point, foot: Point, side: int) -> tuple[Point, ...]:
    """A stem that bends over a nodding bloom."""
    (x, y), r = frame.base, frame.radius
    out = x + side * 0.72 * r
    top = max(y - 0.22 * r, -61.0)
    over = ((x, y), (x + side * 0.14 * r, top), (x + side * 0.46 * r, top), (out, y + 0.35 * r))
    return (*over, (0.75 * out + 0.25 * joint[0], y + 1.1 * r), joint, foot)


def _curve(points: tuple[Point, ...]) -> list[Point]:
    """Cut the corners of an open line, keeping its ends."""
    line = list(points)
    for _ in range(2):
        cut = [line[0]]
        for (ax, ay), (bx, by) in pairwise(line):
            cut.append((0.75 * ax + 0.25 * bx, 0.75 * ay + 0.25 * by))
            cut.append((0.25 * ax + 0.75 * bx, 0.25 * ay + 0.75 * by))
        line = [*cut, line[-1]]
    return line


def _walk(line: list[Point], step: float) -> Iterator[tuple[Point, Point]]:
    """Evenly spaced points of an open line, each with the direction there."""
    due = 0.5 * step
    for (ax, ay), (bx, by) in pairwise(line):
        dx, dy = bx - ax, by - ay
        length = sqrt(dx * dx + dy * dy)
        while due < length:
            yield (ax + dx * due / length, ay + dy * due / length), (dx / length, dy / length)
            due += step
        due -= length


def _apart(a: Point, b: Point) -> float:
    """The distance of two points."""
    dx, dy = a[0] - b[0], a[1] - b[1]
    return sqrt(dx * dx + dy * dy)


def draw_plant(p: Painter, plant: Plant) -> None:
    """Draw the whole flower, from the back to the front."""
    a = p.attributes
    brush = Brush(_STEM[str(a["stem_colour"])])
    half = _HALF[str(a["stem"])]
    for frame in plant.others:
        bend = (0.55 * frame.base[0] + 0.45 * plant.joint[0], 26.0)
        path: tuple[Point, ...] = (frame.base, bend, plant.joint)
        if a["posture"] == "nodding":
            path = _hook(frame, plant.joint, plant.joint, plant.side)[:-1]
        _draw_stem(p, path, 0.6 * half + 0.3, brush)
    if a["bud"] == "bud":
        foot, tip = plant.bud
        path = (foot, (0.5 * foot[0] + 0.5 * plant.joint[0], 36.0), plant.joint)
        _draw_stem(p, path, 0.6 * half + 0.3, brush)
        draw_bud(p, foot, tip)
    nodding = a["posture"] == "nodding"
    if not nodding:
        _draw_stem(p, plant.stem, half, brush)
    if a["leaves"] != "none":
        for base, way, size in plant.leaves:
            _draw_leaf(p, base, way, size)
    if nodding:
        _draw_stem(p, plant.stem, half, brush)
    for frame in plant.others:
        draw_bloom(p, frame, fine=False)
    draw_bloom(p, plant.main, fine=True)


def _draw_stem(p: Painter, path: tuple[Point, ...], half: float, brush: Brush) -> None:
    line = _curve(path)
    if p.attributes["stem"] == "hairy":
        _draw_hair(p, line, half + 4.0, brush.colour)
    p.canvas.limb(line, [half] * len(line), brush, edge=0.5)


def _draw_hair(p: Painter, line: list[Point], reach: float, colour: Colour) -> None:
    """Short hairs to both sides of a line, evenly spaced; light on dark, so that they show."""
    hairs: list[list[tuple[int, int]]] = []
    for (x, y), (dx, dy) in _walk(line, 3.4):
        nx, ny = -dy * reach, dx * reach
        ends = ((x + nx, y + ny - 1.0), (x, y), (x - nx, y - ny - 1.0))
        hairs.append([p.canvas.place(end) for end in ends])
    for tone, width in ((tinted(colour, 0.4), p.width(1.5)), (tinted(colour, 1.5), p.width(0.7))):
        for hair in hairs:
            p.draw.line(hair, fill=tone, width=width)


def _draw_leaf(p: Painter, base: Point, way: Point, size: float) -> None:
    kind = str(p.attributes["leaves"])
    length, upper = _LEAVES[kind]
    length *= size
    (x, y), (cos, sin) = base, way

    def placed(u: float, v: float) -> Point:
        u, v = u * length, v * length
        return x + u * cos - v * sin, y + u * sin + v * cos

    outline = [placed(u, v) for u, v in (*upper, *((u, -v) for u, v in reversed(upper) if v))]
    if kind in ("oval", "lobed"):
        outline = smooth(outline, 1)
    colour = _LEAF[str(p.attributes["leaf_colour"])]
    p.canvas.polygon(outline, Brush(colour), edge=0.5)
    vein = tinted(colour, 1.4 if sum(colour) < 480 else 0.72)
    ends = (p.canvas.place(placed(0.0, 0.0)), p.canvas.place(placed(0.86, 0.0)))
    p.draw.line(ends, fill=vein, width=p.width(0.9))
    if kind != "narrow":
        for u in (0.18, 0.4, 0.62):
            for v in (-0.13, 0.13):
                ends = (p.canvas.place(placed(u, 0.0)), p.canvas.place(placed(u + 0.14, v)))
                p.draw.line(ends, fill=vein, width=p.width(0.5))
