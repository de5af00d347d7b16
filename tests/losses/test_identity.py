import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mmref.losses.identity import identity

from .naive import cosines, naive_identity


class TestIdentity:
    @pytest.mark.parametrize("temperature", [0.1, 1.0])
    def test_hand_made_features_equal_the_loop(self, temperature: float) -> None:
        angles = torch.tensor([0.0, 0.3, 1.5, 3.0], dtype=torch.float64)
        features = torch.stack([angles.cos(), angles.sin()], dim=1)
        weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
        objects = [0, 0, 1, 2]
        similarity = cosines(features.tolist(), weights.tolist())
        value = identity(features, weights, torch.tensor(objects), temperature)
        expected = naive_identity(similarity, objects, temperature)
        assert value.item() == pytest.approx(expected, rel=1e-4)

    @settings(deadline=None, max_examples=50, derandomize=True)
    @given(
        st.integers(0, 2**31),
        st.integers(1, 8),
        st.integers(1, 6),
        st.sampled_from([torch.float32, torch.float64]),
    )
    def test_equals_the_loop(self, seed, count, objects, dtype) -> None:
        chance = torch.Generator().manual_seed(seed)
        features = F.normalize(torch.randn(count, 3, generator=chance, dtype=dtype), dim=1)
        weights = torch.randn(objects, 3, generator=chance, dtype=dtype)
        own = torch.randint(objects, (count,), generator=chance)
        unit = F.normalize(weights, dim=1)
        expected = naive_identity(
            cosines(features.tolist(), unit.tolist()), own.tolist(), temperature=0.2
        )
        value = identity(features, weights, own, 0.2)
        assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)

    def test_length_of_the_weights_does_not_matter(self) -> None:
        torch.manual_seed(0)
        features, weights = F.normalize(torch.randn(4, 3), dim=1), torch.randn(5, 3)
        objects = torch.tensor([0, 4, 2, 2])
        lengths = torch.tensor([[0.1], [1.0], [2.0], [7.0], [30.0]])
        long = identity(features, lengths * weights, objects, 0.1)
        assert long.item() == pytest.approx(identity(features, weights, objects, 0.1).item())

    @pytest.mark.parametrize("temperature", [1e-6, 1e6])
    def test_extreme_temperatures_stay_finite(self, temperature: float) -> None:
        torch.manual_seed(0)
        features = F.normalize(torch.randn(4, 3), dim=1).requires_grad_()
        weights = torch.randn(5, 3, requires_grad=True)
        value = identity(features, weights, torch.tensor([0, 1, 2, 3]), temperature)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(features.grad).all()
        assert torch.isfinite(weights.grad).all()

    def test_temperature_is_checked(self) -> None:
        with pytest.raises(ValueError, match="temperature must be positive"):
            identity(torch.eye(2), torch.eye(2), torch.tensor([0, 1]), 0.0)
