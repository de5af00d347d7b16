import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mmref.losses.contrastive import contrastive, same_object
from mmref.losses.identity import identity
from mmref.references.bank import ReferenceBank, fusion, guidance, object_means


def naive_anchored(features, references, objects, temperature):
    """(1/2n) sum over the 2n features of -log softmax over the references at their own."""
    total = 0.0
    for x, own in zip(features.tolist(), objects.tolist(), strict=True):
        tops = [
            math.exp(sum(a * b for a, b in zip(x, r, strict=True)) / temperature)
            for r in references.tolist()
        ]
        total -= math.log(tops[own] / sum(tops))
    return total / len(features)


@st.composite
def cases(draw):
    """Features of several objects (some objects absent), references, in two precisions."""
    count, objects = draw(st.integers(1, 9)), draw(st.integers(1, 6))
    chance = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    features = torch.randn(count, 4, generator=chance, dtype=dtype)
    references = torch.randn(objects, 4, generator=chance, dtype=dtype)
    own = torch.randint(objects, (count,), generator=chance)
    return F.normalize(features, dim=1), F.normalize(references, dim=1), own


class TestReferenceBank:
    def test_references_are_normalised_where_they_are_used(self) -> None:
        bank = ReferenceBank(5, 3)
        with torch.no_grad():
            bank.weight.mul_(7)
        assert torch.allclose(bank().norm(dim=1), torch.ones(5))
        assert torch.allclose(bank() * 7, bank.weight)

    def test_they_are_parameters(self) -> None:
        assert [name for name, p in ReferenceBank(2, 3).named_parameters() if p.requires_grad] == [
            "weight"
        ]

    def test_a_bank_needs_an_object(self) -> None:
        with pytest.raises(ValueError, match="at least one object"):
            ReferenceBank(0, 3)

    def test_starts_from_the_means_of_present_objects(self) -> None:
        torch.manual_seed(0)
        bank = ReferenceBank(4, 2)
        before = bank.weight.detach().clone()
        features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, -1.0]])
        bank.start_from(features, torch.tensor([2, 2, 0, 3]))
        half = 0.5**0.5
        assert torch.allclose(bank.weight[2], torch.tensor([half, half]))
        assert bank.weight[0].tolist() == [0.0, 1.0]
        assert bank.weight[3].tolist() == [0.0, -1.0]
        assert torch.equal(bank.weight[1], before[1])
        assert not torch.equal(bank.weight[0], before[0])
        assert bank.weight.requires_grad


class TestObjectMeans:
    @settings(deadline=None, max_examples=30, derandomize=True)
    @given(cases())
    def test_equals_the_loop(self, case) -> None:
        features, references, own = case
        means = object_means(features, own, len(references))
        for number in range(len(references)):
            mine = features[own == number]
            expected = torch.zeros(4, dtype=features.dtype)
            if len(mine):
                expected = sum(mine) / sum(mine).norm()
            assert torch.allclose(means[number], expected, atol=1e-5)


class TestFusionAndGuidance:
    @settings(deadline=None, max_examples=50, derandomize=True)
    @given(cases(), st.sampled_from([0.1, 1.0]))
    def test_both_equal_the_loop(self, case, temperature) -> None:
        features, references, own = case
        expected = pytest.approx(
            naive_anchored(features, references, own, temperature), rel=1e-4, abs=1e-6
        )
        assert fusion(references, features, own, temperature).item() == expected
        assert guidance(references, features, own, temperature).item() == expected
        positives = same_object(own, torch.arange(len(references)))
        formula = contrastive(features @ references.T, positives, temperature) / len(features)
        assert fusion(references, features, own, temperature).item() == pytest.approx(
            formula.item(), rel=1e-5, abs=1e-6
        )

    def test_fusion_reaches_the_references_alone(self) -> None:
        torch.manual_seed(0)
        features, weight = torch.randn(6, 4, requires_grad=True), torch.randn(3, 4)
        weight.requires_grad_()
        own = torch.tensor([0, 1, 2, 0, 1, 2])
        fusion(F.normalize(weight, dim=1), F.normalize(features, dim=1), own, 0.1).backward()
        assert features.grad is None
        assert weight.grad.abs().sum() > 1e-3

    def test_guidance_reaches_the_features_alone(self) -> None:
        torch.manual_seed(0)
        features, weight = torch.randn(6, 4, requires_grad=True), torch.randn(3, 4)
        weight.requires_grad_()
        own = torch.tensor([0, 1, 2, 0, 1, 2])
        guidance(F.normalize(weight, dim=1), F.normalize(features, dim=1), own, 0.1).backward()
        assert weight.grad is None
        assert features.grad.abs().sum() > 1e-3

    @settings(deadline=None, max_examples=50, derandomize=True)
    @given(cases(), st.sampled_from([0.05, 0.1, 1.0]))
    def test_together_they_are_one_proxy_loss(self, case, temperature) -> None:
        """grad(fusion) + grad(guidance) = grad of the ID classifier, for features and R."""
        features, references, own = case
        pairs = []
        for losses in (
            lambda r, x: fusion(r, x, own, temperature) + guidance(r, x, own, temperature),
            lambda r, x: identity(x, r, own, temperature),
        ):
            weight = (2 * references).requires_grad_()
            inputs = (3 * features).requires_grad_()
            losses(F.normalize(weight, dim=1), F.normalize(inputs, dim=1)).backward()
            pairs.append((weight.grad, inputs.grad))
        (weight_a, inputs_a), (weight_b, inputs_b) = pairs
        scale = 1 / temperature
        assert torch.allclose(weight_a, weight_b, atol=1e-5 * scale)
        assert torch.allclose(inputs_a, inputs_b, atol=1e-5 * scale)
        if len(references) > 1 and temperature == 1.0:
            assert weight_b.abs().sum() > 1e-4
            assert inputs_b.abs().sum() > 1e-4

    @pytest.mark.parametrize("temperature", [1e-6, 1e6])
    def test_extreme_temperatures_stay_finite(self, temperature: float) -> None:
        torch.manual_seed(0)
        features = F.normalize(torch.randn(6, 4), dim=1).requires_grad_()
        weight = F.normalize(torch.randn(3, 4), dim=1).requires_grad_()
        own = torch.tensor([0, 1, 2, 0, 1, 2])
        fused, guided = (f(weight, features, own, temperature) for f in (fusion, guidance))
        (fused + guided).backward()
        assert torch.isfinite(fused + guided)
        assert torch.isfinite(weight.grad).all()
        assert torch.isfinite(features.grad).all()
