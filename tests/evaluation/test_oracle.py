from dataclasses import replace

import numpy as np
import pytest

from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import SyntheticSettings, domains
from mmref.data.synthetic.annotations import annotations
from mmref.data.synthetic.generate import generate
from mmref.data.synthetic.oracle import CaptionModel, shown
from mmref.data.synthetic.visible_oracle import VisibleOracle
from mmref.errors import DataError, SplitError
from mmref.evaluation.oracle import _against, ceilings, oracle, visible_oracle
from mmref.metrics.protocols import figures
from mmref.metrics.ranks import ranks_from_scores

MADE = SyntheticSettings(
    objects=3, val_objects=6, test_objects=24, images=3, captions=2, image_size=(64, 32),
    omit=0.2, test_omit=0.7, contradict=0.2, lookalikes=4, occlude=0.8, seed=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return RetrievalDataset.load(generate(MADE, tmp_path_factory.mktemp("sets") / "figures"))


def naive(scores, asked, held):
    """R@1, R@5 and mAP in percent of scores [q, g]: ties before, impossible last, one by one."""
    first, fifth, precision = [], [], []
    for row, name in zip(scores, asked, strict=True):
        own = sorted((s for s, h in zip(row, held, strict=True) if h == name), reverse=True)
        places = [
            sum(s >= mine - 1e-9 for s, h in zip(row, held, strict=True) if h != name) + k
            for k, mine in enumerate(own, 1)
        ]
        first.append(places[0] == 1)
        fifth.append(places[0] <= 5)
        precision.append(np.mean([k / place for k, place in enumerate(places, 1)]))
    return {n: 100 * np.mean(v) for n, v in (("R@1", first), ("R@5", fifth), ("mAP", precision))}


def scores_of(data, split):
    """Log probabilities [queries, images] of the oracle and of the visible one."""
    part, domain, rates = data.split(split), domains()["figures"], MADE.ambiguity(split)
    notes = annotations(part)
    sights = [shown(a, v) for a, v in zip(notes.attributes, notes.visible, strict=True)]
    return (
        CaptionModel(domain, rates).log_likelihood(notes.stated, notes.attributes),
        VisibleOracle(domain, rates, sights).log_likelihood(notes.stated),
        [query.object for query in notes.queries],
        part.objects,
    )


@pytest.mark.parametrize("split", ["val", "test", "train"])
def test_figures_are_those_of_a_naive_loop(data, split):
    exact, seen, asked, held = scores_of(data, split)
    found = ceilings(data, split)
    assert list(found) == ["oracle", "visible oracle"]
    names = sorted(set(held))
    for scores, ceiling in zip((exact, seen), found.values(), strict=True):
        for name, value in naive(scores, asked, held).items():
            assert ceiling.images.metrics[name] == pytest.approx(value)
        best = np.array(
            [[max(s for s, h in zip(row, held, strict=True) if h == n) for n in names]
             for row in scores]
        )  # fmt: skip
        expected = naive(best, asked, names)
        told = ceiling.to_dict()
        assert told["object R@1"] == pytest.approx(expected["R@1"])
        assert told["object MRR"] == pytest.approx(expected["mAP"])
        assert (told["gallery"], told["objects"]) == (len(held), len(names))
        assert told["queries"] == len(asked) == len(data.split(split).queries())


def test_ties_count_against_and_are_shared_in_the_mean(data):
    for ceiling in ceilings(data).values():
        told = ceiling.to_dict()
        for name, value in told["expected"].items():
            assert value >= told[name] - 1e-9
    told = oracle(data).to_dict()
    # What only a coin could tell: look-alikes of which the caption says nothing that differs.
    assert told["expected"]["R@1"] > told["R@1"] + 0.5
    assert told["object R@1"] == told["R@1"]


def test_ranks_against_are_those_of_scoring_again():
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 6, (40, 30)).astype(float)
    asked, held = generator.integers(0, 10, 40), np.arange(30) % 10
    ways = [
        ranks_from_scores(lambda a, b: scores[a:b], asked, held, ties=ties, tolerance=1e-9)
        for ties in ("expected", "pessimistic")
    ]
    one, two = figures(_against(ways[0]), asked), figures(ways[1], asked)
    for name, values in two.per_query.items():
        np.testing.assert_allclose(one.per_query[name], values)
    assert figures(ways[0], asked).metrics["mAP"] > two.metrics["mAP"] + 1


def test_who_knows_more_is_better(data):
    known, seen = oracle(data), visible_oracle(data)
    assert known.expected["mAP"] > seen.expected["mAP"] + 1
    assert 20 < seen.images.metrics["R@1"] < known.expected["R@1"] < 100
    # Training captions leave out less.
    whole = MADE.ambiguity("train")
    assert (whole.omit, MADE.ambiguity("test").omit) == (0.2, 0.7)
    assert oracle(data, "train").expected["R@1"] > known.expected["R@1"] + 10


def test_wrong_error_rates_do_worse_or_cannot_be(data):
    doubtful = replace(MADE, test_omit=0.02, test_contradict=0.9)
    assert oracle(data, settings=doubtful).expected["mAP"] < oracle(data).expected["mAP"] - 5
    for one in (oracle, visible_oracle, ceilings):
        with pytest.raises(DataError, match="captions cannot be of their objects"):
            one(data, settings=replace(MADE, contradict=0.0))


def test_other_sets_are_refused(data, tmp_path):
    with pytest.raises(SplitError, match="no split 'dev'"):
        ceilings(data, "dev")
    elsewhere = replace(data, root=tmp_path)
    with pytest.raises(DataError, match=r"settings.json holds no settings .* mmref synth"):
        ceilings(elsewhere)
    assert oracle(elsewhere, settings=MADE).to_dict() == oracle(data).to_dict()
    bare = replace(data, table=data.table.drop_columns(["attributes"]))
    with pytest.raises(DataError, match="no column 'attributes'"):
        ceilings(bare)
    with pytest.raises(DataError, match=r"none of|not attribute=value"):
        ceilings(data, settings=SyntheticSettings(domain="birds"))
