import pytest
import torch

from mmref.encoders.build import new_encoder, tokeniser_for
from mmref.encoders.compact import CompactEncoder
from mmref.encoders.features import FeaturesEncoder

from .made import CAPTIONS, LENGTH, inputs, settings


def test_the_vocabulary_is_that_of_the_training_captions() -> None:
    tokeniser = tokeniser_for(["Red hat", "a hat"])
    assert sorted(tokeniser.vocabulary) == ["[MASK]", "[PAD]", "[UNK]", "a", "hat", "red"]


@pytest.mark.parametrize(
    ("kind", "kept"), [("compact", CompactEncoder), ("features", FeaturesEncoder)]
)
def test_the_kind_is_that_of_the_settings(kind: str, kept: type) -> None:
    tokeniser = tokeniser_for(list(CAPTIONS))
    ids = tokeniser.ids(CAPTIONS)
    encoder = new_encoder(settings(kind), tokeniser, ids, inputs(kind))
    assert type(encoder) is kept
    assert encoder.ngrams.words == len(tokeniser)
    assert encoder.mean.abs().sum() > 0  # its statistics are taken
    if kind == "features":
        assert encoder.descriptor_length == LENGTH


def test_the_deep_part_depends_on_the_seed_alone() -> None:
    tokeniser = tokeniser_for(list(CAPTIONS))
    ids = tokeniser.ids(CAPTIONS)

    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        encoder = new_encoder(settings("features"), tokeniser, ids, inputs("features"))
        return encoder.state_dict()["deep_text.words.embedding.weight"]

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
