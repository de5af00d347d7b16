import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mmref.losses.contrastive import contrastive, same_object, symmetric_contrastive

from .naive import cosines, naive_contrastive

# Hand-made 2-d features: points of the unit circle, in degrees.
TEXTS, IMAGES, OBJECTS = (0, 20, 90, 200), (10, 350, 110, 180), (0, 0, 1, 2)


def circle(degrees, dtype=torch.float64):
    angles = torch.tensor(degrees, dtype=dtype).deg2rad()
    return torch.stack([angles.cos(), angles.sin()], dim=1)


@st.composite
def cases(draw):
    """Similarities, positives of every kind (none, some, all of a row), a dtype."""
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    chance = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    similarity = torch.rand(rows, columns, generator=chance, dtype=dtype) * 2 - 1
    share = draw(st.sampled_from([0.0, 0.3, 0.7, 1.0]))
    positives = torch.rand(rows, columns, generator=chance) < share
    return similarity, positives


class TestSameObject:
    def test_compares_every_pair(self) -> None:
        marks = same_object(torch.tensor([3, 5]), torch.tensor([5, 3, 3, 9]))
        assert marks.tolist() == [[False, True, True, False], [True, False, False, False]]


class TestContrastive:
    @pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
    def test_hand_made_features_equal_the_loop(self, temperature: float) -> None:
        texts, images, objects = circle(TEXTS), circle(IMAGES), torch.tensor(OBJECTS)
        positives = same_object(objects, objects)
        expected = naive_contrastive(
            cosines(texts.tolist(), images.tolist()), positives.tolist(), temperature
        )
        value = contrastive(texts @ images.T, positives, temperature)
        assert value.item() == pytest.approx(expected, rel=1e-5)

    def test_one_anchor_by_hand(self) -> None:
        # Two positives at 60 and 90 degrees, one negative at 180; tau 1/2.
        similarity = torch.tensor([[0.5, 0.0, -1.0]])
        value = contrastive(similarity, torch.tensor([[True, True, False]]), 0.5)
        by_hand = (math.log(1 + math.exp(-3)) + math.log(1 + math.exp(-2))) / 2
        assert value.item() == pytest.approx(by_hand, rel=1e-6)

    @settings(deadline=None, max_examples=80, derandomize=True)
    @given(cases(), st.sampled_from([0.1, 0.3, 1.0, 20.0]))
    def test_equals_the_loop(self, case, temperature) -> None:
        similarity, positives = case
        expected = naive_contrastive(similarity.tolist(), positives.tolist(), temperature)
        value = contrastive(similarity, positives, temperature)
        assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)

    @settings(deadline=None, max_examples=60, derandomize=True)
    @given(cases(), st.sampled_from([1e-6, 1e-3, 1e6]))
    def test_extreme_temperatures_stay_finite(self, case, temperature) -> None:
        similarity, positives = case
        similarity = similarity.clone().requires_grad_()
        value = contrastive(similarity, positives, temperature)
        value.backward()
        assert torch.isfinite(value)
        assert value >= 0
        assert similarity.grad is not None
        assert similarity.grad.dtype == similarity.dtype
        assert torch.isfinite(similarity.grad).all()

    @settings(deadline=None, max_examples=40, derandomize=True)
    @given(cases())
    def test_gradient_equals_finite_differences_of_the_loop(self, case) -> None:
        similarity, positives = case
        similarity = similarity.double().requires_grad_()
        contrastive(similarity, positives, 0.5).backward()
        step = 1e-5
        for i in range(similarity.shape[0]):
            for j in range(similarity.shape[1]):
                moved = []
                for sign in (1, -1):
                    changed = similarity.detach().clone()
                    changed[i, j] += sign * step
                    moved.append(naive_contrastive(changed.tolist(), positives.tolist(), 0.5))
                slope = (moved[0] - moved[1]) / (2 * step)
                assert similarity.grad[i, j].item() == pytest.approx(slope, abs=2e-5)

    @pytest.mark.parametrize("positive", [True, False])
    def test_anchors_without_a_negative_or_positive_add_nothing(self, positive: bool) -> None:
        similarity = torch.tensor([[0.9, 0.1], [0.2, -0.3]], requires_grad=True)
        positives = torch.tensor([[positive, positive], [True, False]])
        value = contrastive(similarity, positives, 0.1)
        alone = contrastive(similarity[1:], positives[1:], 0.1)
        value.backward()
        assert value.item() == pytest.approx(alone.item())
        assert alone.item() > 0
        assert similarity.grad[0].abs().sum() == 0
        assert similarity.grad[1].abs().sum() > 0

    def test_positives_do_not_compete(self) -> None:
        """A second positive that is much nearer leaves the first one's loss as it is."""
        marks = torch.tensor([[True, True, False]])
        near = contrastive(torch.tensor([[0.1, 0.1, 0.0]]), marks, 0.05)
        first = contrastive(torch.tensor([[0.1, 0.0]]), marks[:, 1:], 0.05)
        nearer = contrastive(torch.tensor([[0.1, 1.0, 0.0]]), marks, 0.05)
        assert near.item() == pytest.approx(first.item(), rel=1e-5)
        assert nearer.item() == pytest.approx(first.item() / 2, rel=1e-4)

    def test_it_is_a_sum_over_anchors(self) -> None:
        similarity, marks = torch.tensor([[0.4, 0.1]]), torch.tensor([[True, False]])
        once = contrastive(similarity, marks, 0.1)
        thrice = contrastive(similarity.repeat(3, 1), marks.repeat(3, 1), 0.1)
        assert thrice.item() == pytest.approx(3 * once.item(), rel=1e-6)

    def test_temperature_may_be_learnt(self) -> None:
        temperature = torch.tensor(0.2, requires_grad=True)
        similarity, marks = torch.tensor([[0.1, 0.4]]), torch.tensor([[True, False]])
        contrastive(similarity, marks, temperature).backward()
        # d/dtau log(1 + exp(0.3 / tau)) = -sigmoid(1.5) * 0.3 / tau^2
        assert temperature.grad.item() == pytest.approx(-7.5 / (1 + math.exp(-1.5)), rel=1e-4)

    def test_half_precision_is_computed_in_single(self) -> None:
        similarity = torch.tensor([[0.5, 0.25, -0.75]], dtype=torch.bfloat16)
        marks = torch.tensor([[True, False, False]])
        value = contrastive(similarity, marks, 0.02)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(
            contrastive(similarity.double(), marks, 0.02).item(), rel=1e-6
        )

    def test_arguments_are_checked(self) -> None:
        with pytest.raises(ValueError, match="must have one shape"):
            contrastive(torch.zeros(2, 3), torch.zeros(3, 2, dtype=torch.bool), 1.0)
        for temperature in (0.0, -0.1):
            with pytest.raises(ValueError, match="temperature must be positive"):
                contrastive(torch.zeros(1, 1), torch.ones(1, 1, dtype=torch.bool), temperature)


class TestSymmetricContrastive:
    @pytest.mark.parametrize("temperature", [0.1, 1.0])
    def test_hand_made_features_equal_the_loop(self, temperature: float) -> None:
        texts, images, objects = circle(TEXTS), circle(IMAGES), torch.tensor(OBJECTS)
        similarity = cosines(texts.tolist(), images.tolist())
        marks = same_object(objects, objects).tolist()
        columns = [list(c) for c in zip(*similarity, strict=True)]
        expected = naive_contrastive(similarity, marks, temperature) + naive_contrastive(
            columns, marks, temperature
        )
        value = symmetric_contrastive(texts, images, objects, temperature)
        assert value.item() == pytest.approx(expected / 8, rel=1e-5)

    def test_texts_and_images_may_change_places(self) -> None:
        texts, images, objects = circle(TEXTS), circle(IMAGES), torch.tensor(OBJECTS)
        forth = symmetric_contrastive(texts, images, objects, 0.1)
        back = symmetric_contrastive(images, texts, objects, 0.1)
        assert forth.item() == pytest.approx(back.item(), rel=1e-6)

    def test_positives_are_decided_by_object(self) -> None:
        """A pair of one object at other indices is no negative."""
        torch.manual_seed(0)
        texts, images = F.normalize(torch.randn(2, 4, 5), dim=-1)
        apart = symmetric_contrastive(texts, images, torch.tensor([0, 1, 2, 3]), 0.1)
        one = symmetric_contrastive(texts, images, torch.tensor([7, 7, 7, 7]), 0.1)
        assert one.item() == 0
        assert apart.item() > 0.1

    def test_order_of_the_pairs_does_not_matter(self) -> None:
        texts, images, objects = circle(TEXTS), circle(IMAGES), torch.tensor(OBJECTS)
        order = torch.tensor([2, 0, 3, 1])
        shuffled = symmetric_contrastive(texts[order], images[order], objects[order], 0.1)
        value = symmetric_contrastive(texts, images, objects, 0.1)
        assert shuffled.item() == pytest.approx(value.item(), rel=1e-6)
