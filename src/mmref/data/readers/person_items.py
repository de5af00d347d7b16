"""The items of a person set's JSON lists: checked one by one, gathered into columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmref.data.readers.cleaning import CaptionCleaner
from mmref.data.readers.places import image_path, shown
from mmref.data.readers.split_files import (
    HOW,
    PATH_KEYS,
    SPLITS,
    SplitFile,
    known_split,
    load_json,
    object_name,
)
from mmref.data.readers.tables import kind_of
from mmref.errors import DataError

_IDS = ("id", "image_id")  # in derived files image_id is the person
_CAPTIONS = ("captions", "caption")


@dataclass
class PersonItems:
    """Items of one or several JSON lists, one row for each image of a split.

    An item has a path (``file_path``, ``img_path`` or ``image``), a person (``id`` or
    ``image_id``) and captions (``captions`` or ``caption``, a list or one string); all other keys
    (``processed_tokens``, ``captions_bt``) are ignored. Items of one image, person and split are
    put together, as derived files hold one item for each caption.

    Attributes:
        title: the set's name in messages.
        rows: ``[image, captions, object, split]``; the split is None where the file says none.
    """

    title: str
    rows: list[list[Any]] = field(default_factory=list)
    cleaner: CaptionCleaner = field(default_factory=CaptionCleaner)
    notes: list[str] = field(default_factory=list)
    _row_of: dict[tuple[str, str, str | None], int] = field(default_factory=dict)
    _back_translated: int = 0

    @property
    def images(self) -> list[str]:
        """The image of each row."""
        return [row[0] for row in self.rows]

    @property
    def objects(self) -> list[str]:
        """The person of each row."""
        return [row[2] for row in self.rows]

    @property
    def splits(self) -> list[Any]:
        """The split of each row."""
        return [row[3] for row in self.rows]

    def read(self, file: Path, split: str | None) -> None:
        """Add the items of one file.

        Args:
            file: a JSON list.
            split: the split of all of its items, where the file's name says it.

        Raises:
            DataError: the file or an item is unusable.
        """
        content, lossy = load_json(file)
        if not isinstance(content, list):
            raise DataError(
                f"{file} holds {kind_of(content)}, not a list of images: is it {self.title}?"
            )
        if not content:
            raise DataError(f"{file} is an empty list: fetch it again")
        if lossy:
            self.notes.append(f"{file.name} is no whole UTF-8: lost characters are cleaned")
        for number, item in enumerate(content, start=1):
            if not isinstance(item, dict):
                raise DataError(f"{file} item {number}: {kind_of(item)}, not an object")
            self._add(file, number, item, split)

    def _add(self, file: Path, number: int, item: dict[str, Any], split: str | None) -> None:
        def fail(what: str) -> DataError:
            return DataError(f"{file} item {number}: {what}")

        path = self._value(fail, item, PATH_KEYS)
        image = image_path(path) if isinstance(path, str) else ""
        if not image or "\0" in image:
            raise fail(f"the image's path is {kind_of(path)}, not the path of a file")
        given = self._value(fail, item, _IDS)
        name = object_name(given)
        if name is None:
            raise fail(f"the id is {kind_of(given)}, not a whole number or a name")
        texts = self._value(fail, item, _CAPTIONS)
        if isinstance(texts, str):
            texts = [texts]
        if not isinstance(texts, list):
            raise fail(f"captions must be a list of strings, not {kind_of(texts)}")
        for text in texts:
            if not isinstance(text, str):
                raise fail(f"captions must be strings, but one is {kind_of(text)}")
        self._back_translated += "captions_bt" in item
        own = item.get("split")
        if own is not None:
            own = known_split(own)
            if own is None:
                raise fail(f"split is {kind_of(item['split'])}, not train, val or test")
            if split is not None and own != split:
                raise fail(f"split is {own!r}, but the file's name says {split}: one is wrong")
        key = (image, name, split or own)
        if key in self._row_of:
            self.rows[self._row_of[key]][1].extend(self.cleaner.clean(texts))
        else:
            self._row_of[key] = len(self.rows)
            self.rows.append([image, self.cleaner.clean(texts), name, split or own])

    def _value(self, fail: Any, item: dict[str, Any], names: tuple[str, ...]) -> Any:
        for name in names:
            if name in item:
                return item[name]
        present = ", ".join(map(str, item)) or "none"
        raise fail(f"no {names[0]!r} (keys present: {present})")

    def settle_splits(self, file: Path, split_file: Path | None, splits_to: str) -> None:
        """Give every row its split, and see that no person is in two.

        Args:
            file: the first file, for messages.
            split_file: where the splits stand, in place of the items' own.
            splits_to: a SOURCE that names a split file, as an example.

        Raises:
            DataError: there are no splits, or a person is in two of them.
        """
        if split_file is not None:
            splits, notes = SplitFile.read(split_file).assign(self.images, self.objects)
            for row, split in zip(self.rows, splits, strict=True):
                row[3] = split
            self.notes += notes
        silent = [row for row in self.rows if row[3] is None]
        if len(silent) == len(self.rows):
            raise DataError(
                f"{file} says of none of its {len(self.rows):,} images whether it is train, val or "
                "test (the authors mail the captions without that), and no split is guessed: "
                f"get the published splits (reid_raw.json has them) and name them: {HOW}, as in "
                f'"{splits_to}"'
            )
        if silent:
            raise DataError(
                f"{file}: no split for {len(silent):,} of {len(self.rows):,} images (the first: "
                f"{silent[0][0]}): name them all: {HOW}"
            )
        self._leave_out_copied_val()
        self._refuse_persons_in_two_splits(file)

    def _leave_out_copied_val(self) -> None:
        """Public code chooses the epoch on test: its val file may be the test file again."""
        images = {split: {row[0] for row in self.rows if row[3] == split} for split in SPLITS}
        if images["val"] and images["val"] <= images["test"]:
            self.rows = [row for row in self.rows if row[3] != "val"]
            self.notes.append(
                f"the {len(images['val']):,} val images are test images: this val is left out"
            )

    def _refuse_persons_in_two_splits(self, file: Path) -> None:
        persons = {split: {row[2] for row in self.rows if row[3] == split} for split in SPLITS}
        pairs = [("train", "val"), ("train", "test"), ("val", "test")]
        shared = {(a, b): persons[a] & persons[b] for a, b in pairs if persons[a] & persons[b]}
        if not shared:
            return
        if _counted_anew([names for names in persons.values() if names]):
            for row in self.rows:
                row[2] = f"{row[3]}/{row[2]}"
            self.notes.append(
                "the ids of each split count anew: persons are named train/0, test/0 and so on, "
                "as different people"
            )
            return
        (one, two), names = next(iter(shared.items()))
        raise DataError(
            f"{file}: {len(names):,} persons stand in {one} and in {two} (ids "
            f"{shown(sorted(names, key=lambda name: (len(name), name)))}), so figures would be too "
            "good: mend the file, or name splits with --splits FILE"
        )

    def drop_silent_training_rows(self) -> None:
        """Leave out train rows without captions; those of val and test stay in the gallery."""
        kept = [row for row in self.rows if row[1] or row[3] != "train"]
        silent = sum(not row[1] for row in kept)
        if len(kept) < len(self.rows):
            count = len(self.rows) - len(kept)
            self.notes.append(f"train images without a caption left out: {count:,}")
        if silent:
            self.notes.append(f"val and test images without a caption, in the gallery: {silent:,}")
        self.rows = kept
        self.notes += self.cleaner.notes()
        if self._back_translated:
            self.notes.append(f"captions_bt (back-translations) ignored: {self._back_translated:,}")


def _counted_anew(groups: Sequence[set[str]]) -> bool:
    """Whether each group of ids is a run of whole numbers from the same first one, 0 or 1."""
    firsts = set[int]()
    for names in groups:
        if not all(name.isdigit() for name in names):
            return False
        numbers = {int(name) for name in names}
        firsts.add(min(numbers))
        if max(numbers) - min(numbers) + 1 != len(numbers):
            return False
    return len(groups) > 1 and len(firsts) == 1 and firsts <= {0, 1}
