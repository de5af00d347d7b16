"""What every encoder offers: the Protocol behind which ``compact`` and ``features`` stand."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from mmref.errors import ConfigError


class TextBatch(NamedTuple):
    """Captions as tensors.

    Attributes:
        features: n-gram features of all captions, one after another, int64 Tensor[k].
        weights: their TF-IDF weights, float32 Tensor[k].
        offsets: where each caption's features begin, int64 Tensor[n].
        words: token ids, padded, int64 Tensor[n, l].
    """

    features: Tensor
    weights: Tensor
    offsets: Tensor
    words: Tensor

    def to(self, device: Any) -> "TextBatch":
        """The same on another device."""
        return TextBatch(*(part.to(device) for part in self))


@runtime_checkable
class DualEncoder(Protocol):
    """Captions and images -> vectors of one space, L2-normalised.

    An implementation is a ``torch.nn.Module``.
    """

    @property
    def kind(self) -> str:
        """The name under which it is registered."""

    @property
    def dimension(self) -> int:
        """d, the numbers of a vector."""

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the pixels it takes, or None when it takes vectors."""

    @property
    def feature_length(self) -> int | None:
        """Length of the vectors it takes, or None when it takes pixels."""

    def tokenise(self, captions: Sequence[str]) -> list[list[int]]:
        """Token ids of each caption."""

    def text_batch(self, captions: Sequence[Sequence[int]]) -> TextBatch:
        """Token ids -> tensors."""

    def encode_text(self, batch: TextBatch) -> Tensor:
        """Tensor[n, d], L2-normalised."""

    def encode_image(self, images: Tensor) -> Tensor:
        """Uint8 Tensor[n, 3, h, w] or float Tensor[n, f] -> Tensor[n, d], L2-normalised."""

    def architecture(self) -> dict[str, Any]:
        """All that is needed, beside the weights, to build it again (JSON)."""


Builder = Callable[[dict[str, Any]], DualEncoder]


def registry() -> dict[str, Builder]:
    """Kind -> how to build an encoder of it from its architecture. Add one by one line here."""
    from mmref.encoders.compact import CompactEncoder
    from mmref.encoders.features import FeaturesEncoder

    return {"compact": CompactEncoder.build, "features": FeaturesEncoder.build}


def build_encoder(architecture: dict[str, Any]) -> DualEncoder:
    """Build an encoder, weights untrained, from what :meth:`DualEncoder.architecture` gave.

    Raises:
        ConfigError: an unknown kind.
    """
    kind = architecture.get("kind")
    builders = registry()
    if kind not in builders:
        raise ConfigError(f"unknown encoder {kind!r}: choose one of {', '.join(sorted(builders))}")
    return builders[kind](architecture)
