"""One view of a bird: pose, place, background, perch, what hides it, light and camera."""

from mmref.data.synthetic.attributes import Attributes, Draws
from mmref.data.synthetic.birds.body import draw_bird
from mmref.data.synthetic.birds.pose import Painter, make_pose
from mmref.data.synthetic.birds.scene import cover, paint_nature, paint_perch
from mmref.data.synthetic.drawing import (
    Canvas,
    Colour,
    Rendering,
    ViewOptions,
    develop,
    shown_share,
)

_RIMS: tuple[Colour, ...] = ((236, 196, 96), (214, 120, 60), (238, 238, 230), (150, 100, 60))
# The part in which an attribute shows, where it is not named after it.
_PLACE = {"build": "body", "pattern": "breast", "bars": "bars"}


def render(
    attributes: Attributes, look: int, size: tuple[int, int], options: ViewOptions, draws: Draws
) -> Rendering:
    """Draw one view of a bird.

    Args:
        attributes: the object.
        look: an integer that belongs to the object (the colour of its eye).
        size: height and width in pixels.
        options: how much views differ.
        draws: the view's random draws.
    """
    high, wide = size
    strength = options.nuisance
    pose = make_pose(attributes, draws, strength)
    left, top, right, bottom = pose.box
    zoom = 1.0 + strength * draws.uniform(-0.16, 0.03)
    unit = zoom * 0.93 * min(wide / (right - left), high / (bottom - top))
    spare = (wide - unit * (right - left), high - unit * (bottom - top))
    shift = [0.5 + 0.5 * strength * draws.uniform(-0.8, 0.8) for _ in range(2)]
    cropped = draws.chance(0.25 * options.occlude)
    crop = draws.pick(((0.24, 0.0), (-0.24, 0.0), (0.0, 0.26), (0.0, -0.2)))
    x, y = crop if cropped else (0.0, 0.0)
    origin = (
        spare[0] * shift[0] - unit * left + wide * x,
        spare[1] * shift[1] - unit * top + high * y,
    )
    canvas = Canvas(size, unit, origin, samples=4 if high < 96 else 3 if high <= 192 else 2)
    background = paint_nature(canvas, draws, strength)
    perch = paint_perch(canvas, draws, pose.body.sine > 0.3, pose.ground + 1.5, 0.0)
    bird = Painter(canvas, attributes, pose, _RIMS[look % len(_RIMS)])
    draw_bird(bird)
    kind, hidden = ("crop", None) if cropped else cover(canvas, draws, options)
    visible = tuple(
        name
        for name, value in attributes.items()
        if value is not None and shown_share(canvas, bird.places[place_of(name)], hidden) >= 0.4
    )
    pixels, camera = develop(canvas.picture(), draws, strength)
    view = {
        "background": background, "perch": perch, "pose": pose.name,
        "facing": "right" if pose.facing > 0 else "left", "occlusion": kind,
        "zoom": round(zoom, 3), **camera,
    }  # fmt: skip
    return Rendering(pixels, visible, view)


def place_of(attribute: str) -> str:
    """The part in which an attribute shows."""
    name = attribute.removesuffix("_colour")
    return _PLACE.get(name, name)
