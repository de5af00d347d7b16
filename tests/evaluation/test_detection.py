import numpy as np
import pytest

from mmref.evaluation.detection import detection


def test_by_hand():
    found = detection(np.array([5.0, 4.0, 3.0, 2.0, 1.0]), [False, True, True, False, False])
    assert found["share"] == pytest.approx(0.4)
    assert found["r_precision"] == pytest.approx(0.5)
    assert found["lift"] == pytest.approx(1.25)
    assert found["average_precision"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert found["recall_at_10_percent"] == 0.0


def test_a_perfect_and_a_useless_ranking():
    wrong = np.arange(40) < 4
    assert detection(-np.arange(40.0), wrong)["r_precision"] == 1.0
    assert detection(-np.arange(40.0), wrong)["recall_at_10_percent"] == 1.0
    assert detection(np.arange(40.0), wrong)["r_precision"] == 0.0


def test_ties_count_against_the_ranking():
    assert detection(np.zeros(4), [True, False, False, False])["average_precision"] == 0.25


def test_nothing_wrong_is_no_error():
    assert set(detection(np.ones(3), [False] * 3).values()) == {0.0}


@pytest.mark.parametrize("wrong", [[], [True]])
def test_lengths_must_fit(wrong):
    with pytest.raises(ValueError, match="scores"):
        detection(np.ones(3 * len(wrong)), wrong)
