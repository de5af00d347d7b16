"""Figures: person-like shapes that differ in clothes, hair, build and what they carry.

Left and right are those of the picture (the viewer's), in attributes and in captions alike. Where
an attribute does not exist (the colour of a hat that is not there) its value is None.
"""

from mmref.data.synthetic.attributes import Attribute, Domain
from mmref.data.synthetic.captions import VAGUE_COLOURS
from mmref.data.synthetic.figures.render import render
from mmref.data.synthetic.figures.words import tell

_CLOTH = tuple(
    zip(
        ("black", "white", "grey", "navy", "red", "blue", "green", "brown", "beige", "yellow",
         "pink", "orange", "purple"),
        (13.0, 10, 10, 10, 9, 9, 8, 8, 7, 6, 6, 5, 5), strict=True,
    )
)  # fmt: skip
_BRIGHT = tuple((c, 1.0) for c in ("red", "blue", "green", "yellow", "orange", "purple", "pink"))
_HATS = frozenset({"cap", "beanie", "brimmed hat"})
_BAGS = frozenset({"backpack", "shoulder bag", "handbag"})
_THINGS = frozenset({"umbrella", "book", "phone", "ball", "cup", "flowers", "balloon"})
_PATTERNS = frozenset({"striped", "checked", "dotted"})
_NONE = frozenset({"none"})


def _colour(name: str, head: str, values: frozenset[str]) -> Attribute:
    return Attribute(name, _CLOTH, needs=(head, values), vague=VAGUE_COLOURS)


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("build", (("slim", 1), ("broad", 1))),
    Attribute("height", (("tall", 1), ("short", 1))),
    Attribute("hair", (("short", 6), ("long", 6), ("curly", 3), ("ponytail", 3), ("bald", 2))),
    Attribute(
        "hair_colour",
        (("black", 4), ("brown", 5), ("blond", 4), ("red", 2), ("grey", 3)),
        needs=("hair", frozenset({"short", "long", "curly", "ponytail"})),
        vague={"dark": frozenset({"black", "brown"}), "light": frozenset({"blond", "grey"})},
    ),
    Attribute("beard", (("none", 8), ("beard", 2)), absent=_NONE),
    Attribute(
        "glasses",
        (("none", 6), ("glasses", 2), ("sunglasses", 2)),
        absent=_NONE,
        vague={"eyewear": frozenset({"glasses", "sunglasses"})},
    ),
    Attribute(
        "hat",
        (("none", 5), ("cap", 2), ("beanie", 2), ("brimmed hat", 2)),
        absent=_NONE,
        vague={"hat": _HATS},
    ),
    _colour("hat_colour", "hat", _HATS),
    Attribute("scarf", (("none", 8), ("scarf", 2)), absent=_NONE),
    _colour("scarf_colour", "scarf", frozenset({"scarf"})),
    Attribute(
        "top",
        (("t-shirt", 4), ("shirt", 3), ("jumper", 3), ("hoodie", 3), ("jacket", 4), ("coat", 3),
         ("tank top", 2)),
        vague={
            "outerwear": frozenset({"jacket", "coat"}),
            "summer top": frozenset({"t-shirt", "tank top"}),
            "pullover": frozenset({"jumper", "hoodie"}),
        },
    ),
    Attribute("top_colour", _CLOTH, vague=VAGUE_COLOURS),
    Attribute(
        "top_pattern",
        (("plain", 5), ("striped", 3), ("checked", 2), ("dotted", 2)),
        absent=frozenset({"plain"}),
        vague={"patterned": _PATTERNS},
    ),
    Attribute(
        "top_second",
        _CLOTH,
        needs=("top_pattern", _PATTERNS),
        vague=VAGUE_COLOURS,
        unlike="top_colour",
    ),
    Attribute("bottom", (("trousers", 5), ("shorts", 3), ("skirt", 3), ("long skirt", 2))),
    Attribute("bottom_colour", _CLOTH, vague=VAGUE_COLOURS),
    Attribute("shoes", (("shoes", 3), ("boots", 2))),
    Attribute("shoes_colour", _CLOTH, vague=VAGUE_COLOURS),
    Attribute(
        "bag",
        (("none", 4), ("backpack", 3), ("shoulder bag", 3), ("handbag", 3)),
        absent=_NONE,
        vague={"bag": _BAGS},
    ),
    _colour("bag_colour", "bag", _BAGS),
    Attribute(
        "bag_side",
        (("left", 1), ("right", 1)),
        needs=("bag", frozenset({"shoulder bag", "handbag"})),
        truthful=True,
    ),
    Attribute(
        "carried",
        (("none", 6), *((thing, 1.0) for thing in sorted(_THINGS))),
        absent=_NONE,
        vague={"something": _THINGS},
    ),
    Attribute(
        "carried_colour",
        _BRIGHT,
        needs=("carried", frozenset({"umbrella", "book", "ball", "flowers", "balloon"})),
        vague={"bright": VAGUE_COLOURS["bright"]},
    ),
    Attribute(
        "carried_side",
        (("left", 1), ("right", 1)),
        needs=("carried", _THINGS),
        truthful=True,
        unlike="bag_side",
    ),
)  # fmt: skip

DOMAIN = Domain("figures", ATTRIBUTES, tell, render)
