from itertools import pairwise

import pytest

from mmref.training.schedule import learning_rate_factor, ramp


def test_the_rate_grows_then_falls_to_nearly_nothing():
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == 1.0
    assert all(a < b for a, b in pairwise(factors[:10]))
    assert all(a >= b for a, b in pairwise(factors[10:]))
    assert 0 < factors[-1] < 0.001
    assert factors[55] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("total", "warmup"), [(1, 0.0), (1, 1.0), (2, 0.05), (7, 1.0), (0, 0.5)])
def test_short_trainings_have_a_rate_too(total, warmup):
    for step in range(total + 3):
        assert 0 <= learning_rate_factor(step, total, warmup) <= 1
    assert learning_rate_factor(0, total, warmup) > 0


def test_the_guidance_comes_in_slowly():
    assert [ramp(step, 4) for step in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert ramp(0, 0) == 1.0
