import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmref.losses.cmpm import cmpc, cmpm
from mmref.losses.identity import identity
from mmref.losses.sdm import EPSILON, sdm

from .made import batches, check_slopes, unit_features
from .naive import naive_cmpc, naive_cmpm


def scaled(batch, seed):
    """The batch's features at random lengths, as the paper has them."""
    texts, images, objects = batch
    chance = torch.Generator().manual_seed(seed)
    lengths = [0.2 + 4 * torch.rand(len(texts), 1, generator=chance) for _ in range(2)]
    return texts * lengths[0], images * lengths[1], objects


class TestCmpm:
    @settings(deadline=None, max_examples=60, derandomize=True)
    @given(batches(), st.integers(0, 99), st.sampled_from([0.1, 1.0]))
    def test_equals_the_loop(self, batch, seed, temperature) -> None:
        texts, images, objects = scaled(batch, seed)
        value = cmpm(texts, images, objects, temperature)
        expected = naive_cmpm(
            texts.tolist(), images.tolist(), objects.tolist(), temperature, EPSILON
        )
        assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)

    @pytest.mark.parametrize("objects", [[0, 1, 2, 3], [0, 0, 1, 0]])
    def test_gradient_equals_finite_differences_of_the_loop(self, objects) -> None:
        chance = torch.Generator().manual_seed(4)
        features = [2.5 * unit_features(chance, 4, 3) for _ in range(2)]
        check_slopes(
            lambda t, v: cmpm(t, v, torch.tensor(objects), 1.5),
            lambda t, v: naive_cmpm(t, v, objects, 1.5, EPSILON),
            features,
        )

    @settings(deadline=None, max_examples=30, derandomize=True)
    @given(batches(), st.sampled_from([0.02, 0.5]))
    def test_with_unit_features_it_is_similarity_distribution_matching(self, batch, tau) -> None:
        value, other = cmpm(*batch, tau).item(), sdm(*batch, tau).item()
        assert value == pytest.approx(other, rel=1e-4, abs=1e-4)

    def test_lengths_of_anchors_count_and_those_of_candidates_do_not(self) -> None:
        chance = torch.Generator().manual_seed(0)
        texts, images = unit_features(chance, 4, 3), unit_features(chance, 4, 3)
        objects = torch.arange(4)
        longer = cmpm(texts, 9 * images, objects).item()
        alone = [
            naive_cmpm(texts.tolist(), (k * images).tolist(), range(4), 1, EPSILON) for k in (1, 9)
        ]
        assert longer == pytest.approx(alone[1], rel=1e-4)
        assert abs(alone[0] - alone[1]) > 0.1


class TestCmpc:
    @settings(deadline=None, max_examples=50, derandomize=True)
    @given(batches(), st.integers(0, 99), st.sampled_from([0.1, 1.0]))
    def test_equals_the_loop(self, batch, seed, temperature) -> None:
        texts, images, objects = scaled(batch, seed)
        chance = torch.Generator().manual_seed(seed)
        weights = torch.randn(50, 4, generator=chance, dtype=texts.dtype)
        value = cmpc(texts, images, weights, objects, temperature)
        expected = naive_cmpc(
            texts.tolist(), images.tolist(), weights.tolist(), objects.tolist(), temperature
        )
        assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)

    def test_gradient_equals_finite_differences_of_the_loop(self) -> None:
        """For features of both sides and for the weights."""
        chance = torch.Generator().manual_seed(4)
        objects = [0, 2, 2]
        tensors = [2 * unit_features(chance, count, 3) for count in (3, 3, 4)]
        check_slopes(
            lambda t, v, w: cmpc(t, v, w, torch.tensor(objects), 0.5),
            lambda t, v, w: naive_cmpc(t, v, w, objects, 0.5),
            tensors,
        )

    def test_partners_that_agree_make_it_twice_the_id_classifier(self) -> None:
        chance = torch.Generator().manual_seed(2)
        x, weights = unit_features(chance, 5, 4), unit_features(chance, 3, 4)
        objects = torch.tensor([0, 1, 2, 1, 0])
        value = cmpc(x, x, weights, objects, 0.2)
        assert value.item() == pytest.approx(
            2 * identity(x, weights, objects, 0.2).item(), rel=1e-5
        )

    def test_partners_at_right_angles_say_nothing(self) -> None:
        texts, images = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        value = cmpc(texts, images, torch.eye(2), torch.tensor([0]), 0.05)
        assert value.item() == pytest.approx(2 * math.log(2), rel=1e-6)

    def test_lengths_of_the_weights_do_not_count(self) -> None:
        x, objects = torch.eye(3), torch.arange(3)
        weights = torch.tensor([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0], [3.0, 0.0, 1.0]])
        one = cmpc(x, x.flip(1) + x, weights, objects, 0.3)
        two = cmpc(x, x.flip(1) + x, weights * torch.tensor([[2.0], [0.5], [9.0]]), objects, 0.3)
        assert one.item() == pytest.approx(two.item(), rel=1e-5)


def test_arguments_are_checked() -> None:
    x, objects = torch.eye(2), torch.arange(2)
    with pytest.raises(ValueError, match="temperature must be positive"):
        cmpm(x, x, objects, 0.0)
    with pytest.raises(ValueError, match="temperature must be positive"):
        cmpc(x, x, x, objects, -1.0)
