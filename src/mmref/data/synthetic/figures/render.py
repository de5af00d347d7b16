"""One view of a figure: pose, place, background, what hides it, light and camera."""

from mmref.data.synthetic.attributes import Attributes, Draws
from mmref.data.synthetic.drawing import (
    Brush,
    Canvas,
    Rendering,
    ViewOptions,
    develop,
    hide,
    paint_background,
    shown_share,
)
from mmref.data.synthetic.figures.body import (
    draw_arms,
    draw_behind,
    draw_head,
    draw_legs,
    draw_neck,
    draw_torso,
)
from mmref.data.synthetic.figures.pose import SKIN, Painter, make_pose, regions
from mmref.data.synthetic.figures.things import draw_carried, draw_handbag, draw_shoulder_bag

# The region in which each attribute shows.
_PLACE = {
    "build": "body", "height": "body", "hair": "head", "hair_colour": "head", "beard": "face",
    "glasses": "face", "hat": "hat", "hat_colour": "hat", "scarf": "neck", "scarf_colour": "neck",
    "top": "torso", "top_colour": "torso", "top_pattern": "torso", "top_second": "torso",
    "bottom": "legs", "bottom_colour": "legs", "shoes": "feet", "shoes_colour": "feet",
    "bag": "bag", "bag_colour": "bag", "bag_side": "bag", "carried": "carried",
    "carried_colour": "carried", "carried_side": "carried",
}  # fmt: skip


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
    pose = make_pose(attributes, draws, strength)
    zoom = 1.0 + strength * draws.uniform(-0.1, 0.07)
    unit = min(high * 0.80 / 104.0, wide * 1.62 / 104.0) * zoom
    foot = high * (0.955 - 0.5 * max(0.0, 0.80 - 0.80 * zoom) - 0.03 * strength * draws.random())
    cropped = draws.chance(0.25 * options.occlude)
    if cropped:  # the picture ends above the feet, or below the crown
        foot += high * draws.pick((0.15, 0.22, 0.30, -0.24))
    origin = (
        wide * (0.5 + strength * draws.uniform(-0.07, 0.07)),
        foot - unit * pose.ground,
    )
    lean = strength * draws.uniform(-0.045, 0.045)
    canvas = Canvas(size, unit, origin, lean, pose.ground)
    background = paint_background(canvas, foot / high - draws.uniform(0.02, 0.2), draws, strength)
    _draw(Painter(canvas, attributes, pose, SKIN[look % len(SKIN)]))
    kind, hidden = ("crop", None) if cropped else hide(canvas, draws, options)
    places = regions(attributes, pose)
    visible = tuple(
        name
        for name, value in attributes.items()
        if value is not None and shown_share(canvas, places[_PLACE[name]], hidden) >= 0.4
    )
    pixels, camera = develop(canvas.picture(), draws, strength)
    view = {"background": background, "occlusion": kind, "zoom": round(zoom, 3), **camera}
    return Rendering(pixels, visible, view)


def _draw(figure: Painter) -> None:
    """Draw everything, from the back to the front."""
    pose = figure.pose
    shadow = Brush((84, 82, 86))
    figure.canvas.ellipse(0.5, pose.ground - 0.6, pose.hip + 6.0, 2.0, shadow, edge=0)
    draw_behind(figure)
    draw_legs(figure)
    draw_torso(figure)
    draw_neck(figure)
    if figure.attributes["bag"] == "shoulder bag":
        draw_shoulder_bag(figure)
    draw_arms(figure)
    draw_head(figure)
    if figure.attributes["bag"] == "handbag":
        draw_handbag(figure)
    draw_carried(figure)
