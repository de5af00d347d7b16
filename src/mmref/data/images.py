"""Safe, bounded image decoding: any file gives RGB pixels or one short reason why not.

The number of pixels is read from the header and checked before anything is decoded. Only formats
that Pillow decodes by itself are opened (no Ghostscript), and only regular files (no pipes).
"""

import io
import os
import re
import stat
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from mmref.data.dataset import RetrievalDataset
from mmref.errors import DataError, ImageError

MAX_PIXELS = 64_000_000
MEMORY_LIMIT = 1 << 30
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "MPO", "AVIF", "JPEG2000")
ImageSource = str | os.PathLike[str] | bytes | Image.Image
Pixels = npt.NDArray[np.uint8]
Progress = Callable[[int, int], None]

_ORIENTATION = 0x0112
_CHUNK = 256
_TRANSPARENT_MODES = {"RGBA", "RGBa", "LA", "La", "PA"}


class SkippedImage(NamedTuple):
    """An image that could not be read, and why."""

    path: str
    reason: str


class LoadedImages(NamedTuple):
    """What ``load_batch`` returns: pixels uint8 ``[n, 3, h, w]``, their positions, the rest."""

    pixels: Pixels
    kept: list[int]
    skipped: list[SkippedImage]


class PixelCache(NamedTuple):
    """All readable images of a data set, decoded once.

    Attributes:
        pixels: uint8 ``[n, 3, h, w]``, in memory or memory-mapped.
        rows: the data set's row of each image, ascending, ``[n]``.
        skipped: the images that could not be read.
    """

    pixels: Pixels
    rows: npt.NDArray[np.int64]
    skipped: list[SkippedImage]


def load_image(
    source: ImageSource,
    *,
    max_pixels: int = MAX_PIXELS,
    near: tuple[int, int] | None = None,
) -> Image.Image:
    """Decode one image to RGB.

    EXIF orientation is applied, transparency is laid over white, 16-bit and floating point greys
    are scaled to 8 bits, and of an animation the first frame is taken.

    Args:
        source: a path, the bytes of a file, or a PIL image.
        max_pixels: width x height above which nothing is decoded.
        near: (h, w) to which the image will be scaled down; a large JPEG is then decoded at a
            fraction of its size, never below twice that.

    Raises:
        ImageError: it cannot be decoded; one line with the file and a short reason.

    Example:
        >>> load_image(Image.new("L", (4, 2), 128)).getpixel((0, 0))
        (128, 128, 128)
    """
    try:
        return _decode(source, max_pixels, near)
    except ImageError as error:
        raise ImageError(f"{_label(source)}: {error}") from error.__cause__


def image_fault(source: ImageSource, *, max_pixels: int = MAX_PIXELS) -> str | None:
    """Why an image cannot be decoded, in a few words, or None when it can.

    Headers and pixels are decoded (a large JPEG at a fraction of its size).

    Example:
        >>> image_fault(b"text"), image_fault(Image.new("L", (2, 2)))
        ('not an image', None)
    """
    try:
        _decode(source, max_pixels, (256, 256))
    except ImageError as error:
        return str(error)
    return None


def image_array(image: Image.Image, size: tuple[int, int]) -> Pixels:
    """Scale an RGB image to ``size`` and give its pixels.

    Bicubic with antialiasing; the aspect ratio is not kept (our choice, as the field does).

    Args:
        image: an image from ``load_image``.
        size: (h, w).

    Returns:
        uint8 ``[3, h, w]``.

    Example:
        >>> image_array(Image.new("RGB", (4, 2), (255, 0, 9)), (3, 5)).shape
        (3, 3, 5)
    """
    height, width = size
    rgb = image if image.mode == "RGB" else _to_rgb(image)
    if rgb.size != (width, height):
        rgb = rgb.resize((width, height), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(rgb, dtype=np.uint8).transpose(2, 0, 1))


def load_batch(
    sources: Sequence[ImageSource],
    size: tuple[int, int],
    *,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> LoadedImages:
    """Decode and scale many images; those that cannot be read are left out and named.

    Each source is tried once, so bad files cost no more than good ones.

    Args:
        sources: paths, file contents or PIL images.
        size: (h, w).
        workers: decoding threads; by default one for each core, at most 8.
        max_pixels: as in ``load_image``.

    Returns:
        Pixels uint8 ``[n, 3, h, w]``, the position in ``sources`` of each, and the skipped images.

    Example:
        >>> loaded = load_batch([Image.new("RGB", (8, 8)), b"no image"], (4, 4))
        >>> loaded.pixels.shape, loaded.kept, loaded.skipped
        ((1, 3, 4, 4), [0], [SkippedImage(path='image 1', reason='not an image')])
    """

    def one(source: ImageSource) -> Pixels | str:
        try:
            return image_array(_decode(source, max_pixels, size), size)
        except ImageError as error:
            return str(error)

    threads = min(len(sources), workers or default_workers())
    if threads <= 1:
        results = [one(source) for source in sources]
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="mmref-decode") as pool:
            results = list(pool.map(one, sources))
    kept = [index for index, result in enumerate(results) if not isinstance(result, str)]
    pixels = np.empty((len(kept), 3, *size), dtype=np.uint8)
    skipped = []
    position = 0
    for index, result in enumerate(results):
        if isinstance(result, str):
            skipped.append(SkippedImage(_label(sources[index], index), result))
        else:
            pixels[position] = result
            position += 1
    return LoadedImages(pixels, kept, skipped)


def load_pixels(
    dataset: RetrievalDataset,
    size: tuple[int, int],
    *,
    max_bad_share: float = 0.1,
    memory_limit: int = MEMORY_LIMIT,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
    into: Pixels | None = None,
) -> PixelCache:
    """Decode every image of a data set once.

    Args:
        dataset: rows with image files.
        size: (h, w).
        max_bad_share: share of unreadable images, 0 to 1, above which the data set is refused.
        memory_limit: bytes of pixels kept in memory; above it they go to a temporary file that
            disappears with the array.
        workers: decoding threads.
        max_pixels: as in ``load_image``.
        progress: called with (images done, images in all) now and then.
        into: uint8 array with room for all of them, instead of a new one.

    Raises:
        DataError: there are no image files, too many cannot be read, or there is no room on disk.
    """
    if dataset.features_only:
        raise DataError(f"{dataset.name} has features but no image files: use the features encoder")
    paths = dataset.image_paths
    pixels = _room((len(paths), 3, *size), memory_limit) if into is None else into
    rows: list[int] = []
    skipped: list[SkippedImage] = []
    for start in range(0, len(paths), _CHUNK):
        batch = load_batch(
            paths[start : start + _CHUNK], size, workers=workers, max_pixels=max_pixels
        )
        pixels[len(rows) : len(rows) + len(batch.kept)] = batch.pixels
        rows.extend(start + index for index in batch.kept)
        skipped.extend(batch.skipped)
        if progress is not None:
            progress(min(start + _CHUNK, len(paths)), len(paths))
    check_skipped(skipped, len(paths), max_bad_share)
    return PixelCache(pixels[: len(rows)], np.asarray(rows, dtype=np.int64), skipped)


def check_skipped(skipped: Sequence[SkippedImage], total: int, max_bad_share: float = 0.1) -> None:
    """Refuse a data set of which too much is unreadable.

    Raises:
        DataError: more than the share, or everything, was skipped; the first one is named.

    Example:
        >>> check_skipped([SkippedImage("a.png", "empty file")], total=100)
    """
    if skipped and (len(skipped) > max_bad_share * total or len(skipped) == total):
        raise DataError(
            f"{len(skipped)} of {total} images cannot be read (at most {max_bad_share:.0%} may be "
            f"bad), the first is {skipped[0].path}: {skipped[0].reason}; "
            "mmref data lists them"
        )


def default_workers() -> int:
    """Decoding threads: one for each core that this process may use, at most 8."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        cores = os.cpu_count() or 1
    return min(8, cores)


def pixel_file(size: int) -> BinaryIO:
    """A temporary file with room for so many bytes; nothing is left of it once it is closed.

    Raises:
        DataError: there is no room.
    """
    try:
        file: BinaryIO = tempfile.TemporaryFile(prefix="mmref-pixels-")  # noqa: SIM115
        try:
            if hasattr(os, "posix_fallocate"):  # so that a full disk is an error, not a crash
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
        except OSError:
            file.close()
            raise
    except OSError as error:
        raise DataError(
            f"no room for {size / 1e9:.1f} GB of pixels in {tempfile.gettempdir()} "
            f"({error.strerror}): set TMPDIR to a larger disk, or use smaller images"
        ) from error
    return file


def _room(shape: tuple[int, ...], memory_limit: int) -> Pixels:
    size = int(np.prod(shape, dtype=np.int64))
    if size <= memory_limit:
        return np.empty(shape, dtype=np.uint8)
    with pixel_file(size) as file:
        return np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)


def _label(source: ImageSource, index: int | None = None) -> str:
    if isinstance(source, bytes | Image.Image):
        return "image" if index is None else f"image {index}"
    path = os.fspath(source)
    return path if path.isprintable() else repr(path)


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _decode(source: ImageSource, max_pixels: int, near: tuple[int, int] | None) -> Image.Image:
    """RGB image, or an ImageError whose message is the reason alone."""
    try:
        if isinstance(source, Image.Image):
            _check_size(source.size, max_pixels)
            return _to_rgb(_upright(source))
        with _open(source) as file, Image.open(file, formats=_formats()) as image:
            _check_size(image.size, max_pixels)
            if near is not None and image.format in {"JPEG", "MPO"}:
                side = 2 * max(near)  # square: EXIF may turn it
                image.draft(None, (side, side))
            image.load()
            return _to_rgb(_upright(image))
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        found = re.search(r"\((\d+) pixels\)", str(error))
        raise ImageError(_too_large(int(found[1]) if found else 0, max_pixels)) from error
    except UnidentifiedImageError as error:
        raise ImageError("not an image") from error
    except MemoryError as error:
        raise ImageError("not enough memory to decode it") from error
    except Exception as error:  # a decoder may raise anything on a broken file
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise ImageError(f"broken or truncated ({reason})") from error


def _open(source: str | os.PathLike[str] | bytes) -> BinaryIO:
    if isinstance(source, bytes):
        if not source:
            raise ImageError("empty file")
        return io.BytesIO(source)
    try:
        path = Path(source)
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise ImageError("a folder, not a file")
        if not stat.S_ISREG(found.st_mode):
            raise ImageError("not a regular file")
        if found.st_size == 0:
            raise ImageError("empty file")
        return path.open("rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ImageError("missing") from error
    except PermissionError as error:
        raise ImageError("no permission to read it") from error
    except (OSError, ValueError) as error:
        raise ImageError(getattr(error, "strerror", None) or "not a possible path") from error


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    pixels = size[0] * size[1]
    if pixels > max_pixels:
        raise ImageError(_too_large(pixels, max_pixels))
    if pixels == 0:
        raise ImageError("has no pixels")


def _too_large(pixels: int, max_pixels: int) -> str:
    return f"too large ({pixels / 1e6:,.0f} megapixels, the bound is {max_pixels / 1e6:,.0f})"


def _upright(image: Image.Image) -> Image.Image:
    with suppress(Exception):  # a damaged EXIF block does not spoil the pixels
        if image.getexif().get(_ORIENTATION, 1) != 1:
            return ImageOps.exif_transpose(image)
    return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image).convert("RGB")
    if image.mode in _TRANSPARENT_MODES or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    if image.mode == "P" and image.palette is not None and image.palette.mode == "RGBA":
        return _to_rgb(image.convert("RGBA"))
    return image.convert("RGB")  # a copy where it is RGB already


def _deep_grey(image: Image.Image) -> Image.Image:
    """Greys of 16 or 32 bits or floats -> 8 bits, over the range that the format has.

    16 bits: 0..65535. 32-bit integers: 0..65535 if all values fit (16-bit files open so in some
    formats), else their own range. Floats: 0..1 or 0..255 if all values fit, else their own range.
    """
    values = np.asarray(image, dtype=np.float32)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    elif low >= 0 and image.mode == "F" and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    elif low >= 0 and image.mode == "I" and high <= 65535:
        low, high = 0.0, 65535.0
    scaled = (values - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(np.rint(np.clip(scaled, 0, 255)).astype(np.uint8))
