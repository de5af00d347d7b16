"""An encoder to measure: of the settings' shape, with weights at random.

What a step costs does not depend on the weights, so none are read. Of a ``clip`` encoder the shape
comes from the checkpoint's ``config.json`` where it is a folder, else from the names known here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn

from mmref.config import Settings
from mmref.data.text import CaptionTokeniser
from mmref.encoders.base import TrainableEncoder
from mmref.encoders.build import new_encoder
from mmref.errors import ConfigError

_VIT_L = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
_CLIP_B: dict[str, Any] = {
    "model_type": "clip",
    "projection_dim": 512,
    "text_config": {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
    "vision_config": {"image_size": 224, "patch_size": 16},
}
_SIGLIP_B: dict[str, Any] = {
    "model_type": "siglip",
    "text_config": {"vocab_size": 32_000, "max_position_embeddings": 64},
    "vision_config": {"image_size": 256, "patch_size": 16},
}
SHAPES: dict[str, dict[str, Any]] = {
    "clip-vit-base-patch16": _CLIP_B,
    "clip-vit-base-patch32": _CLIP_B | {"vision_config": {"image_size": 224, "patch_size": 32}},
    "clip-vit-large-patch14": _CLIP_B
    | {
        "projection_dim": 768,
        "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        "vision_config": {
            "image_size": 224,
            "patch_size": 14,
            "num_attention_heads": 16,
            **_VIT_L,
        },
    },
    "siglip-base-patch16-224": _SIGLIP_B | {"vision_config": {"image_size": 224, "patch_size": 16}},
    "siglip-base-patch16-256": _SIGLIP_B,
    "siglip2-base-patch16-224": _SIGLIP_B
    | {
        "text_config": {"vocab_size": 256_000, "max_position_embeddings": 64},
        "vision_config": {"image_size": 224, "patch_size": 16},
    },
    "siglip2-base-patch16-256": _SIGLIP_B
    | {"text_config": {"vocab_size": 256_000, "max_position_embeddings": 64}},
}
"""The last part of a hub id -> what differs from the family's usual ``config.json``."""

_FIRST, _LAST = 49_406, 49_407  # CLIP's marks of a caption's start and end
_PIECES = 1.2  # tokens of a word of English, about


@dataclass(frozen=True)
class Measured:
    """An encoder to measure, and the made-up training set that it stands for.

    Attributes:
        encoder: weights at random.
        words: word ids of captions.
        images: what it takes, uint8 Tensor[k, 3, h, w] or float Tensor[k, f].
        note: where its shape comes from, or None.
        pieces: tokens of a word in its text tower.
    """

    encoder: TrainableEncoder
    words: CaptionTokeniser
    images: Tensor
    note: str | None
    pieces: float


def encoder_to_measure(
    settings: Settings, captions: Sequence[str], images: Tensor, seed: int = 0
) -> Measured:
    """An encoder of these settings.

    Args:
        settings: kind, sizes, checkpoint.
        captions: the vocabulary is learnt from them.
        images: pixels or features.
        seed: of the weights.

    Raises:
        ConfigError: the shape of the checkpoint is not known, or does not fit the image size.
    """
    torch.manual_seed(seed)
    words = CaptionTokeniser.learn(captions)
    if settings.encoder.kind == "clip":
        encoder, note = _clip(settings, words)
        return Measured(encoder, words, images, note, _PIECES)
    ids = words.ids(list(captions))
    encoder = new_encoder(settings.encoder, words, ids, images)
    rows = torch.arange(len(ids)) % len(images)
    encoder.start(encoder.tokenise(list(captions)), rows, images, seed)
    return Measured(encoder, words, images, None, 1.0)


def clip_shape(checkpoint: str) -> tuple[dict[str, Any], str]:
    """``config.json`` of a checkpoint, and a sentence that says where it is from.

    Raises:
        ConfigError: it is no folder, and its name is not known.

    Example:
        >>> config, note = clip_shape("openai/clip-vit-base-patch32")
        >>> config["vision_config"]["patch_size"], note
        (32, 'the shape of clip-vit-base-patch32, with weights at random')
        >>> clip_shape("me/mine")
        Traceback (most recent call last):
        ...
        mmref.errors.ConfigError: the shape of me/mine is not known here: give its folder, or ...
    """
    from mmref.encoders.clip.checkpoint import read_config
    from mmref.encoders.clip.towers import full_config

    folder, name = Path(checkpoint).expanduser(), checkpoint.rstrip("/").rsplit("/", 1)[-1]
    if folder.is_dir():
        config = full_config(read_config(folder)[1])
        return config, f"the shape of {checkpoint}, with weights at random"
    if name not in SHAPES:
        raise ConfigError(
            f"the shape of {checkpoint} is not known here: give its folder, or one of "
            f"{', '.join(SHAPES)}"
        )
    return full_config(SHAPES[name]), f"the shape of {name}, with weights at random"


def _clip(settings: Settings, words: CaptionTokeniser) -> tuple[TrainableEncoder, str]:
    from mmref.encoders.clip.checkpoint import PixelScaling
    from mmref.encoders.clip.encoder import ClipEncoder
    from mmref.encoders.clip.tokens import CheckpointTokeniser, TokenRules

    config, note = clip_shape(settings.encoder.checkpoint)
    family, text = config["model_type"], config["text_config"]
    largest = int(text["vocab_size"])
    clip = family == "clip"
    ends = ((largest - 2,), (largest - 1,)) if clip else ((), (1,))
    # A word is an id: what is measured is how many there are, not what they say.
    rules = TokenRules(
        length=int(text["max_position_embeddings"]),
        prepare="plain",
        first=ends[0],
        last=ends[1],
        padding=ends[1][0],
        padding_left=False,
        trimmed=clip,
    )
    room = min(largest - 2, len(words))
    spelling = {words.word(k): k for k in range(2, room)} | {"?": 1}
    tokenizer = Tokenizer(models.WordLevel(spelling, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokens = CheckpointTokeniser(str(tokenizer.to_str()), rules)
    scaling = PixelScaling(1 / 255, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    encoder = ClipEncoder(settings.encoder, config, tokens, scaling, words)
    randomise(encoder)
    encoder.prepare_to_learn()
    return encoder, note


@torch.no_grad()
def randomise(module: nn.Module) -> None:
    """Small weights at random, norms that leave their input as it is."""
    for name, parameter in module.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(std=0.02)
        elif "norm" in name and name.endswith("weight"):
            parameter.fill_(1.0)
        else:
            parameter.zero_()
