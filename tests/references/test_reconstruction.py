import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmref.data.text import MASK, mask_words
from mmref.references.bank import ReferenceBank
from mmref.references.reconstruction import (
    ReconstructionDecoder,
    masked_accuracy,
    reconstruction,
)

WORDS = torch.tensor([[5, 6, 7, 8], [9, 5, 0, 0], [10, 11, 12, 0]])
MASKED = torch.tensor(
    [[False, True, False, True], [True, False, False, False], [False, False, True, False]]
)
HIDDEN = WORDS.masked_fill(MASKED, MASK)


@pytest.fixture
def decoder() -> ReconstructionDecoder:
    torch.manual_seed(0)
    return ReconstructionDecoder(13, 6, width=16, tokens=3, heads=2, length=8).eval()


class TestDecoder:
    def test_logits_of_masked_positions_alone(self, decoder: ReconstructionDecoder) -> None:
        assert decoder(HIDDEN, MASKED, torch.randn(3, 6)).shape == (4, 13)
        assert decoder(HIDDEN, torch.zeros_like(MASKED), torch.randn(3, 6)).shape == (0, 13)

    def test_each_caption_stands_for_itself(self, decoder: ReconstructionDecoder) -> None:
        """Neither the other captions nor the padding change a caption's logits."""
        references = torch.randn(3, 6)
        together = decoder(HIDDEN, MASKED, references)
        begin = 0
        for number, length in enumerate((4, 2, 3)):
            row = slice(number, number + 1)
            alone = decoder(HIDDEN[row, :length], MASKED[row, :length], references[row])
            assert torch.allclose(alone, together[begin : begin + len(alone)], atol=1e-5)
            begin += len(alone)
        assert begin == 4

    def test_the_reference_matters_and_is_the_captions_own(
        self, decoder: ReconstructionDecoder
    ) -> None:
        references = torch.randn(3, 6)
        before = decoder(HIDDEN, MASKED, references)
        changed = references.clone()
        changed[1] = -changed[1]
        after = decoder(HIDDEN, MASKED, changed)
        moved = (after - before).abs().amax(dim=1)
        assert moved[2] > 1e-3  # the masked word of caption 1
        assert moved[[0, 1, 3]].max() < 1e-5

    def test_several_tokens_are_no_mere_bias(self, decoder: ReconstructionDecoder) -> None:
        """With one key/value token cross-attention adds the same whatever is asked."""
        references = torch.randn(1, 6)

        def added(of: ReconstructionDecoder) -> torch.Tensor:
            captured = []
            handle = of.cross_attention.register_forward_hook(
                lambda module, inputs, output: captured.append(output[0])
            )
            of(HIDDEN[:1], MASKED[:1], references)
            handle.remove()
            return captured[0][0]

        single = ReconstructionDecoder(13, 6, width=16, tokens=1, heads=2, length=8).eval()
        assert (added(single) - added(single)[0]).abs().max() < 1e-6
        assert (added(decoder) - added(decoder)[0]).abs().max() > 1e-4

    def test_word_order_matters(self, decoder: ReconstructionDecoder) -> None:
        references = torch.randn(1, 6)
        mask = torch.tensor([[False, False, True]])
        forth = decoder(torch.tensor([[5, 6, MASK]]), mask, references)
        back = decoder(torch.tensor([[6, 5, MASK]]), mask, references)
        assert not torch.allclose(forth, back, atol=1e-4)

    def test_head_and_embedding_are_tied(self, decoder: ReconstructionDecoder) -> None:
        assert sum(p.shape == (13, 16) for p in decoder.parameters()) == 1

    def test_it_has_an_embedding_of_its_own_and_reaches_the_reference(
        self, decoder: ReconstructionDecoder
    ) -> None:
        references = torch.randn(3, 6, requires_grad=True)
        decoder(HIDDEN, MASKED, references).square().sum().backward()
        assert references.grad.abs().sum(dim=1).min() > 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [({"width": 18, "heads": 4}, "multiple of heads"), ({"tokens": 0}, "at least 1")],
    )
    def test_sizes_are_checked(self, arguments: dict[str, int], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            ReconstructionDecoder(13, 6, **arguments)

    def test_inputs_are_checked(self, decoder: ReconstructionDecoder) -> None:
        with pytest.raises(ValueError, match="differ"):
            decoder(WORDS, MASKED[:, :3], None)
        long = torch.full((1, 9), 5)
        with pytest.raises(ValueError, match="9 tokens exceed 8"):
            decoder(long, long == 5, None)


class TestReconstruction:
    @pytest.mark.parametrize("with_references", [True, False])
    def test_equals_the_loop(self, decoder: ReconstructionDecoder, with_references: bool) -> None:
        references = torch.randn(3, 6) if with_references else None
        each = []
        for row in range(3):
            own = references[row : row + 1] if references is not None else None
            for column in range(4):
                if not MASKED[row, column]:
                    continue
                one = torch.zeros(1, 4, dtype=torch.bool)
                one[0, column] = True
                logits = decoder(HIDDEN[row : row + 1], one, own)[0].tolist()
                whole = math.log(sum(math.exp(x) for x in logits))
                each.append(whole - logits[int(WORDS[row, column])])
        loss = reconstruction(decoder, WORDS, HIDDEN, MASKED, references)
        assert loss.item() == pytest.approx(sum(each) / 4, rel=1e-4)

    def test_the_decoder_does_not_see_the_hidden_words(
        self, decoder: ReconstructionDecoder
    ) -> None:
        seen = []
        decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
        reconstruction(decoder, WORDS, HIDDEN, MASKED, torch.randn(3, 6))
        assert torch.equal(seen[0], HIDDEN)

    def test_nothing_masked_is_zero_with_a_gradient(self, decoder: ReconstructionDecoder) -> None:
        references = torch.randn(3, 6, requires_grad=True)
        loss = reconstruction(decoder, WORDS, WORDS, torch.zeros_like(MASKED), references)
        loss.backward()
        assert loss.item() == 0
        assert references.grad.abs().sum() == 0

    def test_accuracy_names_each_masked_word(self, decoder: ReconstructionDecoder) -> None:
        references = torch.randn(3, 6)
        best = decoder(HIDDEN, MASKED, references).argmax(dim=1)
        words = WORDS.clone()
        words[0, 1] = best[0]  # as it guesses
        words[0, 3] = (best[1] + 1) % 13  # not as it guesses
        right = masked_accuracy(decoder, words, HIDDEN, MASKED, references)
        assert right[:2].tolist() == [True, False]
        assert right.shape == (4,)
        assert not right.requires_grad


class World:
    """Objects with attributes, and captions that name two to four of them.

    A caption reads "slot value slot value ..."; the values can be known from the object alone.
    """

    def __init__(self, objects: int = 20, slots: int = 5, values: int = 6) -> None:
        rng = np.random.default_rng(0)
        self.first_value = 3 + slots
        self.vocabulary = self.first_value + slots * values
        self.truth = rng.integers(values, size=(objects, slots))
        self.train, self.held_out = [], []
        for number in range(objects):
            told: set[tuple[int, ...]] = set()
            while len(told) < 14:
                chosen = rng.permutation(slots)[: rng.integers(2, 5)]
                told.add(tuple(int(k) for k in chosen))
            captions = [self._caption(number, order, values) for order in sorted(told)]
            order = rng.permutation(14)
            self.train += [(captions[k], number) for k in order[:10]]
            self.held_out += [(captions[k], number) for k in order[10:]]

    def _caption(self, number: int, order: tuple[int, ...], values: int) -> list[int]:
        pairs = [(3 + k, self.first_value + k * values + int(self.truth[number, k])) for k in order]
        return [word for pair in pairs for word in pair]


def batch_of(pairs: list[tuple[list[int], int]]) -> tuple[torch.Tensor, torch.Tensor]:
    words = torch.zeros(len(pairs), 8, dtype=torch.long)
    for row, (caption, _) in enumerate(pairs):
        words[row, : len(caption)] = torch.tensor(caption)
    return words, torch.tensor([number for _, number in pairs])


def test_masked_words_of_held_out_captions_are_told_from_the_right_reference() -> None:
    """On captions never seen, of training objects: better with their own reference.

    Not with another object's, nor without one; so it is no memory of captions, nor of language.
    """
    world = World()
    torch.manual_seed(0)
    bank = ReferenceBank(20, 16)
    decoder = ReconstructionDecoder(
        world.vocabulary, 16, width=32, tokens=4, heads=2, length=8, dropout=0.1
    )
    optimizer = torch.optim.AdamW([*bank.parameters(), *decoder.parameters()], lr=5e-3)
    words, objects = batch_of(world.train)
    held_words, held_objects = batch_of(world.held_out)
    seen = {(*caption, number) for caption, number in world.train}
    assert not seen & {(*caption, number) for caption, number in world.held_out}
    rng = np.random.default_rng(1)
    hidden, masked = mask_words(held_words, 0.3, world.vocabulary, np.random.default_rng(2))
    values = masked & (held_words >= world.first_value)
    of_values = values[masked]

    def accuracy(references: torch.Tensor | None) -> float:
        decoder.eval()
        right = masked_accuracy(decoder, held_words, hidden, masked, references)
        decoder.train()
        return right[of_values].float().mean().item()

    untrained = accuracy(bank()[held_objects].detach())
    for _ in range(150):
        copy, chosen = mask_words(words, 0.4, world.vocabulary, rng)
        loss = reconstruction(decoder, words, copy, chosen, bank()[objects])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    references = bank().detach()
    own = accuracy(references[held_objects])
    shuffled = accuracy(references[(held_objects + 7) % 20])
    none = accuracy(None)
    assert of_values.sum() > 60
    assert untrained < 0.2
    assert own > 0.6
    assert shuffled < 0.35
    assert none < 0.35


def test_references_alone_can_learn(decoder: ReconstructionDecoder) -> None:
    """The gradient that reaches R lowers the loss."""
    for parameter in decoder.parameters():
        parameter.requires_grad_(False)
    weight = torch.randn(3, 6, requires_grad=True)
    before = reconstruction(decoder, WORDS, HIDDEN, MASKED, F.normalize(weight, dim=1))
    for _ in range(20):
        loss = reconstruction(decoder, WORDS, HIDDEN, MASKED, F.normalize(weight, dim=1))
        (slope,) = torch.autograd.grad(loss, weight)
        weight = (weight - slope).detach().requires_grad_()
    assert loss < before - 0.01
