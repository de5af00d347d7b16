"""What a figure wears on its head, carries and holds."""

from mmref.data.synthetic.drawing import Brush, mirrored, smooth
from mmref.data.synthetic.figures.pose import DARK, LEFT, RIGHT, Painter


def draw_umbrella(f: Painter) -> None:
    """An open umbrella, above the hand that holds it."""
    x, y = f.pose.hand(f.side("carried_side"))
    top, r = y - 40.0, 13.5
    cloth = f.thing
    f.canvas.limb([(x, y + 4), (x, top + 2)], [0.7, 0.7], Brush((70, 66, 64)), edge=0)
    dome = [(x - r, top + 13), (x - r * 0.86, top + 5), (x - r * 0.45, top + 0.6), (x, top)]
    dome += [(2 * x - px, py) for px, py in dome[-2::-1]]
    scallop = [(x + r * 0.66, top + 10.5), (x + r * 0.33, top + 13), (x, top + 10.5)]
    scallop += [(x - r * 0.33, top + 13), (x - r * 0.66, top + 10.5)]
    f.canvas.polygon([*dome, *scallop], cloth)
    rib = [(x, top), (x + r * 0.33, top + 13), (x, top + 10.5), (x - r * 0.33, top + 13)]
    f.canvas.polygon(rib, cloth.tinted(0.86), edge=0.7)
    f.canvas.ellipse(x, top - 0.6, 0.9, 1.4, Brush((70, 66, 64)), edge=0)


def draw_shoulder_bag(f: Painter) -> None:
    """A bag at the hip, its strap across the body."""
    p, side = f.pose, f.side("bag_side")
    x, y = side * (p.hip + 2.6), p.hip_y + 1.0
    strap = [(-side * (p.shoulder - 4.5), 21.8), (x * 0.45, p.hip_y - 16), (x - side * 1, y)]
    f.canvas.limb(strap, [1.0, 1.0, 1.0], f.bag.tinted(0.85))
    _bag_body(f, x, y, 6.4, 9.0, flap=True)


def draw_handbag(f: Painter) -> None:
    """A bag that hangs from a hand."""
    x, y = f.pose.hand(f.side("bag_side"))
    for dx in (-3.2, 3.2):
        handle = [(x, y + 0.6), (x + dx, y + 5.6)]
        f.canvas.limb(handle, [0.7, 0.7], f.bag.tinted(0.7), edge=0)
    _bag_body(f, x, y + 4.6, 6.2, 9.0, flap=False)


def _bag_body(f: Painter, x: float, y: float, half: float, high: float, *, flap: bool) -> None:
    """The bag itself: (x, y) is the middle of its top, ``half`` its half width."""
    body = [
        (x - half * 0.86, y),
        (x + half * 0.86, y),
        (x + half, y + high),
        (x - half, y + high),
    ]
    f.canvas.polygon(smooth(body, 1), f.bag)
    if flap:
        cover = [(x - half * 0.86, y), (x + half * 0.86, y), (x + half * 0.8, y + high * 0.55)]
        cover += [(x - half * 0.8, y + high * 0.55)]
        f.canvas.polygon(cover, f.bag.tinted(0.84))
    f.canvas.ellipse(x, y + high * (0.55 if flap else 0.2), 0.9, 0.9, Brush((238, 206, 96)), edge=0)


def draw_carried(f: Painter) -> None:
    """What a hand holds, but for the umbrella, and the hand."""
    kind, c = f.attributes["carried"], f.canvas
    if kind == "none":
        return
    side = f.side("carried_side")
    x, y = f.pose.hand(side)
    grip = Brush(f.skin.colour)
    if kind == "phone":
        phone = [(x - 2.4, y - 6.6), (x + 2.4, y - 6.6), (x + 2.4, y + 2.0), (x - 2.4, y + 2.0)]
        c.polygon(phone, Brush((26, 26, 30)))
        glass = [(px * 0.72 + x * 0.28, py * 0.8 + (y - 2.3) * 0.2) for px, py in phone]
        c.polygon(glass, Brush((120, 206, 240)), edge=0)
    elif kind == "book":
        book = [(x - 5.0, y - 7.0), (x + 5.0, y - 7.0), (x + 5.0, y + 4.0), (x - 5.0, y + 4.0)]
        c.polygon(book, f.thing)
        c.limb(
            [(x - side * 4.2, y - 6.4), (x - side * 4.2, y + 3.4)],
            [0.7, 0.7],
            Brush((250, 248, 240)),
            edge=0,
        )
        c.limb([(x - 2, y - 4.0), (x + 2.6, y - 4.0)], [0.7, 0.7], f.thing.tinted(1.6), edge=0)
    elif kind == "cup":
        cup = [(x - 2.9, y - 5.4), (x + 2.9, y - 5.4), (x + 2.1, y + 2.4), (x - 2.1, y + 2.4)]
        c.polygon(cup, Brush((246, 244, 238)))
        sleeve = [
            (x - 2.6, y - 2.8),
            (x + 2.6, y - 2.8),
            (x + 2.3, y + 0.6),
            (x - 2.3, y + 0.6),
        ]
        c.polygon(sleeve, Brush((150, 98, 54)), edge=0)
        c.limb([(x - 2.9, y - 5.4), (x + 2.9, y - 5.4)], [0.8, 0.8], Brush((88, 60, 42)), edge=0)
    elif kind == "ball":
        c.ellipse(x, y + 4.4, 5.6, 5.6, f.thing)
        c.limb(
            [(x - 5.2, y + 4.8), (x, y + 6.4), (x + 5.2, y + 4.8)],
            [0.5, 0.7, 0.5],
            Brush((250, 250, 248)),
            edge=0,
        )
        c.ellipse(x - 1.8, y + 1.8, 1.4, 1.0, f.thing.tinted(1.5), edge=0)
    elif kind == "flowers":
        for dx, dy in ((-2.6, -6.4), (2.6, -6.4), (0, -8.6)):
            c.limb([(x, y + 3), (x + dx, y + dy)], [0.5, 0.5], Brush((44, 124, 52)), edge=0)
        for dx, dy in ((-3.4, -7.4), (3.4, -7.4), (0, -10.4), (0, -6.0)):
            c.ellipse(x + dx, y + dy, 2.5, 2.5, f.thing)
            c.ellipse(x + dx, y + dy, 0.8, 0.8, Brush((252, 226, 92)), edge=0)
    elif kind == "balloon":
        c.limb([(x, y), (x + side * 1.0, y - 22)], [0.35, 0.35], Brush((90, 88, 88)), edge=0)
        c.ellipse(x + side * 1.2, y - 30, 6.4, 7.8, f.thing)
        c.ellipse(x + side * 1.2 - 2.2, y - 33, 1.3, 1.9, f.thing.tinted(1.6), edge=0)
    c.ellipse(x + side * 0.4, y + (0.4 if kind != "ball" else -0.6), 2.0, 1.8, grip, edge=0.7)


def draw_hat(f: Painter, kind: str) -> None:
    """Cap, beanie or brimmed hat."""
    c, t, brush = f.canvas, f.pose.turn, Brush(f.colour("hat_colour"))
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


def draw_glasses(f: Painter, t: float) -> None:
    """Glasses or sunglasses, shifted by the turn of the head."""
    kind, c = f.attributes["glasses"], f.canvas
    if kind == "none":
        return
    sun = kind == "sunglasses"
    frame = Brush((22, 20, 26))
    c.limb([(-7.4, 9.8), (7.4, 9.8)], [0.45, 0.45], frame, edge=0)
    for side in (LEFT, RIGHT):
        x = side * 3.3 + t
        c.ellipse(x, 10.4, 3.0, 2.7, frame, edge=0)
        if not sun:
            c.ellipse(x, 10.4, 2.15, 1.85, Brush((226, 240, 248)), edge=0)
            c.ellipse(x, 10.5, 0.9, 1.1, Brush(DARK), edge=0)
        else:
            c.ellipse(x - 0.8, 9.6, 0.8, 0.5, Brush((120, 124, 136)), edge=0)
