import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from mmref.references.bank import ReferenceBank, object_means
from mmref.references.prototypes import PrototypeBank


def followed(bank, features, objects):
    bank.follow(features, objects)
    return bank()


def naive_follow(references, features, objects, momentum):
    """Object by object, straight from the definition."""
    moved = [row.clone() for row in references]
    for k in range(len(references)):
        own = [x for x, o in zip(features, objects.tolist(), strict=True) if o == k]
        if own:
            mean = F.normalize(torch.stack(own).mean(dim=0), dim=0)
            moved[k] = F.normalize(momentum * references[k] + (1 - momentum) * mean, dim=0)
    return torch.stack(moved)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(st.integers(0, 2**31), st.integers(1, 12), st.sampled_from([0.0, 0.5, 0.9]))
def test_following_equals_the_loop(seed, count, momentum) -> None:
    chance = torch.Generator().manual_seed(seed)
    bank = PrototypeBank(5, 3, momentum)
    before = bank().clone()
    features = F.normalize(torch.randn(count, 3, generator=chance), dim=1)
    objects = torch.randint(5, (count,), generator=chance)
    expected = naive_follow(before, features, objects, momentum)
    assert torch.allclose(followed(bank, features, objects), expected, atol=1e-5)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.permutations(range(6)))
def test_the_order_of_a_batch_does_not_matter(order) -> None:
    torch.manual_seed(0)
    features, objects = torch.randn(6, 4), torch.tensor([0, 1, 0, 2, 2, 2])
    one, two = PrototypeBank(4, 4, 0.5), PrototypeBank(4, 4, 0.5)
    two.load_state_dict(one.state_dict())
    moved = followed(two, features[list(order)], objects[list(order)])
    assert torch.allclose(followed(one, features, objects), moved, atol=1e-6)


def test_objects_outside_the_batch_stay_and_all_keep_length_one() -> None:
    bank = PrototypeBank(3, 4, 0.5)
    before = bank().clone()
    after = followed(bank, torch.randn(2, 4), torch.tensor([1, 1]))
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert not torch.allclose(after[1], before[1])
    assert torch.allclose(after.norm(dim=1), torch.ones(3))


def test_without_a_momentum_a_batch_moves_nothing() -> None:
    bank = PrototypeBank(2, 3)
    before = bank().clone()
    assert torch.equal(followed(bank, torch.randn(2, 3), torch.tensor([0, 1])), before)


def test_it_tends_to_the_mean_of_what_it_sees() -> None:
    bank, objects = PrototypeBank(2, 3, 0.8), torch.tensor([0, 0, 1])
    features = F.normalize(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    for _ in range(60):
        bank.follow(features, objects)
    assert torch.allclose(bank(), object_means(features, objects, 2), atol=1e-4)


def test_it_starts_as_learned_references_do_and_is_state_but_no_parameter() -> None:
    torch.manual_seed(3)
    learned = ReferenceBank(4, 5)
    torch.manual_seed(3)
    bank = PrototypeBank(4, 5, 0.5)
    assert torch.equal(bank(), learned())
    features, objects = torch.randn(6, 5), torch.tensor([0, 0, 1, 2, 2, 2])
    for either in (bank, learned):
        either.start_from(features, objects)
    assert torch.equal(bank(), learned())
    assert list(bank.parameters()) == []
    assert bank.state_dict().keys() == learned.state_dict().keys() == {"weight"}


def test_it_takes_no_gradient_and_gives_none() -> None:
    bank = PrototypeBank(2, 3, 0.5)
    features = torch.randn(2, 3, requires_grad=True)
    bank.follow(features, torch.tensor([0, 1]))
    assert not bank().requires_grad
    (features @ bank().T).sum().backward()  # the graph is whole after a later batch
    assert features.grad is not None


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_momentum_is_checked(momentum) -> None:
    with pytest.raises(ValueError, match="momentum must be in"):
        PrototypeBank(2, 3, momentum)
