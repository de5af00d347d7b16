import numpy as np
import pytest
import torch

from mmref.data.text import mask_words
from mmref.references.masked_words import MaskedWords
from mmref.references.reconstruction import ReconstructionDecoder, reconstruction

VOCABULARY, PARTS = 14, (5, 3)
WORDS = torch.tensor([[3, 4, 5, 0], [6, 7, 0, 0], [8, 9, 10, 11]])


def made(rate=0.5, tokens=4):
    torch.manual_seed(0)
    decoder = ReconstructionDecoder(
        VOCABULARY, sum(PARTS), width=16, tokens=tokens, length=8, dropout=0.0
    )
    return MaskedWords(decoder, VOCABULARY, rate)


def images(seed=1):
    chance = torch.Generator().manual_seed(seed)
    return [torch.randn(3, d, generator=chance).requires_grad_() for d in PARTS]


def test_it_is_the_reconstruction_with_the_image_as_memory() -> None:
    loss, features = made(), images()
    copy, masked = mask_words(WORDS, 0.5, VOCABULARY, np.random.default_rng(3))
    expected = reconstruction(loss.decoder, WORDS, copy, masked, torch.cat(features, dim=1))
    value = loss(features, WORDS, np.random.default_rng(3))
    assert value.item() == expected.item()
    assert value.item() != loss(features, WORDS, np.random.default_rng(4)).item()


def test_it_teaches_every_part_of_the_images_and_the_decoder() -> None:
    loss, features = made(), images()
    loss(features, WORDS, np.random.default_rng(0)).backward()
    for part in features:
        assert (part.grad.abs().sum(dim=1) > 1e-6).all()
    assert all(p.grad is not None for p in loss.decoder.parameters())


def test_each_caption_reads_its_own_image() -> None:
    loss, features = made(rate=0.99), images()
    words = torch.tensor([[3, 4, 5, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    loss(features, words, np.random.default_rng(0)).backward()
    touched = [(part.grad.abs().sum(dim=1) > 0).tolist() for part in features]
    assert touched == [[True, False, False]] * 2


def test_captions_are_masked_on_a_copy() -> None:
    before = WORDS.clone()
    made()(images(), WORDS, np.random.default_rng(0))
    assert torch.equal(before, WORDS)


@pytest.mark.parametrize("words", [torch.zeros(3, 2, dtype=torch.long)])
def test_nothing_to_mask_costs_nothing(words) -> None:
    value = made()(images(), words, np.random.default_rng(0))
    value.backward()
    assert value.item() == 0


def test_images_that_name_the_word_make_it_predictable() -> None:
    """Two captions that differ in the masked word alone: only the image can tell."""
    torch.manual_seed(0)
    loss = made(rate=0.99)
    words = torch.tensor([[3], [4]])
    features = [torch.eye(2, 5), torch.eye(2, 3)]
    optimizer = torch.optim.Adam(loss.parameters(), 0.01)
    for step in range(80):
        value = loss(features, words, np.random.default_rng(step))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    swapped = [part.flip(0) for part in features]
    right = loss(features, words, np.random.default_rng(0)).item()
    assert right < 0.2
    assert loss(swapped, words, np.random.default_rng(0)).item() > 1.0
