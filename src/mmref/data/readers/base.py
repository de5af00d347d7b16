"""What a reader is, and what several readers need: splits by object, feature matrices."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mmref.data.dataset import RetrievalDataset, file_exists
from mmref.errors import DataError

SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}
_CHECK_ROWS = 8192


class Reader(Protocol):
    """Turns one format on disk into a ``RetrievalDataset``.

    Attributes:
        name: the format's name, as in ``name:path``.
    """

    name: str

    def recognises(self, path: Path) -> bool:
        """Whether ``path`` (which exists) looks like this format. Cheap: it reads no rows."""
        ...

    def read(self, path: Path, seed: int, splits: Path | None = None) -> RetrievalDataset:
        """Read the data set.

        Args:
            path: a folder or a file.
            seed: draws a split where the format has none.
            splits: a file that says which image or identity belongs to which split (see
                ``readers.split_files``), in place of what the set says itself.

        Raises:
            DataError: it cannot be used; the message names the file and, if it can, the line.
        """
        ...


def split_by_object(objects: Sequence[str], seed: int) -> list[str]:
    """Draw a split for each row so that no object is in two of them.

    70 % of the objects go to train, 15 % to val, 15 % to test (our choice), at least one to each
    where there are three or more; of two objects one is train and one is val. The draw orders the
    objects by SHA-256 of seed and name, so it does not depend on the order of the rows.

    Args:
        objects: the object of each row.
        seed: another seed gives another draw.

    Returns:
        The split of each row.

    Example:
        >>> split_by_object(["a", "b", "a", "c"], seed=0)
        ['test', 'train', 'test', 'val']
    """
    names = sorted(set(objects), key=lambda name: _rank(seed, name))
    val = max(1, round(SHARES["val"] * len(names))) if len(names) > 1 else 0
    test = max(1, round(SHARES["test"] * len(names))) if len(names) > 2 else 0
    split_of = dict.fromkeys(names, "train")
    split_of.update(dict.fromkeys(names[:val], "val"))
    split_of.update(dict.fromkeys(names[val : val + test], "test"))
    return [split_of[name] for name in objects]


def hold_out(
    objects: Sequence[str], splits: Sequence[str], seed: int, share: float
) -> tuple[list[str], str | None]:
    """Make a val split of a share of the training objects where there is none.

    The draw orders the training objects by SHA-256 of seed and name, so training and evaluation
    see the same val split, whatever the order of the rows. At least two objects are drawn (our
    choice); nothing is drawn where there are fewer than four.

    Args:
        objects: the object of each row.
        splits: the split of each row.
        seed: another seed gives another draw.
        share: of the training objects, in (0, 1).

    Returns:
        The split of each row, and a sentence that says what was drawn, None where nothing was.

    Example:
        >>> hold_out(list("abcdef"), ["train"] * 5 + ["test"], seed=0, share=0.1)[0]
        ['train', 'train', 'val', 'val', 'train', 'test']
    """
    training = {name for name, split in zip(objects, splits, strict=True) if split == "train"}
    if "val" in splits or len(training) < 4:
        return list(splits), None
    count = max(2, round(share * len(training)))
    held = set(sorted(training, key=lambda name: _rank(seed, name))[:count])
    drawn = [
        "val" if split == "train" and name in held else split
        for name, split in zip(objects, splits, strict=True)
    ]
    return drawn, (
        f"no val split: {count:,} of {len(training):,} training objects "
        f"({drawn.count('val'):,} images) are held out as val, drawn by seed {seed}"
    )


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()


def open_features(path: Path, rows: Sequence[int]) -> npt.NDArray[np.floating[Any]]:
    """Open a feature matrix and check the rows that are used.

    Args:
        path: an ``.npy`` file with a 2-d array of floats, one image vector a row.
        rows: the rows that the data set uses.

    Returns:
        The memory-mapped matrix ``[n, f]``.

    Raises:
        DataError: missing, not an ``.npy`` file, of another shape or type, too short, or with
            values that are not finite.
    """
    hint = "write it with numpy.save(path, array of float32 [images, dimensions])"
    if not path.is_file():
        raise DataError(f"{path} is missing: put it there, or leave feature_row out")
    try:
        matrix = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path} is not a readable .npy file ({reason}): {hint}") from error
    if not isinstance(matrix, np.ndarray):
        matrix.close()
        raise DataError(f"{path} is an archive of arrays, not one .npy array: {hint}")
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise DataError(f"{path} has shape {matrix.shape}, not [images, dimensions]: {hint}")
    if not np.issubdtype(matrix.dtype, np.floating):
        raise DataError(f"{path} holds {matrix.dtype}, not floating point numbers: {hint}")
    used = np.asarray(rows, dtype=np.int64)
    if used.size and used.max() >= len(matrix):
        raise DataError(
            f"{path} has {len(matrix)} rows, but feature_row goes up to {used.max()} "
            "(rows count from 0): the file belongs to another manifest, or rows are missing"
        )
    for start in range(0, used.size, _CHECK_ROWS):
        block = used[start : start + _CHECK_ROWS]
        with np.errstate(over="ignore"):
            finite = np.isfinite(np.asarray(matrix[block], dtype=np.float32)).all(axis=1)
        if not finite.all():
            bad = int(block[np.flatnonzero(~finite)[0]])
            raise DataError(
                f"{path} row {bad} holds NaN or infinity: compute that vector again, "
                "or remove its image from the manifest"
            )
    return matrix


def require_images(dataset: RetrievalDataset) -> None:
    """Check that there is something to look at: features, or at least one image file.

    Raises:
        DataError: there are no features and not one image file exists.
    """
    if dataset.has_features or any(map(file_exists, dataset.image_paths)):
        return
    raise DataError(
        f"none of the {len(dataset)} images of {dataset.name} exists (the first would be "
        f"{dataset.image_paths[0]}): image paths are relative to the manifest's folder"
    )
