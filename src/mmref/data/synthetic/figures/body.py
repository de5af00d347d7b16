"""The body of a figure and its clothes: legs, torso, arms, head, hair."""

from itertools import pairwise

from mmref.data.synthetic.drawing import Brush, Point, mirrored, smooth, tinted
from mmref.data.synthetic.figures.pose import DARK, LEFT, RIGHT, Painter, between
from mmref.data.synthetic.figures.things import draw_glasses, draw_hat, draw_umbrella

_LONG_SLEEVES = ("shirt", "jumper", "hoodie", "jacket", "coat")
_CURLS = (
    (0.0, -2.2, 4.6), (-5.2, -0.6, 4.4), (5.2, -0.6, 4.4), (-8.4, 4.0, 4.2), (8.4, 4.0, 4.2),
    (-3.0, -2.0, 4.0), (3.0, -2.0, 4.0), (-9.4, 9.4, 4.0), (9.4, 9.4, 4.0), (-8.6, 14.0, 3.6),
    (8.6, 14.0, 3.6),
)  # fmt: skip


def draw_behind(f: Painter) -> None:
    """What is behind the body: umbrella, backpack, hood, hair that hangs down."""
    p, c = f.pose, f.canvas
    if f.attributes["carried"] == "umbrella":
        draw_umbrella(f)
    if f.attributes["bag"] == "backpack":
        w = p.shoulder + 3.6
        pack = [(w - 4, 22.5), (w, 27), (w + 0.6, 43), (w - 2.5, 47)]
        c.polygon(smooth(mirrored(pack)), f.bag)
        c.polygon(smooth(mirrored([(4, 17.5), (w - 3, 20), (w - 1.5, 27), (4, 28)])), f.bag)
    if f.attributes["top"] == "hoodie":
        hood = [(4, 14), (8.6, 17), (9.4, 22.5), (3, 26)]
        c.polygon(smooth(mirrored(hood)), Brush(f.top.colour).tinted(0.78))
    style = f.attributes["hair"]
    if style == "long":
        back = [(4, -0.6), (8.8, 4), (9.6, 15), (10.4, 27), (5, 29.5)]
        c.polygon(smooth(mirrored(back)), f.hair.tinted(0.85))
    elif style == "ponytail":
        tail = [(5, 3), (11.5, 4.5), (13.2, 12), (12.2, 22), (10, 26), (9.2, 15), (6, 9)]
        c.polygon(smooth(tail), f.hair)
    elif style == "curly":
        for x, y, r in _CURLS:
            c.ellipse(x, y, r, r, f.hair, edge=0.75)


def draw_legs(f: Painter) -> None:
    """Legs, trousers, shorts or skirt, and shoes."""
    p, c, kind = f.pose, f.canvas, f.attributes["bottom"]
    wide = [p.hip * 0.50, p.hip * 0.42, 3.0 * p.limb + 0.4]
    bare = [p.hip * 0.40, 3.1 * p.limb, 2.1 * p.limb]
    for k, side in enumerate((LEFT, RIGHT)):
        hip = (side * p.hip * 0.48, p.hip_y - 1.0)
        knee, foot = p.knees[k], (p.feet[k][0], p.feet[k][1] - 1.5)
        brush = f.bottom if kind == "trousers" else f.skin
        c.limb([hip, knee, foot], wide if kind == "trousers" else bare, brush)
        if kind == "trousers":
            crease = [(knee[0] + 0.2, knee[1] - 6), knee, (foot[0], foot[1] - 2)]
            c.limb(crease, [0.3, 0.5, 0.3], brush.tinted(0.8), edge=0)
        if kind == "shorts":
            x, y = between(hip, knee, 0.86)
            w, v = p.hip * 0.52, p.hip * 0.47
            leg = [(hip[0] - w, hip[1] - 2), (hip[0] + w, hip[1] - 2), (x + v, y), (x - v, y)]
            c.polygon(leg, f.bottom)
            turned = [(x - v + 0.4, y - 0.8), (x + v - 0.4, y - 0.8)]
            c.limb(turned, [0.6, 0.6], f.bottom.tinted(0.8), edge=0)
        _shoe(f, k, side)
    if kind in ("skirt", "long skirt"):
        long = kind == "long skirt"
        bottom = p.hip_y + (p.ground - p.hip_y) * (0.84 if long else 0.52)
        flare = p.hip + (5.5 if kind == "skirt" else 5.0)
        half = [(p.waist, p.hip_y - 5), (p.hip + 0.6, p.hip_y + 2), (flare, bottom)]
        half += [(flare * 0.5, bottom + 1.2)]
        c.polygon(mirrored(half), f.bottom)
        for x in (-0.45, 0.05, 0.5):
            fold = [(x * p.hip, p.hip_y + 4), (x * flare, bottom - 0.5)]
            c.limb(fold, [0.25, 0.6], f.bottom.tinted(0.8), edge=0)


def _shoe(f: Painter, k: int, side: int) -> None:
    """A shoe or a boot; ``k`` is the leg's index, ``side`` its side."""
    p, brush = f.pose, Brush(f.colour("shoes_colour"))
    x, y = p.feet[k]
    if f.attributes["shoes"] == "boots":
        knee = p.knees[k]
        shaft = (0.42 * knee[0] + 0.58 * x, 0.42 * knee[1] + 0.58 * y)
        f.canvas.limb([shaft, (x, y)], [3.5 * p.limb + 0.3, 3.0 * p.limb], brush)
        cuff = [(shaft[0] - 2.6 * p.limb, shaft[1]), (shaft[0] + 2.6 * p.limb, shaft[1])]
        f.canvas.limb(cuff, [0.9, 0.9], brush.tinted(1.3), edge=0)
    toe = [(x - side * 2.6, y - 2.2), (x + side * 1.8, y - 2.4), (x + side * 5.4, y + 0.4)]
    toe += [(x + side * 5.6, y + 2.6), (x - side * 3.0, y + 2.6)]
    f.canvas.polygon(smooth(toe, 1), brush)
    sole = [(x - side * 2.8, y + 2.3), (x + side * 5.2, y + 2.3)]
    f.canvas.limb(sole, [0.5, 0.5], brush.tinted(0.5), edge=0)


def draw_torso(f: Painter) -> None:
    """The top without its sleeves."""
    p, c, kind = f.pose, f.canvas, f.attributes["top"]
    hem = p.hip_y + ((p.ground - p.hip_y) * 0.27 if kind == "coat" else 2.0)
    flare = p.hip + (3.0 if kind == "coat" else 0.8)
    s = p.shoulder
    half = [(2.5, 20.6), (s - 2.6, 22.0), (s, 25.0), (s - 0.8, 31), (p.waist, p.hip_y - 10)]
    if kind == "tank top":
        half[:3] = [(4.4, 23.5), (5.2, 21.4), (s - 3.2, 21.8)]
        skin = mirrored([(2.5, 20.6), (s - 2.4, 22.2), (s - 0.4, 26), (s - 3, 32)])
        c.polygon(smooth(skin), f.skin)
    half += [(p.hip + 0.4, p.hip_y - 3), (flare, hem), (flare * 0.5, hem + 0.6)]
    c.polygon(mirrored(_open_curve(half)), f.top)
    dark = Brush(tinted(f.top.colour, 0.7))
    if kind == "tank top":
        c.polygon(smooth(mirrored([(3.6, 20.4), (4.2, 23.0), (2.0, 26.2)])), f.skin)
    elif kind == "t-shirt":
        c.ellipse(0, 21.2, 4.6, 2.8, dark, edge=0)
        c.ellipse(0, 20.6, 3.8, 2.6, f.skin, edge=0)
    elif kind == "shirt":
        c.limb([(0, 22), (0, hem)], [0.7, 0.7], dark, edge=0)
        light = Brush((250, 250, 250)) if sum(f.top.colour) < 560 else Brush(DARK)
        step = (hem - 29) / 4
        for n in range(4):
            c.ellipse(0, 29 + step * n, 0.75, 0.75, light, edge=0)
        for side in (LEFT, RIGHT):
            collar = [(side * 0.3, 24.6), (side * 2.2, 19.6), (side * 6.2, 22.0)]
            c.polygon([*collar, (side * 4.2, 27)], Brush(f.top.colour).tinted(1.2), edge=0.5)
    elif kind == "jumper":
        c.ellipse(0, 20.8, 5.0, 2.6, dark)
        _band(f, hem - 2.8, hem + 0.4, flare)
    elif kind == "hoodie":
        _band(f, hem - 2.4, hem + 0.4, flare)
        pocket = [(4.4, p.hip_y - 12), (7.0, p.hip_y - 3.6), (3, p.hip_y - 3.6)]
        c.polygon(mirrored(pocket), Brush(f.top.colour).tinted(0.86))
        for side in (LEFT, RIGHT):
            string = [(side * 2.0, 22), (side * 2.4, 31)]
            c.limb(string, [0.5, 0.5], Brush((240, 240, 236)), edge=0)
    elif kind in ("jacket", "coat"):
        _open_front(f, hem)


def _band(f: Painter, top: float, bottom: float, half: float) -> None:
    """A ribbed hem."""
    x = half + 0.2
    corners = [(-x, top), (x, top), (x, bottom), (-x, bottom)]
    f.canvas.polygon(corners, Brush(tinted(f.top.colour, 0.72)), edge=0.75)


def _open_front(f: Painter, hem: float) -> None:
    """The inner shirt of an open jacket, or the lapels and belt of a coat."""
    c = f.canvas
    pale = (236, 236, 232) if sum(f.top.colour) < 600 else (150, 152, 158)
    dark = Brush(tinted(f.top.colour, 0.68))
    if f.attributes["top"] == "jacket":
        gap = mirrored([(2.4, 20.6), (3.4, 30), (3.8, hem + 0.4)])
        c.polygon(gap, Brush(pale), edge=0.5)
    else:
        c.polygon([(-3.2, 20.6), (3.2, 20.6), (0, 31)], Brush(pale), edge=0.5)
        c.limb([(0, 31), (0, hem)], [0.5, 0.5], dark, edge=0)
        x = f.pose.waist + 0.6
        c.limb([(-x, f.pose.hip_y - 6), (x, f.pose.hip_y - 6)], [1.3, 1.3], dark)
    for side in (LEFT, RIGHT):
        lapel = [(side * 2.4, 20.2), (side * 7.0, 23.2), (side * 5.4, 27), (side * 2.8, 33)]
        c.polygon(lapel, dark)


def draw_neck(f: Painter) -> None:
    """Neck and scarf."""
    c = f.canvas
    c.limb([(0, 16.5), (0, 21.6)], [3.1, 3.0], f.skin.tinted(0.88), edge=0.75)
    if f.attributes["scarf"] == "scarf":
        scarf = Brush(f.colour("scarf_colour"))
        end = [(1.2, 23), (5.6, 22.5), (6.6, 38), (2.4, 38.6)]
        c.polygon(end, scarf.tinted(0.85))
        c.limb([(-5.4, 20.6), (0, 23.2), (5.4, 20.6)], [2.5, 2.8, 2.5], scarf)


def draw_arms(f: Painter) -> None:
    """Arms, sleeves and the straps of a backpack."""
    p, c, kind = f.pose, f.canvas, f.attributes["top"]
    for k, side in enumerate((LEFT, RIGHT)):
        shoulder, elbow, hand = p.shoulders[k], p.elbows[k], p.hands[k]
        c.ellipse(hand[0], hand[1], 2.3, 2.4, f.skin)
        widths = [3.6 * p.limb, 3.1 * p.limb, 2.5 * p.limb]
        if kind in _LONG_SLEEVES:
            c.limb([shoulder, elbow, hand], widths, f.top, edge=0.5)
            if kind in ("jumper", "hoodie"):
                cuff = between(elbow, hand, 0.86)
                dark = Brush(tinted(f.top.colour, 0.72))
                c.limb([cuff, hand], [2.5 * p.limb, 2.4 * p.limb], dark)
                c.ellipse(hand[0], hand[1] + 1.0, 2.1, 2.1, f.skin)
        else:
            c.limb([shoulder, elbow, hand], [w * 0.8 for w in widths], f.skin)
            if kind == "t-shirt":
                hem = between(shoulder, elbow, 0.72)
                top = (shoulder[0] - side * 0.6, shoulder[1])
                c.limb([top, hem], [4.0 * p.limb, 4.1 * p.limb], f.top, edge=0.5)
        if f.attributes["bag"] == "backpack":
            x = side * (p.shoulder * 0.52)
            strap = [(x, 21.8), (x * 1.06, 30), (side * (p.shoulder * 0.8), 41)]
            c.limb(strap, [1.5, 1.5, 1.2], f.bag)


def draw_head(f: Painter) -> None:
    """Head, face, hair and what is worn on it."""
    c, t = f.canvas, f.pose.turn
    style, hat = f.attributes["hair"], f.attributes["hat"]
    for side in (LEFT, RIGHT):
        c.ellipse(side * 7.2, 11.4, 1.5, 2.2, f.skin.tinted(0.94))
    face = [(3.5, 1.6), (7.6, 5.0), (7.8, 12), (5.6, 17.6), (1.8, 20.0)]
    c.polygon(smooth(mirrored(face)), f.skin)
    if f.attributes["beard"] == "beard":
        beard = [(7.4, 10.5), (7.6, 15), (5.4, 20.0), (1.8, 21.8)]
        inner = [(-2.6, 13.8), (2.6, 13.8), (5.4, 10.8)]
        outline = [*beard, *((-x, y) for x, y in reversed(beard)), (-5.4, 10.8), *inner]
        c.polygon(outline, f.hair.tinted(0.9), edge=0.7)
    c.ellipse(t, 16.2, 2.0, 0.8, Brush((176, 64, 66)), edge=0)
    c.limb([(t * 1.4, 11.4), (t * 1.6 + 0.5, 13.6)], [0.5, 0.8], f.skin.tinted(0.78), edge=0)
    for side in (LEFT, RIGHT):
        x = side * 3.0 + t
        c.ellipse(x, 10.2, 1.15, 1.25, Brush((252, 252, 252)), edge=0)
        c.ellipse(x + t * 0.2, 10.3, 0.85, 1.05, Brush(DARK), edge=0)
        brow = [(x - 1.4, 7.8), (x + 1.4, 7.8)]
        c.limb(brow, [0.45, 0.45], f.hair.tinted(0.6), edge=0)
    draw_glasses(f, t)
    if style != "bald":
        _hair_front(f, str(style), hat != "none")
    draw_hat(f, str(hat))


def _hair_front(f: Painter, style: str, covered: bool) -> None:
    """Hair before the head; under a hat (``covered``) only at the temples."""
    c = f.canvas
    for side in (LEFT, RIGHT):  # at the temples; all that a hat leaves
        length = {"long": 25.0, "curly": 13.0}.get(style, 10.0)
        wide = 2.2 if style in ("long", "curly") else 1.2
        lock = [
            (side * 7.4, 4.5),
            (side * (7.4 + wide * 0.3), length - 3),
            (side * 7.4, length),
        ]
        c.limb(lock, [wide, wide, wide * 0.6], f.hair, edge=0.7)
    if covered:
        return
    crown = [(0, -1.4), (5.0, -0.6), (8.6, 4.0), (8.4, 8.6), (6.6, 7.4), (5.2, 4.8), (0, 5.2)]
    if style == "curly":
        for x, y, r in _CURLS[:7]:
            c.ellipse(x * 0.8, y + 2.0, r * 0.8, r * 0.66, f.hair, edge=0.8)
    c.polygon(smooth(mirrored(crown)), f.hair, edge=0.7)
    shine = [(-4.6, 2.6), (-2.0, 0.9), (1.4, 0.8)]
    c.limb(shine, [0.3, 0.6, 0.3], f.hair.tinted(1.25), edge=0)


def _open_curve(half: list[Point]) -> list[Point]:
    """Corners cut, ends kept."""
    curve = [half[0]]
    for a, b in pairwise(half):
        curve += [between(a, b, 0.25), between(a, b, 0.75)]
    return [*curve, half[-1]]
