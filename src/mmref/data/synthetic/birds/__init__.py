"""Birds: side views that differ in bill, head, breast, wings, tail, legs and the colours of each.

No attribute has a side: a bird faces left in one view and right in the next. Marks around the eye
and bars take a colour that shows on what is beneath them, so captions name a colour only where it
is an attribute. Where an attribute does not exist (the colour of bars that are not there) its value
is None. All of it is our choice; no real species is meant.
"""

from mmref.data.synthetic.attributes import Attribute, Domain
from mmref.data.synthetic.birds.render import render
from mmref.data.synthetic.birds.words import tell
from mmref.data.synthetic.captions import VAGUE_COLOURS

_PLUMAGE = tuple(
    zip(
        ("brown", "black", "grey", "white", "beige", "yellow", "red", "blue", "green", "orange",
         "navy", "purple", "pink"),
        (12.0, 11, 10, 11, 8, 8, 8, 8, 7, 6, 6, 4, 4), strict=True,
    )
)  # fmt: skip
_HARD = (("black", 4.0), ("yellow", 3.0), ("grey", 2.0), ("orange", 3.0), ("red", 2.0),
         ("pink", 1.0))  # fmt: skip
_MARKS = (("black", 4.0), ("brown", 3.0), ("white", 3.0), ("red", 2.0), ("yellow", 1.0))
_PATTERNS = frozenset({"streaked", "spotted", "barred"})
_BARS = frozenset({"one", "two"})
_NONE = frozenset({"none"})


def _coloured(*names: str) -> tuple[Attribute, ...]:
    return tuple(Attribute(f"{name}_colour", _PLUMAGE, vague=VAGUE_COLOURS) for name in names)


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute("build", (("plump", 1), ("slender", 1))),
    Attribute(
        "bill",
        (("conical", 1), ("needle", 1), ("hooked", 1), ("curved", 1), ("spoon", 1)),
        vague={
            "long": frozenset({"needle", "curved"}),
            "stout": frozenset({"conical", "hooked"}),
        },
    ),
    Attribute("bill_colour", _HARD, vague=VAGUE_COLOURS),
    Attribute(
        "crest",
        (("none", 4), ("swept", 2), ("spiky", 2)),
        absent=_NONE,
        vague={"crest": frozenset({"swept", "spiky"})},
    ),
    *_coloured("crown", "cheek"),
    Attribute(
        "eye",
        (("none", 4), ("ring", 2), ("mask", 2), ("brow", 2)),
        absent=_NONE,
        vague={"mark": frozenset({"ring", "mask", "brow"})},
    ),
    *_coloured("throat", "breast"),
    Attribute(
        "pattern",
        (("plain", 4), ("streaked", 2), ("spotted", 2), ("barred", 2)),
        absent=frozenset({"plain"}),
        vague={"marked": _PATTERNS},
    ),
    Attribute(
        "pattern_colour",
        _MARKS,
        needs=("pattern", _PATTERNS),
        vague=VAGUE_COLOURS,
        unlike="breast_colour",
    ),
    *_coloured("belly", "back", "wing"),
    Attribute("bars", (("none", 4), ("one", 2), ("two", 2)), absent=_NONE, vague={"some": _BARS}),
    Attribute(
        "bars_colour",
        _MARKS,
        needs=("bars", _BARS),
        vague=VAGUE_COLOURS,
        unlike="wing_colour",
    ),
    Attribute(
        "tail",
        (("forked", 1), ("pointed", 1), ("rounded", 1), ("fan", 1)),
        vague={"sharp": frozenset({"forked", "pointed"}), "wide": frozenset({"rounded", "fan"})},
    ),
    *_coloured("tail"),
    Attribute("legs", (("long", 1), ("short", 1))),
    Attribute("legs_colour", _HARD, vague=VAGUE_COLOURS),
)

DOMAIN = Domain("birds", ATTRIBUTES, tell, render, image_size=(128, 128))
