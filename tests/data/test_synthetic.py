import hashlib
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import (
    PHRASE_BREAK,
    Ambiguity,
    SyntheticObject,
    SyntheticSettings,
    ViewOptions,
    domains,
    draw_view,
    generate,
    plan_objects,
    saying_probabilities,
    write_captions,
)
from mmref.data.synthetic.attributes import Draws, distance, draw_object, draw_statements
from mmref.data.synthetic.captions import COLOUR_WORDS, VAGUE_COLOURS
from mmref.data.synthetic.drawing import Canvas, develop, hide, shown_share
from mmref.data.synthetic.figures import words
from mmref.errors import ConfigError, DataError, PathError

FIGURES = domains()["figures"]
SMALL = SyntheticSettings(
    objects=6, val_objects=2, test_objects=3, images=2, image_size=(64, 32), seed=7
)


def folder_digest(folder: Path) -> str:
    digest = hashlib.sha256((folder / "manifest.jsonl").read_bytes())
    for path in sorted((folder / "images").iterdir()):
        digest.update(path.name.encode())
        with Image.open(path) as image:
            digest.update(np.asarray(image).tobytes())
    return digest.hexdigest()


def still(attributes: dict[str, str | None], seed: int = 0) -> np.ndarray:
    """A figure that stands straight before the same background, without any nuisance."""
    options = ViewOptions(occlude=0.0, nuisance=0.0)
    return FIGURES.render(attributes, 0, (128, 64), options, Draws(seed)).pixels.astype(int)


PLAIN = {
    "build": "slim", "height": "tall", "hair": "short", "hair_colour": "brown", "beard": "none",
    "glasses": "none", "hat": "none", "hat_colour": None, "scarf": "none", "scarf_colour": None,
    "top": "shirt", "top_colour": "blue", "top_pattern": "plain", "top_second": None,
    "bottom": "trousers", "bottom_colour": "grey", "shoes": "shoes", "shoes_colour": "brown",
    "bag": "none", "bag_colour": None, "bag_side": None, "carried": "none",
    "carried_colour": None, "carried_side": None,
}  # fmt: skip


# determinism


def test_same_folder_for_any_number_of_processes(tmp_path):
    digests = {folder_digest(generate(SMALL, tmp_path / str(n), processes=n)) for n in (1, 2)} | {
        folder_digest(generate(SMALL, tmp_path / "again"))
    }
    assert len(digests) == 1
    other = SyntheticSettings(**{**vars(SMALL), "seed": 8})
    assert folder_digest(generate(other, tmp_path / "other")) not in digests


def test_objects_and_captions_are_the_same_on_every_machine():
    objects = plan_objects(SMALL)
    told = [write_captions(SMALL, item, view) for item in objects for view in range(2)]
    text = json.dumps([[item.attributes for item in objects], told], sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "aae31a1bf16b8db1"


def test_training_ambiguity_leaves_pictures_and_test_captions_alone():
    fixed = {"test_omit": 0.5, "test_contradict": 0.1, "seed": 3}
    clear, poor = (
        SyntheticSettings(objects=4, omit=omit, contradict=wrong, **fixed)
        for omit, wrong in ((0.0, 0.0), (0.75, 0.3))
    )
    for a, b in zip(plan_objects(clear), plan_objects(poor), strict=True):
        assert a.attributes == b.attributes
        same = write_captions(clear, a, 0) == write_captions(poor, b, 0)
        assert same == (a.split != "train")
    first = plan_objects(clear)[0]
    np.testing.assert_array_equal(
        draw_view(clear, first, 1).pixels, draw_view(poor, first, 1).pixels
    )


# objects


def test_objects_are_distinct_look_alikes():
    settings = SyntheticSettings(objects=40, lookalikes=4, differences=3)
    objects = plan_objects(settings)
    assert Counter(o.split for o in objects) == {"train": 40, "val": 10, "test": 15}
    assert len({tuple(o.attributes.values()) for o in objects}) == len(objects)
    train = [o.attributes for o in objects[:40]]
    inside = [distance(train[i], train[j]) for i in range(40) for j in range(i) if i // 4 == j // 4]
    across = [distance(train[i], train[j]) for i in range(40) for j in range(i) if i // 4 != j // 4]
    assert min(inside) >= 2
    assert np.mean(inside) < 0.6 * np.mean(across)


def test_attributes_exist_only_with_their_head():
    for n in range(300):
        attributes = draw_object(FIGURES.attributes, Draws(n))
        for attribute in FIGURES.attributes:
            value = attributes[attribute.name]
            assert (value is not None) == attribute.exists(attributes)
            if attribute.unlike and value is not None:
                assert value != attributes[attribute.unlike]


def test_no_room_for_more_objects_is_said():
    domain = [a for a in FIGURES.attributes if a.name in ("build", "height")]
    from mmref.data.synthetic.attributes import draw_objects

    kept = draw_objects(domain, 4, Draws(0), lookalikes=1, differences=2, taken=set())
    assert len({tuple(o.values()) for o in kept}) == 4
    with pytest.raises(ConfigError, match="no room for 5 distinct objects"):
        draw_objects(domain, 5, Draws(0), lookalikes=1, differences=2, taken=set())


# captions


def test_saying_probabilities_sum_to_one_and_vague_words_tell_no_truth_by_mistake():
    rates = Ambiguity(omit=0.3, contradict=0.2, vague=0.5)
    for n in range(50):
        attributes = draw_object(FIGURES.attributes, Draws(n))
        for attribute in FIGURES.attributes:
            truth = attributes[attribute.name]
            if truth is None:
                continue
            table = saying_probabilities(attribute, attributes, rates)
            assert sum(p for _, p in table) == pytest.approx(1.0)
            omitted = dict(table)[None]
            expected = 1 - 0.7 * (0.25 if truth in attribute.absent else 1.0)
            assert omitted == pytest.approx(expected)
            wrong = sum(p for said, p in table if said and said.wrong)
            assert wrong == pytest.approx(0 if attribute.truthful else 0.2 * (1 - omitted))
            for said, _ in table:
                if said and said.vague:
                    assert (truth in attribute.vague[said.said]) == (not said.wrong)


def test_statements_follow_their_probabilities():
    rates = Ambiguity(omit=0.4, contradict=0.25, vague=0.3)
    attributes = {**PLAIN, "top_colour": "navy"}
    colour = FIGURES.attribute("top_colour")
    draws, count = Draws(1), 4000
    seen = Counter(
        next((s for s in said if s.attribute == "top_colour"), None)
        for said in (
            draw_statements(FIGURES.attributes, attributes, rates, draws) for _ in range(count)
        )
    )
    for said, probability in saying_probabilities(colour, attributes, rates):
        spread = (probability * (1 - probability) / count) ** 0.5
        assert abs(seen[said] / count - probability) < 4.5 * spread


def test_captions_record_what_they_omit_and_contradict():
    settings = SyntheticSettings(objects=30, omit=0.3, contradict=0.2, vague=0.3, seed=2)
    checked = wrong = 0
    for item in plan_objects(settings):
        told = write_captions(settings, item, 0)
        for n in range(2):
            stated = told["stated"][n]
            names = [record.replace("~", "=").split("=")[0] for record in stated]
            present = {name for name, value in item.attributes.items() if value is not None}
            assert set(names) | set(told["omitted"][n]) == present
            assert not set(names) & set(told["omitted"][n])
            for name, record in zip(names, stated, strict=True):
                truth, said = item.attributes[name], record[len(name) + 1 :]
                vague = FIGURES.attribute(name).vague.get(said, ()) if "~" in record else (said,)
                assert (truth not in vague) == (name in told["contradicted"][n])
                checked += 1
                wrong += truth not in vague
    assert 0.15 < wrong / checked < 0.25
    assert not any("side" in name for name in told["contradicted"])


def test_captions_say_the_words_of_their_statements():
    settings = SyntheticSettings(objects=60, omit=0.3, contradict=0.1, paraphrase=0.0, seed=4)
    for item in plan_objects(settings):
        told = write_captions(settings, item, 0)
        for text, stated in zip(told["captions"], told["stated"], strict=True):
            for record in stated:
                value = record.replace("~", "=").split("=")[1]
                if "none" in record or value in ("bald", "left", "right"):
                    continue
                known = {**words._WORDS, **COLOUR_WORDS, "curly": ("curly",), "long": ("long",),
                         "ponytail": ("ponytail",), "short": ("short",),
                         "beard": ("beard",), "blond": ("blond",)}  # fmt: skip
                assert known[value][0] in text.lower(), (text, record)
            for side in ("left", "right"):
                said = any(record.endswith(f"side={side}") for record in stated)
                assert said == (f"the {side}" in text), (text, stated)


def test_no_word_stands_for_two_values_and_none_breaks_a_phrase():
    for table in (words._WORDS, words._HAIR_WORDS, COLOUR_WORDS):
        spoken = [word for options in table.values() for word in options]
        if table is not words._WORDS:
            assert len(spoken) == len(set(spoken))
        assert not [word for word in spoken if PHRASE_BREAK.search(word)]
    for attribute in FIGURES.attributes:
        values = [v for v, _ in attribute.values] + list(attribute.vague)
        tables = COLOUR_WORDS if attribute.name.endswith(("colour", "second")) else words._WORDS
        spoken = [word for v in values for word in tables.get(v, ())]
        assert len(spoken) == len(set(spoken)), attribute.name
    assert set(VAGUE_COLOURS) < set(COLOUR_WORDS)


def test_captions_vary_and_end_well():
    item = SyntheticObject("train-00000", "train", 0, PLAIN)
    settings = SyntheticSettings(objects=1, captions=100, images=2, omit=0.2)
    texts = (
        write_captions(settings, item, 0)["captions"]
        + write_captions(settings, item, 1)["captions"]
    )
    assert len(set(texts)) == 200
    assert len({text.split()[0] for text in texts}) > 20
    for text in texts:
        assert "  " not in text and ".." not in text and " ," not in text and " ." not in text
        assert " a a " not in text and " an b" not in text and "None" not in text


def test_held_out_captions_are_for_training_objects_and_never_shown():
    settings = SyntheticSettings(objects=20, omit=0.93, paraphrase=0.0, held_out_captions=2)
    for item in plan_objects(settings):
        told = [write_captions(settings, item, view) for view in range(4)]
        held = {text for one in told for text in one["held_out_captions"]}
        assert bool(held) == (item.split == "train")
        assert held.isdisjoint(text for one in told for text in one["captions"])
        for one in told:
            assert len(one["held_out_captions"]) == len(one["held_out_stated"])


# pictures


@pytest.mark.parametrize("attribute", FIGURES.attributes, ids=lambda a: a.name)
def test_every_value_shows(attribute):
    base = dict(PLAIN)
    if attribute.needs is not None:
        name, values = attribute.needs
        base[name] = sorted(values)[0]
    for other in FIGURES.attributes:  # what comes with the head
        if base[other.name] is None and other.exists(base):
            base[other.name] = "left" if other.name.endswith("side") else "red"
    pictures = []
    for value, _ in attribute.values:
        changed = {**base, attribute.name: value}
        for other in FIGURES.attributes:
            if not other.exists(changed):
                changed[other.name] = None
            elif changed[other.name] is None:
                changed[other.name] = "left" if other.name.endswith("side") else "red"
        pictures.append(still(changed))
    for i, one in enumerate(pictures):
        for two in pictures[:i]:
            assert (np.abs(one - two).max(axis=2) > 24).sum() >= 12


@pytest.mark.parametrize("thing", ["handbag", "shoulder bag", "umbrella", "ball", "book"])
def test_left_is_the_left_of_the_picture(thing):
    head = "bag" if "bag" in thing else "carried"
    for side, there in (("left", slice(0, 32)), ("right", slice(32, 64))):
        with_it = still({**PLAIN, head: thing, f"{head}_colour": "red", f"{head}_side": side})
        red = (with_it[..., 0] > 150) & (with_it[..., 1] < 80) & (with_it[..., 2] < 80)
        red &= ~((still(PLAIN)[..., 0] > 150) & (still(PLAIN)[..., 1] < 80))
        assert red[:, there].sum() > 0.8 * red.sum() > 10


def test_views_differ_and_objects_stay():
    settings = SyntheticSettings(objects=1, seed=5)
    item = plan_objects(settings)[0]
    views = [draw_view(settings, item, view) for view in range(4)]
    assert len({view.pixels.tobytes() for view in views}) == 4
    np.testing.assert_array_equal(views[2].pixels, draw_view(settings, item, 2).pixels)
    assert views[0].pixels.shape == (128, 64, 3)


def test_visible_names_what_nothing_hides():
    clear = SyntheticSettings(objects=30, occlude=0.0, nuisance=0.0)
    for item in plan_objects(clear)[:10]:
        present = {name for name, value in item.attributes.items() if value is not None}
        assert set(draw_view(clear, item, 0).visible) == present
    hiding = SyntheticSettings(objects=30, occlude=1.0)
    hidden: Counter[str] = Counter()
    for item in plan_objects(hiding):
        view = draw_view(hiding, item, 0)
        assert view.view["occlusion"] in ("pillar", "box", "bar", "crop")
        hidden.update(
            n for n, v in item.attributes.items() if v is not None and n not in view.visible
        )
    assert hidden["shoes"] > 3 and hidden["top"] > 0


def test_shown_share_of_a_half_hidden_region():
    canvas = Canvas((100, 100), unit=1.0, origin=(50.0, 50.0))
    assert shown_share(canvas, (-10, -10, 10, 10), None) == 1.0
    assert shown_share(canvas, (-10, -10, 10, 10), (0.5, 0.0, 1.0, 1.0)) == pytest.approx(0.5)
    assert shown_share(canvas, (-60, -10, -40, 10), None) == pytest.approx(0.5)
    assert hide(canvas, Draws(0), ViewOptions(occlude=0.0)) == ("none", None)


def test_without_nuisance_the_camera_changes_nothing():
    pixels = np.arange(8 * 4 * 3, dtype=np.uint8).reshape(8, 4, 3)
    same, camera = develop(pixels, Draws(0), 0.0)
    np.testing.assert_array_equal(same, pixels)
    assert camera == {"light": 256, "cast": [256, 256, 256], "blur": 0, "noise": 0}
    assert (develop(pixels, Draws(0), 1.0)[0] != pixels).any()


# the folder


def test_generated_folder_loads(tmp_path):
    source = generate(SMALL, tmp_path / "figures")
    data = RetrievalDataset.load(source)
    assert data.split_names == ["train", "val", "test"] and len(data) == 22
    assert not data.closed_set
    assert all(path.is_file() for path in data.image_paths)
    objects = {item.name: item for item in plan_objects(SMALL)}
    for row in (0, 13, 21):
        item, meta = objects[data.objects[row]], data.metadata(row)
        assert meta["attributes"] == item.attributes
        assert data.captions[row] == write_captions(SMALL, item, meta["view_number"])["captions"]
        with Image.open(data.image_paths[row]) as image:
            assert image.size == (32, 64)
    assert json.loads((source / "settings.json").read_text())["seed"] == 7


def test_failed_workers_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DataError, match="processes=1"):
        generate(SMALL, tmp_path / "figures", processes=2)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(PathError, match="cannot write"):
        generate(SMALL, tmp_path / "file" / "figures")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"domain": "fish"}, "no domain 'fish': choose one of figures"),
        ({"objects": 0}, "objects is 0: choose 1 or more"),
        ({"omit": 1.0}, "omit is 1.0: choose a value between 0 and 0.98"),
        ({"test_contradict": -0.1}, "contradict is -0.1"),
        ({"image_size": (32, 32)}, "choose height 64 to 1024"),
        ({"nuisance": 9.0}, "nuisance is 9.0"),
    ],
)
def test_wrong_settings_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        SyntheticSettings(**wrong)
