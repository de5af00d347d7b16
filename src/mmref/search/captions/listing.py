"""Which captions there are: those of SOURCEs, and text files beside the pictures of folders.

Beside ``a.jpg`` a file ``a.txt`` holds its captions, one a line (as LAION and image tools write
them).
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmref.data.dataset import RetrievalDataset
from mmref.errors import DataError
from mmref.search.ingest.listing import Source, as_dataset, list_images, whole_path
from mmref.search.records import Skipped

MOST_BYTES = 1 << 16
MOST_LETTERS = 8192
SUFFIX = ".txt"


@dataclass(slots=True)
class Described:
    """The captions of one picture.

    Attributes:
        image: its path, or its id where it has features only.
        source: name of the folder, file or SOURCE that they are from.
        sentences: each once, in order; the values say nothing.
    """

    image: str
    source: str
    sentences: dict[str, None] = field(default_factory=dict)


@dataclass
class CaptionListing:
    """All captions that were found.

    Attributes:
        described: by picture, in order; pictures without a caption are not in it.
        sources: names of the folders, files and SOURCEs that were listed.
        skipped: what is no caption, with reasons.
    """

    described: dict[str, Described] = field(default_factory=dict)
    sources: set[str] = field(default_factory=set)
    skipped: list[Skipped] = field(default_factory=list)

    def __len__(self) -> int:
        """Number of captions."""
        return sum(len(one.sentences) for one in self.described.values())

    def add(self, image: str, source: str, sentences: Sequence[str], where: str) -> None:
        """Add the usable ones among a picture's sentences; ``where`` names them in reasons."""
        if not _is_text(image):
            return  # no store holds such a picture
        for given in sentences:
            sentence = given.strip()
            reason = _unusable(sentence)
            if reason is not None:
                self.skipped.append(Skipped(where, reason))
            elif sentence:
                one = self.described.setdefault(image, Described(image, source))
                one.sentences[sentence] = None


def _unusable(sentence: str) -> str | None:
    if len(sentence) > MOST_LETTERS:
        return f"a caption of more than {MOST_LETTERS:,} letters"
    return None if _is_text(sentence) else "a caption that is no valid Unicode"


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def list_captions(
    sources: Sequence[Source], *, features: bool = False, leave_out: Path | None = None
) -> CaptionListing:
    """List the captions of ``sources``.

    Args:
        sources: as for ``mmref.search.ingest.listing.list_images``.
        features: whether the run encodes features, so that pictures may be ids.
        leave_out: a folder not to walk into (the store itself).

    Raises:
        PathError: a path does not exist or cannot be listed.
        DataError: a SOURCE cannot be used, or there is not one caption.
    """
    listing = CaptionListing()
    for source in sources:
        dataset = source if isinstance(source, RetrievalDataset) else as_dataset(source)
        if dataset is not None:
            _list_dataset(listing, dataset, features)
            continue
        listed = list_images([source], features=features, leave_out=leave_out)
        listing.sources |= listed.sources
        for found in listed.found:
            _list_beside(listing, found.place.path, found.place.source)
    if not listing.described:
        names = ", ".join(one.name if isinstance(one, RetrievalDataset) else str(one)
                          for one in sources)  # fmt: skip
        more = ""
        if listing.skipped:
            first = listing.skipped[0]
            more = f" ({len(listing.skipped)} skipped, the first in {first.path}: {first.reason})"
        raise DataError(
            f"no captions in {names}{more}: name a SOURCE that has some, or write them beside the "
            "pictures (a.txt beside a.jpg, one a line), or leave --captions out"
        )
    return listing


def _list_dataset(listing: CaptionListing, dataset: RetrievalDataset, features: bool) -> None:
    root = whole_path(str(dataset.root))
    listing.sources.add(root)
    for row, (path, sentences) in enumerate(
        zip(dataset.image_paths, dataset.captions, strict=True)
    ):
        only_id = features and (dataset.features_only or not path.is_file())
        image = dataset.images[row] if only_id else whole_path(str(path))
        listing.add(image, root, sentences, image)


def _list_beside(listing: CaptionListing, image: str, source: str) -> None:
    path = Path(image).with_suffix(SUFFIX)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return
        if status.st_size > MOST_BYTES:
            reason = f"captions of more than {MOST_BYTES >> 10} KB"
            listing.skipped.append(Skipped(os.fspath(path), reason))
            return
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        return
    except UnicodeDecodeError:
        listing.skipped.append(Skipped(os.fspath(path), "no text in UTF-8: save it as such"))
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "cannot be read"
        listing.skipped.append(Skipped(os.fspath(path), reason))
        return
    listing.add(image, source, lines, os.fspath(path))
