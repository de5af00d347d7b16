"""What every encoder offers: the Protocols behind which all kinds stand."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from mmref.config import Settings
from mmref.data.text import CaptionTokeniser
from mmref.errors import ConfigError


class TextInputs(Protocol):
    """Captions as an encoder takes them: tensors that move to a device together."""

    def to(self, device: Any) -> Any:
        """The same on another device."""


class TextBatch(NamedTuple):
    """Captions as tensors, for the encoders that learn their vocabulary.

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

    def text_batch(self, captions: Sequence[Sequence[int]]) -> Any:
        """Token ids -> tensors (:class:`TextInputs`)."""

    def encode_text(self, batch: Any) -> Tensor:
        """Tensor[n, d], L2-normalised."""

    def encode_image(self, images: Tensor) -> Tensor:
        """Uint8 Tensor[n, 3, h, w] or float Tensor[n, f] -> Tensor[n, d], L2-normalised."""

    def architecture(self) -> dict[str, Any]:
        """All that is needed, beside the weights, to build it again (JSON).

        Long texts may stand under ``files`` by name: a run keeps them as files of its folder.
        """


class TrainableEncoder(DualEncoder, Protocol):
    """What a training needs of an encoder besides.

    A vector is made of one part or more; each has losses and references of its own, and the
    cosine of joined vectors is the parts' cosines weighted by their shares.

    Attributes:
        tokeniser: words of the training captions, for the reconstruction and the inspection.
        deep_share: the last part's share, Tensor[]; 1 where there is one part.
    """

    tokeniser: CaptionTokeniser
    deep_share: Tensor

    @property
    def part_dimensions(self) -> tuple[int, ...]:
        """Numbers of each part."""

    @property
    def text_side(self) -> nn.Module | None:
        """Text batch -> the last part's vectors, not normalised; None if it cannot learn alone."""

    @property
    def from_scratch(self) -> bool:
        """Whether the last part starts at random: its first means hardly tell objects apart."""

    @property
    def word_idf(self) -> Tensor:
        """Inverse document frequency of each word of ``tokeniser``, 1 at the least, Tensor[v]."""

    def text_parts(self, batch: Any) -> list[Tensor]:
        """Each part's text vectors, L2-normalised, Tensor[n, d_part]."""

    def image_parts(self, images: Tensor) -> list[Tensor]:
        """Each part's image vectors, L2-normalised, Tensor[n, d_part]."""

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Parts -> vectors, Tensor[n, d]."""

    def start(self, captions: list[list[int]], rows: Tensor, images: Tensor, seed: int) -> None:
        """Take from the training pairs what can be had before any step."""

    def parameter_groups(self, settings: Settings) -> list[dict[str, Any]]:
        """Parameters and learning rates (and weight decay, where another) for the optimiser."""

    def finish(self) -> None:
        """Become what is kept, after the last step."""

    def train(self, mode: bool = True) -> Any:
        """Of ``torch.nn.Module``."""

    def eval(self) -> Any:
        """Of ``torch.nn.Module``."""

    def cpu(self) -> Any:
        """Of ``torch.nn.Module``."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Of ``torch.nn.Module``."""


Builder = Callable[[dict[str, Any]], DualEncoder]


def registry() -> dict[str, Builder]:
    """Kind -> how to build an encoder of it from its architecture. Add one by one line here."""
    from mmref.encoders.compact import CompactEncoder
    from mmref.encoders.features import FeaturesEncoder

    return {"compact": CompactEncoder.build, "features": FeaturesEncoder.build, "clip": _clip}


def _clip(architecture: dict[str, Any]) -> DualEncoder:
    from mmref.encoders.clip.encoder import ClipEncoder

    return ClipEncoder.build(architecture)


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
