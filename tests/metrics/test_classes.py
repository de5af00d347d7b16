import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmref.metrics.classes import precision_at, precision_ceiling
from mmref.metrics.ranks import ranks_from_scores

from .naive import every_order, precision_of_order
from .test_ranks import blocks, cases


@settings(max_examples=200, deadline=None)
@given(cases(), st.integers(1, 60))
def test_pessimistic_precision_equals_sorting(case, depth):
    scores, asked, held = case
    found = precision_at(ranks_from_scores(blocks(scores), asked, held), depth)
    for query, row in enumerate(scores):
        relevant = (held == asked[query]).tolist()
        order = sorted(range(len(row)), key=lambda i: (-row[i], relevant[i]))
        expected = precision_of_order([relevant[i] for i in order], depth)
        assert found[query] == pytest.approx(expected)


@settings(max_examples=100, deadline=None)
@given(cases(most_images=6), st.integers(1, 7))
def test_expected_precision_equals_the_mean_over_all_orders(case, depth):
    scores, asked, held = case
    found = precision_at(ranks_from_scores(blocks(scores), asked, held, ties="expected"), depth)
    for query, row in enumerate(scores):
        relevant = (held == asked[query]).tolist()
        orders = list(every_order(row.tolist()))
        expected = np.mean([precision_of_order([relevant[i] for i in o], depth) for o in orders])
        assert found[query] == pytest.approx(expected)


def test_a_small_class_cannot_reach_all_of_it():
    held = ["a"] * 60 + ["b"] * 10
    scores = np.float32([[1] * 60 + [0] * 10, [0] * 60 + [1] * 10])
    ranks = ranks_from_scores(blocks(scores), ["a", "b"], held)
    assert precision_at(ranks).tolist() == [100.0, 20.0]
    assert precision_ceiling(ranks) == 60.0


def test_a_query_that_was_skipped_has_no_precision():
    scores = np.float32([[1, 0], [1, 0]])
    ranks = ranks_from_scores(blocks(scores), ["gone", "a"], ["a", "b"], missing="skip")
    assert precision_at(ranks, 1).tolist() == [100.0]
    assert precision_ceiling(ranks, 1) == 100.0


def test_depth_is_at_least_one():
    ranks = ranks_from_scores(blocks(np.float32([[1]])), ["a"], ["a"])
    with pytest.raises(ValueError, match="at least 1"):
        precision_at(ranks, 0)
