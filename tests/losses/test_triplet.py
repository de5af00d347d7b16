import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmref.losses.triplet import triplet

from .made import batches, check_slopes, unit_features
from .naive import cosines, naive_triplet


@settings(deadline=None, max_examples=60, derandomize=True)
@given(batches(), st.sampled_from([0.0, 0.2, 1.0]))
def test_equals_the_loop(batch, margin) -> None:
    texts, images, objects = batch
    similarity = cosines(texts.tolist(), images.tolist())
    expected = naive_triplet(similarity, objects.tolist(), margin)
    value = triplet(texts, images, objects, margin)
    assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("objects", [[0, 1, 2, 3], [0, 0, 1, 0], [2, 2, 5, 5]])
def test_gradient_equals_finite_differences_of_the_loop(objects) -> None:
    chance = torch.Generator().manual_seed(4)
    features = [unit_features(chance, 4, 3) for _ in range(2)]
    check_slopes(
        lambda t, v: triplet(t, v, torch.tensor(objects), 0.3),
        lambda t, v: naive_triplet(cosines(t, v), objects, 0.3),
        features,
    )


def test_by_hand() -> None:
    similarity = torch.tensor([[0.9, 0.8, 0.1], [0.3, 0.5, 0.4], [0.0, 0.2, 0.7]])
    value = triplet(similarity, torch.eye(3), torch.arange(3), 0.2)
    rows = (0.2 - 0.9 + 0.8) + (0.2 - 0.5 + 0.4) + 0
    columns = 0 + (0.2 - 0.5 + 0.8) + 0
    assert value.item() == pytest.approx((rows + columns) / 3, rel=1e-5)


def test_the_hardest_negative_shows_another_object() -> None:
    similarity = torch.tensor([[0.5, 0.9, 0.1], [0.9, 0.5, 0.1], [0.1, 0.1, 0.5]])
    apart = triplet(similarity, torch.eye(3), torch.tensor([0, 1, 2]), 0.2)
    shared = triplet(similarity, torch.eye(3), torch.tensor([0, 0, 2]), 0.2)
    assert apart.item() == pytest.approx(4 * 0.6 / 3, rel=1e-5)
    assert shared.item() == 0


def test_only_the_hardest_negative_learns() -> None:
    similarity = torch.tensor([[0.5, 0.6, 0.55], [0.0, 0.9, 0.0], [0.0, 0.0, 0.9]])
    texts = similarity.clone().requires_grad_()
    triplet(texts, torch.eye(3), torch.arange(3), 0.1).backward()
    # Row 0 has its own at 0.5 and the hardest at 0.6; no column violates the margin.
    assert torch.allclose(texts.grad, torch.tensor([[-1.0, 1, 0], [0, 0, 0], [0, 0, 0]]) / 3)


def test_a_batch_of_one_object_costs_and_teaches_nothing() -> None:
    texts = torch.eye(3).requires_grad_()
    value = triplet(texts, torch.eye(3).flip(0), torch.zeros(3), 0.2)
    value.backward()
    assert value.item() == 0
    assert texts.grad.abs().sum() == 0


def test_the_margin_is_checked() -> None:
    with pytest.raises(ValueError, match="margin must not be negative"):
        triplet(torch.eye(2), torch.eye(2), torch.arange(2), -0.1)
