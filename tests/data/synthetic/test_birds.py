"""Birds: that parts are where they are said to be, and that words say what they should."""

import hashlib
import json
import re

import numpy as np
import pytest

from mmref.data.synthetic import (
    PHRASE_BREAK,
    Statement,
    SyntheticSettings,
    domains,
    draw_view,
    plan_objects,
    write_captions,
)
from mmref.data.synthetic.attributes import Attributes, Draws
from mmref.data.synthetic.birds import words
from mmref.data.synthetic.birds.body import draw_bird
from mmref.data.synthetic.birds.pose import COLOURS, POSES, Frame, Painter, contrast, make_pose
from mmref.data.synthetic.birds.render import place_of
from mmref.data.synthetic.birds.scene import BACKGROUNDS, PERCHES
from mmref.data.synthetic.captions import COLOUR_WORDS
from mmref.data.synthetic.drawing import Box, Canvas

BIRDS = domains()["birds"]
PLAIN: dict[str, str | None] = {
    "build": "plump", "bill": "conical", "bill_colour": "black", "crest": "none",
    "crown_colour": "brown", "cheek_colour": "grey", "eye": "none", "throat_colour": "beige",
    "breast_colour": "white", "pattern": "plain", "pattern_colour": None, "belly_colour": "grey",
    "back_colour": "brown", "wing_colour": "brown", "bars": "none", "bars_colour": None,
    "tail": "rounded", "tail_colour": "brown", "legs": "long", "legs_colour": "grey",
}  # fmt: skip
FULL = {**PLAIN, "pattern": "spotted", "pattern_colour": "black", "bars": "two",
        "bars_colour": "white"}  # fmt: skip


def drawn(
    attributes: Attributes, seed: int = 0, strength: float = 0.0
) -> tuple[np.ndarray, Painter]:
    """A bird alone on black, and its painter."""
    pose = make_pose(attributes, Draws(seed), strength)
    painter = Painter(Canvas((128, 128), 1.0, (64.0, 64.0)), attributes, pose, (250, 250, 250))
    draw_bird(painter)
    return painter.canvas.picture().astype(int), painter


def inside(box: Box, margin: float = 3.0) -> tuple[slice, slice]:
    x0, y0, x1, y1 = (int(64 + v) for v in box)
    m = int(margin)
    return slice(max(y0 - m, 0), y1 + m + 1), slice(max(x0 - m, 0), x1 + m + 1)


def test_the_parts_of_a_frame_turn_and_mirror():
    right = Frame(0.0, 0.0, 0.6, 1).at([(10.0, 0.0), (0.0, 10.0)])
    left = Frame(0.0, 0.0, 0.6, -1).at([(10.0, 0.0), (0.0, 10.0)])
    np.testing.assert_allclose(right, [(8.0, -6.0), (6.0, 8.0)])
    assert left == [(-x, y) for x, y in right]
    inner = Frame(5.0, 1.0, 0.0, -1).inner((2.0, 3.0), 0.0)
    assert inner.at([(0.0, 0.0)]) == [(-7.0, 4.0)]


@pytest.mark.parametrize("name", [a.name for a in BIRDS.attributes if a.name.endswith("_colour")])
def test_colours_show_where_visible_looks_for_them(name):
    poses = set()
    for seed in range(12):
        first, second = ({**FULL, name: colour} for colour in ("red", "blue"))
        one, painter = drawn(first, seed, 1.0)
        two, _ = drawn(second, seed, 1.0)
        poses.add((painter.pose.name, painter.pose.facing))
        changed = np.abs(one - two).max(axis=2) > 60
        box = inside(painter.places[place_of(name)])
        assert changed[box].sum() >= 20
        assert changed[box].sum() > 0.3 * changed.sum()
    assert len(poses) >= 5


@pytest.mark.parametrize("attribute", BIRDS.attributes, ids=lambda a: a.name)
def test_every_value_is_drawn(attribute):
    """On the same scale and at the same place, so that only the part itself can differ."""
    base = {**FULL, attribute.unlike: "pink"} if attribute.unlike else dict(FULL)
    pictures = []
    for value, _ in attribute.values:
        changed = {**base, attribute.name: value}
        pictures.append(drawn({k: v if BIRDS.attribute(k).exists(changed) else None
                               for k, v in changed.items()})[0])  # fmt: skip
    for i, one in enumerate(pictures):
        for two in pictures[:i]:
            assert (np.abs(one - two).max(axis=2) > 24).sum() >= 20


def test_a_bird_stays_inside_its_box_in_every_pose():
    for seed in range(40):
        bird = {**FULL, "bill": ("needle", "curved", "spoon", "hooked")[seed % 4],
                "tail": ("forked", "pointed", "fan")[seed % 3],
                "crest": ("swept", "spiky")[seed % 2]}  # fmt: skip
        picture, painter = drawn(bird, seed, 1.0)
        ys, xs = np.nonzero(picture.max(axis=2) > 12)
        left, top, right, bottom = painter.pose.box
        assert xs.min() > 64 + left - 5 and xs.max() < 64 + right + 5
        assert ys.min() > 64 + top - 5 and ys.max() < 64 + bottom + 5


def test_marks_around_the_eye_show_on_every_colour():
    for cheek, colour in COLOURS.items():
        assert sum(abs(a - b) for a, b in zip(contrast(colour), colour, strict=True)) > 200
        pictures = [
            drawn({**PLAIN, "cheek_colour": cheek, "crown_colour": cheek, "eye": eye})[0]
            for eye in ("none", "ring", "mask", "brow")
        ]
        for i, one in enumerate(pictures):
            for two in pictures[:i]:
                assert (np.abs(one - two).max(axis=2) > 60).sum() > 20


def test_views_use_every_pose_place_and_side():
    settings = SyntheticSettings(domain="birds", objects=40, images=4, occlude=0.5)
    seen: dict[str, set[str]] = {}
    for item in plan_objects(settings)[:40]:
        for view in range(4):
            for key, value in draw_view(settings, item, view).view.items():
                if isinstance(value, str):
                    seen.setdefault(key, set()).add(value)
    assert seen == {
        "background": set(BACKGROUNDS), "perch": set(PERCHES), "pose": set(POSES),
        "facing": {"left", "right"}, "occlusion": {"none", "leaves", "trunk", "grass", "crop"},
    }  # fmt: skip


def test_objects_and_captions_are_the_same_on_every_machine():
    settings = SyntheticSettings(domain="birds", objects=6, val_objects=2, test_objects=3, seed=7)
    objects = plan_objects(settings)
    told = [write_captions(settings, item, view) for item in objects for view in range(2)]
    text = json.dumps([[item.attributes for item in objects], told], sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "278602077ad88912"


def test_no_word_stands_for_two_values_and_none_breaks_a_phrase():
    parts = [word for group in words.PARTS.values() for one in group for word in one]
    for attribute in BIRDS.attributes:
        values = [v for v, _ in attribute.values] + list(attribute.vague)
        coloured = attribute.name.endswith("_colour")
        table = COLOUR_WORDS if coloured else words.WORDS[attribute.name]
        assert coloured or set(table) == set(values)
        spoken = [word for value in values for word in table[value]]
        assert len(spoken) == len(set(spoken)), attribute.name
        assert not [word for word in [*spoken, *parts] if PHRASE_BREAK.search(word)]
        assert all(len(table[value]) >= 2 for value in values)


def test_captions_say_the_words_of_their_statements():
    settings = SyntheticSettings(domain="birds", objects=60, omit=0.3, paraphrase=0.0, seed=4)
    for item in plan_objects(settings):
        told = write_captions(settings, item, 0)
        for text, stated in zip(told["captions"], told["stated"], strict=True):
            said = text.lower()
            assert not re.search(r"\b(left|right)\b", said)
            for record in stated:
                name, value = re.split("[=~]", record)
                coloured = name.endswith("_colour")
                table = COLOUR_WORDS if coloured else words.WORDS[name]
                assert table[value][0] in said, (text, record)
                part = name.removesuffix("_colour")
                if coloured and part in words.PARTS:
                    nouns, endings = words.PARTS[part]
                    assert nouns[0] in said or f"{value}-{endings[0]}" in said, (text, record)


def test_the_breast_and_the_bars_keep_their_own_colours():
    def said(*pairs: tuple[str, str]) -> set[str]:
        statements = [Statement(name, value, vague=False, wrong=False) for name, value in pairs]
        texts = {words.tell(statements, 0.0, Draws(n)).lower() for n in range(80)}
        return {re.sub(r"[^a-z -]", "", text) for text in texts}

    breast = said(("breast_colour", "white"), ("pattern", "barred"), ("pattern_colour", "red"))
    forms = ("white breast barred in red", "red-barred white breast", "white red-barred breast",
             "red-barred breast in white")  # fmt: skip
    assert all(any(form in text for form in forms) for text in breast)
    assert {form for form in forms if any(form in text for text in breast)} == set(forms)
    bars = said(("wing_colour", "blue"), ("bars", "two"), ("bars_colour", "red"))
    assert all("two red wing bars" in text for text in bars)
    assert any("blue-winged bird" in text for text in bars)
    assert all("wing barring" in text for text in said(("bars_colour", "red")))
