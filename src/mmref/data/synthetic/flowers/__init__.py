"""Flowers: garden and meadow flowers that differ in petals, centre, sepals, stem and leaves.

No real species is meant: petals, postures, centres and leaves combine freely, so that every detail
counts. Where an attribute does not exist (the colour of an edge that is not there) its value is
None.
"""

from mmref.data.synthetic.attributes import Attribute, Domain
from mmref.data.synthetic.flowers.render import render
from mmref.data.synthetic.flowers.words import VAGUE, tell

_PETALS = (
    ("white", 11.0), ("yellow", 11.0), ("pink", 11.0), ("purple", 10.0), ("red", 10.0),
    ("orange", 10.0), ("blue", 10.0), ("lilac", 9.0), ("maroon", 7.0),
)  # fmt: skip
_MARKINGS = frozenset({"veined", "spotted", "blotched", "tipped"})
_LEAVES = frozenset({"narrow", "oval", "toothed", "lobed"})
_NONE = frozenset({"none"})

ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(
        "petals",
        (("three", 2), ("four", 3), ("five", 5), ("six", 4), ("eight", 4), ("many", 4)),
        vague={"few": frozenset({"three", "four"}), "several": frozenset({"five", "six", "eight"})},
    ),
    Attribute(
        "petal_shape",
        (("round", 4), ("pointed", 4), ("heart-shaped", 3), ("narrow", 3), ("ruffled", 3)),
        vague={
            "broad": frozenset({"round", "heart-shaped", "ruffled"}),
            "slender": frozenset({"pointed", "narrow"}),
        },
    ),
    Attribute("petal_colour", _PETALS, vague=VAGUE),
    Attribute("edge", (("none", 6), ("edged", 4)), absent=_NONE),
    Attribute(
        "edge_colour",
        (("white", 4), ("yellow", 3), ("pink", 2), ("red", 2), ("purple", 3), ("maroon", 2)),
        needs=("edge", frozenset({"edged"})),
        vague=VAGUE,
        unlike="petal_colour",
    ),
    Attribute(
        "marking",
        (("plain", 5), ("veined", 3), ("spotted", 3), ("blotched", 3), ("tipped", 3)),
        absent=frozenset({"plain"}),
        vague={
            "patterned": frozenset({"veined", "spotted"}),
            "two-coloured": frozenset({"blotched", "tipped"}),
        },
    ),
    Attribute(
        "marking_colour",
        (("white", 3), ("yellow", 3), ("red", 3), ("purple", 3), ("maroon", 3), ("orange", 2)),
        needs=("marking", _MARKINGS),
        vague=VAGUE,
        unlike="petal_colour",
    ),
    Attribute("layers", (("single", 6), ("double", 4))),
    Attribute(
        "posture",
        (("open", 5), ("cupped", 3), ("nodding", 3), ("swept back", 3)),
        vague={"half-closed": frozenset({"cupped", "nodding"})},
    ),
    Attribute(
        "centre",
        (("disc", 4), ("dome", 4), ("tuft", 4), ("trumpet", 3)),
        vague={"raised": frozenset({"dome", "trumpet"})},
    ),
    Attribute(
        "centre_colour",
        (("yellow", 5), ("orange", 3), ("brown", 3), ("green", 3), ("white", 3), ("black", 2),
         ("red", 2), ("purple", 2)),
        vague=VAGUE,
    ),
    Attribute(
        "anther_colour",
        (("yellow", 3), ("orange", 3), ("black", 3), ("red", 2), ("purple", 2), ("white", 2)),
        needs=("centre", frozenset({"tuft"})),
        vague=VAGUE,
    ),
    Attribute("sepals", (("none", 6), ("sepals", 4)), absent=_NONE),
    Attribute(
        "sepal_colour",
        (("green", 4), ("red", 3), ("brown", 3), ("white", 2)),
        needs=("sepals", frozenset({"sepals"})),
        vague=VAGUE,
    ),
    Attribute(
        "stem",
        (("thin", 4), ("thick", 4), ("hairy", 3)),
        vague={"rough": frozenset({"hairy"})},
    ),
    Attribute("stem_colour", (("green", 5), ("red", 3), ("brown", 3), ("purple", 2)), vague=VAGUE),
    Attribute(
        "leaves",
        (("none", 2), ("narrow", 3), ("oval", 3), ("toothed", 3), ("lobed", 3)),
        absent=_NONE,
        vague={
            "smooth": frozenset({"narrow", "oval"}),
            "uneven": frozenset({"toothed", "lobed"}),
        },
    ),
    Attribute(
        "leaf_colour",
        (("green", 5), ("dark green", 3), ("lime", 3), ("silver", 3), ("bronze", 2)),
        needs=("leaves", _LEAVES),
        vague={"dark": frozenset({"dark green", "bronze"}), "light": frozenset({"lime", "silver"})},
    ),
    Attribute(
        "blooms",
        (("one", 5), ("two", 3), ("cluster", 3)),
        vague={"more": frozenset({"two", "cluster"})},
    ),
    Attribute("bud", (("none", 5), ("bud", 4)), absent=_NONE),
)  # fmt: skip

DOMAIN = Domain("flowers", ATTRIBUTES, tell, render, image_size=(128, 128))
