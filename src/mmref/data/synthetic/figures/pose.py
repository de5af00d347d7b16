"""How a figure stands, where its parts are, and the brushes that paint it.

Units: an average figure is 95 units tall; x = 0 is its middle, y = 0 its crown, y grows downwards.
Left and right are those of the picture.
"""

from dataclasses import dataclass

from mmref.data.synthetic.attributes import Attributes, Draws
from mmref.data.synthetic.drawing import Box, Brush, Canvas, Colour, Point

COLOURS: dict[str, Colour] = {
    "black": (38, 38, 42),
    "white": (244, 244, 242),
    "grey": (140, 142, 146),
    "red": (206, 36, 40),
    "blue": (44, 112, 222),
    "navy": (28, 36, 92),
    "green": (40, 142, 62),
    "yellow": (248, 214, 40),
    "orange": (244, 132, 28),
    "purple": (124, 52, 156),
    "pink": (246, 144, 184),
    "brown": (118, 72, 38),
    "beige": (222, 200, 158),
}
HAIR: dict[str, Colour] = {
    "black": (34, 28, 28),
    "brown": (104, 64, 34),
    "blond": (232, 196, 104),
    "red": (178, 72, 26),
    "grey": (162, 162, 164),
}
SKIN: tuple[Colour, ...] = ((246, 212, 184), (228, 184, 146), (190, 138, 98), (132, 88, 60))
DARK: Colour = (36, 30, 32)
LEFT, RIGHT = -1, 1


@dataclass(frozen=True)
class Pose:
    """Where the joints are; lists hold the left and then the right side of the picture."""

    shoulder: float
    waist: float
    hip: float
    limb: float
    hip_y: float
    ground: float
    shoulders: tuple[Point, Point]
    elbows: tuple[Point, Point]
    hands: tuple[Point, Point]
    knees: tuple[Point, Point]
    feet: tuple[Point, Point]
    turn: float

    def hand(self, side: int) -> Point:
        """The hand on this side of the picture."""
        return self.hands[side > 0]


def regions(attributes: Attributes, pose: Pose) -> dict[str, Box]:
    """Where each part is, in drawing units."""
    s, hip, ground = pose.shoulder, pose.hip_y, pose.ground
    bag: Box = (-s, 22, s, hip)
    if attributes["bag"] in ("shoulder bag", "handbag"):
        side = LEFT if attributes["bag_side"] == "left" else RIGHT
        x, y = pose.hand(side) if attributes["bag"] == "handbag" else (side * (s + 2), hip)
        bag = (x - 6, y, x + 6, y + 12)
    carried: Box = (-s - 6, 30, s + 6, hip)
    if attributes["carried"] not in (None, "none"):
        side = LEFT if attributes["carried_side"] == "left" else RIGHT
        x, y = pose.hand(side)
        up = 30.0 if attributes["carried"] in ("umbrella", "balloon") else 6.0
        carried = (x - 6, y - up, x + 6, y - up + 14)
    return {
        "body": (-s, 0, s, ground), "head": (-8, -1, 8, 10), "hat": (-8, -6, 8, 6),
        "face": (-7, 6, 7, 19), "neck": (-7, 19, 7, 27), "torso": (-s, 24, s, hip),
        "legs": (-pose.hip, hip, pose.hip, ground - 14), "feet": (-9, ground - 7, 9, ground),
        "bag": bag, "carried": carried,
    }  # fmt: skip


def make_pose(attributes: Attributes, draws: Draws, strength: float) -> Pose:
    """Draw a pose that fits the build and what the hands hold.

    Args:
        attributes: the figure.
        draws: random draws.
        strength: how much poses vary; at 0 the figure stands straight.
    """
    broad, tall = attributes["build"] == "broad", attributes["height"] == "tall"
    shoulder, waist, hip = (14.2, 12.6, 12.4) if broad else (9.8, 7.4, 7.8)
    limb = 1.28 if broad else 0.92
    torso, leg = (31.0, 49.0) if tall else (26.0, 33.0)
    hip_y, ground = 22.0 + torso, 22.0 + torso + leg
    free = draws.uniform
    sway = strength * free(-1.0, 1.0)
    elbows: list[Point] = []
    hands: list[Point] = []
    holds = _held(attributes)
    for side in (LEFT, RIGHT):
        x, y = side * (shoulder - 1.6), 25.5
        held = holds.get(side)
        a, b, pick = free(0, 1), free(0, 1), draws.random()
        reach = torso / 28.0
        if held in ("umbrella", "balloon"):
            ex, ey = x + side * (4.5 + 1.5 * a), y + 11.5
            hx, hy = ex + side * (2.0 + 1.5 * b), ey - 8.0
        elif held in ("phone", "book", "cup", "flowers"):
            ex, ey = x + side * (2.5 + 1.5 * a), y + 12.5
            hx, hy = ex + side * (4.0 + 2.0 * b), ey - 3.0 - 4.0 * a
        elif held is not None or pick < 0.62 or not strength:
            ex, ey = x + side * (1.8 + 3.4 * a), y + 13.0 * reach
            hx, hy = ex + side * (-0.6 + 3.0 * b), ey + 11.5 * reach
        elif pick < 0.85:  # a hand on the hip
            ex, ey = x + side * (6.0 + a), y + 11.5 * reach
            hx, hy = side * (waist + 0.6), ey + 8.5
        else:  # a waving hand
            ex, ey = x + side * (6.5 + a), y + 7.0
            hx, hy = ex + side * (1.5 + 2.0 * b), ey - 11.0
        elbows.append((ex, ey))
        hands.append((hx, hy))
    stance = 1.0 + strength * free(0.0, 2.6)
    lift = [strength * 2.4 * max(0.0, free(-1.0, 1.0)), 0.0]
    if draws.chance(0.5):
        lift.reverse()
    knees, feet = [], []
    for k, side in enumerate((LEFT, RIGHT)):
        top, foot = side * hip * 0.5, side * (hip * 0.42 + stance)
        bend = strength * free(-0.6, 0.9) * side
        knees.append(((top + foot) / 2 + bend + sway * 0.3, hip_y + leg * 0.5 - lift[k] * 0.6))
        feet.append((foot, ground - 2.6 - lift[k]))
    return Pose(
        shoulder, waist, hip, limb, hip_y, ground,
        ((-(shoulder - 1.8), 25.6), (shoulder - 1.8, 25.6)),
        (elbows[0], elbows[1]), (hands[0], hands[1]), (knees[0], knees[1]), (feet[0], feet[1]),
        strength * free(-1.3, 1.3),
    )  # fmt: skip


def _held(attributes: Attributes) -> dict[int, str]:
    """What each hand holds: side -> thing."""
    sides = {"left": LEFT, "right": RIGHT}
    holds: dict[int, str] = {}
    if attributes["bag"] == "handbag":
        holds[sides[str(attributes["bag_side"])]] = "handbag"
    if attributes["carried"] != "none":
        holds[sides[str(attributes["carried_side"])]] = str(attributes["carried"])
    return holds


class Painter:
    """One figure on one canvas, with a brush for each thing.

    Args:
        canvas: to draw on.
        attributes: the figure.
        pose: how it stands.
        skin: colour of its skin.
    """

    def __init__(self, canvas: Canvas, attributes: Attributes, pose: Pose, skin: Colour) -> None:
        self.canvas = canvas
        self.attributes = attributes
        self.pose = pose
        self.skin = Brush(skin)
        self.hair = Brush(HAIR.get(str(attributes["hair_colour"]), HAIR["brown"]))
        pattern = str(attributes["top_pattern"])
        self.top = Brush(
            self.colour("top_colour"),
            COLOURS.get(str(attributes["top_second"]), (0, 0, 0)),
            pattern,
            {"striped": 7.0, "checked": 8.0}.get(pattern, 8.4),
        )
        self.bottom = Brush(self.colour("bottom_colour"))
        self.bag = Brush(self.colour("bag_colour"))
        self.thing = Brush(self.colour("carried_colour"))

    def colour(self, name: str) -> Colour:
        """The colour that an attribute names."""
        return COLOURS.get(str(self.attributes[name]), (250, 250, 250))

    def side(self, name: str) -> int:
        """-1 where an attribute says left, else 1."""
        return LEFT if self.attributes[name] == "left" else RIGHT


def between(a: Point, b: Point, share: float) -> Point:
    """The point at this share of the way from a to b."""
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])
