"""Flowers: that parts are where they are said to be, and that words say what they should."""

import hashlib
import json
import re
from itertools import groupby

import numpy as np
import pytest
from PIL import Image

from mmref.data.synthetic import (
    PHRASE_BREAK,
    Statement,
    SyntheticSettings,
    domains,
    draw_view,
    plan_objects,
    write_captions,
)
from mmref.data.synthetic.attributes import Ambiguity, Attributes, Draws, draw_statements
from mmref.data.synthetic.captions import Voice
from mmref.data.synthetic.drawing import Canvas
from mmref.data.synthetic.flowers import words
from mmref.data.synthetic.flowers.bloom import Frame, Painter, draw_bloom
from mmref.data.synthetic.flowers.petals import COUNTS, POSTURES, direction, petal_pattern
from mmref.data.synthetic.flowers.plant import draw_plant, make_plant
from mmref.data.synthetic.flowers.render import place_of
from mmref.data.synthetic.flowers.scene import BACKGROUNDS, Cover

FLOWERS = domains()["flowers"]
PLAIN: dict[str, str | None] = {
    "petals": "five", "petal_shape": "round", "petal_colour": "pink", "edge": "none",
    "edge_colour": None, "marking": "plain", "marking_colour": None, "layers": "single",
    "posture": "open", "centre": "disc", "centre_colour": "yellow", "anther_colour": None,
    "sepals": "none", "sepal_colour": None, "stem": "thin", "stem_colour": "green",
    "leaves": "oval", "leaf_colour": "green", "blooms": "one", "bud": "none",
}  # fmt: skip
FULL = {**PLAIN, "edge": "edged", "edge_colour": "white", "marking": "spotted",
        "marking_colour": "purple", "centre": "tuft", "anther_colour": "black",
        "sepals": "sepals", "sepal_colour": "green", "blooms": "two", "bud": "bud"}  # fmt: skip


def valid(attributes: Attributes) -> dict[str, str | None]:
    """Without the attributes whose head is not there."""
    return {k: v if FLOWERS.attribute(k).exists(attributes) else None
            for k, v in attributes.items()}  # fmt: skip


def drawn(attributes: Attributes, seed: int = 0, strength: float = 0.0, size: int = 128):
    """A flower alone on black, in the middle of a square, and the plan of it."""
    plant = make_plant(attributes, 0, Draws(seed), strength)
    canvas = Canvas((size, size), 1.0, (size / 2, size / 2), samples=3)
    draw_plant(Painter(canvas, attributes, 0), plant)
    return canvas.picture().astype(int), plant


def face_on(attributes: Attributes, tilt: float = 0.0) -> tuple[np.ndarray, Frame]:
    """One bloom on black, seen from its axis."""
    posture = POSTURES[str(attributes["posture"])]
    frame = Frame((64.0, 64.0), 50.0, direction(tilt), direction(0.0), 0.1, posture)
    canvas = Canvas((128, 128), 1.0, (0.0, 0.0), samples=3)
    draw_bloom(Painter(canvas, attributes, 4 * 9 * 9 + 4 * 9 + 4), frame, fine=True)
    return canvas.picture().astype(int), frame


# geometry


def test_directions_are_those_of_the_circle():
    turns = np.linspace(-2.0, 3.0, 401)
    found = np.asarray([direction(turn) for turn in turns.tolist()])
    angle = 2 * np.pi * turns
    np.testing.assert_allclose(found, np.stack((np.cos(angle), np.sin(angle)), axis=1), atol=1e-7)


def test_a_bloom_turns_about_its_axis_and_tilts():
    tilted = Frame((10.0, 20.0), 2.0, (0.6, 0.8), (1.0, 0.0), 0.0, POSTURES["open"])
    assert tilted.at(1.0, 0.0, 0.0) == pytest.approx((12.0, 20.0))
    assert tilted.at(0.0, 1.0, 0.0) == pytest.approx((10.0, 20.0 - 1.2))
    assert tilted.at(0.0, 0.0, 1.0) == pytest.approx((10.0, 20.0 - 1.6))
    rolled = Frame((10.0, 20.0), 2.0, (0.6, 0.8), (0.0, 1.0), 0.0, POSTURES["open"])
    assert rolled.at(0.0, 0.0, 1.0) == pytest.approx((11.6, 20.0)), "to the right"


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("shape", ["narrow", "pointed"])
@pytest.mark.parametrize("layers", ["single", "double"])
def test_petals_can_be_counted(count, shape, layers):
    picture, frame = face_on({**PLAIN, "petals": count, "petal_shape": shape, "layers": layers})
    around = np.asarray([direction(k / 720) for k in range(720)])
    ring = frame.ring(0.86, 0.0, around)
    lit = [bool(picture[int(y), int(x)].max() > 150) for x, y in ring.tolist()]
    runs = sum(value for value, _ in groupby(lit)) - (lit[0] and lit[-1])
    assert runs == COUNTS[count]


def test_what_is_painted_on_a_petal_lies_on_it():
    for count in COUNTS:
        for shape in ("round", "pointed", "heart-shaped", "narrow", "ruffled"):
            whole = petal_pattern(count, shape, "plain", False, True, False)
            wide = np.abs(whole.points[:, 1]).max()
            for marking in ("veined", "spotted", "blotched", "tipped"):
                pattern = petal_pattern(count, shape, marking, True, True, False)
                names = [piece.paint for piece in pattern.pieces]
                assert names[:2] == ["edge", "petal"] and set(names[2:]) == {"marking"}
                edge, petal, *marks = (pattern.points[p.start : p.stop] for p in pattern.pieces)
                assert np.abs(petal).max(axis=0)[1] < 0.8 * np.abs(edge).max(axis=0)[1]
                u, v = np.concatenate(marks).T
                assert u.min() >= 0 and u.max() <= 1.0 and np.abs(v).max() <= wide + 1e-9
                assert marking != "tipped" or u.min() >= 0.66 - 1e-9


def test_a_flower_stays_inside_the_picture():
    for posture in POSTURES:
        for blooms in ("one", "two", "cluster"):
            for seed, centre in enumerate(("tuft", "trumpet", "dome")):
                flower = {**FULL, "posture": posture, "blooms": blooms, "centre": centre,
                          "leaves": ("narrow", "lobed", "toothed")[seed]}  # fmt: skip
                picture, _ = drawn(valid(flower), seed, 1.0, size=192)
                lit = picture.max(axis=2) > 40
                for side in (lit[:30], lit[:160, :30], lit[:160, -30:]):
                    assert side.sum() < 12, (posture, blooms, centre)


# pictures


@pytest.mark.parametrize("posture", POSTURES)
@pytest.mark.parametrize("attribute", FLOWERS.attributes, ids=lambda a: a.name)
def test_every_value_is_drawn_in_every_posture(attribute, posture):
    base = {**FULL, "posture": posture}
    pictures = [
        drawn(valid({**base, attribute.name: value}))[0]
        for value, _ in attribute.values
        if not (attribute.unlike and base[attribute.unlike] == value)
    ]
    for i, one in enumerate(pictures):
        for two in pictures[:i]:
            assert (np.abs(one - two).max(axis=2) > 24).sum() >= 20


@pytest.mark.parametrize("name", [a.name for a in FLOWERS.attributes if "colour" in a.name])
def test_colours_show_where_visible_looks_for_them(name):
    values = ("green", "bronze") if name == "leaf_colour" else ("red", "green")
    if name in ("edge_colour", "marking_colour"):
        values = ("white", "maroon")
    for seed, posture in enumerate((*POSTURES, *POSTURES)):
        flower = {**FULL, "posture": posture, "blooms": "one", "bud": "none"}
        one, plant = drawn({**flower, name: values[0]}, seed, 1.0)
        two, _ = drawn({**flower, name: values[1]}, seed, 1.0)
        changed = np.abs(one - two).max(axis=2) > 60
        places = 64 + np.asarray(plant.spots(place_of(name), flower))
        near = np.zeros_like(changed)
        for x, y in places.astype(int).tolist():
            near[max(y - 9, 0) : y + 10, max(x - 9, 0) : x + 10] = True
        assert changed.sum() >= 20
        assert changed[near].sum() > 0.3 * changed.sum(), posture


def test_tips_of_a_double_bloom_leave_the_petal_colour_to_be_seen():
    flower = {**PLAIN, "layers": "double", "marking": "tipped", "marking_colour": "maroon",
              "petal_colour": "white"}  # fmt: skip
    for posture in ("open", "swept back"):
        picture, _ = face_on({**flower, "posture": posture}, tilt=0.1)
        white = picture.min(axis=2) > 150
        maroon = (picture[..., 0] > 60) & (picture[..., 1:].max(axis=2) < 60)
        assert white.sum() > 300 and maroon.sum() > 300


def test_nodding_blooms_hang_and_cupped_ones_stand():
    for seed in range(8):
        for posture, sign in (("nodding", 1), ("cupped", -1)):
            _, plant = drawn({**PLAIN, "posture": posture}, seed, 1.0)
            centre = plant.main.at(0.0, 0.0, 0.5)
            assert sign * (centre[1] - plant.main.base[1]) > 5


def test_hidden_shares_are_those_of_the_mask():
    mask = Image.new("L", (100, 60))
    mask.paste(255, (0, 0, 50, 60))
    canvas = Canvas((60, 100), unit=1.0, origin=(50.0, 30.0))
    spots = {"left": [(-10.0, 0.0), (-20.0, 5.0)], "half": [(-10.0, 0.0), (10.0, 0.0)],
             "edge": [(49.5, 29.5), (50.5, 0.0), (0.0, -30.5), (60.0, 0.0)]}  # fmt: skip
    assert Cover("leaf", mask).shares(canvas, spots) == {"left": 0.0, "half": 0.5, "edge": 0.25}
    assert Cover("none", None).shares(canvas, spots) == {"left": 1.0, "half": 1.0, "edge": 0.25}


def test_views_use_every_background_and_cover():
    settings = SyntheticSettings(domain="flowers", objects=40, images=4, occlude=0.7)
    seen: dict[str, set[str]] = {}
    for item in plan_objects(settings)[:40]:
        for view in range(4):
            for key, value in draw_view(settings, item, view).view.items():
                if isinstance(value, str):
                    seen.setdefault(key, set()).add(value)
    covers = {"none", "leaf", "blade", "butterfly", "beetle", "crop"}
    assert seen == {"background": set(BACKGROUNDS), "occlusion": covers}


# captions


def test_objects_and_captions_are_the_same_on_every_machine():
    settings = SyntheticSettings(domain="flowers", objects=6, val_objects=2, test_objects=3, seed=7)
    objects = plan_objects(settings)
    told = [write_captions(settings, item, view) for item in objects for view in range(2)]
    text = json.dumps([[item.attributes for item in objects], told], sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "99747441bbcec920"


def table_of(name: str) -> dict[str, tuple[str, ...]]:
    if name == "leaf_colour":
        return words.LEAF_COLOURS
    return words.COLOURS if name.endswith("_colour") else words.WORDS.get(name, {})


def test_no_word_stands_for_two_values_and_none_breaks_a_phrase():
    for attribute in FLOWERS.attributes:
        values = [v for v, _ in attribute.values] + list(attribute.vague)
        table = table_of(attribute.name)
        if not table:
            assert attribute.name in ("edge", "sepals", "blooms", "bud")
            continue
        spoken = [word for value in values if value != "none" for word in table[value]]
        assert len(spoken) == len(set(spoken)), attribute.name
        assert not [word for word in spoken if PHRASE_BREAK.search(word)]
    single, double = words.WORDS["layers"].values()
    blooms = [phrase.text for phrases in words.BLOOMS.values() for phrase in phrases]
    assert not [text for text in blooms if set(text.split()) & {*single, *double}]
    assert len(blooms) == len(set(blooms))


def test_no_phrase_holds_a_break():
    rates = Ambiguity(omit=0.5, contradict=0.2, vague=0.4)
    settings = SyntheticSettings(domain="flowers", objects=150, val_objects=0, test_objects=0)
    for number, item in enumerate(plan_objects(settings)):
        draws = Draws(number)
        said = draw_statements(FLOWERS.attributes, item.attributes, rates, draws)
        teller = words.Teller(said, Voice(0.6, draws))
        for phrase in teller.phrases():
            assert not PHRASE_BREAK.search(phrase.text), phrase
            assert phrase.text == " ".join(phrase.text.split()), phrase
            plural = re.search(r"(petals|sepals|tips|leaves|foliage|anthers)$", phrase.text)
            assert not (phrase.article and plural and " the " not in phrase.text), phrase


def test_captions_say_the_words_of_their_statements():
    settings = SyntheticSettings(domain="flowers", objects=80, omit=0.3, paraphrase=0.0, seed=4)
    fixed = {"edge=none": "no coloured edge", "edge=edged": "petal", "sepals=none": "no visible",
             "sepals=sepals": "sepals", "leaves=none": "no leaves", "blooms=one": "solitary bloom",
             "blooms=two": "two blooms", "blooms=cluster": "cluster of blooms", "bud=bud": "bud",
             "blooms~more": "more than one bloom", "bud=none": "no bud"}  # fmt: skip
    things = {"veined": "veins", "spotted": "spots", "blotched": "blotches", "tipped": "tips",
              "patterned": "pattern", "two-coloured": "tone"}  # fmt: skip
    for item in plan_objects(settings):
        told = write_captions(settings, item, 0)
        for text, stated in zip(told["captions"], told["stated"], strict=True):
            said = text.lower()
            for record in stated:
                name, value = re.split("[=~]", record)
                options = [fixed[record]] if record in fixed else [table_of(name)[value][0]]
                if name == "marking":
                    options.append(things.get(value, options[0]))
                assert any(option in said for option in options), (text, record)


def test_petals_edges_and_markings_keep_their_own_colours():
    def said(*pairs: tuple[str, str], vague: str = "") -> set[str]:
        statements = [Statement(name, value, name == vague, False) for name, value in pairs]
        texts = {words.tell(statements, 0.0, Draws(n)).lower() for n in range(120)}
        return {re.sub(r"[^a-z -]", "", text) for text in texts}

    def only(texts: set[str], *forms: str) -> None:
        assert {form for form in forms if any(form in text for text in texts)} == set(forms)
        assert all(any(form in text for form in forms) for text in texts)

    petals = ("petals", "five"), ("petal_shape", "pointed"), ("petal_colour", "white")
    only(said(*petals), "five pointed white petals", "five white pointed petals",
         "five pointed petals in white")  # fmt: skip
    only(said(("edge", "edged"), ("edge_colour", "red")), "petals edged in red",
         "petals rimmed in red", "petals bordered in red", "red-edged petals", "red-rimmed petals",
         "red edge around the petals")  # fmt: skip
    only(said(("marking", "veined"), ("marking_colour", "red")), "petals veined in red",
         "red-veined petals", "red veins on the petals")  # fmt: skip
    only(said(("marking", "tipped"), ("marking_colour", "dark"), vague="marking_colour"),
         "dark petal tips")  # fmt: skip
    only(said(("marking_colour", "red")), "red marks on the petals", "petals marked in red",
         "petals painted in red", "red-marked petals", "red-painted petals")  # fmt: skip
    only(said(("stem", "hairy"), ("stem_colour", "red")), "hairy red stem", "red hairy stem",
         "hairy stem in red")  # fmt: skip
