"""A training split -> an encoder ready to train: vocabulary and statistics."""

from collections.abc import Sequence

from torch import Tensor

from mmref.config import EncoderSettings
from mmref.data.ngrams import NGramVocabulary
from mmref.data.text import CaptionTokeniser
from mmref.encoders.base import TrainableEncoder
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
) -> TrainableEncoder:
    """An encoder for a training set: statistics taken, new parts at random, others pre-trained.

    Args:
        settings: the encoder's settings.
        tokeniser: learnt from the captions.
        captions: token ids of the distinct training captions.
        images: uint8 pixels Tensor[k, 3, h, w] or vectors Tensor[k, f] of the training images.

    Raises:
        PathError: kind clip, and there is no such checkpoint.
        ConfigError: kind clip, and the image size or the frozen blocks do not fit it.
        ModelError: kind clip, and the checkpoint cannot be had or used.
    """
    if settings.kind == "clip":
        from mmref.encoders.clip.encoder import ClipEncoder

        clip = ClipEncoder.from_checkpoint(settings, tokeniser, captions)
        clip.prepare_to_learn()
        return clip
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


def caption_notes(encoder: object, captions: Sequence[str]) -> list[str]:
    """What to tell of captions that an encoder cannot take whole; nothing of most encoders.

    Example:
        >>> caption_notes(object(), ["a red hat"])
        []
    """
    notes_on = getattr(encoder, "notes_on", None)
    return list(notes_on(captions)) if notes_on else []
