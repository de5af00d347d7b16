"""The posterior against an enumeration that knows nothing of its tables."""

import itertools
import json
import math
import shutil
from collections import Counter

import numpy as np
import pytest

from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import SyntheticSettings, domains, plan_objects, write_captions
from mmref.data.synthetic import visible_oracle as module
from mmref.data.synthetic.annotations import annotations, is_generated, read_settings, summary
from mmref.data.synthetic.attributes import (
    Ambiguity,
    Attribute,
    Domain,
    Draws,
    draw_object,
    draw_statements,
)
from mmref.data.synthetic.generate import generate
from mmref.data.synthetic.oracle import CaptionModel, shown
from mmref.data.synthetic.visible_oracle import VisibleOracle, groups, hub_of, states_of
from mmref.errors import DataError, MMRefError

YES, NO = frozenset({"cap", "hood"}), frozenset({"none"})
# A head that may be absent and vague, what needs it, two that must differ, one never wrong.
TINY = Domain(
    "tiny",
    (
        Attribute(
            "hat",
            (("none", 3), ("cap", 2), ("hood", 1), ("crown", 1)),
            absent=NO,
            vague={"soft": YES, "stiff": frozenset({"crown"})},
        ),
        Attribute(
            "brim", (("red", 1), ("navy", 2), ("black", 1)), needs=("hat", YES),
            vague={"dark": frozenset({"navy", "black"})},
        ),
        Attribute("bag", (("red", 2), ("navy", 1), ("black", 1)), unlike="brim"),
        Attribute("side", (("left", 1), ("right", 3)), truthful=True),
    ),
    str,
    str,
)  # fmt: skip
# One attribute holds the others together.
STAR = Domain(
    "star",
    (
        Attribute(
            "petal", (("red", 2), ("navy", 1), ("black", 1)), vague={"dark": frozenset({"navy"})}
        ),
        Attribute("edge", (("none", 2), ("cut", 1)), absent=NO),
        Attribute(
            "rim", (("red", 1), ("navy", 3)), needs=("edge", frozenset({"cut"})), unlike="petal"
        ),
        Attribute("centre", (("red", 1), ("black", 2), ("white", 1)), unlike="petal"),
    ),
    str,
    str,
)
RATES = Ambiguity(omit=0.55, contradict=0.3, vague=0.4)
AT_ONE_TIME = [RATES, Ambiguity(), Ambiguity(omit=0.9, vague=1.0), Ambiguity(contradict=1.0)]


def all_objects(domain: Domain) -> list[tuple[dict[str, str | None], float]]:
    """Every object with the probability that it is drawn, attribute by attribute."""
    found: list[tuple[dict[str, str | None], float]] = [({}, 1.0)]
    for a in domain.attributes:
        grown: list[tuple[dict[str, str | None], float]] = []
        for one, p in found:
            if a.needs and one[a.needs[0]] not in a.needs[1]:
                grown.append(({**one, a.name: None}, p))
                continue
            options = {v: w for v, w in a.values if not a.unlike or v != one[a.unlike]}
            for v, w in options.items():
                grown.append(({**one, a.name: v}, p * w / sum(options.values())))
        found = grown
    return found


def all_captions(domain: Domain, one: dict, rates: Ambiguity) -> dict[tuple[str, ...], float]:
    """Every caption of an object with its probability, by the rules as they are described."""
    found: dict[tuple[str, ...], float] = {(): 1.0}
    for a in domain.attributes:
        truth = one[a.name]
        if truth is None:
            continue
        grown: Counter[tuple[str, ...]] = Counter()
        for said, p in found.items():
            heads = [
                s for s in said if a.needs and s.startswith((a.needs[0] + "=", a.needs[0] + "~"))
            ]
            if heads:
                meant = heads[0][len(a.needs[0]) + 1 :]
                head = domain.attribute(a.needs[0])
                could = head.vague[meant] if "~" in heads[0] else {meant}
                if not could & a.needs[1]:
                    grown[said] += p
                    continue
            stated = (1 - rates.omit) * (rates.absence if truth in a.absent else 1)
            grown[said] += p * (1 - stated)
            others = [
                v for v, _ in a.values if v != truth and not (a.unlike and v == one[a.unlike])
            ]
            slip = 0.0 if a.truthful or not others else rates.contradict
            for value in [truth, *others]:
                chance = p * stated * (1 - slip if value == truth else slip / len(others))
                word = next((w for w, values in a.vague.items() if value in values), None)
                if word and (value == truth or truth not in a.vague[word]):
                    grown[(*said, f"{a.name}~{word}")] += chance * rates.vague
                    chance *= 1 - rates.vague
                grown[(*said, f"{a.name}={value}")] += chance
        found = dict(grown)
    nothing = found.pop(())
    return {said: p / (1 - nothing) for said, p in found.items() if p > 0}


OBJECTS = [one for one, _ in all_objects(TINY)]


@pytest.mark.parametrize("rates", AT_ONE_TIME, ids=str)
def test_the_likelihood_is_that_of_an_enumeration(rates):
    tables = [all_captions(TINY, one, rates) for one in OBJECTS]
    captions = sorted(set().union(*tables))
    expected = np.array([[table.get(c, 0.0) for table in tables] for c in captions])
    found = np.exp(CaptionModel(TINY, rates).log_likelihood(captions, OBJECTS))
    np.testing.assert_allclose(found, expected, atol=1e-14, rtol=1e-10)
    np.testing.assert_allclose(found.sum(axis=0), 1.0, rtol=1e-12)
    posterior = np.exp(CaptionModel(TINY, rates).log_posterior(captions, OBJECTS))
    np.testing.assert_allclose(
        posterior, expected / expected.sum(axis=1, keepdims=True), atol=1e-14, rtol=1e-10
    )


@pytest.mark.parametrize("rates", AT_ONE_TIME[:3], ids=str)
@pytest.mark.parametrize(("domain", "many"), [(TINY, 100), (TINY, 1), (STAR, 100), (STAR, 10)])
def test_the_visible_oracle_is_the_mean_over_all_that_may_be_hidden(
    monkeypatch, domain, many, rates
):
    monkeypatch.setattr(module, "_MANY", many)
    hubs = {h.name for h in map(hub_of, groups(domain.attributes)) if h}
    expected = {100: set(), 1: {"hat", "side"}, 10: {"petal"}}[many]
    assert hubs == expected
    objects, prior = zip(*all_objects(domain), strict=True)
    assert sum(prior) == pytest.approx(1.0)
    captions = sorted(set().union(*(all_captions(domain, one, rates) for one in objects)))[::3]
    whole = np.exp(CaptionModel(domain, rates).log_likelihood(captions, objects))
    names = [a.name for a in domain.attributes]
    sights = {
        tuple((n, one[n]) for n in kept if one[n] is not None)
        for one in objects
        for r in range(5)
        for kept in itertools.combinations(names, r)
    }
    images = [dict(sight) for sight in sorted(sights, key=str)]
    assert {} in images and len(images) > 80
    found = np.exp(VisibleOracle(domain, rates, images).log_likelihood(captions))
    for column, image in zip(found.T, images, strict=True):
        fits = np.array([all(one[n] == v for n, v in image.items()) for one in objects])
        mean = whole[:, fits] @ np.array(prior)[fits] / np.array(prior)[fits].sum()
        np.testing.assert_allclose(column, mean, atol=1e-14, rtol=1e-9)


@pytest.mark.parametrize("name", sorted(domains()))
def test_captions_come_as_often_as_the_model_says(name):
    """Monte Carlo: how often statements are made together in a drawn object's captions."""
    domain, count = domains()[name], 2000
    objects = [draw_object(domain.attributes, Draws(seed)) for seed in range(6)]
    rates = Ambiguity(omit=0.92, contradict=0.3, vague=0.5)
    model, spreads = CaptionModel(domain, rates), []
    for number, one in enumerate(objects):
        draws = Draws(9, number)
        said = [draw_statements(domain.attributes, one, rates, draws) for _ in range(count)]
        drawn = Counter(tuple(s.record for s in statements) for statements in said)
        found = np.exp(model.log_likelihood(list(drawn), [one]))[:, 0] * count
        expected = dict(zip(drawn, found, strict=True))
        spreads += [(drawn[r] - e) / math.sqrt(e) for r, e in expected.items() if e > 10]
    assert len(spreads) > 20
    assert max(map(abs, spreads)) < 4.5
    assert abs(np.mean(spreads)) < 0.6 and 0.5 < np.std(spreads) < 1.5


@pytest.mark.parametrize("name", sorted(domains()))
def test_an_image_that_shows_all_knows_as_much_as_the_truth(name):
    settings = SyntheticSettings(domain=name, objects=1, test_objects=12, val_objects=0, omit=0.7)
    objects = [o for o in plan_objects(settings) if o.split == "test"]
    stated = [said for o in objects for said in write_captions(settings, o, 0)["stated"]]
    truths = [o.attributes for o in objects]
    images = [shown(t, [n for n, v in t.items() if v is not None]) for t in truths]
    rates = settings.ambiguity("test")
    exact = CaptionModel(domains()[name], rates).log_likelihood(stated, truths)
    seen = VisibleOracle(domains()[name], rates, images).log_likelihood(stated)
    np.testing.assert_array_equal(np.isfinite(seen), np.isfinite(exact))
    possible = np.isfinite(exact)
    np.testing.assert_allclose(seen[possible], exact[possible], rtol=1e-10)
    blind = VisibleOracle(domains()[name], rates, [{}, {}]).log_likelihood(stated)
    assert np.isfinite(blind).all() and (blind[:, 0] == blind[:, 1]).all()
    own = exact[np.arange(len(stated)), np.repeat(np.arange(12), 2)]
    assert own.mean() > blind[:, 0].mean() + 1


def test_groups_hold_what_depends_on_each_other():
    assert [[a.name for a in g] for g in groups(TINY.attributes)] == [
        ["hat", "brim", "bag"],
        ["side"],
    ]
    found = list(states_of(groups(TINY.attributes)[0]))
    assert len(found) == 2 * 3 + 2 * 3 * 2
    assert sum(p for _, p in found) == pytest.approx(1.0)
    for name, domain in domains().items():
        parts = groups(domain.attributes)
        assert sum(len(g) for g in parts) == len(domain.attributes), name
        assert all(
            not {a.name for a in g} & {b.unlike for b in h}
            for g in parts
            for h in parts
            if g is not h
        )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["hat=sombrero"], "'hat=sombrero' is none of hat"),
        (["hat~dark"], "'hat~dark' is none of hat"),
        (["shoes=red"], "'shoes=red' is not attribute=value"),
        (["hat"], "'hat' is not attribute=value"),
        (["hat=cap", "hat=hood"], "second of its attribute"),
    ],
)
def test_foreign_statements_are_refused(said, message):
    with pytest.raises(DataError, match=message):
        CaptionModel(TINY, RATES).log_likelihood([["bag=red"], said], OBJECTS)


def test_foreign_objects_and_images_are_refused():
    model = CaptionModel(TINY, RATES)
    with pytest.raises(DataError, match="no attribute 'bag'"):
        model.log_likelihood([["hat=cap"]], [{"hat": "cap", "brim": "red", "side": "left"}])
    with pytest.raises(DataError, match="'veil' is no value of the attribute hat"):
        model.log_likelihood([["hat=cap"]], [{**OBJECTS[0], "hat": "veil"}])
    with pytest.raises(DataError, match="'brim' is visible, but the object does not have it"):
        shown({"hat": "none", "brim": None}, ["hat", "brim"])
    for image, message in (
        ({"shoes": "red"}, "shows 'shoes', no attribute of tiny"),
        ({"hat": "veil"}, "'veil' is no value of hat"),
        ({"hat": "none", "brim": "red"}, "shows hat none, brim red, as no object can be"),
    ):
        with pytest.raises(DataError, match=message):
            VisibleOracle(TINY, RATES, [image])


def test_what_no_object_can_have_said_of_it_is_refused():
    with pytest.raises(DataError, match=r"can have said of it side=left: .* other error"):
        CaptionModel(TINY, RATES).log_posterior(
            [["side=right"], ["side=left"]], [one for one in OBJECTS if one["side"] == "right"]
        )


def test_a_closed_attribute_is_never_said():
    """ "No hat" leaves no room for its brim, whatever is true."""
    model, one = (
        CaptionModel(TINY, RATES),
        {"hat": "cap", "brim": "red", "bag": "navy", "side": "left"},
    )
    scores = model.log_likelihood([["hat=none", "brim=red"], ["hat=none"], ["brim=red"]], [one])
    assert scores[0, 0] == -np.inf and np.isfinite(scores[1:]).all()


# what a set tells of itself


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    settings = SyntheticSettings(
        objects=3, val_objects=2, test_objects=4, images=2, image_size=(64, 32), omit=0.9
    )
    return generate(settings, tmp_path_factory.mktemp("sets") / "figures")


def test_annotations_stand_beside_the_queries(folder):
    data = RetrievalDataset.load(folder)
    for split in data.split_names:
        part = data.split(split)
        notes = annotations(part)
        assert notes.queries == part.queries()
        said = {(q.caption, q.object): s for q, s in zip(notes.queries, notes.stated, strict=True)}
        slips = dict(zip(notes.queries, notes.contradicts, strict=True))
        for row in reversed(range(len(part))):
            told = part.metadata(row)
            assert notes.attributes[row] == told["attributes"]
            assert notes.visible[row] == told["visible"]
        told = part.metadata(0)
        for text, stated, wrong in zip(
            part.captions[0], told["stated"], told["contradicted"], strict=True
        ):
            assert said[text, part.objects[0]] == stated
            assert slips[text, part.objects[0]] == bool(wrong)


def rewritten(folder, target, change):
    target.mkdir()
    (target / "images").symlink_to(folder / "images")
    (target / "settings.json").write_bytes((folder / "settings.json").read_bytes())
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    for row in rows:
        change(row)
    (target / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RetrievalDataset.load(target)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.pop("stated"), "no column 'stated': .*mmref synth"),
        (lambda row: row.pop("visible"), "no column 'visible'"),
        (lambda row: row.update(attributes="red"), "row 0: column 'attributes' is not as"),
        (lambda row: row.update(stated=["hat=cap"]), "row 0: column 'stated' is not as"),
        (lambda row: row["captions"].append("more"), "3 captions, but statements of 2"),
    ],
)
def test_sets_without_annotations_say_so(folder, tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        annotations(rewritten(folder, tmp_path / "set", change))


def test_the_summary_counts(folder):
    data = RetrievalDataset.load(folder)
    found = summary(data)
    assert list(found) == ["train", "val", "test"]
    assert [(f["objects"], f["images"], f["captions"]) for f in found.values()] == [
        (3, 6, 12), (2, 4, 8), (4, 8, 16),
    ]  # fmt: skip
    rows = [data.metadata(row) for row in range(6)]
    said = [one for row in rows for one in row["stated"]]
    wrong = [bool(one) for row in rows for one in row["contradicted"]]
    assert found["train"]["statements"] == pytest.approx(np.mean([len(one) for one in said]))
    assert found["train"]["contradicting"] == pytest.approx(100 * np.mean(wrong))
    hidden = [
        sum(v is not None for v in r["attributes"].values()) - len(r["visible"]) for r in rows
    ]
    assert found["train"]["hidden"] == pytest.approx(np.mean(hidden))
    told = found["train"]["statements"] + found["train"]["omitted"]
    has = [sum(v is not None for v in r["attributes"].values()) for r in rows]
    assert told == pytest.approx(np.mean(has))


def test_settings_are_read_back(folder, tmp_path):
    found = read_settings(folder)
    assert (found.objects, found.omit, found.image_size) == (3, 0.9, (64, 32))
    assert is_generated(folder) and not is_generated(tmp_path)
    shutil.copytree(folder, tmp_path / "more")
    assert is_generated(tmp_path / "more")
    (tmp_path / "more" / "features.npy").touch()
    assert not is_generated(tmp_path / "more")
    kept = json.loads((folder / "settings.json").read_text())
    for wrong in ("{", "[]", {**kept, "format": 2}, {**kept, "domain": "fish"},
                  {n: v for n, v in kept.items() if n != "omit"}):  # fmt: skip
        text = wrong if isinstance(wrong, str) else json.dumps(wrong)
        (tmp_path / "settings.json").write_text(text)
        with pytest.raises(MMRefError, match="no settings of a generated set"):
            read_settings(tmp_path)
