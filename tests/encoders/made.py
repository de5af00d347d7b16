"""A small training set and encoders learnt from it."""

import torch

from mmref.config import EncoderSettings
from mmref.encoders.build import new_encoder, tokeniser_for
from mmref.encoders.compact import CompactEncoder
from mmref.encoders.features import FeaturesEncoder

CAPTIONS = (
    "a red hat and a bag",
    "a blue hat, black shoes",
    "a green coat with a bag",
    "red shoes, green bag",
    "a red hat and black shoes",
    "!!!",
)
LENGTH = 10
SIZE = (32, 16)


def inputs(kind: str, count: int = len(CAPTIONS), seed: int = 0) -> torch.Tensor:
    chance = torch.Generator().manual_seed(seed)
    if kind == "features":
        return torch.randn(count, LENGTH, generator=chance)
    return torch.randint(0, 256, (count, 3, *SIZE), generator=chance, dtype=torch.uint8)


def settings(kind: str, **changes: object) -> EncoderSettings:
    small = {
        "block": 6, "deep": 8, "kernel_features": 64, "image_height": SIZE[0],
        "image_width": SIZE[1], "width": 8, "grid": 8, "text_width": 32,
    }  # fmt: skip
    return EncoderSettings.model_validate({"kind": kind, **small, **changes})


def made(kind: str, **changes: object) -> CompactEncoder | FeaturesEncoder:
    """Started from its closed-form solution; a transformer, if any, no longer silent."""
    torch.manual_seed(0)
    tokeniser = tokeniser_for(list(CAPTIONS))
    ids, images = tokeniser.ids(CAPTIONS), inputs(kind)
    encoder = new_encoder(settings(kind, **changes), tokeniser, ids, images)
    encoder.start(ids, torch.arange(len(ids)), images, seed=0)
    if encoder.deep_text is not None and encoder.deep_text.transformer is not None:
        torch.nn.init.normal_(encoder.deep_text.transformer.out.weight, std=0.2)
    return encoder.eval()


def encode(encoder: CompactEncoder | FeaturesEncoder, *captions: str) -> torch.Tensor:
    with torch.no_grad():
        return encoder.encode_text(encoder.text_batch(encoder.tokenise(captions)))
