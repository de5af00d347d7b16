"""Where the images of a published set lie, and which of their folders are missing."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmref.data.dataset import file_exists
from mmref.errors import DataError

_SAMPLES = 64
_SHOWN = 5


def image_path(text: str) -> str:
    r"""An image's path as written in a file, with forward slashes and without a leading ``./``.

    Example:
        >>> image_path(".\\cam_a\\1_0.png"), image_path("imgs//cam_a/1_0.png")
        ('cam_a/1_0.png', 'imgs/cam_a/1_0.png')
    """
    text = text.strip().replace("\\", "/")
    lead = "/" if text.startswith("/") else ""
    return lead + "/".join(part for part in text.split("/") if part not in ("", "."))


def image_root(images: Sequence[str], candidates: Iterable[Path]) -> Path | None:
    """The candidate under which most of a sample of the images exist; the first of equals.

    Args:
        images: paths as the set's file writes them.
        candidates: folders from which the paths may count.

    Returns:
        None when not one of the images exists under any of them.
    """
    folders = [folder for folder in dict.fromkeys(candidates) if folder.is_dir()]
    first = {name.rpartition("/")[0]: name for name in reversed(images)}  # one of each folder
    sample = [*spread(list(first.values())), *spread(images)]
    hits = [sum(file_exists(folder / name) for name in sample) for folder in folders]
    if any(hits):
        return folders[hits.index(max(hits))]
    whole = (f for f in folders if any(file_exists(f / name) for name in images))
    return next(whole, None)


def spread(names: Sequence[str]) -> Sequence[str]:
    """At most 64 of the names, evenly spread.

    Example:
        >>> len(spread([str(number) for number in range(1000)])), spread(["a", "b"])
        (63, ['a', 'b'])
    """
    return names[:: max(1, -(-len(names) // _SAMPLES))]


def missing_folders(root: Path, images: Sequence[str]) -> list[str]:
    """A note on the folders of images that are not there, the first ones named; else nothing.

    A folder stands for all that lie in it: when ``test`` is missing, ``test/0001`` is not named.
    """
    times = Counter(name.rpartition("/")[0] for name in images)
    known: dict[str, bool] = {}
    missing: Counter[str] = Counter()
    for folder, count in times.items():
        for part in re.finditer("[^/]+", folder):
            at = folder[: part.end()]
            if at not in known:
                known[at] = (root / at).is_dir()
            if not known[at]:
                missing[at] += count
                break
    if not missing:
        return []
    names = sorted(missing)
    return [
        f"image folders missing under {root}: {len(names):,} ({shown(names)}), with "
        f"{missing.total():,} of {len(images):,} images"
    ]


def shown(names: Sequence[str]) -> str:
    """The first five names and how many follow.

    Example:
        >>> shown(["a", "b"]), shown(list("abcdefg"))
        ('a, b', 'a, b, c, d, e and 2 more')
    """
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def no_images(title: str, images: Sequence[str], places: Iterable[Path], hint: str) -> DataError:
    """The error for a set whose captions are there and of whose images not one is."""
    looked = shown([str(place) for place in dict.fromkeys(places)])
    return DataError(
        f"none of the {len(images):,} images of {title} exists (the first: {images[0]}; looked "
        f"under {looked}): {hint}"
    )
