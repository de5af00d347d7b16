from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from mmref.errors import DataError
from mmref.metrics.protocols import (
    METRICS,
    figures,
    mean_figures,
    per_query_figures,
    random_precision,
)
from mmref.metrics.ranks import ranks_from_scores, relevant_ranks

from .naive import expected_figures, figures_of_order, pessimistic_figures
from .test_ranks import blocks, cases


def check(case, ties, naive):
    scores, asked, held = case
    values = per_query_figures(ranks_from_scores(blocks(scores), asked, held, ties=ties))
    for query, row in enumerate(scores):
        expected = naive(row.tolist(), (held == asked[query]).tolist())
        for name in METRICS:
            assert values[name][query] == pytest.approx(expected[name], abs=1e-9), name


@settings(max_examples=250, deadline=None)
@given(cases())
def test_pessimistic_figures_equal_sorting(case):
    check(case, "pessimistic", pessimistic_figures)


@settings(max_examples=120, deadline=None)
@given(cases(most_images=6))
def test_expected_figures_equal_the_mean_over_all_orders(case):
    check(case, "expected", expected_figures)


def test_expected_recall_counts_the_cut_through_a_tied_group():
    # One image ahead, then 2 relevant among 8 tied: R@5 leaves 4 of the 8 places.
    scores = np.float32([[9] + [5] * 8 + [1]])
    held = list("b" + "aa" + "b" * 7)
    values = per_query_figures(ranks_from_scores(blocks(scores), ["a"], held, ties="expected"))
    assert values["R@1"].item() == 0
    assert values["R@5"].item() == pytest.approx(100 * (1 - 15 / 70))  # C(6,4) / C(8,4)
    assert values["R@10"].item() == pytest.approx(100)


def test_both_rules_agree_without_ties():
    generator = np.random.default_rng(0)
    scores = generator.permutation(200 * 50).reshape(50, 200).astype("f4")
    asked, held = np.arange(50) % 20, np.arange(200) % 20
    low = per_query_figures(ranks_from_scores(blocks(scores), asked, held))
    mean = per_query_figures(ranks_from_scores(blocks(scores), asked, held, ties="expected"))
    for name in METRICS:
        assert mean[name] == pytest.approx(low[name])


def test_image_to_text_is_the_transpose():
    generator = torch.Generator().manual_seed(3)
    texts = torch.randn(30, 5, generator=generator)
    images = torch.randn(12, 5, generator=generator)
    asked, held = np.arange(30) % 6, np.arange(12) % 6
    direct = figures(relevant_ranks(images, texts, held, asked), held)
    matrix = (texts @ images.T).numpy().T
    values = [
        pessimistic_figures(row.tolist(), (asked == held[i]).tolist())
        for i, row in enumerate(matrix)
    ]
    for name in METRICS:
        assert direct.metrics[name] == pytest.approx(np.mean([v[name] for v in values]))
    assert (direct.queries, direct.gallery) == (12, 30)


def test_figures_know_what_was_skipped_and_chance():
    scores = np.float32([[0.9, 0.1, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4]])
    ranks = ranks_from_scores(blocks(scores), ["a", "gone"], list("aabb"), missing="skip")
    result = figures(ranks, ["a", "gone"])
    assert (result.queries, result.skipped, result.objects.tolist()) == (1, 1, ["a"])
    assert result.chance == 50.0
    assert result.metrics["R@1"] == 100.0
    assert result.metrics["mAP"] == pytest.approx(75.0)
    assert result.metrics["mINP"] == pytest.approx(50.0)
    with pytest.raises(DataError, match="1 query objects, but ranks of 2"):
        figures(ranks, ["a"])


def test_chance_is_the_mean_over_all_orders():
    for gallery in (1, 2, 5):
        for relevant in range(1, gallery + 1):
            hits = [True] * relevant + [False] * (gallery - relevant)
            every = [figures_of_order(order)["mAP"] for order in permutations(hits)]
            found = random_precision(np.array([relevant]), gallery)
            assert found == pytest.approx([np.mean(every)])


def test_means_are_plain_means():
    assert mean_figures({"mAP": np.array([10.0, 20.0, 60.0])}) == {"mAP": 30.0}
