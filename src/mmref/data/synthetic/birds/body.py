"""The parts of a bird, drawn from the back to the front."""

from mmref.data.synthetic.birds.pose import HEAD, Painter, contrast
from mmref.data.synthetic.drawing import CIRCLE, Brush, Point, limb_outline, smooth

_BODY = (
    (23, -14), (8, -19), (-12, -16), (-30, -7), (-34, -1), (-30, 5), (-14, 16), (4, 20), (19, 17),
    (28, 6), (29, -6),
)  # fmt: skip
_BACK = ((22, -15), (8, -19.5), (-12, -16.5), (-30, -7.5), (-33, -2), (-10, -5), (10, -5), (20, -6))
_BREAST = ((30, -8), (29.5, 6), (20, 18), (6, 20.5), (-2, 15), (2, 6), (13, -4), (22, -10))
_WING = ((15, -5), (7, -10.5), (-8, -10), (-26, -4), (-38, 2), (-24, 4), (-6, 5.5), (9, 3.5))
# Where marks lie on the breast: forwards and down.
_SPOTS = (
    (27.0, -4.0), (26.0, 3.5), (21.0, 0.0), (22.5, 10.5), (16.0, 3.5), (17.5, 14.0), (11.0, 8.5),
    (12.0, 16.5), (5.0, 12.5), (4.5, 18.0),
)  # fmt: skip
_TAILS: dict[str, tuple[Point, ...]] = {
    "forked": ((4, -5), (-14, -10), (-31, -16), (-18, -1), (-16, 0), (-18, 1), (-31, 16),
               (-14, 10), (4, 5)),
    "pointed": ((4, -5.5), (-12, -5), (-34, 0), (-12, 5), (4, 5.5)),
    "rounded": ((4, -5), (-9, -7.5), (-20, -9), (-27, -5), (-27, 5), (-20, 9), (-9, 7.5), (4, 5)),
    "fan": ((4, -4), (-17, -19), (-23, -14.5), (-26, -5), (-26, 5), (-23, 14.5), (-17, 19), (4, 4)),
}  # fmt: skip
_BILLS: dict[str, tuple[Point, ...]] = {
    "conical": ((9, -7.5), (16, -4.5), (25, 2.5), (15, 7), (9, 8)),
    "needle": ((11, -2.5), (22, -0.6), (36, 2), (22, 3.6), (11, 4.6)),
    "hooked": ((9, -7), (17, -7), (23, -2), (23, 9), (18, 4.5), (15, 6.5), (9, 7)),
    "spoon": ((10, -4.5), (18, -0.5), (25, -3), (31, -1.5), (32, 3), (29, 6), (22, 5), (10, 6)),
}


def draw_tail(b: Painter) -> None:
    """The tail, with the rays of its feathers."""
    kind, frame, brush = b.value("tail"), b.pose.tail, b.brush("tail")
    shape = _TAILS[kind]
    outline = list(shape) if kind in ("forked", "pointed") else smooth(shape, 1)
    b.fill(frame, outline, brush, part="tail")
    dark = brush.tinted(0.68) if sum(brush.colour) > 200 else brush.tinted(1.3)
    ends: dict[str, tuple[Point, ...]] = {
        "forked": ((-22, -11), (-22, 11)),
        "pointed": ((-24, 0),),
        "rounded": ((-23, -4), (-23, 4)),
        "fan": ((-19, -13), (-22, -7), (-23, 0), (-22, 7), (-19, 13)),
    }
    for end in ends[kind]:
        b.line(frame, [(-2, end[1] * 0.1), end], [0.4, 0.6], dark)


def draw_legs(b: Painter) -> None:
    """Both legs and their toes, down to the ground."""
    p, brush = b.pose, b.brush("legs")
    placed: list[Point] = []
    for k, forward in enumerate((-1.0, 1.0)):
        (x, y), *_ = p.body.at([(-1.0 + 4.5 * forward, 13.0)])
        foot = (x + p.facing * (0.6 + forward * p.stride), p.ground)
        leg = brush.tinted(0.82) if k == 0 else brush
        shin = [(x, y), (x - p.facing * 0.8, (y + foot[1]) / 2 + 3.0), foot]
        b.canvas.limb(shin, [2.0, 1.7, 1.6], leg)
        for toe in (7.0, -4.0):
            tip = (foot[0] + p.facing * toe, foot[1] + 1.3)
            b.canvas.limb([foot, tip], [1.7, 1.1], leg, edge=0.5)
        placed += [foot, (x, foot[1] - (foot[1] - y) * 0.5)]
    xs, ys = [q[0] for q in placed], [q[1] for q in placed]
    b.note("legs", [(min(xs) - 4.0, min(ys)), (max(xs) + 4.0, max(ys) + 2.0)])


def draw_body(b: Painter) -> None:
    """Belly, back, and the breast with its pattern."""
    frame = b.pose.body
    b.fill(frame, smooth(_BODY), b.brush("belly"))
    b.note("body", frame.at(_BODY))
    b.note("belly", frame.at([(-16, 8), (4, 20)]))
    b.fill(frame, smooth(_BACK, 1), b.brush("back"), edge=0.7)
    b.note("back", frame.at([(-26, -12), (14, -8)]))
    b.fill(frame, smooth(_BREAST, 1), b.brush("breast"), edge=0.7, part="breast")
    kind = b.value("pattern")
    if kind == "plain":
        return
    marks = b.brush("pattern")
    if kind == "spotted":
        for x, y in _SPOTS:
            spot = [(x + 1.75 * c, y + 1.75 * s) for c, s in CIRCLE[::2]]
            b.fill(frame, spot, marks, edge=0)
    elif kind == "streaked":
        for x, y in _SPOTS:
            b.line(frame, [(x + 1.2, y - 3.2), (x - 1.2, y + 3.2)], [0.9, 0.7], marks)
    else:
        for k in range(5):
            y = -7.0 + 5.6 * k
            left = (17.0, 11.5, 5.5, 1.5, 2.0)[k]
            right = (28.8, 29.0, 27.4, 23.0, 14.0)[k]
            bar = [(left, y + 1.6), ((left + right) / 2, y + 2.4), (right, y)]
            b.line(frame, bar, [1.2, 1.25, 1.2], marks)


def draw_wing(b: Painter) -> None:
    """The folded wing and its bars."""
    frame, brush = b.pose.body, b.brush("wing")
    b.fill(frame, smooth(_WING, 1), brush, part="wing")
    dark = brush.tinted(0.68) if sum(brush.colour) > 200 else brush.tinted(1.3)
    for x, y in ((-30, 0.4), (-26, 2.6), (-19, 3.8)):
        b.line(frame, [(x + 19, y - 5.0), (x, y)], [0.3, 0.5], dark)
    if b.value("bars") in ("one", "two"):
        stripe = b.brush("bars")
        b.line(frame, [(7.5, -9.2), (3.6, -3.5), (4.5, 3.0)], [1.7, 1.9, 1.7], stripe, edge=0.7)
        if b.value("bars") == "two":
            b.line(
                frame, [(-3.4, -9.2), (-7.4, -3.2), (-6.4, 3.6)], [1.7, 1.9, 1.7], stripe, edge=0.7
            )
    b.note("bars", frame.at([(-8, -9), (8, 4)]))


def draw_neck(b: Painter) -> None:
    """The nape, in the back's colour, and the throat."""
    p = b.pose
    nape = [*p.body.at([(8, -8)]), *p.body.at([(17, -9)]), *p.head.at([(-4, 2)])]
    b.canvas.limb(nape, [11, 12.5, 10.5], b.brush("back"), edge=0.7)
    throat = [*p.head.at([(3, 3)]), *p.head.at([(3, 9)]), *p.body.at([(19, -10)])]
    outline = smooth(limb_outline(throat, [8.0, 9.0, 8.5]), 1)
    b.canvas.polygon(outline, b.brush("throat"), edge=0.7)


def draw_head(b: Painter) -> None:
    """Crest, head, crown, throat, bill and eye."""
    frame = b.pose.head
    crown, cheek, throat = b.brush("crown"), b.brush("cheek"), b.brush("throat")
    _crest(b, crown)
    b.fill(frame, [(HEAD * c, HEAD * s) for c, s in CIRCLE], cheek)
    b.note("cheek", frame.at([(-12, -4), (7, 8)]))
    bib = [(13.4, 4.2), (6, 5.4), (-2, 8.5), (-5, 13.2), (3, 15.2), (10.4, 10.4)]
    b.fill(frame, smooth(bib, 1), throat, edge=0.7)
    b.note("throat", frame.at([(-2, 7), (11, 18)]))
    cap = [(14.2, -2.6), (7, -5.0), (-4, -5.2), (-12.6, -1.6), (-14.4, -5), (-9.2, -11.6),
           (0, -14.9), (9.4, -11.9)]  # fmt: skip
    b.fill(frame, smooth(cap, 1), crown, edge=0.7)
    b.note("crown", frame.at([(-10, -14), (12, -5)]))
    _bill(b)
    _eye(b)


def _crest(b: Painter, brush: Brush) -> None:
    frame, kind = b.pose.head, b.value("crest")
    if kind == "swept":
        plume = [(6, -11), (-6, -18), (-26, -24), (-15, -12), (-12, -3)]
        b.fill(frame, plume, brush)
    elif kind == "spiky":
        spikes = [(10, -9), (6, -22), (3, -16.5), (-3, -25), (-4, -16), (-13, -23), (-10.5, -13),
                  (-20, -16), (-13, -4)]  # fmt: skip
        b.fill(frame, spikes, brush)
    b.note("crest", frame.at([(-14, -22), (8, -12)]))


def _bill(b: Painter) -> None:
    frame, kind, brush = b.pose.head, b.value("bill"), b.brush("bill")
    dark = brush.tinted(0.5) if sum(brush.colour) > 200 else brush.tinted(1.45)
    if kind == "curved":
        arch: list[Point] = [(10, -0.5), (19, -0.5), (27, 4.0), (31, 12.5)]
        b.line(frame, arch, [3.6, 3.0, 2.4, 0.8], brush, edge=0.58)
        b.note("bill", frame.at(arch))
        b.line(frame, [(11, 0.6), (19, 0.8), (26, 5.0)], [0.35, 0.35, 0.3], dark)
        return
    shape = _BILLS[kind]
    b.fill(frame, smooth(shape, 1) if kind == "spoon" else shape, brush, part="bill")
    mouth: dict[str, tuple[Point, Point]] = {
        "conical": ((9, 1.6), (19, 2.4)),
        "needle": ((11, 1.4), (30, 2.0)),
        "hooked": ((9, 2.4), (18.4, 3.4)),
        "spoon": ((10, 1.8), (29, 2.6)),
    }
    b.line(frame, mouth[kind], [0.4, 0.35], dark)


def _eye(b: Painter) -> None:
    frame, kind = b.pose.head, b.value("eye")
    crown, cheek = b.brush("crown").colour, b.brush("cheek").colour
    x, y = 3.6, -1.6
    if kind == "ring":
        ring = [(x + 5.2 * c, y + 5.2 * s) for c, s in CIRCLE]
        b.fill(frame, ring, Brush(contrast(cheek)), edge=0.5)
        gap = [(x + 3.3 * c, y + 3.3 * s) for c, s in CIRCLE]
        b.fill(frame, gap, Brush(cheek), edge=0)
    elif kind == "mask":
        band = [(12, 0.6), (4, -1.4), (-5, -0.8), (-13, 1.0)]
        b.line(frame, band, [2.6, 3.6, 3.0, 1.8], Brush(contrast(cheek)), edge=0.6)
    elif kind == "brow":
        brow = [(11.6, -5.2), (3, -7.2), (-6, -6.2), (-12.4, -2.8)]
        b.line(frame, brow, [1.1, 1.7, 1.6, 1.0], Brush(contrast(crown, cheek)), edge=0.6)
    b.note("eye", frame.at([(-6, -6), (9, 3)]))
    rim = [(x + 2.7 * c, y + 2.7 * s) for c, s in CIRCLE]
    b.fill(frame, rim, b.rim, edge=0.3)
    b.fill(frame, [(x + 1.8 * c, y + 1.8 * s) for c, s in CIRCLE], Brush((18, 16, 18)), edge=0)
    b.fill(frame, [(x + 0.9 + 0.7 * c, y - 0.9 + 0.7 * s) for c, s in CIRCLE[::3]],
           Brush((255, 255, 255)), edge=0)  # fmt: skip


def draw_bird(b: Painter) -> None:
    """Draw everything, from the back to the front."""
    draw_tail(b)
    draw_legs(b)
    draw_body(b)
    draw_neck(b)
    draw_wing(b)
    draw_head(b)
