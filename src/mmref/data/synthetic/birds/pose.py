"""How a bird stands, where its parts are, and the brushes that paint it.

Each part is drawn in a frame of its own: x points forwards, y downwards, as if the bird faced right
and stood level. Frames turn and mirror points into drawing units: x = 0, y = 0 is the middle of the
body. Angles are given by their sine; the cosine is a square root, so that no libm is asked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from mmref.data.synthetic.attributes import Attributes, Draws
from mmref.data.synthetic.drawing import Box, Brush, Canvas, Colour, Point

COLOURS: dict[str, Colour] = {
    "black": (36, 36, 42),
    "white": (246, 246, 242),
    "grey": (142, 146, 152),
    "red": (208, 36, 38),
    "blue": (48, 126, 226),
    "navy": (26, 38, 104),
    "green": (56, 148, 60),
    "yellow": (250, 216, 44),
    "orange": (244, 130, 26),
    "purple": (128, 56, 164),
    "pink": (246, 146, 182),
    "brown": (122, 76, 42),
    "beige": (224, 202, 158),
}
POSES = ("level", "upright", "raised", "pecking")
# Sine of the body's tilt (front up) and of the head's (bill up); where the head is, forwards and up
# from the body's middle.
_STANCE: dict[str, tuple[float, float, float, float]] = {
    "level": (0.16, 0.0, 25.0, 21.0),
    "upright": (0.52, 0.0, 19.0, 29.0),
    "raised": (0.40, 0.42, 22.0, 28.0),
    "pecking": (-0.20, -0.52, 34.0, 10.0),
}
HEAD = 14.0
_BILL_END = {"needle": 36.0, "spoon": 32.0, "curved": 32.0}
_CREST_END: dict[str, list[Point]] = {"swept": [(-26.0, -24.0)], "spiky": [(-3.0, -25.0)]}
_TAIL_END = {"pointed": 34.0, "forked": 31.0}


@dataclass(frozen=True)
class Frame:
    """Turns a part's own points into those of the drawing.

    Attributes:
        x, y: its origin, before mirroring.
        sine: of its tilt, front up.
        facing: 1 to the right, -1 to the left.
        fat: factor of its height.

    Example:
        >>> Frame(1.0, 2.0, 0.6, -1).at([(10.0, 0.0)])
        [(-9.0, -4.0)]
    """

    x: float
    y: float
    sine: float
    facing: int
    fat: float = 1.0

    def at(self, points: Sequence[Point]) -> list[Point]:
        """The points in the drawing."""
        s, fat, facing = self.sine, self.fat, self.facing
        c = sqrt(1.0 - s * s)
        return [
            (facing * (self.x + c * x + s * y * fat), self.y - s * x + c * y * fat)
            for x, y in points
        ]

    def inner(self, point: Point, sine: float, fat: float = 1.0) -> "Frame":
        """A frame whose origin is a point of this one, with a tilt of its own."""
        (x, y), *_ = self.at([point])
        return Frame(x * self.facing, y, sine, self.facing, fat)


@dataclass(frozen=True)
class Pose:
    """Where the frames are, and y of the ground; ``box`` holds the whole bird."""

    name: str
    facing: int
    body: Frame
    head: Frame
    tail: Frame
    ground: float
    stride: float
    box: Box


def make_pose(attributes: Attributes, draws: Draws, strength: float) -> Pose:
    """Draw how the bird stands.

    Args:
        attributes: the bird.
        draws: random draws.
        strength: how much poses vary; at 0 the bird stands level and faces right.
    """
    name = draws.pick(POSES) if strength > 0 else "level"
    facing = draws.pick((1, -1)) if strength > 0 else 1
    wobble = [strength * draws.uniform(-1.0, 1.0) for _ in range(5)]
    tilt, nod, forward, up = _STANCE[name]
    tilt, nod = tilt + 0.07 * wobble[0], nod + 0.09 * wobble[1]
    fat = 1.24 if attributes["build"] == "plump" else 0.86
    body = Frame(0.0, 0.0, tilt, facing, fat)
    head = Frame(forward + 1.2 * wobble[2], -up * (0.6 + 0.4 * fat) + wobble[3], nod, facing)
    tail = body.inner((-27.0, -2.0), tilt + 0.10 * wobble[4] - 0.06)
    hip = max(y for _, y in body.at([(-14.0, 17.0), (-2.0, 18.5), (8.0, 18.5)]))
    ground = hip + (20.0 if attributes["legs"] == "long" else 7.5)
    reach = [
        *body.at([(-30.0, 0.0), (20.0, 19.0)]),
        *tail.at([(-_TAIL_END.get(str(attributes["tail"]), 26.0), y) for y in (-8.0, 8.0)]),
        *head.at([(_BILL_END.get(str(attributes["bill"]), 24.0), 3.0), (0.0, -17.0)]),
        *head.at(_CREST_END.get(str(attributes["crest"]), [])),
        (0.0, ground + 2.0),
    ]
    xs, ys = [p[0] for p in reach], [p[1] for p in reach]
    box = (min(xs), min(ys), max(xs), max(ys))
    return Pose(name, facing, body, head, tail, ground, 1.0 + 2.0 * strength * draws.random(), box)


class Painter:
    """One bird on one canvas; it notes where each part was drawn.

    Args:
        canvas: to draw on.
        attributes: the bird.
        pose: how it stands.
        rim: colour of its eye.
    """

    def __init__(self, canvas: Canvas, attributes: Attributes, pose: Pose, rim: Colour) -> None:
        self.canvas = canvas
        self.attributes = attributes
        self.pose = pose
        self.rim = Brush(rim)
        self.places: dict[str, Box] = {}

    def value(self, name: str) -> str:
        """The value of an attribute; an empty string where there is none."""
        return self.attributes[name] or ""

    def brush(self, part: str) -> Brush:
        """The brush of a part's colour."""
        return Brush(COLOURS[str(self.attributes[f"{part}_colour"])])

    def fill(
        self,
        frame: Frame,
        points: Sequence[Point],
        brush: Brush,
        *,
        edge: float = 0.58,
        part: str = "",
    ) -> None:
        """Fill a polygon of a frame and note its place as that of ``part``."""
        placed = frame.at(points)
        self.canvas.polygon(placed, brush, edge=edge)
        if part:
            self.note(part, placed)

    def line(
        self, frame: Frame, points: Sequence[Point], widths: Sequence[float], brush: Brush,
        *, edge: float = 0.0,
    ) -> None:  # fmt: skip
        """Draw a bent line of these half widths in a frame."""
        self.canvas.limb(frame.at(points), widths, brush, edge=edge)

    def note(self, part: str, placed: Sequence[Point]) -> None:
        """Remember where a part is: left, top, right, bottom in drawing units."""
        xs, ys = [p[0] for p in placed], [p[1] for p in placed]
        self.places[part] = (min(xs), min(ys), max(xs), max(ys))


def contrast(*under: Colour) -> Colour:
    """White, black or gold: the one that shows best on all of these colours.

    Example:
        >>> contrast((36, 36, 42)), contrast((246, 246, 242))
        ((252, 252, 250), (22, 20, 24))
    """
    options: tuple[Colour, ...] = ((252, 252, 250), (22, 20, 24), (240, 176, 30))

    def least(option: Colour) -> int:
        return min(sum(abs(a - b) for a, b in zip(option, one, strict=True)) for one in under)

    return max(options, key=least)
