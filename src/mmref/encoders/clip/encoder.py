"""CLIP, SigLIP and fixed-resolution SigLIP 2 as an encoder of one part.

What differs from the checkpoint's own processor: it scales the shorter side (CLIP) and cuts out
the centre; here pictures are stretched to the encoder's size, bicubic with antialiasing, as the
field does for persons 384 x 128. At the checkpoint's own size, on a picture of exactly that size,
both give the same numbers (a test says so).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmref.config import EncoderSettings, Settings
from mmref.data.text import CaptionTokeniser
from mmref.encoders.clip.checkpoint import (
    PixelScaling,
    native_size,
    read_config,
    read_scaling,
    read_weights,
)
from mmref.encoders.clip.freezing import block_counts, freeze, rate_groups
from mmref.encoders.clip.hub import find_checkpoint
from mmref.encoders.clip.lora import add_adapters, merge_adapters
from mmref.encoders.clip.tokens import TOKENIZER_FILE, CheckpointTokeniser, TokenBatch
from mmref.encoders.clip.towers import (
    build_towers,
    fill,
    full_config,
    pooled,
    set_checkpointing,
    set_image_size,
    vector_length,
)

# Tokens that a group of captions is worth: a GPU is idle with less (our choice).
LEAST_TOKENS = {"cpu": 512, "cuda": 16384}


class ClipEncoder(nn.Module):
    """Both towers of a checkpoint; the vectors are their projected features.

    Args:
        settings: the encoder's settings; height and width must be multiples of the patch.
        config: ``config.json`` with all defaults filled in.
        tokens: the checkpoint's tokeniser.
        scaling: of its pixels.
        words: words of the training captions, for the reconstruction and the inspection.
        model: the towers for pixels of the checkpoint's own size; built anew when None.
        idf: of the words; ones when None.

    Raises:
        ConfigError: the image size does not fit the patches.
        ModelError: the configuration describes no possible model.
    """

    kind = "clip"
    open_vocabulary = True
    deep_share: Tensor
    pixel_mean: Tensor
    pixel_deviation: Tensor

    def __init__(
        self,
        settings: EncoderSettings,
        config: dict[str, Any],
        tokens: CheckpointTokeniser,
        scaling: PixelScaling,
        words: CaptionTokeniser,
        *,
        model: nn.Module | None = None,
        idf: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.config, self.tokens = settings, config, tokens
        self.tokeniser = words
        self.net: Any = build_towers(config) if model is None else model
        set_image_size(self.net, self.image_size)
        self.pixel_factor = scaling.factor
        self.register_buffer("pixel_mean", torch.tensor(scaling.mean).view(3, 1, 1))
        self.register_buffer("pixel_deviation", torch.tensor(scaling.deviation).view(3, 1, 1))
        self.register_buffer("deep_share", torch.tensor(1.0))
        self.word_idf = torch.ones(len(words)) if idf is None else idf

    @classmethod
    def from_checkpoint(
        cls,
        settings: EncoderSettings,
        words: CaptionTokeniser | None = None,
        captions: Sequence[Sequence[int]] = (),
        *,
        native: bool = False,
    ) -> "ClipEncoder":
        """An encoder with a checkpoint's weights.

        Args:
            settings: its ``checkpoint`` names a folder or a hub id.
            words: words of the training captions; none by default.
            captions: their word ids, counted for their frequencies.
            native: take the checkpoint's own image size instead of the settings'.

        Raises:
            PathError: there is no such checkpoint.
            ConfigError: the image size does not fit its patches.
            ModelError: it cannot be had, is damaged, or is of another kind of model.
        """
        folder = find_checkpoint(settings.checkpoint)
        _, stored = read_config(folder)
        config = full_config(stored)
        if native:
            height, width, _ = native_size(config)
            settings = settings.model_copy(update={"image_height": height, "image_width": width})
        scaling = read_scaling(folder)
        tokens = CheckpointTokeniser.read(folder, config["model_type"], config)
        model = build_towers(config)
        fill(model, read_weights(folder), folder)
        words = CaptionTokeniser.learn([]) if words is None else words
        idf = inverse_document_frequency(captions, len(words))
        return cls(settings, config, tokens, scaling, words, model=model, idf=idf)

    @classmethod
    def build(cls, architecture: dict[str, Any]) -> "ClipEncoder":
        """Build from :meth:`architecture`, weights yet to be filled in."""
        scaling = architecture["scaling"]
        return cls(
            EncoderSettings.model_validate(architecture["settings"]),
            architecture["config"],
            CheckpointTokeniser.from_json(
                architecture["files"][TOKENIZER_FILE], architecture["tokens"]
            ),
            PixelScaling(scaling["factor"], scaling["mean"], scaling["deviation"]),
            CaptionTokeniser.from_json(architecture["words"]),
        )

    def architecture(self) -> dict[str, Any]:
        """All that is needed, beside the weights, to build it again (JSON).

        ``files`` holds texts that a run keeps as files of these names.
        """
        return {
            "kind": self.kind,
            "settings": self.settings.model_dump(mode="json"),
            "config": self.config,
            "tokens": self.tokens.to_json(),
            "scaling": {
                "factor": self.pixel_factor,
                "mean": self.pixel_mean.flatten().tolist(),
                "deviation": self.pixel_deviation.flatten().tolist(),
            },
            "words": self.tokeniser.to_json(),
            "files": self.files,
        }

    @property
    def files(self) -> dict[str, str]:
        """Texts that a run keeps as files of these names."""
        return {TOKENIZER_FILE: self.tokens.text}

    def prepare_to_learn(self) -> None:
        """Freeze what the settings say, add adapters, switch gradient checkpointing."""
        settings = self.settings
        frozen = (settings.frozen_image_layers, settings.frozen_text_layers)
        freeze(self.net, *frozen)
        if settings.lora_rank:
            add_adapters(
                self.net,
                rank=settings.lora_rank,
                alpha=settings.lora_alpha,
                dropout=settings.lora_dropout,
                frozen=frozen,
            )
        if settings.gradient_checkpointing:
            set_checkpointing(self.net, on=True)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pixels it takes."""
        return self.settings.image_height, self.settings.image_width

    @property
    def feature_length(self) -> None:
        """It takes pixels."""
        return

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return vector_length(self.config)

    @property
    def part_dimensions(self) -> tuple[int, ...]:
        """One part."""
        return (self.dimension,)

    @property
    def text_side(self) -> None:
        """The text tower does not learn from captions alone."""
        return

    @property
    def from_scratch(self) -> bool:
        """The towers are pre-trained: their means tell objects apart from the start."""
        return False

    def tokenise(self, captions: Sequence[str]) -> list[list[int]]:
        """Token ids of each caption, long ones cut or split as the settings say."""
        return self.tokens.ids(list(captions), self.settings.long_captions)

    def truncated(self, captions: Sequence[str]) -> int:
        """How many captions have more tokens than the text tower has places."""
        return self.tokens.too_long(list(captions))

    def notes_on(self, captions: Sequence[str]) -> list[str]:
        """What to tell of captions that are too long for the text tower; nothing without any."""
        long = self.truncated(captions)
        if not long:
            return []
        what = (
            "are encoded in windows of whole sentences"
            if self.settings.long_captions == "split"
            else "were cut: encoder.long_captions=split keeps what they say at the end"
        )
        return [
            f"{long:,} of {len(captions):,} captions are longer than the text tower's "
            f"{self.tokens.rules.length} tokens and {what}"
        ]

    def text_batch(self, captions: Sequence[Sequence[int]]) -> TokenBatch:
        """Token ids -> tensors."""
        return self.tokens.batch(captions)

    def encode_text(self, batch: TokenBatch) -> Tensor:
        """Captions -> Tensor[n, d], L2-normalised; of several windows their mean's direction."""
        vectors = F.normalize(self._text_features(batch), dim=1)
        if batch.owners is None:
            return vectors
        sums = vectors.new_zeros(batch.captions, vectors.shape[1])
        return F.normalize(sums.index_add(0, batch.owners, vectors), dim=1)

    def _text_features(self, batch: TokenBatch) -> Tensor:
        """Features of all rows, those of about one length together and trimmed by themselves."""
        groups = batch.groups(LEAST_TOKENS.get(batch.ids.device.type, LEAST_TOKENS["cpu"]))
        if len(groups) == 1:
            return pooled(self.net.get_text_features(input_ids=batch.ids)).float()
        parts = []
        for rows in groups:
            ids = batch.ids[torch.tensor(rows, device=batch.ids.device)]
            ids = ids[:, : max(batch.lengths[row] for row in rows)]
            parts.append(pooled(self.net.get_text_features(input_ids=ids)).float())
        order = torch.tensor([row for rows in groups for row in rows], device=batch.ids.device)
        return torch.cat(parts)[order.argsort()]

    def encode_image(self, images: Tensor) -> Tensor:
        """Pixels of 0..255, Tensor[n, 3, h, w] -> Tensor[n, d], L2-normalised."""
        pixels = images.float() * self.pixel_factor
        pixels = (pixels - self.pixel_mean) / self.pixel_deviation
        features = pooled(self.net.get_image_features(pixel_values=pixels)).float()
        return F.normalize(features, dim=1)

    def text_parts(self, batch: TokenBatch) -> list[Tensor]:
        """The one part's text vectors."""
        return [self.encode_text(batch)]

    def image_parts(self, images: Tensor) -> list[Tensor]:
        """The one part's image vectors."""
        return [self.encode_image(images)]

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """The one part is the vector."""
        return parts[0]

    def start(self, captions: list[list[int]], rows: Tensor, images: Tensor, seed: int) -> None:
        """Nothing: the towers are pre-trained."""

    def parameter_groups(self, settings: Settings) -> list[dict[str, Any]]:
        """All that learns, by its rate."""
        training = settings.training
        return rate_groups(
            self.net.named_parameters(),
            block_counts(self.net),
            rate=training.learning_rate,
            new_rate=training.deep_learning_rate,
            layer_decay=training.layer_decay,
        )

    def finish(self) -> None:
        """Merge the adapters, so that what is kept is a plain model of both towers."""
        if self.settings.lora_rank:
            merge_adapters(self.net)
        if self.settings.gradient_checkpointing:
            set_checkpointing(self.net, on=False)


def inverse_document_frequency(captions: Sequence[Sequence[int]], words: int) -> Tensor:
    """log((1 + n) / (1 + captions with the word)) + 1 for each word id, Tensor[words].

    Example:
        >>> [round(x, 1) for x in inverse_document_frequency([[3], [3, 4]], 5).tolist()]
        [2.1, 2.1, 2.1, 1.0, 1.4]
    """
    counts = np.zeros(words)
    for ids in captions:
        counts[list(set(ids))] += 1
    return torch.from_numpy(np.log((1 + len(captions)) / (1 + counts)) + 1).float()


def native_image_size(checkpoint: str | Path) -> tuple[int, int, int]:
    """Height, width and patch of a checkpoint, from its ``config.json`` alone.

    Raises:
        PathError: there is no such checkpoint.
        ModelError: it cannot be had, or is of another kind of model.
    """
    _, config = read_config(find_checkpoint(checkpoint))
    return native_size(config)
