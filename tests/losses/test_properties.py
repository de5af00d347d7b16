"""What holds for every loss of a batch, on random batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmref.losses.cmpm import cmpc, cmpm
from mmref.losses.contrastive import symmetric_contrastive
from mmref.losses.pairwise import pairwise
from mmref.losses.sdm import EPSILON, sdm
from mmref.losses.tal import tal
from mmref.losses.triplet import triplet

from .made import batches

TAU = 0.1
WEIGHTS = torch.randn(50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LOSSES = {
    "contrastive": lambda t, v, o: symmetric_contrastive(t, v, o, TAU),
    "pairwise": lambda t, v, _: pairwise(t, v, TAU),
    "sdm": lambda t, v, o: sdm(t, v, o, TAU),
    "tal": lambda t, v, o: tal(t, v, o, 0.1, TAU),
    "cmpm": lambda t, v, o: cmpm(t, v, o, TAU),
    "triplet": lambda t, v, o: triplet(t, v, o, 0.2),
}
BY_CLASS = {"cmpc": lambda t, v, o: cmpc(t, v, WEIGHTS.to(t), o, TAU)}
by_name = pytest.mark.parametrize("name", list(LOSSES))
several = settings(deadline=None, max_examples=30, derandomize=True)


@pytest.mark.parametrize("name", [*LOSSES, *BY_CLASS])
@several
@given(batches(), st.randoms(use_true_random=False))
def test_the_order_of_the_batch_does_not_matter(name, batch, random) -> None:
    loss = {**LOSSES, **BY_CLASS}[name]
    order = list(range(len(batch[0])))
    random.shuffle(order)
    shuffled = loss(*(part[order] for part in batch))
    assert shuffled.item() == pytest.approx(loss(*batch).item(), rel=1e-4, abs=1e-5)


@by_name
@several
@given(batches(), st.permutations(range(50)))
def test_names_of_objects_do_not_matter(name, batch, names) -> None:
    texts, images, objects = batch
    renamed = torch.tensor(names)[objects] - 1000
    value, other = (LOSSES[name](texts, images, o) for o in (objects, renamed))
    assert value.item() == other.item()


@several
@given(batches(), st.permutations(range(50)))
def test_classes_move_with_their_weights(batch, names) -> None:
    texts, images, objects = batch
    moved = torch.empty_like(WEIGHTS)
    moved[torch.tensor(names)] = WEIGHTS
    value = cmpc(texts, images, WEIGHTS.to(texts), objects, TAU).item()
    other = cmpc(texts, images, moved.to(texts), torch.tensor(names)[objects], TAU).item()
    assert other == pytest.approx(value, rel=1e-4)


@pytest.mark.parametrize("name", [*LOSSES, *BY_CLASS])
@several
@given(batches())
def test_texts_and_images_may_change_places(name, batch) -> None:
    texts, images, objects = batch
    loss = {**LOSSES, **BY_CLASS}[name]
    value, other = loss(texts, images, objects), loss(images, texts, objects)
    assert other.item() == pytest.approx(value.item(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", [*LOSSES, *BY_CLASS])
@several
@given(batches())
def test_never_negative_and_always_finite(name, batch) -> None:
    texts, images, objects = batch
    texts = texts.clone().requires_grad_()
    value = {**LOSSES, **BY_CLASS}[name](texts, images, objects)
    value.backward()
    # The matching divergence may fall below zero by its epsilon, no further.
    below = 2 * (1 + len(texts)) * EPSILON + 1e-6 if name in ("sdm", "cmpm") else 0.0
    assert value.item() >= -below
    assert torch.isfinite(value)
    assert torch.isfinite(texts.grad).all()


@by_name
def test_a_caption_without_known_words_is_a_zero_vector_and_keeps_slopes_finite(name) -> None:
    texts = torch.eye(3)
    texts[1] = 0
    texts.requires_grad_()
    value = LOSSES[name](texts, torch.eye(3), torch.tensor([0, 1, 1]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(texts.grad).all()


@by_name
def test_half_precision_is_computed_in_single(name) -> None:
    chance = torch.Generator().manual_seed(3)
    texts, images = torch.randn(2, 4, 6, generator=chance).bfloat16()
    value = LOSSES[name](texts, images, torch.tensor([0, 1, 1, 2]))
    assert value.dtype == torch.float32


@by_name
def test_training_by_it_alone_finds_the_pairs(name) -> None:
    """Two free matrices with room enough: every text ends nearest to an image of its object."""
    torch.manual_seed(0)
    texts, images = (torch.randn(6, 16).requires_grad_() for _ in range(2))
    objects = torch.tensor([0, 1, 2, 3, 3, 0])
    optimizer = torch.optim.Adam([texts, images], 0.05)
    unit = torch.nn.functional.normalize
    before = None
    for _ in range(150):
        value = LOSSES[name](unit(texts, dim=1), unit(images, dim=1), objects)
        before = value.item() if before is None else before
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert value.item() < 0.5 * before
    nearest = (unit(texts, dim=1) @ unit(images, dim=1).T).argmax(dim=1)
    assert objects[nearest].tolist() == objects.tolist()
