"""What ``compact`` and ``features`` share: a vector of two parts that are trained side by side.

The *closed-form part* starts from ridge regressions and knows most where data are few; the *deep
part* is trained from scratch and knows most where data are many. Trained as one sum, the first
explains the training pairs and the second never learns (measured: docs/results.md), so each part
has its own loss and its own references, and validation chooses their shares. Our choice.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmref.config import EncoderSettings, Settings
from mmref.data.ngrams import NGramVocabulary
from mmref.data.text import CaptionTokeniser
from mmref.encoders.base import TextBatch
from mmref.encoders.closed_form import LARGEST_SOLVE, ClosedFormPart, sparse_grams
from mmref.encoders.text import DeepText, text_batch


class PartsEncoder(nn.Module):
    """A dual encoder of a closed-form part, a deep part, or both.

    A subclass gives ``describe`` (input -> unit descriptor) and ``deep_image`` (input -> the deep
    part's image side).

    Args:
        settings: the encoder's settings.
        tokeniser: learnt from the training captions.
        ngrams: likewise.
        descriptor_length: f, numbers of an image's descriptor.
    """

    kind = "abstract"
    deep_share: Tensor

    def __init__(
        self,
        settings: EncoderSettings,
        tokeniser: CaptionTokeniser,
        ngrams: NGramVocabulary,
        descriptor_length: int,
    ) -> None:
        super().__init__()
        self.settings, self.tokeniser, self.ngrams = settings, tokeniser, ngrams
        self.descriptor_length = descriptor_length
        self.closed_form = (
            ClosedFormPart(settings, descriptor_length, len(ngrams)) if settings.block else None
        )
        self.deep_text = (
            DeepText(
                tokeniser,
                torch.from_numpy(ngrams.idf[: ngrams.words] - 1).float().clamp(min=0),
                settings.deep,
                depth=settings.text_depth,
                width=settings.text_width,
                length=settings.caption_length,
                dropout=settings.dropout,
            )
            if settings.deep
            else None
        )
        share = 0.5 if settings.block and settings.deep else float(bool(settings.deep))
        self.register_buffer("deep_share", torch.tensor(share))

    @property
    def part_dimensions(self) -> tuple[int, ...]:
        """Numbers of each part: the closed-form part first."""
        return tuple(n for n in (2 * self.settings.block, self.settings.deep) if n)

    @property
    def dimension(self) -> int:
        """Numbers of a vector."""
        return sum(self.part_dimensions)

    def describe(self, images: Tensor) -> Tensor:
        """Inputs -> unit descriptors, Tensor[n, f]."""
        raise TypeError(f"{type(self).__name__} must define describe")

    def deep_image(self, images: Tensor) -> Tensor:
        """Inputs -> the deep part's image side, not normalised, Tensor[n, deep]."""
        raise TypeError(f"{type(self).__name__} must define deep_image")

    def tokenise(self, captions: Sequence[str]) -> list[list[int]]:
        """Token ids of each caption; a word never seen keeps its known runs of characters."""
        return self.ngrams.ids(self.tokeniser, captions)

    def text_batch(self, captions: Sequence[Sequence[int]]) -> TextBatch:
        """Token ids -> tensors."""
        return text_batch(captions, self.ngrams, self.settings.caption_length)

    def text_parts(self, batch: TextBatch) -> list[Tensor]:
        """Each part's text vectors, L2-normalised."""
        parts = []
        if self.closed_form is not None:
            parts.append(self.closed_form.encode_text(batch))
        if self.deep_text is not None:
            parts.append(F.normalize(self.deep_text(batch).float(), dim=1))
        return parts

    def image_parts(self, images: Tensor) -> list[Tensor]:
        """Each part's image vectors, L2-normalised."""
        parts = []
        if self.closed_form is not None:
            parts.append(self.closed_form.encode_image(self.describe(images)))
        if self.deep_text is not None:
            parts.append(F.normalize(self.deep_image(images).float(), dim=1))
        return parts

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts -> vectors whose cosine is the parts' cosines weighted by their shares."""
        if len(parts) == 1:
            return parts[0]
        share = self.deep_share.to(parts[0].device)
        return torch.cat([parts[0] * (1 - share).sqrt(), parts[1] * share.sqrt()], dim=1)

    def encode_text(self, batch: TextBatch) -> Tensor:
        """Captions -> Tensor[n, d], L2-normalised (zero for one without any known word)."""
        return self.join(self.text_parts(batch))

    def encode_image(self, images: Tensor) -> Tensor:
        """Images -> Tensor[n, d], L2-normalised."""
        return self.join(self.image_parts(images))

    @property
    def text_side(self) -> nn.Module | None:
        """The deep part's text side; None without a deep part."""
        return self.deep_text

    @property
    def from_scratch(self) -> bool:
        """Whether there is a deep part: it starts at random."""
        return self.deep_text is not None

    @property
    def word_idf(self) -> Tensor:
        """Inverse document frequency of each word of the tokeniser, Tensor[v]."""
        return torch.from_numpy(self.ngrams.idf[: len(self.tokeniser)])

    def parameter_groups(self, settings: Settings) -> list[dict[str, Any]]:
        """A group each for the closed-form part and the deep part's image and text side.

        The deep part's texts learn at ``references.text_rate`` of the rate once they have learnt
        from captions alone: else images would unteach them what tells objects apart.
        """
        started = [] if self.closed_form is None else list(self.closed_form.parameters())
        texts = [] if self.deep_text is None else list(self.deep_text.parameters())
        others = {id(p) for p in started + texts}
        images = [p for p in self.parameters() if id(p) not in others]
        rate = settings.training.deep_learning_rate
        share = settings.references.text_rate if settings.references.caption_epochs else 1.0
        return [
            {"params": started, "lr": settings.training.learning_rate},
            {"params": images, "lr": rate},
            {"params": texts, "lr": share * rate},
        ]

    def finish(self) -> None:
        """Nothing: what is trained is what is kept."""

    def architecture(self) -> dict[str, Any]:
        """All that is needed, beside the weights, to build it again (JSON)."""
        return {
            "kind": self.kind,
            "settings": self.settings.model_dump(mode="json"),
            "descriptor_length": self.descriptor_length,
            "tokeniser": self.tokeniser.to_json(),
            "ngrams": self.ngrams.to_json(),
        }

    @torch.no_grad()
    def start(self, captions: list[list[int]], rows: Tensor, images: Tensor, seed: int) -> None:
        """Solve the closed-form part, if there is one.

        Args:
            captions: token ids of the caption of each (caption, image) pair.
            rows: the image of each pair, a row of ``images``, Tensor[n].
            images: all training images as the encoder takes them.
            seed: draws the pairs when there are more than ``LARGEST_SOLVE``.
        """
        if self.closed_form is None:
            return
        if len(captions) > LARGEST_SOLVE:
            chance = torch.Generator().manual_seed(seed)
            drawn = torch.randperm(len(captions), generator=chance)[:LARGEST_SOLVE].sort().values
            captions, rows = [captions[i] for i in drawn.tolist()], rows[drawn]
        descriptors = torch.cat([self.describe(part) for part in torch.split(images, 1024)])
        grams = sparse_grams(self.text_batch(captions), len(self.ngrams))
        self.closed_form.solve(grams, rows, descriptors)


def read_architecture(
    architecture: dict[str, Any],
) -> tuple[EncoderSettings, CaptionTokeniser, NGramVocabulary]:
    """Settings, tokeniser and n-grams of an encoder's architecture, of former versions too."""
    tokeniser = CaptionTokeniser.from_json(architecture["tokeniser"])
    return (
        EncoderSettings.model_validate({"kernel": "random", **architecture["settings"]}),
        tokeniser,
        NGramVocabulary.from_json(architecture["ngrams"], tokeniser),
    )
