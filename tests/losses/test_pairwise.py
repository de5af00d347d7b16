import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmref.losses.contrastive import symmetric_contrastive
from mmref.losses.pairwise import pairwise

from .made import batches, check_slopes, unit_features
from .naive import cosines, naive_pairwise


@settings(deadline=None, max_examples=60, derandomize=True)
@given(batches(), st.sampled_from([0.05, 0.3, 2.0]))
def test_equals_the_loop(batch, temperature) -> None:
    texts, images, _ = batch
    expected = naive_pairwise(cosines(texts.tolist(), images.tolist()), temperature)
    assert pairwise(texts, images, temperature).item() == pytest.approx(
        expected, rel=1e-4, abs=1e-5
    )


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_gradient_equals_finite_differences_of_the_loop(temperature) -> None:
    chance = torch.Generator().manual_seed(4)
    features = [unit_features(chance, 5, 3) for _ in range(2)]
    check_slopes(
        lambda t, v: pairwise(t, v, temperature),
        lambda t, v: naive_pairwise(cosines(t, v), temperature),
        features,
    )


def test_one_pair_by_hand() -> None:
    texts = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    images = torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    # Cosines [[0.6, 0], [0.8, 1]] at tau 1: log(1 + exp(d)) of each anchor, d = other - own.
    rows = math.log(1 + math.exp(-0.6)) + math.log(1 + math.exp(-0.2))
    columns = math.log(1 + math.exp(0.2)) + math.log(1 + math.exp(-1))
    assert pairwise(texts, images, 1.0).item() == pytest.approx((rows + columns) / 4, rel=1e-6)


def test_other_pairs_of_the_object_are_negatives() -> None:
    """That alone tells it from the base objective; without shared objects they are one."""
    chance = torch.Generator().manual_seed(1)
    texts, images = unit_features(chance, 4, 5), unit_features(chance, 4, 5)
    value = pairwise(texts, images, 0.1).item()
    apart = symmetric_contrastive(texts, images, torch.arange(4), 0.1).item()
    shared = symmetric_contrastive(texts, images, torch.tensor([0, 0, 1, 1]), 0.1).item()
    assert value == pytest.approx(apart, rel=1e-5)
    assert value > shared + 0.1


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        pairwise(torch.eye(2), torch.eye(2), 0.0)
