"""CUB-200-2011 (Wah et al. 2011) with the captions and splits of Reed et al. 2016."""

import re
from pathlib import Path

from mmref.data.readers.reed import ClassImages, ReedReader, class_folders, file_names
from mmref.errors import DataError

BOX = ("box_x", "box_y", "box_width", "box_height")
_SUFFIXES = (".jpg", ".jpeg", ".png")


class CubReader(ReedReader):
    """Reads CUB: ``images/<001.Class_Name>/``, ``images.txt``, ``bounding_boxes.txt``, captions.

    Bounding boxes become the metadata columns ``box_x``, ``box_y``, ``box_width``, ``box_height``
    in pixels, and the class's name ``class_name``.

    Example:
        >>> CubReader().class_names(["001.Black_footed_Crow"], [])
        {'001.Black_footed_Crow': 'Black footed Crow'}
    """

    name = "cub"
    title = "CUB-200-2011"
    folders = ("CUB_200_2011", "CUB-200-2011", "CUB", "cub", "birds", "cvpr2016_cub")
    image_folders = ("images",)
    class_pattern = re.compile(r"\d{3}\..+")

    def list_images(self, folder: Path, captions: Path) -> ClassImages:
        """The images of ``images.txt``, or those in the class folders where it is missing.

        Raises:
            DataError: a line of ``images.txt`` or ``bounding_boxes.txt`` is broken.
        """
        listed = folder.parent / "images.txt"
        rows = ClassImages()
        numbers: list[str] = []
        if listed.is_file():
            for line, (number, image) in _table(listed, 2):
                label, slash, name = image.partition("/")
                if not slash or not name or not self.class_pattern.fullmatch(label):
                    raise DataError(f"{listed} line {line}: {image!r} is not 001.Class/image.jpg")
                numbers.append(number)
                _add(rows, label, name)
        else:
            for label in sorted(class_folders(folder, self.class_pattern)):
                for name in file_names(folder / label, _SUFFIXES):
                    _add(rows, label, name)
        boxes = folder.parent / "bounding_boxes.txt"
        if numbers and boxes.is_file():
            known: dict[str, list[float]] = {}
            for line, (number, *values) in _table(boxes, 5):
                try:
                    known[number] = [float(value) for value in values]
                except ValueError:
                    raise DataError(f"{boxes} line {line}: a box is not four numbers") from None
            for at, column in enumerate(BOX):
                rows.metadata[column] = [known[n][at] if n in known else None for n in numbers]
        return rows

    def class_names(self, classes: list[str], places: list[Path]) -> dict[str, str]:
        """The folder's name without its number and underscores."""
        return {name: name.partition(".")[2].replace("_", " ") for name in classes}


def _add(rows: ClassImages, label: str, name: str) -> None:
    rows.images.append(f"{label}/{name}")
    rows.classes.append(label)
    rows.stems.append(name.rpartition(".")[0])


def _table(file: Path, width: int) -> list[tuple[int, list[str]]]:
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror}") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        cells = line.split()
        if cells and len(cells) != width:
            raise DataError(f"{file} line {number}: {len(cells)} cells, not {width}")
        if cells:
            rows.append((number, cells))
    return rows
