"""One bloom: sepals, petals and centre, seen from the front or from an angle.

A bloom has an axis. ``up`` on the picture is ``y * cos + z * sin`` of its tilt, where y lies in the
plane of the bloom and z along its axis; the roll then turns it in the picture.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import ImageDraw

from mmref.data.synthetic.attributes import Attributes, Draws
from mmref.data.synthetic.drawing import CIRCLE, Brush, Canvas, Colour, Point, tinted
from mmref.data.synthetic.flowers.petals import (
    COUNTS,
    POSTURES,
    Floats,
    Pattern,
    Piece,
    Posture,
    direction,
    petal_pattern,
)

COLOURS: dict[str, Colour] = {
    "white": (248, 248, 244),
    "yellow": (250, 218, 44),
    "orange": (244, 128, 24),
    "red": (208, 26, 36),
    "pink": (248, 138, 182),
    "lilac": (194, 160, 234),
    "purple": (122, 40, 164),
    "blue": (48, 96, 224),
    "maroon": (104, 14, 40),
    "green": (92, 158, 52),
    "brown": (126, 76, 38),
    "black": (36, 32, 36),
}
_INK = 0.55
_RING = np.asarray(CIRCLE[::2], dtype=np.float64)


class Painter:
    """What a flower is drawn with.

    Args:
        canvas: to draw on.
        attributes: the flower.
        look: an integer that belongs to the object: its own shade and proportions.
    """

    def __init__(self, canvas: Canvas, attributes: Attributes, look: int) -> None:
        self.canvas = canvas
        self.attributes = attributes
        self.look = look
        self.draw = ImageDraw.Draw(canvas.image)
        self.scale = canvas.unit * canvas.samples
        # Half a pixel to round, and 2000 so that nothing negative is cut towards zero.
        self._offset = np.asarray(canvas.origin) * canvas.samples + 2000.5
        own = (look % 9 - 4, look // 9 % 9 - 4, look // 81 % 9 - 4)
        shade = [min(250, max(8, c + 3 * d)) for c, d in zip(self.colour("petal_colour"), own,
                                                             strict=True)]  # fmt: skip
        self.petal: Colour = (shade[0], shade[1], shade[2])

    def colour(self, name: str) -> Colour:
        """The colour that an attribute names."""
        return COLOURS.get(str(self.attributes[name]), COLOURS["green"])

    def is_(self, name: str, value: str) -> bool:
        """Whether an attribute has this value."""
        return self.attributes[name] == value

    def pixels(self, points: Floats) -> list[list[int]]:
        """Canvas pixels of points ``[n, p, 2]``: n flat lists of x, y, x, y ..."""
        flat: list[list[int]] = (
            ((points * self.scale + self._offset).astype(np.int64) - 2000)
            .reshape(len(points), -1)
            .tolist()
        )
        return flat

    def width(self, units: float) -> int:
        """The width of a line in canvas pixels, 2 or more."""
        return max(2, int(units * self.scale + 0.5))

    def dot(self, point: Point, radius: float, colour: Colour) -> None:
        """A small disc."""
        x, y = self.canvas.place(point)
        r = max(2, int(radius * self.scale + 0.5))
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


@dataclass(frozen=True)
class Frame:
    """Where a bloom is and how it faces.

    Attributes:
        base: where its petals meet the stem, in drawing units.
        radius: length of a petal of an open bloom.
        tilt: cosine and sine of the angle between axis and eye.
        roll: cosine and sine of its turn in the picture.
        phase: turn of the petals around the axis, as a share of the gap between two.
        posture: how the petals are bent.
    """

    base: Point
    radius: float
    tilt: Point
    roll: Point
    phase: float
    posture: Posture

    def project(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Drawing units ``[..., 2]`` of points of the bloom, in radii."""
        up = y * self.tilt[0] + z * self.tilt[1]
        (cos, sin), r = self.roll, self.radius
        placed = np.empty((*x.shape, 2))
        placed[..., 0] = self.base[0] + r * (x * cos + up * sin)
        placed[..., 1] = self.base[1] + r * (x * sin - up * cos)
        return placed

    def ring(self, radius: float, z: float, circle: Floats = _RING) -> Floats:
        """A circle around the axis, float ``[p, 2]`` in drawing units."""
        return self.project(circle[:, 0] * radius, circle[:, 1] * radius, np.full(len(circle), z))

    def at(self, x: float, y: float, z: float) -> Point:
        """One point of the bloom in drawing units."""
        place = self.project(np.asarray(x), np.asarray(y), np.asarray(z))
        return float(place[0]), float(place[1])


def make_frame(
    attributes: Attributes, middle: Point, radius: float, lean: float, draws: Draws, strength: float
) -> Frame:
    """Draw how a bloom faces.

    Args:
        attributes: the flower.
        middle: the middle of the bloom in drawing units.
        radius: how large it is to look, in drawing units.
        lean: turn towards the right, in turns, beside what chance adds.
        draws: random draws.
        strength: how much views differ.
    """
    kind = str(attributes["posture"])
    posture = POSTURES[kind]
    low, high = posture.tilt
    share = 0.5 + strength * draws.uniform(-0.5, 0.5) if strength <= 1 else draws.random()
    tilt = low + (high - low) * share
    roll = lean + strength * draws.uniform(-0.07, 0.07)
    if kind == "open":
        roll += strength * draws.uniform(-0.12, 0.12)
    roll += 0.5 if kind == "nodding" else 0.0
    radius = radius * posture.size
    cos, sin = direction(roll)
    down = radius * posture.below
    base = (middle[0] - down * sin, middle[1] + down * cos)
    phase = 0.25 * strength + draws.uniform(-0.25, 0.25) * strength
    return Frame(base, radius, direction(tilt), (cos, sin), phase, posture)


class Ring(NamedTuple):
    """A ring of petals.

    Attributes:
        pattern: of each petal.
        bend: as in the posture.
        ways: where the petals point, the farther ones first.
        tint: makes an inner ring darker.
    """

    pattern: Pattern
    bend: tuple[float, float, float, float]
    ways: list[Point]
    tint: float


def _turns(count: int, phase: float) -> list[Point]:
    """Where so many petals point, the farther ones first."""
    ways = [direction((k + phase) / count + 0.25) for k in range(count)]
    return sorted(ways, key=lambda way: -way[1])


def draw_bloom(p: Painter, frame: Frame, *, fine: bool) -> None:
    """Draw a bloom.

    Args:
        p: what to draw with.
        frame: where it is and how it faces.
        fine: whether it is large enough for details.
    """
    a, closed = p.attributes, frame.posture.below > 0
    count, shape, marking = str(a["petals"]), str(a["petal_shape"]), str(a["marking"])
    edged, number = p.is_("edge", "edged"), COUNTS[count]
    pattern = petal_pattern(count, shape, marking, edged, fine, closed)
    rings = [Ring(pattern, frame.posture.bend, _turns(number, frame.phase), 1.0)]
    if p.is_("layers", "double"):
        if marking == "tipped":  # else the tips would hide the colour of the outer ring
            pattern = petal_pattern(count, shape, "plain", edged, fine, closed)
        pattern = Pattern(pattern.points * (1.0, 0.8), pattern.pieces)
        turns = _turns(number, frame.phase + 0.5)
        rings.append(Ring(pattern, frame.posture.inner, turns, 0.9))
    sepals = p.is_("sepals", "sepals")
    if sepals and not closed:
        _draw_sepals(p, frame, number)
    if not closed:
        for ring in rings:
            _draw_ring(p, frame, ring, ring.ways, ring.tint)
        draw_centre(p, frame, fine)
        return
    for ring in rings:
        _draw_ring(p, frame, ring, [way for way in ring.ways if way[1] >= 0.05], 0.84)
    draw_centre(p, frame, fine)
    for ring in reversed(rings):
        _draw_ring(p, frame, ring, [way for way in ring.ways if way[1] < 0.05], ring.tint)
    if sepals:
        _draw_sepals(p, frame, number)
    green = p.colour("sepal_colour") if sepals else p.colour("stem_colour")
    p.dot(frame.base, 0.10 * frame.radius, tinted(green, 0.8))


def _draw_ring(p: Painter, frame: Frame, ring: Ring, ways: list[Point], tint: float) -> None:
    """Draw the petals of a ring that point these ways, in this order."""
    if not ways:
        return
    paints = {
        "petal": tinted(p.petal, tint),
        "edge": tinted(p.colour("edge_colour"), tint),
        "marking": tinted(p.colour("marking_colour"), tint),
        "rib": tinted(p.petal, tint * 0.8),
    }
    placed = _placed(frame, ring.pattern.points, ring.bend, ways)
    _draw_pieces(p, placed, ring.pattern.pieces, paints, tinted(p.petal, 0.5 * tint))


def _placed(
    frame: Frame, points: Floats, bend: tuple[float, float, float, float], ways: list[Point]
) -> Floats:
    """The points of every petal in drawing units, ``[petals, p, 2]``."""
    a, b, c, d = bend
    u, v = points[:, 0], points[:, 1]
    r, z = u * (a + b * u), u * (c + d * u)
    cos, sin = (np.asarray([way[k] for way in ways])[:, None] for k in (0, 1))
    return frame.project(
        r * cos - v * sin, r * sin + v * cos, np.broadcast_to(z, (len(ways), len(z)))
    )


def _draw_pieces(
    p: Painter, points: Floats, pieces: tuple[Piece, ...], paints: dict[str, Colour], ink: Colour
) -> None:
    line, thin = p.width(1.25), p.width(0.55)
    for flat in p.pixels(points):
        for number, piece in enumerate(pieces):
            part = flat[2 * piece.start : 2 * piece.stop]
            if piece.line:
                p.draw.line(part, fill=paints[piece.paint], width=line)
                continue
            p.draw.polygon(part, fill=paints[piece.paint])
            if number == 0:
                first = part
        p.draw.line(first + first[:2], fill=ink, width=thin)


_SEPAL = np.asarray(
    (
        (0.0, 0.05),
        (0.4, 0.10),
        (0.75, 0.075),
        (1.0, 0.0),
        (0.75, -0.075),
        (0.4, -0.10),
        (0.0, -0.05),
    )
)


def _draw_sepals(p: Painter, frame: Frame, count: int) -> None:
    """Between the petals of an open bloom; around the base of a closed one."""
    closed = frame.posture.below > 0
    sepals = count if count <= 6 else 5
    shift = 0.0 if closed else 0.5
    ways = _turns(sepals, frame.phase + shift)
    points, bend = _SEPAL, (1.14, 0.0, 0.0, 0.0)
    if closed:
        a, b, c, d = frame.posture.bend
        points, bend = _SEPAL * (0.62, 1.25), (a * 1.12, b, c * 0.9, d)
        ways = [way for way in ways if way[1] < 0.05] or ways[-1:]
    elif frame.posture.below < 0:
        bend = (1.08, 0.0, -0.06, 0.10)
    colour = p.colour("sepal_colour")
    piece = (Piece("sepal", False, 0, len(points)),)
    _draw_pieces(p, _placed(frame, points, bend, ways), piece, {"sepal": colour},
                 tinted(colour, _INK))  # fmt: skip


def _fill_ring(p: Painter, points: Floats, colour: Colour, *, ink: float = _INK) -> None:
    flat = p.pixels(points[None])[0]
    p.draw.polygon(flat, fill=colour)
    if ink:
        p.draw.line(flat + flat[:2], fill=tinted(colour, ink), width=p.width(0.5))


def draw_centre(p: Painter, frame: Frame, fine: bool) -> None:
    """Disc, dome, tuft of stamens or trumpet."""
    colour, z = p.colour("centre_colour"), frame.posture.height
    kind = p.attributes["centre"]
    size = 1.0 if p.is_("posture", "open") else 0.86
    if kind == "disc":
        z += 0.12 if frame.posture.below > 0 else 0.0
        _fill_ring(p, frame.ring(0.24 * size, z), colour)
        _fill_ring(p, frame.ring(0.15 * size, z), tinted(colour, 0.76), ink=0)
        if fine:
            for x, y in frame.ring(0.195 * size, z).tolist():
                p.dot((x, y), 0.022 * frame.radius, tinted(colour, 0.62))
    elif kind == "dome":
        levels = ((0.33, 0.0, 0.72), (0.32, 0.08, 0.86), (0.27, 0.17, 1.0), (0.18, 0.24, 1.12))
        for r, rise, tint in levels:
            edge = 0.5 if r > 0.32 else 0.0
            _fill_ring(p, frame.ring(r * size, z + rise), tinted(colour, tint), ink=edge)
        if fine:
            dark = tinted(colour, 0.55) if sum(colour) > 200 else tinted(colour, 1.35)
            for r, rise in ((0.28, 0.12), (0.19, 0.22), (0.08, 0.27)):
                for x, y in frame.ring(r * size, z + rise).tolist()[:: 1 if r > 0.1 else 3]:
                    p.dot((x, y), 0.024 * frame.radius, dark)
    elif kind == "tuft":
        _draw_tuft(p, frame, colour, z)
    else:
        for step in range(6):
            r, rise = (0.17 + 0.022 * step) * size, 0.08 * step
            _fill_ring(p, frame.ring(r, z + rise), tinted(colour, 0.8 + 0.03 * step),
                       ink=0.7 if step in (0, 5) else 0.0)  # fmt: skip
        frill = _RING * np.where(np.arange(len(_RING)) % 2, 0.92, 1.12)[:, None]
        _fill_ring(p, frame.ring(0.34 * size, z + 0.46, frill), colour)
        dark = tinted(colour, 0.42) if sum(colour) > 200 else tinted(colour, 1.3)
        _fill_ring(p, frame.ring(0.19 * size, z + 0.44), dark, ink=0)


def _draw_tuft(p: Painter, frame: Frame, colour: Colour, z: float) -> None:
    anther = p.colour("anther_colour")
    _fill_ring(p, frame.ring(0.12, z), tinted(colour, 0.7))
    foot = p.canvas.place(frame.at(0.0, 0.0, z))
    size = 0.82 if frame.posture.below > 0 else 1.0
    long, short = frame.ring(0.38 * size, z + 0.28), frame.ring(0.22 * size, z + 0.36)
    tips = [*long.tolist(), *short[::2].tolist()]
    width, ink = p.width(0.026 * frame.radius + 0.35), tinted(colour, 0.6)
    ends = [p.canvas.place((x, y)) for x, y in tips]
    for end in ends:
        p.draw.line((foot, end), fill=ink, width=width + 2)
    for end in ends:
        p.draw.line((foot, end), fill=colour, width=width)
    for x, y in tips:
        p.dot((x, y), 0.062 * frame.radius, tinted(anther, 0.5 if sum(anther) > 200 else 1.4))
        p.dot((x, y), 0.048 * frame.radius, anther)


def draw_bud(p: Painter, foot: Point, tip: Point) -> None:
    """A closed bud from its foot to its tip: petals above, a green calyx below."""
    (x, y), dx, dy = foot, tip[0] - foot[0], tip[1] - foot[1]

    def along(points: tuple[Point, ...]) -> list[Point]:
        return [(x + u * dx - v * dy, y + u * dy + v * dx) for u, v in points]

    whole = ((0, 0.12), (0.2, 0.34), (0.5, 0.38), (0.8, 0.2), (1.0, 0.0))
    calyx = ((0, 0.14), (0.2, 0.37), (0.5, 0.4), (0.34, 0.2), (0.58, 0.0))
    green = Brush((104, 158, 66))
    for half, brush in ((whole, Brush(p.petal)), (calyx, green)):
        outline = along((*half, *((u, -v) for u, v in reversed(half) if v)))
        p.canvas.polygon(outline, brush, edge=0.5)
