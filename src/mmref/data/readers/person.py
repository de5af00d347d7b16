"""What the readers of the person sets share: finding the JSON, the images and the splits."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from mmref.data.dataset import RetrievalDataset, build_table
from mmref.data.readers.base import hold_out
from mmref.data.readers.person_items import PersonItems
from mmref.data.readers.places import image_path, image_root, missing_folders, no_images
from mmref.data.readers.split_files import SPLITS
from mmref.errors import DataError, PathError

VAL_SHARE = 0.05  # of the training persons; RSTPReid's own val split is 5 % of its persons
_PEEK = 1 << 16
_FIRST_PATH = re.compile(r'"(file_path|img_path|image)"\s*:\s*"((?:[^"\\]|\\.)*)"')
_DERIVED = re.compile(r"(?:(?P<prefix>[a-z]+)_)?(?P<split>train|val|test)(?:_reid)?\.json")


class PersonReader:
    """Reads a person set: one JSON list of images, or one for each split, and ``imgs/`` beside.

    The path may be the set's folder, the folder above it, or the JSON itself. Derived files
    ``{train,val,test}_reid.json`` and ``<prefix>_{train,val,test}.json`` are read together,
    whichever of them is named. Subclasses say what tells their set apart.

    Attributes:
        name: the format's name.
        title: the set's own name, also its folder's.
        folders: names under which the folder is found in the folder above.
        files: names of the whole set's JSON, the preferred one first.
        prefix: of derived files.
        hint: what the first image path of a derived file looks like.
        where: what to do when there are no images.
    """

    name: str
    title: ClassVar[str]
    folders: ClassVar[tuple[str, ...]]
    files: ClassVar[tuple[str, ...]]
    prefix: ClassVar[str]
    hint: ClassVar[re.Pattern[str]]
    where: ClassVar[str]

    def recognises(self, path: Path) -> bool:
        """By the names of the files; of derived and unknown JSON files by the first image path."""
        if path.is_dir():
            return any(self._own(file) for file, _ in self._listed(path))
        return path.suffix.lower() == ".json" and self._own(path)

    def read(self, path: Path, seed: int, splits: Path | None = None) -> RetrievalDataset:
        """Read captions, persons and splits; pixels are not touched.

        Args:
            path: the set's folder, the folder above it, or the JSON.
            seed: draws the persons that are held out as val where the set has none.
            splits: a split file in place of the set's own splits.

        Raises:
            PathError: there is no JSON of this set.
            DataError: an item is unusable, splits are missing or leak, or not one image exists.
        """
        files = self._files(path)
        items = PersonItems(self.title)
        for file, split in files:
            items.read(file, split)
        first = files[0][0]
        items.settle_splits(first, splits, f"{self.name}:{path}?splits=FILE")
        items.drop_silent_training_rows()
        folder = first.absolute().parent
        root = self._root(folder, items.images)
        return self._finish(items, root, files, seed)

    def _finish(
        self, items: PersonItems, root: Path, files: list[tuple[Path, str | None]], seed: int
    ) -> RetrievalDataset:
        splits, drawn = hold_out(items.objects, items.splits, seed, VAL_SHARE)
        notes = [f"read from {', '.join(file.name for file, _ in files)}", *items.notes]
        if drawn:
            notes.append(f"{drawn}; --splits FILE names others")
        if not root.is_relative_to(files[0][0].absolute().parent):
            notes.append(f"images are read from {root}, not from beside {files[0][0].name}")
        notes += missing_folders(root, items.images)
        try:
            captions = [row[1] for row in items.rows]
            table = build_table(items.images, captions, items.objects, splits)
        except UnicodeEncodeError:
            raise DataError(
                f"{files[0][0]} holds half a surrogate pair (\\ud800...) in a path or id: not text"
            ) from None
        return RetrievalDataset(
            table, root, self.title, self.name, notes=tuple(notes), protocol="person"
        )

    def _root(self, folder: Path, images: list[str]) -> Path:
        above = folder.parent
        places = [folder, above]
        places += [base / name for base in (folder, above) for name in self.folders]
        candidates = [place for base in places for place in (base / "imgs", base, base / "images")]
        root = image_root(images, candidates)
        if root is None:
            raise no_images(self.title, images, [folder / "imgs", *candidates], self.where)
        return root

    def _own(self, file: Path) -> bool:
        """Whether a JSON file is of this set."""
        if file.name in self.files:
            return True
        match = _DERIVED.fullmatch(file.name)
        if match and match["prefix"]:
            return match["prefix"] == self.prefix
        return self._looks_own(file)

    def _looks_own(self, file: Path) -> bool:
        names = {part.name for part in (file.absolute().parent, file.absolute().parent.parent)}
        if names & set(self.folders):
            return True
        try:
            with file.open("rb") as opened:
                start = opened.read(_PEEK).decode("utf-8", "replace")
        except OSError:
            return False
        match = _FIRST_PATH.search(start)
        if match is None:
            return False
        path = image_path(match[2].replace("\\\\", "/").replace("\\/", "/"))
        return bool(self.hint.match(path.removeprefix("imgs/")))

    def _listed(self, folder: Path) -> Iterator[tuple[Path, str | None]]:
        """The first whole or derived files in a folder, or in one of the set's names in it."""
        for place in (folder, *(folder / name for name in self.folders)):
            found = list(self._in(place))
            if found:
                yield from found
                return

    def _in(self, folder: Path) -> Iterator[tuple[Path, str | None]]:
        for name in self.files:
            if (folder / name).is_file():
                yield folder / name, None
                return
        for pattern in (f"{self.prefix}_{{}}.json", "{}_reid.json"):
            parts = [(folder / pattern.format(split), split) for split in SPLITS]
            if any(file.is_file() for file, _ in parts):
                yield from ((file, split) for file, split in parts if file.is_file())
                return

    def _files(self, path: Path) -> list[tuple[Path, str | None]]:
        if path.is_dir():
            found = list(self._listed(path))
            if not found:
                raise PathError(
                    f"{path} holds no {self.title}: no {' or '.join(self.files)}, "
                    f"train_reid.json or {self.prefix}_train.json there, nor in {self.title}/"
                )
            return found
        match = _DERIVED.fullmatch(path.name)
        if match is None:
            return [(path, None)]
        part = match["split"]
        named = {split: path.with_name(_renamed(path.name, part, split)) for split in SPLITS}
        return [(file, split) for split, file in named.items() if file.is_file()]


def _renamed(name: str, old: str, new: str) -> str:
    """``cuhk_train.json`` -> ``cuhk_val.json``: the last mention of the split is replaced."""
    return new.join(name.rsplit(old, 1))
