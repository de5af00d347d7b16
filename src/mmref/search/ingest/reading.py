"""Files to what the encoder takes, and that to vectors; no store is known here."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mmref.data.images import image_array, load_image
from mmref.errors import ImageError, PathError
from mmref.search.records import Model, Vector, content_digest

MAX_FILE_BYTES = 1 << 29
NOT_FINITE = "the encoder gave no finite vector"


@dataclass(frozen=True, slots=True)
class Encoding:
    """What the encoder made of one picture.

    Attributes:
        vector: unit vector, float32 [d].
        profile: arrays by name; empty where the run does not refine.
    """

    vector: Vector
    profile: dict[str, npt.NDArray[Any]]


def read_file(path: str, size: int) -> bytes:
    """The bytes of a file.

    Args:
        path: a regular file.
        size: its bytes as they were listed.

    Raises:
        ImageError: it is too large, or cannot be read; the message is the reason alone.
    """
    if size > MAX_FILE_BYTES:
        raise ImageError(f"larger than {MAX_FILE_BYTES >> 20} MB")
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise ImageError("it went away while it was read") from error
    except OSError as error:
        raise ImageError(error.strerror or "cannot be read") from error


def decode(content: bytes, size: tuple[int, int] | None) -> Any:
    """The bytes of a file as pixels uint8 [3, h, w], or as a picture where no size is given.

    Raises:
        ImageError: it cannot be decoded; the message is the reason alone.
    """
    try:
        image = load_image(content, near=size)
    except ImageError as error:
        raise ImageError(str(error).removeprefix("image: ")) from error
    return image if size is None else image_array(image, size)


def encode(model: Model, items: Sequence[Any]) -> list[Encoding | None]:
    """Vectors and profiles of one batch, in order; None where the vector is not finite.

    Args:
        model: the run's model.
        items: what :func:`decode` gave, or features, float32 [f] each.
    """
    if not items:
        return []
    batch: Any = np.stack(items) if isinstance(items[0], np.ndarray) else list(items)
    return with_profiles(model, model.encode_image(batch, batch_size=len(items)).float().cpu())


def with_profiles(model: Model, vectors: torch.Tensor) -> list[Encoding | None]:
    """Vectors with their profiles, in order; None where a vector is not finite.

    Args:
        model: the run's model.
        vectors: unit vectors, Tensor[n, d].
    """
    finite = torch.isfinite(vectors).all(dim=1).tolist()
    profiles: dict[str, npt.NDArray[Any]] = {}
    if model.refiner is not None:
        profiles = model.refiner.profiles(torch.nan_to_num(vectors), "image").to_arrays()
    arrays = vectors.numpy().astype(np.float32)
    return [
        Encoding(arrays[row], {name: values[row] for name, values in profiles.items()})
        if usable
        else None
        for row, usable in enumerate(finite)
    ]


def encode_content(model: Model, content: bytes) -> Encoding:
    """The encoding of one file's bytes.

    Raises:
        ImageError: it cannot be decoded, or its vector is not finite; the message is the reason.
    """
    (encoding,) = encode(model, [decode(content, model.image_size)])
    if encoding is None:
        raise ImageError(NOT_FINITE)
    return encoding


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep the warnings of Pillow from users: broken files are told with reasons of our own.

    Filters of warnings are those of the whole process, so one thread enters this around a pool.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        yield


def file_digest(path: str | Path) -> str:
    """The digest of a file's content as stores keep it, 32 hexadecimal digits.

    Raises:
        PathError: the file cannot be read.
    """
    try:
        return content_digest(Path(path).read_bytes())
    except OSError as error:
        raise PathError(f"cannot read {path}: {error.strerror}") from error
