"""What CUB and Flowers share: captions in text files and class lists (Reed et al. 2016)."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mmref.data.dataset import RetrievalDataset, build_table, file_exists
from mmref.data.readers.base import hold_out
from mmref.data.readers.class_lists import ClassLists
from mmref.data.readers.cleaning import CaptionCleaner
from mmref.data.readers.places import missing_folders, no_images, shown
from mmref.data.readers.split_files import SplitFile
from mmref.errors import DataError, PathError

CAPTIONS_AN_IMAGE = 10
VAL_SHARE = 0.1  # of the training classes, where the lists give no val: our choice
_TEXT_FOLDERS = ("text_c10", "text")


@dataclass
class ClassImages:
    """One row for each image, before it has captions.

    Attributes:
        images: paths relative to the image folder.
        classes: the class folder's name of each.
        stems: the image's name without suffix, as its caption file is called.
        metadata: further columns.
    """

    images: list[str] = field(default_factory=list)
    classes: list[str] = field(default_factory=list)
    stems: list[str] = field(default_factory=list)
    metadata: dict[str, list[Any]] = field(default_factory=dict)


class ReedReader(ABC):
    """Reads images with captions in ``text_c10/<class>/<image>.txt`` and splits of classes.

    Captions and class lists may lie in the set's folder, in the folder above it, or in a folder
    of one of the set's names beside it. The object is the class.

    Attributes:
        name: the format's name.
        title: the set's own name.
        folders: names under which the set's folders are found.
        image_folders: names of the folder of images.
        class_pattern: what a class folder is called.
    """

    name: str
    title: ClassVar[str]
    folders: ClassVar[tuple[str, ...]]
    image_folders: ClassVar[tuple[str, ...]]
    class_pattern: ClassVar[re.Pattern[str]]

    def recognises(self, path: Path) -> bool:
        """A folder with captions in class folders of this set, in it or beside its images."""
        return path.is_dir() and self._find_captions(self._places(path.absolute())) is not None

    @abstractmethod
    def list_images(self, folder: Path, captions: Path) -> ClassImages:
        """The images, from a list or from the folders.

        Args:
            folder: the folder of images.
            captions: the folder of caption files.
        """

    @abstractmethod
    def class_names(self, classes: list[str], places: list[Path]) -> dict[str, str]:
        """A name for people for each class folder."""

    def read(self, path: Path, seed: int, splits: Path | None = None) -> RetrievalDataset:
        """Read captions, classes and splits; pixels are not touched.

        Args:
            path: the set's folder, or the folder above it.
            seed: draws the classes that are held out as val where the lists give none.
            splits: a split file in place of the class lists, by class or image.

        Raises:
            PathError: not a folder.
            DataError: images, captions or lists are missing or contradict each other.
        """
        if not path.is_dir():
            raise PathError(f"{path} is a file: name the folder of {self.title}")
        places = self._places(path.absolute())
        captions = self._captions_folder(places, path)
        folder = self._images_folder(places, path)
        rows = self.list_images(folder, captions)
        if not rows.images:
            raise DataError(f"{path} holds no image of {self.title}: check the path")
        if splits is None:
            lists = ClassLists.read(
                [captions.parent, *places], sorted(set(rows.classes)), self.title
            )
            split_of: list[str | None] = [lists.split_of.get(name) for name in rows.classes]
            notes = list(lists.notes)
        else:
            assigned, notes = SplitFile.read(splits).assign(rows.images, rows.classes)
            split_of = [*assigned]
        return self._finish(rows, split_of, notes, folder, captions, places, seed)

    def _finish(
        self,
        rows: ClassImages,
        split_of: list[str | None],
        notes: list[str],
        folder: Path,
        captions: Path,
        places: list[Path],
        seed: int,
    ) -> RetrievalDataset:
        notes.insert(0, f"captions from {captions.name}/, images from {folder.name}/")
        kept = [row for row, split in enumerate(split_of) if split is not None]
        if len(kept) < len(split_of):
            lost = {rows.classes[row] for row, split in enumerate(split_of) if split is None}
            notes.append(
                f"classes in no list, left out: {len(lost)} ({shown(sorted(lost))}), with "
                f"{len(split_of) - len(kept):,} images"
            )
        said = read_captions(captions, rows, kept, notes)
        silent = {row for row in kept if not said[row] and split_of[row] == "train"}
        if silent:
            notes.append(f"train images without a caption left out: {len(silent):,}")
            kept = [row for row in kept if row not in silent]
        classes = [rows.classes[row] for row in kept]
        splits = [str(split_of[row]) for row in kept]
        _refuse_classes_in_two_splits(classes, splits, self.title)
        drawn, sentence = hold_out(classes, splits, seed, VAL_SHARE)
        if sentence:
            notes.append(f"{sentence}; --splits FILE names others")
        images = [rows.images[row] for row in kept]
        if not any(file_exists(folder / image) for image in images):
            hint = f"put the {self.title} images there, in the folder {self.image_folders[0]}"
            raise no_images(self.title, images or rows.images, [folder], hint)
        notes += missing_folders(folder, images)
        names = self.class_names(sorted(set(classes)), places)
        metadata: dict[str, Any] = {"class_name": [names[name] for name in classes]}
        for column, values in rows.metadata.items():
            metadata[column] = [values[row] for row in kept]
        table = build_table(images, [said[row] for row in kept], classes, drawn, metadata=metadata)
        return RetrievalDataset(
            table, folder, self.title, self.name, notes=tuple(notes), protocol="class"
        )

    def _places(self, path: Path) -> list[Path]:
        """Folders in which the set's parts may lie, the given one first."""
        found = [path / name for name in self.folders if (path / name).is_dir()]
        inner = [path, *found, *(folder / name for folder in found for name in self.folders)]
        beside = [path.parent / name for name in self.folders]
        above = [path.parent] if path.name in self.folders else []
        places = [*inner, *(beside if above else []), *above]
        return [place for place in dict.fromkeys(places) if place.is_dir()]

    def _find_captions(self, places: list[Path]) -> Path | None:
        folders = (place / name for place in places for name in _TEXT_FOLDERS)
        return next((f for f in folders if any(class_folders(f, self.class_pattern))), None)

    def _captions_folder(self, places: list[Path], path: Path) -> Path:
        found = self._find_captions(places)
        if found is not None:
            return found
        raise DataError(
            f"{path} holds no captions of {self.title}: put the folder text_c10/ (class folders of "
            "text files, ten captions an image, Reed et al. 2016) into it; it comes apart from "
            "the images"
        )

    def _images_folder(self, places: list[Path], path: Path) -> Path:
        for place in places:
            for name in self.image_folders:
                if (place / name).is_dir():
                    return place / name
        raise DataError(
            f"{path} holds no images of {self.title}: put the folder {self.image_folders[0]}/ "
            "into it"
        )


def class_folders(folder: Path, pattern: re.Pattern[str]) -> Iterator[str]:
    """Names of the class folders in a folder, unsorted; none where it does not exist."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if pattern.fullmatch(entry.name) and entry.is_dir():
                    yield entry.name
    except OSError:
        return


def file_names(folder: Path, suffixes: tuple[str, ...]) -> list[str]:
    """Sorted names of the files in a folder that end so; none where it does not exist."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.name.lower().endswith(suffixes))
    except OSError:
        return []


def read_captions(
    folder: Path, rows: ClassImages, kept: list[int], notes: list[str]
) -> dict[int, list[str]]:
    """The cleaned captions of these rows, one a line in their files; what is odd goes to notes."""
    cleaner = CaptionCleaner()
    said: dict[int, list[str]] = {}
    missing: list[str] = []
    odd = 0
    for row in kept:
        name = f"{rows.classes[row]}/{rows.stems[row]}.txt"
        try:
            text = (folder / name).read_bytes().decode("utf-8-sig", "replace")
        except OSError:
            missing.append(name)
            said[row] = []
            continue
        said[row] = cleaner.clean(text.rstrip("\r\n").split("\n"))
        odd += len(said[row]) != CAPTIONS_AN_IMAGE
    if len(missing) == len(kept):
        raise DataError(f"{folder} holds no caption file of the images (the first: {missing[0]})")
    if missing:
        notes.append(f"caption files missing: {len(missing):,} ({shown(missing)})")
    if odd:
        notes.append(f"images with other than {CAPTIONS_AN_IMAGE} captions: {odd:,}")
    notes += cleaner.notes()
    return said


def _refuse_classes_in_two_splits(classes: list[str], splits: list[str], title: str) -> None:
    split_of: dict[str, str] = {}
    for name, split in zip(classes, splits, strict=True):
        if split_of.setdefault(name, split) != split:
            raise DataError(
                f"class {name} of {title} stands in {split_of[name]} and in {split}: the splits "
                "must hold different classes"
            )
