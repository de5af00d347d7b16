"""A data set's images as vectors of a model, written as a data set that ``features`` trains on."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmref.data.dataset import COLUMNS, RetrievalDataset
from mmref.data.images import SkippedImage, check_skipped
from mmref.errors import DataError, PathError
from mmref.evaluation.encoding import Progress, encode_images
from mmref.files import atomic_folder
from mmref.model import MMRef

FEATURES_FILE = "features.npy"
MANIFEST_FILE = "manifest.jsonl"
_OWN = ("image", "captions", "caption", "identity", "split", "feature_row")


@dataclass(frozen=True)
class Embedding:
    """What was written.

    Attributes:
        images: vectors.
        dimension: numbers of each.
        skipped: the images that could not be read.
        without_captions: rows left out because a manifest asks for a caption.
        notes: sentences to say aloud.
    """

    images: int
    dimension: int
    skipped: tuple[SkippedImage, ...]
    without_captions: int
    notes: tuple[str, ...]


def embed_dataset(
    model: MMRef,
    dataset: RetrievalDataset,
    out: str | Path,
    *,
    half: bool = False,
    most_unreadable: float = 0.1,
    progress: Progress | None = None,
) -> Embedding:
    """Write ``features.npy`` and ``manifest.jsonl`` into a folder, both or neither.

    Captions, objects, splits and metadata go along; images are named by their absolute paths and
    are not copied.

    Args:
        model: a run or a checkpoint.
        dataset: all splits.
        out: the folder; new or empty.
        half: half precision: half the size, three digits.
        most_unreadable: share of images, 0 to 1, above which the data set is refused.
        progress: called with what is encoded, the number done and the total.

    Raises:
        PathError: the folder holds something, or cannot be written.
        DataError: the images cannot be used by this model, or too many cannot be read.

    Example:
        >>> model = MMRef.from_pretrained("openai/clip-vit-base-patch16")  # doctest: +SKIP
        >>> embed_dataset(model, data, "data/flags-clip").dimension        # doctest: +SKIP
        512
    """
    folder = Path(out)
    require_new(folder)
    vectors, rows, bad = encode_images(model, dataset, progress)
    skipped = tuple(SkippedImage(one["path"], one["reason"]) for one in bad)
    check_skipped(skipped, len(dataset), most_unreadable)
    told = [bool(captions) for captions in dataset.captions]
    kept = [place for place, row in enumerate(rows) if told[row]]
    if not kept:
        raise DataError(f"{dataset.name} has no caption at all: a data set to train on needs some")
    matrix = vectors[kept].numpy().astype(np.float16 if half else np.float32)
    with atomic_folder(folder) as partial:
        np.save(partial / FEATURES_FILE, matrix)
        with (partial / MANIFEST_FILE).open("w", encoding="utf-8") as file:
            for line in _lines(dataset, [rows[place] for place in kept]):
                file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
    return Embedding(
        len(matrix),
        matrix.shape[1],
        skipped,
        len(rows) - len(kept),
        _notes(dataset, len(rows) - len(kept)),
    )


def require_new(folder: Path) -> None:
    """Refuse a place where something stands.

    Raises:
        PathError: a file, or a folder that is not empty.
    """
    if folder.exists() and not folder.is_dir():
        raise PathError(f"{folder} is a file: name a folder to write to")
    if folder.is_dir() and any(folder.iterdir()):
        raise PathError(f"{folder} is not empty: name a new folder for the vectors")


def _lines(dataset: RetrievalDataset, rows: list[int]) -> Iterator[dict[str, Any]]:
    columns = [name for name in dataset.table.column_names if name not in COLUMNS]
    metadata = {name: dataset.table[name].to_pylist() for name in columns}
    for number, row in enumerate(rows):
        line: dict[str, Any] = {
            "image": str(dataset.image_paths[row].absolute()),
            "captions": dataset.captions[row],
            "identity": dataset.objects[row],
            "split": dataset.splits[row],
            "feature_row": number,
        }
        yield line | {name: found[row] for name, found in metadata.items() if name not in _OWN}


def _notes(dataset: RetrievalDataset, silent: int) -> tuple[str, ...]:
    notes = list(dataset.notes)
    if silent:
        notes.append(f"{silent:,} images without a caption are left out: a manifest asks for one")
    if dataset.protocol != "manifest":
        notes.append(
            f"read as a manifest, it is no longer asked by the protocol of {dataset.format}: "
            "each distinct caption of an object counts once"
        )
    return tuple(notes)
