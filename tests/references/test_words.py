import math

import pytest
import torch
from torch.nn import functional as F

from mmref.references.words import WordGuidance

CAPTIONS = [[3, 4, 3], [4, 1, 2], [5, 0], [1], [5, 3]]
OBJECTS = torch.tensor([0, 0, 1, 2, 1])


def counted(weights: torch.Tensor | None = None) -> WordGuidance:
    torch.manual_seed(0)
    words = WordGuidance(objects=4, dimension=3, vocabulary=6)
    words.count(CAPTIONS, OBJECTS, torch.ones(6) if weights is None else weights)
    return words


class TestCount:
    def test_each_caption_counts_a_word_once_and_special_tokens_never(self) -> None:
        expected = torch.zeros(4, 6)
        expected[0, 3], expected[0, 4] = 1 / 3, 2 / 3
        expected[1, 5], expected[1, 3] = 2 / 3, 1 / 3
        assert torch.allclose(counted().targets, expected)

    def test_words_are_weighted(self) -> None:
        weights = torch.tensor([9.0, 9.0, 9.0, 4.0, 1.0, 1.0])
        targets = counted(weights).targets
        assert torch.allclose(targets[0, 3:5], torch.tensor([4 / 6, 2 / 6]))
        assert torch.allclose(targets[1, 3:], torch.tensor([4 / 6, 0.0, 2 / 6]))

    def test_counting_again_starts_anew(self) -> None:
        words = counted()
        words.count([[5]], torch.tensor([0]), torch.ones(6))
        assert words.targets[0].tolist() == [0, 0, 0, 0, 0, 1]
        assert words.targets[1:].abs().sum() == 0

    def test_distributions_are_no_weights(self) -> None:
        assert sorted(counted().state_dict()) == ["head.bias", "head.weight"]


class TestLoss:
    def test_equals_the_loop(self) -> None:
        words = counted()
        features = F.normalize(torch.randn(5, 3), dim=1)
        objects = [1, 0, 0, 2, 3]
        total = 0.0
        for x, number in zip(features, objects, strict=True):
            logits = words.head(x * math.sqrt(3)).tolist()
            whole = math.log(sum(math.exp(z) for z in logits))
            for target, z in zip(words.targets[number].tolist(), logits, strict=True):
                total -= target * (z - whole)
        value = words(features, torch.tensor(objects))
        assert value.item() == pytest.approx(total / 5, rel=1e-5)
        assert value.item() > 0

    def test_an_object_without_known_words_teaches_nothing(self) -> None:
        features = F.normalize(torch.randn(2, 3), dim=1).requires_grad_()
        loss = counted()(features, torch.tensor([2, 3]))
        loss.backward()
        assert loss.item() == 0
        assert features.grad.abs().sum() == 0

    def test_it_can_be_learnt(self) -> None:
        """Its least value is the entropy of the distributions."""
        words = counted()
        features = torch.eye(3)[:2]
        optimizer = torch.optim.Adam(words.parameters(), lr=0.1)
        for _ in range(200):
            optimizer.zero_grad()
            loss = words(features, torch.tensor([0, 1]))
            loss.backward()
            optimizer.step()
        entropy = -(math.log(1 / 3) / 3 + 2 * math.log(2 / 3) / 3)
        assert entropy < loss.item() < entropy + 0.02
