"""Oxford Flowers-102 (Nilsback et al. 2008) with the captions and splits of Reed et al. 2016."""

import re
from pathlib import Path

from mmref.data.readers.class_lists import class_number
from mmref.data.readers.reed import ClassImages, ReedReader, class_folders, file_names
from mmref.data.readers.split_files import load_json

NAMES_FILE = "cat_to_name.json"
_SUFFIXES = (".jpg", ".jpeg", ".png")


class FlowersReader(ReedReader):
    """Reads Flowers: ``jpg/image_00001.jpg`` flat or in class folders, and the captions.

    An image's class is the folder of its caption file, ``class_00001`` to ``class_00102``. Names
    for people come from ``cat_to_name.json`` (``{"1": "pink primrose", ...}``) where it is there.

    Example:
        >>> FlowersReader().class_names(["class_00012"], [])
        {'class_00012': 'class 12'}
    """

    name = "flowers"
    title = "Flowers-102"
    folders = (
        "102flowers",
        "flowers",
        "Flowers",
        "flowers-102",
        "flowers102",
        "Flowers102",
        "Oxford-102",
        "oxford-102",
        "oxford-flowers",
        "oxford_flowers",
        "oxford102",
        "cvpr2016_flowers",
    )
    image_folders = ("jpg", "images")
    class_pattern = re.compile(r"class_\d+")

    def list_images(self, folder: Path, captions: Path) -> ClassImages:
        """The images that have a caption file, whether or not they exist."""
        paths = {name.rpartition(".")[0]: name for name in file_names(folder, _SUFFIXES)}
        for label in class_folders(folder, self.class_pattern):
            for name in file_names(folder / label, _SUFFIXES):
                paths[name.rpartition(".")[0]] = f"{label}/{name}"
        rows = ClassImages()
        for label in sorted(class_folders(captions, self.class_pattern)):
            for name in file_names(captions / label, (".txt",)):
                stem = name.rpartition(".")[0]
                rows.images.append(paths.get(stem, f"{stem}.jpg"))
                rows.classes.append(label)
                rows.stems.append(stem)
        return rows

    def class_names(self, classes: list[str], places: list[Path]) -> dict[str, str]:
        """Names of ``cat_to_name.json``, or "class 12"."""
        file = next((p / NAMES_FILE for p in places if (p / NAMES_FILE).is_file()), None)
        content = load_json(file)[0] if file is not None else {}
        known = content if isinstance(content, dict) else {}
        named = {}
        for label in classes:
            number = class_number(label)
            name = known.get(str(number))
            named[label] = name if isinstance(name, str) and name.strip() else f"class {number}"
        return named
