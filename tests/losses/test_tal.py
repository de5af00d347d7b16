import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmref.losses.tal import tal
from mmref.losses.triplet import triplet

from .made import batches, check_slopes, unit_features
from .naive import cosines, naive_tal


@settings(deadline=None, max_examples=60, derandomize=True)
@given(batches(), st.sampled_from([0.015, 0.1, 1.0]), st.sampled_from([0.0, 0.1, 0.5]))
def test_equals_the_loop(batch, temperature, margin) -> None:
    texts, images, objects = batch
    similarity = cosines(texts.tolist(), images.tolist())
    expected = naive_tal(similarity, objects.tolist(), margin, temperature)
    value = tal(texts, images, objects, margin, temperature)
    assert value.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("objects", [[0, 1, 2, 3], [0, 0, 1, 0], [2, 2, 5, 5]])
@pytest.mark.parametrize(("margin", "temperature"), [(0.1, 0.1), (0.6, 0.5)])
def test_gradient_equals_finite_differences_of_the_loop(objects, margin, temperature) -> None:
    """With the weights of the positives held fast: no gradient flows through them."""
    chance = torch.Generator().manual_seed(4)
    features = [unit_features(chance, 4, 3) for _ in range(2)]
    fixed = cosines(*(side.tolist() for side in features))
    check_slopes(
        lambda t, v: tal(t, v, torch.tensor(objects), margin, temperature),
        lambda t, v: naive_tal(cosines(t, v), objects, margin, temperature, fixed),
        features,
    )


def test_one_anchor_by_hand() -> None:
    """A text with two positives and a negative; the images' hinges are far below zero."""
    texts = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, -1.0]])
    images = torch.tensor([[0.6, 0.8], [1.0, 0.0], [0.0, -1.0]])
    value = tal(texts, images, torch.tensor([0, 0, 1]), 1.0, 0.5)
    first = math.exp(0.6 / 0.5) / (math.exp(0.6 / 0.5) + math.exp(1 / 0.5))
    near = first * 0.6 + (1 - first) * 1.0
    texts_0_and_1 = 2 * (1.0 - near + 0.0)
    text_2 = max(0.0, 1.0 - 1.0 + 0.5 * math.log(math.exp(-0.8 / 0.5) + math.exp(0)))
    image_0 = max(0.0, 1.0 - 0.6 - 0.8)
    image_1 = max(0.0, 1.0 - 1.0 + 0.0)
    image_2 = max(0.0, 1.0 - 1.0 + 0.5 * math.log(2))
    total = texts_0_and_1 + text_2 + image_0 + image_1 + image_2
    assert value.item() == pytest.approx(total / 3, rel=1e-5)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(batches())
def test_without_shared_objects_it_bounds_the_triplet_and_tends_to_it(batch) -> None:
    texts, images, _ = batch
    objects = torch.arange(len(texts))
    hard = triplet(texts, images, objects, 0.2).item()
    assert tal(texts, images, objects, 0.2, 0.1).item() >= hard - 1e-6
    assert tal(texts, images, objects, 0.2, 1e-4).item() == pytest.approx(hard, abs=1e-3)


def test_all_negatives_learn() -> None:
    similarity = torch.tensor([[0.5, 0.4], [0.4, 0.2], [0.2, 0.1]])
    images = torch.eye(3).requires_grad_()
    texts = torch.cat([similarity[:, :1], similarity[:, 1:], 0 * similarity[:, :1]], dim=1)
    tal(texts, images, torch.arange(3), 0.5, 0.3).backward()
    assert (images.grad.abs().sum(dim=1) > 1e-3).all()


def test_a_batch_of_one_object_costs_and_teaches_nothing() -> None:
    texts = torch.eye(3).requires_grad_()
    value = tal(texts, torch.eye(3).flip(0), torch.zeros(3), 0.1, 0.015)
    value.backward()
    assert value.item() == 0
    assert texts.grad.abs().sum() == 0


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        tal(torch.eye(2), torch.eye(2), torch.arange(2), 0.1, 0.0)
    with pytest.raises(ValueError, match="margin must not be negative"):
        tal(torch.eye(2), torch.eye(2), torch.arange(2), -0.1, 0.1)
