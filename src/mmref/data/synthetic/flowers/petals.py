"""The shape of a petal and what is painted on it, and how petals stand around a centre.

A petal is flat in (u, v): u runs from its base (0) to its tip (1) and v across it, both in radii of
the bloom. A posture bends it: at u it is ``u * (a + b * u)`` away from the axis of the bloom and
``u * (c + d * u)`` along it. All of it is our choice. Only sums, products and quotients are used,
so the same picture comes out on every machine.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mmref.data.synthetic.drawing import Point, smooth

Floats = npt.NDArray[np.float64]

COUNTS: dict[str, int] = {"three": 3, "four": 4, "five": 5, "six": 6, "eight": 8, "many": 14}
_HALF_WIDTH: dict[str, float] = {
    "three": 0.50, "four": 0.46, "five": 0.42, "six": 0.36, "eight": 0.28, "many": 0.17,
}  # fmt: skip
# Right halves from the base to the tip: (u, v as a share of the half width).
_OUTLINES: dict[str, tuple[Point, ...]] = {
    "round": ((0, 0.24), (0.2, 0.55), (0.45, 0.9), (0.7, 1.04), (0.9, 0.84), (1.0, 0.4)),
    "pointed": ((0, 0.24), (0.2, 0.62), (0.4, 1.0), (0.6, 0.84), (0.82, 0.4), (1.08, 0.0)),
    "heart-shaped": ((0, 0.2), (0.25, 0.5), (0.5, 0.86), (0.75, 1.1), (0.95, 1.04),
                     (1.04, 0.66), (0.99, 0.3), (0.72, 0.0)),
    "narrow": ((0, 0.5), (0.3, 0.8), (0.7, 1.0), (0.94, 0.95), (1.0, 0.55)),
    "ruffled": ((0, 0.22), (0.3, 0.62), (0.5, 1.0), (0.58, 0.86), (0.68, 1.16), (0.76, 0.88),
                (0.88, 1.02), (0.88, 0.66), (1.04, 0.56), (0.92, 0.26), (1.04, 0.0)),
}  # fmt: skip
_SLIM = {"narrow": 0.42, "pointed": 0.94, "heart-shaped": 1.02}


class Posture(NamedTuple):
    """How the petals of a bloom are bent and from where it may be seen.

    Attributes:
        bend: a, b, c, d of the outer ring.
        inner: the same for the inner ring of a double bloom.
        tilt: least and greatest angle between the axis and the eye, in turns.
        size: radius of the bloom, as a multiple of that of an open one.
        height: where the centre sits on the axis, in radii.
        below: how far the base lies below the middle of the bloom, in radii.
    """

    bend: tuple[float, float, float, float]
    inner: tuple[float, float, float, float]
    tilt: tuple[float, float]
    size: float
    height: float
    below: float


POSTURES: dict[str, Posture] = {
    "open": Posture((1.0, 0.0, 0.02, 0.06), (0.62, 0.0, 0.16, 0.10), (0.0, 0.13), 1.0, 0.06, 0.0),
    "cupped": Posture(
        (0.95, -0.32, 0.30, 0.62), (0.62, -0.18, 0.42, 0.42), (0.125, 0.155), 1.32, 0.30, 0.42
    ),
    "nodding": Posture(
        (0.90, -0.26, 0.35, 0.60), (0.60, -0.16, 0.46, 0.40), (0.125, 0.155), 1.25, 0.34, 0.42
    ),
    "swept back": Posture(
        (1.06, -0.34, 0.10, -0.74), (0.70, -0.12, 0.10, -0.30), (0.09, 0.125), 1.24, 0.08, -0.14
    ),
}


def direction(turns: float) -> Point:
    """Cosine and sine of an angle in turns, made of products and sums alone.

    Example:
        >>> [round(x, 6) for x in direction(0.125)], [round(x, 6) for x in direction(1 / 3)]
        ([0.707107, 0.707107], [-0.5, 0.866025])
    """
    part = (turns - int(turns) + 1.0) % 1.0 * 8.0
    octant = int(part)
    x = (part - octant if octant % 2 == 0 else octant + 1 - part) * 0.7853981633974483
    s = x * x
    sine = x * (1.0 - s / 6.0 * (1.0 - s / 20.0 * (1.0 - s / 42.0 * (1.0 - s / 72.0))))
    cosine = 1.0 - s / 2.0 * (1.0 - s / 12.0 * (1.0 - s / 30.0 * (1.0 - s / 56.0)))
    a, b = (cosine, sine) if octant % 4 in (0, 3) else (sine, cosine)
    return (a if octant in (0, 1, 6, 7) else -a), (b if octant < 4 else -b)


class Piece(NamedTuple):
    """One thing painted on every petal.

    Attributes:
        paint: ``petal``, ``edge``, ``marking`` or ``rib``.
        line: whether it is a line and not a filled polygon.
        start: its first point in the pattern.
        stop: one after its last point.
    """

    paint: str
    line: bool
    start: int
    stop: int


class Pattern(NamedTuple):
    """A petal with its paint: ``points`` float ``[p, 2]`` of (u, v), and the pieces in order."""

    points: Floats
    pieces: tuple[Piece, ...]


@lru_cache(maxsize=1024)
def petal_pattern(
    count: str, shape: str, marking: str, edged: bool, fine: bool, closed: bool
) -> Pattern:
    """The outline of a petal and what is on it.

    Args:
        count: number of petals, which decides how wide they are.
        shape: as in the attribute.
        marking: as in the attribute.
        edged: whether it has a coloured edge.
        fine: whether it is large enough for details.
        closed: whether the centre hides its base, so that blotches reach farther.
    """
    half = _HALF_WIDTH[count] * _SLIM.get(shape, 1.0)
    right = [(u, v * half) for u, v in _OUTLINES[shape]]
    tip = [] if right[-1][1] == 0 else [(right[-1][0], 0.0)]
    outline = [*right, *tip, *((u, -v) for u, v in reversed(right) if v)]
    if fine and shape != "ruffled":
        outline = smooth(outline, 1)
    parts: list[tuple[str, bool, Sequence[Point]]] = []
    inner = outline
    if edged:
        parts.append(("edge", False, outline))
        slim = 0.70 if half > 0.25 else 0.58
        inner = [(0.02 + 0.86 * u, slim * v) for u, v in outline]
    parts.append(("petal", False, inner))
    if marking == "blotched":
        cut = [(0.0, 0.3), (0.25, 0.66), (0.42, 0.62), (0.52, 0.3)]
        blotch = [(u * (1.4 if closed else 1.2), v * half) for u, v in cut]
        parts.append(("marking", False, [*blotch, *((u, -v) for u, v in reversed(blotch))]))
    elif marking == "tipped":
        parts.append(("marking", False, _beyond(inner, 0.74 if closed else 0.66)))
    elif marking == "veined":
        offsets = (0.0,) if half < 0.1 else (-0.28, 0.28) if half < 0.2 else (-0.5, 0.0, 0.5)
        for v in offsets:
            length = 0.92 if v == 0 else 0.82
            length *= 0.78 if shape == "heart-shaped" and v == 0 else 1.0
            vein = [(0.08, v * half * 0.3), (0.45, v * half * 0.9), (length, v * half * 1.1)]
            parts.append(("marking", True, vein))
    elif marking == "spotted":
        wide = half > 0.2
        spots = [(0.36, 0.0), (0.54, 0.0), (0.72, 0.0)]
        if wide:
            spots = [(0.36, 0.0), (0.54, 0.4), (0.54, -0.4), (0.66, 0.0), (0.78, 0.48),
                     (0.78, -0.48)]  # fmt: skip
        size = 0.058 if wide else min(0.05, 0.6 * half)
        hexagon = ((1.0, 0.0), (0.5, 0.87), (-0.5, 0.87), (-1.0, 0.0), (-0.5, -0.87), (0.5, -0.87))
        for u, v in spots:
            parts.append(
                ("marking", False, [(u + size * x, v * half + size * y) for x, y in hexagon])
            )
    elif fine:
        parts.append(("rib", True, [(0.12, 0.0), (0.62, 0.0)]))
    points: list[Point] = []
    pieces: list[Piece] = []
    for paint, line, shape_points in parts:
        pieces.append(Piece(paint, line, len(points), len(points) + len(shape_points)))
        points += shape_points
    return Pattern(np.asarray(points, dtype=np.float64), tuple(pieces))


def _beyond(outline: Sequence[Point], low: float) -> list[Point]:
    """The part of a closed polygon whose u is at least ``low``."""
    kept: list[Point] = []
    for (au, av), (bu, bv) in zip(outline, [*outline[1:], outline[0]], strict=True):
        if au >= low:
            kept.append((au, av))
        if (au >= low) != (bu >= low):
            share = (low - au) / (bu - au)
            kept.append((low, av + share * (bv - av)))
    return kept
