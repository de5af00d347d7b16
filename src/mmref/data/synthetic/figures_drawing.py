"""How a figure is drawn: a person-like shape in up to forty polygons.

Units: an average figure is 95 units tall; x = 0 is its middle, y = 0 its crown, y grows downwards.
Left and right are those of the picture.
"""

from dataclasses import dataclass

from mmref.data.synthetic.attributes import Attributes, Draws
from mmref.data.synthetic.drawing import (
    Box,
    Brush,
    Canvas,
    Colour,
    Point,
    Rendering,
    ViewOptions,
    develop,
    hide,
    mirrored,
    paint_background,
    shown_share,
    smooth,
    tinted,
)

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
_SKIN: tuple[Colour, ...] = ((246, 212, 184), (228, 184, 146), (190, 138, 98), (132, 88, 60))
_DARK: Colour = (36, 30, 32)
_LEFT, _RIGHT = -1, 1
_LONG_SLEEVES = ("shirt", "jumper", "hoodie", "jacket", "coat")


@dataclass(frozen=True)
class _Pose:
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
        return self.hands[side > 0]


def render(
    attributes: Attributes, look: int, size: tuple[int, int], options: ViewOptions, draws: Draws
) -> Rendering:
    """Draw one view of a figure.

    Args:
        attributes: the object.
        look: an integer that belongs to the object (its skin).
        size: height and width in pixels.
        options: how much views differ.
        draws: the view's random draws.
    """
    high, wide = size
    strength = options.nuisance
    pose = _pose(attributes, draws, strength)
    zoom = 1.0 + strength * draws.uniform(-0.1, 0.07)
    unit = min(high * 0.80 / 104.0, wide * 1.62 / 104.0) * zoom
    foot = high * (0.955 - 0.5 * max(0.0, 0.80 - 0.80 * zoom) - 0.03 * strength * draws.random())
    origin = (
        wide * (0.5 + strength * draws.uniform(-0.07, 0.07)),
        foot - unit * pose.ground,
    )
    lean = strength * draws.uniform(-0.045, 0.045)
    canvas = Canvas(size, unit, origin, lean, pose.ground)
    background = paint_background(canvas, foot / high - draws.uniform(0.02, 0.2), draws, strength)
    _Figure(canvas, attributes, pose, _SKIN[look % len(_SKIN)]).draw()
    kind, hidden = hide(canvas, draws, options)
    regions = _regions(attributes, pose)
    visible = tuple(
        name
        for name, value in attributes.items()
        if value is not None and shown_share(canvas, regions[_PLACE[name]], hidden) >= 0.4
    )
    pixels, camera = develop(canvas.picture(), draws, strength)
    view = {"background": background, "occlusion": kind, "zoom": round(zoom, 3), **camera}
    return Rendering(pixels, visible, view)


_PLACE = {
    "build": "body", "height": "body", "hair": "head", "hair_colour": "head", "beard": "face",
    "glasses": "face", "hat": "hat", "hat_colour": "hat", "scarf": "neck", "scarf_colour": "neck",
    "top": "torso", "top_colour": "torso", "top_pattern": "torso", "top_second": "torso",
    "bottom": "legs", "bottom_colour": "legs", "shoes": "feet", "shoes_colour": "feet",
    "bag": "bag", "bag_colour": "bag", "bag_side": "bag", "carried": "carried",
    "carried_colour": "carried", "carried_side": "carried",
}  # fmt: skip


def _regions(attributes: Attributes, pose: _Pose) -> dict[str, Box]:
    """Where each part is, in drawing units."""
    s, hip, ground = pose.shoulder, pose.hip_y, pose.ground
    bag: Box = (-s, 22, s, hip)
    if attributes["bag"] in ("shoulder bag", "handbag"):
        side = _LEFT if attributes["bag_side"] == "left" else _RIGHT
        x, y = pose.hand(side) if attributes["bag"] == "handbag" else (side * (s + 2), hip)
        bag = (x - 6, y, x + 6, y + 12)
    carried: Box = (-s - 6, 30, s + 6, hip)
    if attributes["carried"] not in (None, "none"):
        side = _LEFT if attributes["carried_side"] == "left" else _RIGHT
        x, y = pose.hand(side)
        up = 30.0 if attributes["carried"] in ("umbrella", "balloon") else 6.0
        carried = (x - 6, y - up, x + 6, y - up + 14)
    return {
        "body": (-s, 0, s, ground), "head": (-8, -1, 8, 10), "hat": (-8, -6, 8, 6),
        "face": (-7, 6, 7, 19), "neck": (-7, 19, 7, 27), "torso": (-s, 24, s, hip),
        "legs": (-pose.hip, hip, pose.hip, ground - 14), "feet": (-9, ground - 7, 9, ground),
        "bag": bag, "carried": carried,
    }  # fmt: skip


def _pose(attributes: Attributes, draws: Draws, strength: float) -> _Pose:
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
    for side in (_LEFT, _RIGHT):
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
    for k, side in enumerate((_LEFT, _RIGHT)):
        top, foot = side * hip * 0.5, side * (hip * 0.42 + stance)
        bend = strength * free(-0.6, 0.9) * side
        knees.append(((top + foot) / 2 + bend + sway * 0.3, hip_y + leg * 0.5 - lift[k] * 0.6))
        feet.append((foot, ground - 2.6 - lift[k]))
    return _Pose(
        shoulder, waist, hip, limb, hip_y, ground,
        ((-(shoulder - 1.8), 25.6), (shoulder - 1.8, 25.6)),
        (elbows[0], elbows[1]), (hands[0], hands[1]), (knees[0], knees[1]), (feet[0], feet[1]),
        strength * free(-1.3, 1.3),
    )  # fmt: skip


def _held(attributes: Attributes) -> dict[int, str]:
    """What each hand holds: side -> thing."""
    sides = {"left": _LEFT, "right": _RIGHT}
    holds: dict[int, str] = {}
    if attributes["bag"] == "handbag":
        holds[sides[str(attributes["bag_side"])]] = "handbag"
    if attributes["carried"] != "none":
        holds[sides[str(attributes["carried_side"])]] = str(attributes["carried"])
    return holds


class _Figure:
    """Draws the parts of one figure from the back to the front."""

    def __init__(self, canvas: Canvas, attributes: Attributes, pose: _Pose, skin: Colour) -> None:
        self.c = canvas
        self.a = attributes
        self.p = pose
        self.skin = Brush(skin)
        self.hair = Brush(HAIR.get(str(attributes["hair_colour"]), HAIR["brown"]))
        self.top = Brush(
            self._colour("top_colour"),
            COLOURS.get(str(attributes["top_second"]), (0, 0, 0)),
            str(attributes["top_pattern"]),
            {"striped": 7.0, "checked": 8.0}.get(str(attributes["top_pattern"]), 8.4),
        )
        self.bottom = Brush(self._colour("bottom_colour"))
        self.bag = Brush(self._colour("bag_colour"))
        self.thing = Brush(self._colour("carried_colour"))

    def _colour(self, name: str) -> Colour:
        return COLOURS.get(str(self.a[name]), (250, 250, 250))

    def _side(self, name: str) -> int:
        return _LEFT if self.a[name] == "left" else _RIGHT

    def draw(self) -> None:
        """Draw everything."""
        p = self.p
        shadow = Brush((84, 82, 86))
        self.c.ellipse(0.5, p.ground - 0.6, p.hip + 6.0, 2.0, shadow, edge=0)
        self._behind()
        self._legs()
        self._torso()
        self._neck()
        if self.a["bag"] == "shoulder bag":
            self._shoulder_bag()
        self._arms()
        self._head()
        if self.a["bag"] == "handbag":
            self._handbag()
        self._carried()

    # what is behind the body

    def _behind(self) -> None:
        p, c = self.p, self.c
        if self.a["carried"] == "umbrella":
            self._umbrella()
        if self.a["bag"] == "backpack":
            w = p.shoulder + 3.6
            pack = [(w - 4, 22.5), (w, 27), (w + 0.6, 43), (w - 2.5, 47)]
            c.polygon(smooth(mirrored(pack)), self.bag)
            c.polygon(smooth(mirrored([(4, 17.5), (w - 3, 20), (w - 1.5, 27), (4, 28)])), self.bag)
        if self.a["top"] == "hoodie":
            hood = [(4, 14), (8.6, 17), (9.4, 22.5), (3, 26)]
            c.polygon(smooth(mirrored(hood)), Brush(self.top.colour).tinted(0.78))
        style = self.a["hair"]
        if style == "long":
            back = [(4, -0.6), (8.8, 4), (9.6, 15), (10.4, 27), (5, 29.5)]
            c.polygon(smooth(mirrored(back)), self.hair.tinted(0.85))
        elif style == "ponytail":
            tail = [(5, 3), (11.5, 4.5), (13.2, 12), (12.2, 22), (10, 26), (9.2, 15), (6, 9)]
            c.polygon(smooth(tail), self.hair)
        elif style == "curly":
            for x, y, r in _CURLS:
                c.ellipse(x, y, r, r, self.hair, edge=0.75)

    def _umbrella(self) -> None:
        x, y = self.p.hand(self._side("carried_side"))
        top, r = y - 41.0, 15.0
        cloth = self.thing
        self.c.limb([(x, y + 4), (x, top + 2)], [0.7, 0.7], Brush((70, 66, 64)), edge=0)
        dome = [(x - r, top + 13), (x - r * 0.86, top + 5), (x - r * 0.45, top + 0.6), (x, top)]
        dome += [(2 * x - px, py) for px, py in dome[-2::-1]]
        scallop = [(x + r * 0.66, top + 10.5), (x + r * 0.33, top + 13), (x, top + 10.5)]
        scallop += [(x - r * 0.33, top + 13), (x - r * 0.66, top + 10.5)]
        self.c.polygon([*dome, *scallop], cloth)
        rib = [(x, top), (x + r * 0.33, top + 13), (x, top + 10.5), (x - r * 0.33, top + 13)]
        self.c.polygon(rib, cloth.tinted(0.86), edge=0.7)
        self.c.ellipse(x, top - 0.6, 0.9, 1.4, Brush((70, 66, 64)), edge=0)

    # below the waist

    def _legs(self) -> None:
        p, c, kind = self.p, self.c, self.a["bottom"]
        wide = [p.hip * 0.50, p.hip * 0.42, 3.0 * p.limb + 0.4]
        bare = [p.hip * 0.40, 3.1 * p.limb, 2.1 * p.limb]
        for k, side in enumerate((_LEFT, _RIGHT)):
            hip = (side * p.hip * 0.48, p.hip_y - 1.0)
            knee, foot = p.knees[k], (p.feet[k][0], p.feet[k][1] - 1.5)
            brush = self.bottom if kind == "trousers" else self.skin
            c.limb([hip, knee, foot], wide if kind == "trousers" else bare, brush)
            if kind == "trousers":
                crease = [(knee[0] + 0.2, knee[1] - 6), knee, (foot[0], foot[1] - 2)]
                c.limb(crease, [0.3, 0.5, 0.3], brush.tinted(0.8), edge=0)
            if kind == "shorts":
                hem = (0.85 * knee[0] + 0.15 * hip[0], 0.85 * knee[1] + 0.15 * hip[1] - 2.0)
                c.limb([hip, hem], [p.hip * 0.50, p.hip * 0.46], self.bottom)
            self._shoe(k, side)
        if kind in ("skirt", "long skirt"):
            length = 0.52 if kind == "skirt" else 0.84
            hem = p.hip_y + (p.ground - p.hip_y) * length
            flare = p.hip + (5.5 if kind == "skirt" else 5.0)
            half = [(p.waist, p.hip_y - 5), (p.hip + 0.6, p.hip_y + 2), (flare, hem)]
            half += [(flare * 0.5, hem + 1.2)]
            c.polygon(mirrored(half), self.bottom)
            for x in (-0.45, 0.05, 0.5):
                fold = [(x * p.hip, p.hip_y + 4), (x * flare, hem - 0.5)]
                c.limb(fold, [0.25, 0.6], self.bottom.tinted(0.8), edge=0)

    def _shoe(self, k: int, side: int) -> None:
        p, brush = self.p, Brush(self._colour("shoes_colour"))
        x, y = p.feet[k]
        if self.a["shoes"] == "boots":
            knee = p.knees[k]
            shaft = (0.42 * knee[0] + 0.58 * x, 0.42 * knee[1] + 0.58 * y)
            self.c.limb([shaft, (x, y)], [3.5 * p.limb + 0.3, 3.0 * p.limb], brush)
            cuff = [(shaft[0] - 3.4 * p.limb, shaft[1]), (shaft[0] + 3.4 * p.limb, shaft[1])]
            self.c.limb(cuff, [0.9, 0.9], brush.tinted(1.3), edge=0)
        toe = [(x - side * 2.6, y - 2.2), (x + side * 1.8, y - 2.4), (x + side * 5.4, y + 0.4)]
        toe += [(x + side * 5.6, y + 2.6), (x - side * 3.0, y + 2.6)]
        self.c.polygon(smooth(toe, 1), brush)
        sole = [(x - side * 2.8, y + 2.3), (x + side * 5.2, y + 2.3)]
        self.c.limb(sole, [0.5, 0.5], brush.tinted(0.5), edge=0)

    # the upper body

    def _torso(self) -> None:
        p, c, kind = self.p, self.c, self.a["top"]
        hem = p.hip_y + (15.0 if kind == "coat" else 2.0)
        flare = p.hip + (3.0 if kind == "coat" else 0.8)
        s = p.shoulder
        half = [(2.5, 20.6), (s - 2.6, 22.0), (s, 25.0), (s - 0.8, 31), (p.waist, p.hip_y - 10)]
        if kind == "tank top":
            half[:3] = [(4.4, 23.5), (5.2, 21.4), (s - 3.2, 21.8)]
            skin = mirrored([(2.5, 20.6), (s - 2.4, 22.2), (s - 0.4, 26), (s - 3, 32)])
            c.polygon(smooth(skin), self.skin)
        half += [(p.hip + 0.4, p.hip_y - 3), (flare, hem), (flare * 0.5, hem + 0.6)]
        shape = [*smooth(half, 1), *((-x, y) for x, y in reversed(smooth(half, 1)))]
        c.polygon(mirrored(_open_curve(half)), self.top)
        del shape
        dark = Brush(tinted(self.top.colour, 0.7))
        if kind == "tank top":
            c.polygon(smooth(mirrored([(3.6, 20.4), (4.2, 23.0), (2.0, 26.2)])), self.skin)
        elif kind == "t-shirt":
            c.ellipse(0, 21.2, 4.6, 2.8, dark, edge=0)
            c.ellipse(0, 20.6, 3.8, 2.6, self.skin, edge=0)
        elif kind == "shirt":
            c.limb([(0, 22), (0, hem)], [0.7, 0.7], dark, edge=0)
            light = Brush((250, 250, 250)) if sum(self.top.colour) < 560 else Brush(_DARK)
            step = (hem - 29) / 4
            for n in range(4):
                c.ellipse(0, 29 + step * n, 0.75, 0.75, light, edge=0)
            for side in (_LEFT, _RIGHT):
                collar = [(side * 0.3, 24.6), (side * 2.2, 19.6), (side * 6.2, 22.0)]
                c.polygon([*collar, (side * 4.2, 27)], Brush(self.top.colour).tinted(1.2), edge=0.5)
        elif kind == "jumper":
            c.ellipse(0, 20.8, 5.0, 2.6, dark)
            self._band(hem - 2.8, hem + 0.4, flare)
        elif kind == "hoodie":
            self._band(hem - 2.4, hem + 0.4, flare)
            pocket = [(4.4, p.hip_y - 12), (7.0, p.hip_y - 3.6), (3, p.hip_y - 3.6)]
            c.polygon(mirrored(pocket), Brush(self.top.colour).tinted(0.86))
            for side in (_LEFT, _RIGHT):
                string = [(side * 2.0, 22), (side * 2.4, 31)]
                c.limb(string, [0.5, 0.5], Brush((240, 240, 236)), edge=0)
        elif kind in ("jacket", "coat"):
            self._open_front(hem)

    def _band(self, top: float, bottom: float, half: float) -> None:
        """A ribbed hem."""
        x = half + 0.2
        corners = [(-x, top), (x, top), (x, bottom), (-x, bottom)]
        self.c.polygon(corners, Brush(tinted(self.top.colour, 0.72)), edge=0.75)

    def _open_front(self, hem: float) -> None:
        """The inner shirt of an open jacket, or the lapels and belt of a coat."""
        c = self.c
        pale = (236, 236, 232) if sum(self.top.colour) < 600 else (150, 152, 158)
        dark = Brush(tinted(self.top.colour, 0.68))
        if self.a["top"] == "jacket":
            gap = mirrored([(2.4, 20.6), (3.4, 30), (3.8, hem + 0.4)])
            c.polygon(gap, Brush(pale), edge=0.5)
        else:
            c.polygon([(-3.2, 20.6), (3.2, 20.6), (0, 31)], Brush(pale), edge=0.5)
            c.limb([(0, 31), (0, hem)], [0.5, 0.5], dark, edge=0)
            x = self.p.waist + 0.6
            c.limb([(-x, self.p.hip_y - 6), (x, self.p.hip_y - 6)], [1.3, 1.3], dark)
        for side in (_LEFT, _RIGHT):
            lapel = [(side * 2.4, 20.2), (side * 7.0, 23.2), (side * 5.4, 27), (side * 2.8, 33)]
            c.polygon(lapel, dark)

    def _neck(self) -> None:
        c = self.c
        c.limb([(0, 16.5), (0, 21.6)], [3.1, 3.0], self.skin.tinted(0.88), edge=0.75)
        if self.a["scarf"] == "scarf":
            scarf = Brush(self._colour("scarf_colour"))
            end = [(1.2, 23), (5.6, 22.5), (6.6, 38), (2.4, 38.6)]
            c.polygon(end, scarf.tinted(0.85))
            c.limb([(-5.4, 20.6), (0, 23.2), (5.4, 20.6)], [2.5, 2.8, 2.5], scarf)

    def _arms(self) -> None:
        p, c, kind = self.p, self.c, self.a["top"]
        for k, side in enumerate((_LEFT, _RIGHT)):
            shoulder, elbow, hand = p.shoulders[k], p.elbows[k], p.hands[k]
            c.ellipse(hand[0], hand[1], 2.3, 2.4, self.skin)
            widths = [3.6 * p.limb, 3.1 * p.limb, 2.5 * p.limb]
            if kind in _LONG_SLEEVES:
                c.limb([shoulder, elbow, hand], widths, self.top, edge=0.5)
                if kind in ("jumper", "hoodie"):
                    cuff = _between(elbow, hand, 0.86)
                    dark = Brush(tinted(self.top.colour, 0.72))
                    c.limb([cuff, hand], [2.5 * p.limb, 2.4 * p.limb], dark)
                    c.ellipse(hand[0], hand[1] + 1.0, 2.1, 2.1, self.skin)
            else:
                c.limb([shoulder, elbow, hand], [w * 0.8 for w in widths], self.skin)
                if kind == "t-shirt":
                    hem = _between(shoulder, elbow, 0.72)
                    top = (shoulder[0] - side * 0.6, shoulder[1])
                    c.limb([top, hem], [4.0 * p.limb, 4.1 * p.limb], self.top, edge=0.5)
            if self.a["bag"] == "backpack":
                x = side * (p.shoulder * 0.52)
                strap = [(x, 21.8), (x * 1.06, 30), (side * (p.shoulder * 0.8), 41)]
                c.limb(strap, [1.5, 1.5, 1.2], self.bag)

    # the head

    def _head(self) -> None:
        c, t = self.c, self.p.turn
        style, hat = self.a["hair"], self.a["hat"]
        for side in (_LEFT, _RIGHT):
            c.ellipse(side * 7.2, 11.4, 1.5, 2.2, self.skin.tinted(0.94))
        face = [(3.5, 1.6), (7.6, 5.0), (7.8, 12), (5.6, 17.6), (1.8, 20.0)]
        c.polygon(smooth(mirrored(face)), self.skin)
        if self.a["beard"] == "beard":
            beard = [(7.4, 10.5), (7.6, 15), (5.4, 20.0), (1.8, 21.8)]
            inner = [(-2.6, 13.8), (2.6, 13.8), (5.4, 10.8)]
            outline = [*beard, *((-x, y) for x, y in reversed(beard)), (-5.4, 10.8), *inner]
            c.polygon(outline, self.hair.tinted(0.9), edge=0.7)
        c.ellipse(t, 16.2, 2.0, 0.8, Brush((176, 64, 66)), edge=0)
        c.limb([(t * 1.4, 11.4), (t * 1.6 + 0.5, 13.6)], [0.5, 0.8], self.skin.tinted(0.78), edge=0)
        for side in (_LEFT, _RIGHT):
            x = side * 3.0 + t
            c.ellipse(x, 10.2, 1.15, 1.25, Brush((252, 252, 252)), edge=0)
            c.ellipse(x + t * 0.2, 10.3, 0.85, 1.05, Brush(_DARK), edge=0)
            brow = [(x - 1.4, 7.8), (x + 1.4, 7.8)]
            c.limb(brow, [0.45, 0.45], self.hair.tinted(0.6), edge=0)
        self._glasses(t)
        if style != "bald":
            self._hair_front(str(style), hat != "none")
        self._hat(str(hat))

    def _glasses(self, t: float) -> None:
        kind, c = self.a["glasses"], self.c
        if kind == "none":
            return
        sun = kind == "sunglasses"
        frame = Brush((22, 20, 26))
        c.limb([(-7.4, 9.8), (7.4, 9.8)], [0.45, 0.45], frame, edge=0)
        for side in (_LEFT, _RIGHT):
            x = side * 3.3 + t
            c.ellipse(x, 10.4, 3.0, 2.7, frame, edge=0)
            if not sun:
                c.ellipse(x, 10.4, 2.15, 1.85, Brush((226, 240, 248)), edge=0)
                c.ellipse(x, 10.5, 0.9, 1.1, Brush(_DARK), edge=0)
            else:
                c.ellipse(x - 0.8, 9.6, 0.8, 0.5, Brush((120, 124, 136)), edge=0)

    def _hair_front(self, style: str, covered: bool) -> None:
        c = self.c
        for side in (_LEFT, _RIGHT):  # at the temples; all that a hat leaves
            length = {"long": 25.0, "curly": 13.0}.get(style, 10.0)
            wide = 2.2 if style in ("long", "curly") else 1.2
            lock = [(side * 7.4, 4.5), (side * (7.4 + wide * 0.3), length - 3), (side * 7.4, length)]
            c.limb(lock, [wide, wide, wide * 0.6], self.hair, edge=0.7)
        if covered:
            return
        crown = [(0, -1.4), (5.0, -0.6), (8.6, 4.0), (8.4, 8.6), (6.6, 7.4), (5.2, 4.8), (0, 5.2)]
        if style == "curly":
            for x, y, r in _CURLS[:7]:
                c.ellipse(x * 0.8, y + 2.0, r * 0.8, r * 0.66, self.hair, edge=0.8)
        c.polygon(smooth(mirrored(crown)), self.hair, edge=0.7)
        shine = [(-4.6, 2.6), (-2.0, 0.9), (1.4, 0.8)]
        c.limb(shine, [0.3, 0.6, 0.3], self.hair.tinted(1.25), edge=0)

    def _hat(self, kind: str) -> None:
        c, t, brush = self.c, self.p.turn, Brush(self._colour("hat_colour"))
        if kind == "cap":
            dome = [(0, -3.6), (6.0, -2.4), (8.9, 2.2), (8.9, 6.0), (0, 6.0)]
            c.polygon(smooth(mirrored(dome)), brush)
            visor = [(-6.5 + t, 4.2), (6.5 + t, 4.2), (9.0 + 2 * t, 7.6), (2 * t, 8.6)]
            c.polygon(smooth([*visor, (-9.0 + 2 * t, 7.6)], 1), brush.tinted(0.76))
            c.ellipse(t, -3.2, 1.0, 0.7, brush.tinted(0.7), edge=0)
        elif kind == "beanie":
            dome = [(0, -6.0), (5.4, -4.6), (8.8, 0.6), (8.8, 5.6), (0, 5.6)]
            c.polygon(smooth(mirrored(dome)), brush)
            cuff = [(-9.2, 2.2), (9.2, 2.2), (9.2, 6.4), (-9.2, 6.4)]
            c.polygon(smooth(cuff, 1), brush.tinted(0.78))
            c.ellipse(0, -6.6, 2.5, 2.4, brush.tinted(1.25))
        elif kind == "brimmed hat":
            dome = [(0, -5.0), (5.2, -6.0), (7.0, -1.0), (7.6, 4.0), (0, 4.0)]
            c.ellipse(0, 4.2, 15.0, 2.9, brush.tinted(0.82))
            c.polygon(smooth(mirrored(dome)), brush)
            band = [(-7.3, 1.2), (7.3, 1.2), (7.5, 4.0), (-7.5, 4.0)]
            c.polygon(band, brush.tinted(0.5), edge=0)

    # what is carried

    def _shoulder_bag(self) -> None:
        p, side = self.p, self._side("bag_side")
        x, y = side * (p.hip + 2.6), p.hip_y + 1.0
        strap = [(-side * (p.shoulder - 4.5), 21.8), (x * 0.45, p.hip_y - 16), (x - side * 1, y)]
        self.c.limb(strap, [1.0, 1.0, 1.0], self.bag.tinted(0.85))
        self._bag_body(x, y, 6.4, 9.0, flap=True)

    def _handbag(self) -> None:
        x, y = self.p.hand(self._side("bag_side"))
        for dx in (-3.2, 3.2):
            handle = [(x, y + 0.6), (x + dx, y + 5.6)]
            self.c.limb(handle, [0.7, 0.7], self.bag.tinted(0.7), edge=0)
        self._bag_body(x, y + 4.6, 6.2, 9.0, flap=False)

    def _bag_body(self, x: float, y: float, half: float, high: float, *, flap: bool) -> None:
        body = [(x - half * 0.86, y), (x + half * 0.86, y), (x + half, y + high), (x - half, y + high)]
        self.c.polygon(smooth(body, 1), self.bag)
        if flap:
            cover = [(x - half * 0.86, y), (x + half * 0.86, y), (x + half * 0.8, y + high * 0.55)]
            cover += [(x - half * 0.8, y + high * 0.55)]
            self.c.polygon(cover, self.bag.tinted(0.84))
        self.c.ellipse(x, y + high * (0.55 if flap else 0.2), 0.9, 0.9, Brush((238, 206, 96)), edge=0)

    def _carried(self) -> None:
        kind, c = self.a["carried"], self.c
        if kind == "none":
            return
        side = self._side("carried_side")
        x, y = self.p.hand(side)
        grip = Brush(self.skin.colour)
        if kind == "phone":
            phone = [(x - 2.4, y - 6.6), (x + 2.4, y - 6.6), (x + 2.4, y + 2.0), (x - 2.4, y + 2.0)]
            c.polygon(phone, Brush((26, 26, 30)))
            glass = [(px * 0.72 + x * 0.28, py * 0.8 + (y - 2.3) * 0.2) for px, py in phone]
            c.polygon(glass, Brush((120, 206, 240)), edge=0)
        elif kind == "book":
            book = [(x - 5.0, y - 7.0), (x + 5.0, y - 7.0), (x + 5.0, y + 4.0), (x - 5.0, y + 4.0)]
            c.polygon(book, self.thing)
            c.limb([(x - side * 4.2, y - 6.4), (x - side * 4.2, y + 3.4)], [0.7, 0.7], Brush((250, 248, 240)), edge=0)
            c.limb([(x - 2, y - 4.0), (x + 2.6, y - 4.0)], [0.7, 0.7], self.thing.tinted(1.6), edge=0)
        elif kind == "cup":
            cup = [(x - 2.9, y - 5.4), (x + 2.9, y - 5.4), (x + 2.1, y + 2.4), (x - 2.1, y + 2.4)]
            c.polygon(cup, Brush((246, 244, 238)))
            sleeve = [(x - 2.6, y - 2.8), (x + 2.6, y - 2.8), (x + 2.3, y + 0.6), (x - 2.3, y + 0.6)]
            c.polygon(sleeve, Brush((150, 98, 54)), edge=0)
            c.limb([(x - 2.9, y - 5.4), (x + 2.9, y - 5.4)], [0.8, 0.8], Brush((88, 60, 42)), edge=0)
        elif kind == "ball":
            c.ellipse(x, y + 4.4, 5.6, 5.6, self.thing)
            c.limb([(x - 5.2, y + 4.8), (x, y + 6.4), (x + 5.2, y + 4.8)], [0.5, 0.7, 0.5], Brush((250, 250, 248)), edge=0)
            c.ellipse(x - 1.8, y + 1.8, 1.4, 1.0, self.thing.tinted(1.5), edge=0)
        elif kind == "flowers":
            for dx, dy in ((-2.6, -6.4), (2.6, -6.4), (0, -8.6)):
                c.limb([(x, y + 3), (x + dx, y + dy)], [0.5, 0.5], Brush((44, 124, 52)), edge=0)
            for dx, dy in ((-3.4, -7.4), (3.4, -7.4), (0, -10.4), (0, -6.0)):
                c.ellipse(x + dx, y + dy, 2.5, 2.5, self.thing)
                c.ellipse(x + dx, y + dy, 0.8, 0.8, Brush((252, 226, 92)), edge=0)
        elif kind == "balloon":
            c.limb([(x, y), (x + side * 1.0, y - 22)], [0.35, 0.35], Brush((90, 88, 88)), edge=0)
            c.ellipse(x + side * 1.2, y - 30, 6.4, 7.8, self.thing)
            c.ellipse(x + side * 1.2 - 2.2, y - 33, 1.3, 1.9, self.thing.tinted(1.6), edge=0)
        c.ellipse(x + side * 0.4, y + (0.4 if kind != "ball" else -0.6), 2.0, 1.8, grip, edge=0.7)


_CURLS = (
    (0.0, -2.2, 4.6), (-5.2, -0.6, 4.4), (5.2, -0.6, 4.4), (-8.4, 4.0, 4.2), (8.4, 4.0, 4.2),
    (-3.0, -2.0, 4.0), (3.0, -2.0, 4.0), (-9.4, 9.4, 4.0), (9.4, 9.4, 4.0), (-8.6, 14.0, 3.6),
    (8.6, 14.0, 3.6),
)  # fmt: skip


def _between(a: Point, b: Point, share: float) -> Point:
    return a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1])


def _open_curve(half: list[Point]) -> list[Point]:
    """Corners cut, ends kept."""
    curve = [half[0]]
    for a, b in zip(half, half[1:], strict=False):
        curve += [_between(a, b, 0.25), _between(a, b, 0.75)]
    return [*curve, half[-1]]
