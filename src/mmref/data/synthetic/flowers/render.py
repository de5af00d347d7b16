"""One view of a flower: how it faces, place, background, what hides it, light and camera."""

from mmref.data.synthetic.attributes import Attributes, Draws
from mmref.data.synthetic.drawing import Canvas, Rendering, ViewOptions, develop
from mmref.data.synthetic.flowers.bloom import Painter
from mmref.data.synthetic.flowers.plant import draw_plant, make_plant
from mmref.data.synthetic.flowers.scene import Cover, cover_up, paint_backdrop

# Where each attribute shows, and the share of that place that must be seen.
_PLACE: dict[str, tuple[str, float]] = {
    "petals": ("bloom", 0.75), "petal_shape": ("bloom", 0.5), "petal_colour": ("bloom", 0.3),
    "edge": ("bloom", 0.5), "edge_colour": ("bloom", 0.5), "marking": ("bloom", 0.5),
    "marking_colour": ("bloom", 0.5), "layers": ("bloom", 0.6), "posture": ("bloom", 0.6),
    "centre": ("centre", 0.5), "centre_colour": ("centre", 0.4), "anther_colour": ("centre", 0.4),
    "sepals": ("bloom", 0.5), "sepal_colour": ("bloom", 0.5), "stem": ("stem", 0.5),
    "stem_colour": ("stem", 0.4), "leaves": ("leaves", 0.5), "leaf_colour": ("leaves", 0.4),
    "blooms": ("blooms", 0.6), "bud": ("bud", 0.6),
}  # fmt: skip

_PARTS = tuple(dict.fromkeys(part for part, _ in _PLACE.values()))


def place_of(name: str) -> str:
    """The part on which an attribute shows, as in ``Plant.spots``."""
    return _PLACE[name][0]


def render(
    attributes: Attributes, look: int, size: tuple[int, int], options: ViewOptions, draws: Draws
) -> Rendering:
    """Draw one view of a flower.

    Args:
        attributes: the object.
        look: an integer that belongs to the object (its shade and proportions).
        size: height and width in pixels.
        options: how much views differ.
        draws: the view's random draws.
    """
    high, wide = size
    strength = options.nuisance
    plant = make_plant(attributes, look, draws, strength)
    zoom = 1.0 + strength * draws.uniform(-0.12, 0.05)
    cropped = draws.chance(0.25 * options.occlude)
    shift = (strength * draws.uniform(-0.04, 0.04), strength * draws.uniform(-0.03, 0.02))
    if cropped:  # a part lies outside the picture
        shift = draws.pick(
            ((0.36, 0.0), (-0.36, 0.0), (0.0, 0.34), (0.0, 0.46), (0.0, -0.34), (0.2, 0.3))
        )
    side = min(high, wide)
    origin = (wide * 0.5 + side * shift[0], high * 0.5 + side * shift[1])
    canvas = Canvas(
        size, side * zoom / 128.0, origin, samples=4 if side < 96 else 3 if side <= 192 else 2
    )
    background = paint_backdrop(canvas, draws, strength)
    draw_plant(Painter(canvas, attributes, look), plant)
    if cropped:
        cover = Cover("none", None)
    else:
        cover = cover_up(canvas, plant.middle, plant.radius, draws, options)
    shown = cover.shares(canvas, {part: plant.spots(part, attributes) for part in _PARTS})
    visible = tuple(
        name
        for name, value in attributes.items()
        if value is not None and shown[_PLACE[name][0]] >= _PLACE[name][1]
    )
    pixels, camera = develop(canvas.picture(), draws, strength)
    kind = "crop" if cropped else cover.kind
    view = {"background": background, "occlusion": kind, "zoom": round(zoom, 3), **camera}
    return Rendering(pixels, visible, view)
