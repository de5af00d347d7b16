import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmref.losses.sdm import EPSILON, matching_divergence, sdm

from .made import batches, check_slopes, unit_features
from .naive import cosines, naive_sdm


class TestMatchingDivergence:
    def test_by_hand(self) -> None:
        # p = (1/2, 1/4, 1/4), q = (1/2, 1/2, 0)
        logits = torch.tensor([[math.log(2.0), 0.0, 0.0]])
        value = matching_divergence(logits, torch.tensor([[True, True, False]]), 1e-4)
        expected = (
            0.5 * math.log(0.5 / 0.5001)
            + 0.25 * math.log(0.25 / 0.5001)
            + 0.25 * math.log(0.25 / 1e-4)
        )
        assert value.item() == pytest.approx(expected, rel=1e-5)

    def test_zero_where_the_distributions_agree(self) -> None:
        marks = torch.tensor([[True, True, False], [False, False, True]])
        logits = torch.where(marks, 0.0, -1e4).requires_grad_()
        value = matching_divergence(logits, marks)
        value.backward()
        assert value.item() == pytest.approx(0, abs=1e-6)
        assert torch.isfinite(logits.grad).all()

    def test_epsilon_must_be_positive(self) -> None:
        with pytest.raises(ValueError, match="epsilon must be positive"):
            matching_divergence(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), 0.0)


class TestSdm:
    @settings(deadline=None, max_examples=60, derandomize=True)
    @given(batches(), st.sampled_from([0.02, 0.1, 1.0]), st.sampled_from([EPSILON, 1e-3]))
    def test_equals_the_loop(self, batch, temperature, epsilon) -> None:
        texts, images, objects = batch
        similarity = cosines(texts.tolist(), images.tolist())
        expected = naive_sdm(similarity, objects.tolist(), temperature, epsilon)
        value = sdm(texts, images, objects, temperature, epsilon)
        assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)

    @pytest.mark.parametrize("temperature", [0.2, 1.0])
    @pytest.mark.parametrize("objects", [[0, 1, 2, 3], [0, 0, 1, 0]])
    def test_gradient_equals_finite_differences_of_the_loop(self, temperature, objects) -> None:
        chance = torch.Generator().manual_seed(4)
        features = [unit_features(chance, 4, 3) for _ in range(2)]
        check_slopes(
            lambda t, v: sdm(t, v, torch.tensor(objects), temperature),
            lambda t, v: naive_sdm(cosines(t, v), objects, temperature, EPSILON),
            features,
        )

    def test_it_wants_probability_spread_evenly_over_the_object(self) -> None:
        """Unlike the base objective, one positive much nearer than another costs."""
        texts = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        even = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        uneven = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        objects = torch.tensor([3, 3])
        assert sdm(texts, even, objects, 0.1).item() == pytest.approx(0, abs=1e-5)
        # Each text is sure of the first image: KL = log 2; each image is evenly spread.
        assert sdm(texts, uneven, objects, 0.1).item() == pytest.approx(math.log(2), abs=1e-3)

    def test_both_directions_are_summed(self) -> None:
        texts = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        objects, epsilon = torch.tensor([0, 1]), 1e-3
        # Text to image: one anchor right, one surely wrong. Image to text: both undecided.
        rows = math.log(1 / epsilon) / 2
        columns = 0.5 * math.log(0.5 / (1 + epsilon)) + 0.5 * math.log(0.5 / epsilon)
        value = sdm(texts, images, objects, 0.02, epsilon)
        assert value.item() == pytest.approx(rows + columns, rel=1e-3)

    def test_arguments_are_checked(self) -> None:
        with pytest.raises(ValueError, match="temperature must be positive"):
            sdm(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), -1.0)
