"""A training split -> an encoder ready to train: vocabulary and statistics."""

from torch import Tensor

from mmref.config import EncoderSettings
from mmref.data.ngrams import NGramVocabulary
from mmref.data.text import CaptionTokeniser
from mmref.encoders.compact import CompactEncoder
from mmref.encoders.features import FeaturesEncoder


def tokeniser_for(captions: list[str]) -> CaptionTokeniser:
    """Learn the tokeniser from the training captions."""
    return CaptionTokeniser.learn(captions)


def new_encoder(
    settings: EncoderSettings,
    tokeniser: CaptionTokeniser,
    captions: list[list[int]],
    images: Tensor,
) -> CompactEncoder | FeaturesEncoder:
    """An encoder for a training set, its statistics taken, its deep parts at random.

    Args:
        settings: the encoder's settings.
        tokeniser: learnt from the captions.
        captions: token ids of the distinct training captions.
        images: uint8 pixels Tensor[k, 3, h, w] or vectors Tensor[k, f] of the training images.
    """
    spellings = [tokeniser.word(i) for i in range(len(tokeniser))]
    ngrams = NGramVocabulary.learn(
        captions, len(spellings), spellings, weight=settings.character_weight
    )
    if settings.kind == "compact":
        compact = CompactEncoder(settings, tokeniser, ngrams)
        compact.standardise(images)
        return compact
    features = FeaturesEncoder(settings, tokeniser, ngrams, images.shape[1])
    features.standardise(images)
    return features
