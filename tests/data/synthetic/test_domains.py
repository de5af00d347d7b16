"""What holds for every domain of the ambiguity benchmark."""

import re
from collections import Counter

import numpy as np
import pytest

from mmref.data.synthetic import (
    SyntheticSettings,
    ViewOptions,
    domains,
    draw_view,
    plan_objects,
    write_captions,
)
from mmref.data.synthetic.attributes import Draws, distance, draw_object, saying_probabilities

DOMAINS = domains()
each_domain = pytest.mark.parametrize("name", sorted(DOMAINS))


def test_a_size_of_its_own_unless_one_is_asked_for():
    for name, domain in DOMAINS.items():
        assert SyntheticSettings(domain=name).image_size == domain.image_size
        assert SyntheticSettings(domain=name, image_size=(0, 0)).image_size == domain.image_size
        assert SyntheticSettings(domain=name, image_size=(96, 80)).image_size == (96, 80)
    assert SyntheticSettings(domain="birds").image_size == (128, 128)


@each_domain
def test_thousands_of_distinct_objects_in_groups_of_look_alikes(name):
    settings = SyntheticSettings(domain=name, objects=2000, val_objects=400, test_objects=600)
    objects = plan_objects(settings)
    assert len({tuple(o.attributes.values()) for o in objects}) == 3000
    train = [o.attributes for o in objects[:200]]
    pairs = [(i, j) for i in range(200) for j in range(i)]
    inside = [distance(train[i], train[j]) for i, j in pairs if i // 4 == j // 4]
    across = [distance(train[i], train[j]) for i, j in pairs if i // 4 != j // 4]
    assert min(inside) >= 2
    assert np.mean(inside) < 0.6 * np.mean(across)


@each_domain
def test_attributes_are_well_made(name):
    seen: set[str] = set()
    for attribute in DOMAINS[name].attributes:
        values = {value for value, _ in attribute.values}
        vague = [value for hidden in attribute.vague.values() for value in hidden]
        assert len(values) == len(attribute.values) > 1
        assert attribute.absent < values and not values & set(attribute.vague)
        assert len(vague) == len(set(vague)), "a value has one vague word at most"
        if attribute.needs is not None:
            head, needed = attribute.needs
            assert head in seen
            assert needed <= {value for value, _ in DOMAINS[name].attribute(head).values}
        seen.add(attribute.name)
    for n in range(200):
        drawn = draw_object(DOMAINS[name].attributes, Draws(n))
        for attribute in DOMAINS[name].attributes:
            assert (drawn[attribute.name] is not None) == attribute.exists(drawn)
            if attribute.unlike and drawn[attribute.name] is not None:
                assert drawn[attribute.name] != drawn[attribute.unlike]


@each_domain
def test_every_statement_can_be_said_alone(name):
    from mmref.data.synthetic.attributes import Ambiguity, Statement

    rates = Ambiguity(omit=0.1, contradict=0.3, vague=0.5)
    found: dict[str, set[Statement]] = {}
    for n in range(120):
        drawn = draw_object(DOMAINS[name].attributes, Draws(n))
        for attribute in DOMAINS[name].attributes:
            if drawn[attribute.name] is not None:
                table = saying_probabilities(attribute, drawn, rates)
                assert sum(p for _, p in table) == pytest.approx(1.0)
                found.setdefault(attribute.name, set()).update(s for s, _ in table if s)
    for attribute, statements in found.items():
        texts: dict[str, str] = {}
        for statement in statements:
            text = DOMAINS[name].grammar([statement], 0.0, Draws(3)).lower()
            assert "none" not in text and "  " not in text
            assert texts.setdefault(text, statement.record) == statement.record, attribute


@each_domain
def test_captions_record_what_they_omit_and_contradict(name):
    settings = SyntheticSettings(
        domain=name, objects=40, val_objects=0, test_objects=0, omit=0.3, contradict=0.2, vague=0.3
    )
    checked = wrong = 0
    for item in plan_objects(settings):
        told = write_captions(settings, item, 0)
        for n in range(2):
            stated = told["stated"][n]
            names = [re.split("[=~]", record)[0] for record in stated]
            present = {key for key, value in item.attributes.items() if value is not None}
            assert set(names) | set(told["omitted"][n]) == present
            assert not set(names) & set(told["omitted"][n])
            for key, record in zip(names, stated, strict=True):
                said, attribute = record[len(key) + 1 :], DOMAINS[name].attribute(key)
                meant = attribute.vague[said] if record[len(key)] == "~" else {said}
                assert (item.attributes[key] not in meant) == (key in told["contradicted"][n])
                checked += not attribute.truthful
                wrong += key in told["contradicted"][n]
    assert 0.15 < wrong / checked < 0.25


@each_domain
def test_captions_vary_and_end_well(name):
    settings = SyntheticSettings(
        domain=name, objects=2, val_objects=0, test_objects=0, captions=100, images=2, omit=0.2
    )
    texts = [
        text
        for item in plan_objects(settings)
        for view in range(2)
        for text in write_captions(settings, item, view)["captions"]
    ]
    assert len(set(texts)) == 400
    assert len({text.split()[0] for text in texts}) > 20
    for text in texts:
        assert not re.search(r"  |\.\.| [,.;]|\ba an?\b|\ban? [aeiou]\w* an?\b|None", text), text
        for article, word in re.findall(r"\b(an?) (\w+)", text):
            assert (article == "an") == word.startswith(tuple("aeiou")), text


@each_domain
def test_views_differ_and_come_out_the_same_again(name):
    settings = SyntheticSettings(domain=name, objects=1, val_objects=0, test_objects=0, seed=5)
    item = plan_objects(settings)[0]
    views = [draw_view(settings, item, view) for view in range(4)]
    assert len({view.pixels.tobytes() for view in views}) == 4
    np.testing.assert_array_equal(views[2].pixels, draw_view(settings, item, 2).pixels)
    assert views[0].pixels.shape == (*DOMAINS[name].image_size, 3)


@each_domain
def test_visible_names_what_nothing_hides(name):
    clear = SyntheticSettings(
        domain=name, objects=40, val_objects=0, test_objects=0, occlude=0.0, nuisance=0.0
    )
    for item in plan_objects(clear):
        present = {key for key, value in item.attributes.items() if value is not None}
        assert set(draw_view(clear, item, 0).visible) == present
    hiding = SyntheticSettings(domain=name, objects=40, occlude=1.0)
    hidden: Counter[str] = Counter()
    for item in plan_objects(hiding)[:40]:
        view = draw_view(hiding, item, 0)
        assert view.view["occlusion"] != "none"
        present = {key for key, value in item.attributes.items() if value is not None}
        assert set(view.visible) <= present
        hidden.update(present - set(view.visible))
    assert len(hidden) > len(DOMAINS[name].attributes) / 2


@each_domain
@pytest.mark.parametrize("size", [1, 2])
def test_every_value_shows(name, size):
    """Also at half the size each value changes some pixels by much, on a drawn object."""
    domain = DOMAINS[name]
    small = (domain.image_size[0] // size, domain.image_size[1] // size)
    options = ViewOptions(occlude=0.0, nuisance=0.0)
    for attribute in domain.attributes:
        seeds = (n for n in range(99))
        base = next(
            o
            for o in (draw_object(domain.attributes, Draws(n)) for n in seeds)
            if o[attribute.name] is not None
        )
        pictures = []
        for value, _ in attribute.values:
            if attribute.unlike and base[attribute.unlike] == value:
                continue
            changed = {**base, attribute.name: value}
            for other in domain.attributes:
                if not other.exists(changed):
                    changed[other.name] = None
                elif changed[other.name] is None:
                    changed[other.name] = other.draw(changed, Draws(1))
            drawn = domain.render(changed, 0, small, options, Draws(0))
            pictures.append(drawn.pixels.astype(int))  # type: ignore[attr-defined]
        for i, one in enumerate(pictures):
            for two in pictures[:i]:
                changed_pixels = (np.abs(one - two).max(axis=2) > 24).sum()
                assert changed_pixels >= 12 // size**2, attribute.name
