"""The field's five sets in miniature, with the quirks of real copies: folders that readers read.

Each ``write_*`` draws small pictures whose colours its captions name, so that a training learns
something, and returns the set's folder. ``change`` may alter what is written before it is written.
"""

import json
from collections.abc import Callable, Iterable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Items = list[dict[str, Any]]
Change = Callable[[Items], Items | None]

COLOURS = {
    "red": (210, 30, 30),
    "green": (30, 180, 40),
    "blue": (30, 50, 210),
    "white": (245, 245, 245),
    "black": (10, 10, 10),
    "yellow": (235, 220, 30),
}
LOOKS = list(permutations(COLOURS, 2))  # upper and lower colour: 30 objects that differ
CUHK_FOLDERS = ("CUHK01", "CUHK03", "Market", "cam_a", "cam_b", "test_query", "train_query")


def draw(
    file: Path, look: tuple[str, str], size: tuple[int, int] = (24, 12), seed: int = 0
) -> None:
    """A picture of two colours, one above the other, height x width, a little noisy."""
    height, width = size
    pixels = np.empty((height, width, 3))
    pixels[: height // 2], pixels[height // 2 :] = COLOURS[look[0]], COLOURS[look[1]]
    pixels += np.random.default_rng(seed).normal(0, 12, pixels.shape)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, quality=95)


def person_captions(look: tuple[str, str], count: int) -> list[str]:
    """What is said of a person."""
    upper, lower = look
    said = [
        f"The person wears a {upper} shirt and {lower} trousers.",
        f"Someone in {lower} trousers with a {upper} shirt.",
    ]
    return said[:count]


def split_of(number: int, objects: int, *, val: bool = True) -> str:
    """Half of the objects are train, a quarter val, a quarter test; or two thirds and a third."""
    if not val:
        return "train" if number < objects * 2 // 3 else "test"
    return "train" if number < objects // 2 else "val" if number < objects * 3 // 4 else "test"


def write_json(file: Path, content: Any) -> Path:
    """Write JSON as it is, folders made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def write_person_set(
    folder: Path,
    file: str,
    items: Items,
    *,
    change: Change | None = None,
    below: str = "imgs",
    draws: bool = True,
) -> Path:
    """Draw the images of items (each has ``look``, taken out again) and write the JSON."""
    path_key = "img_path" if "img_path" in items[0] else "file_path"
    for number, item in enumerate(items):
        look = item.pop("look")
        if draws:
            draw(folder / below / item[path_key], look, seed=number)
    changed = change(items) if change else None
    write_json(folder / file, items if changed is None else changed)
    return folder


def cuhk_items(persons: int = 12, images: int = 2, *, quirks: bool = False) -> Items:
    """Items of ``reid_raw.json``: ids from 1, two captions, seven folders, tokens to ignore."""
    items: Items = []
    for number in range(persons):
        for view in range(images):
            place = CUHK_FOLDERS[(number + view) % len(CUHK_FOLDERS)]
            captions = person_captions(LOOKS[number], 2)
            items.append(
                {
                    "split": split_of(number, persons),
                    "captions": captions,
                    "file_path": f"{place}/{number + 1:04d}_{view}.png",
                    "processed_tokens": [text.lower().split() for text in captions],
                    "id": number + 1,
                    "look": LOOKS[number],
                }
            )
    if quirks:
        items[0]["id"] = str(items[0]["id"])  # a numeric string among numbers
        items[0]["captions"] = [items[0]["captions"][0]] * 2  # repeated
        items[1]["captions"].append(" \t")  # blank
        items[2]["captions"][0] = "The person\ufffds shirt is green.\r\n"
        items[3]["captions"] = items[3]["captions"][0]  # a string for a list
    return items


def write_cuhk_pedes(
    folder: Path,
    *,
    persons: int = 12,
    images: int = 2,
    quirks: bool = False,
    change: Change | None = None,
    file: str = "reid_raw.json",
    below: str = "imgs",
) -> Path:
    """``<folder>/reid_raw.json`` and ``imgs/<camera>/``; ``below=""`` is a copy without imgs/."""
    items = cuhk_items(persons, images, quirks=quirks)
    return write_person_set(folder, file, items, change=change, below=below)


def without_splits(items: Items) -> None:
    """What ``caption_all.json`` lacks."""
    for item in items:
        del item["split"]


def write_caption_all(folder: Path, **options: Any) -> Path:
    """CUHK-PEDES as it is mailed today: no split anywhere."""
    return write_cuhk_pedes(folder, file="caption_all.json", change=without_splits, **options)


def write_icfg_pedes(
    folder: Path,
    *,
    persons: int = 12,
    images: int = 2,
    change: Change | None = None,
    file: str = "ICFG-PEDES.json",
) -> Path:
    """Ids from 0, one caption, folders of persons below train/ and test/, no val."""
    items: Items = []
    for number in range(persons):
        split = split_of(number, persons, val=False)
        for view in range(images):
            items.append(
                {
                    "split": split,
                    "captions": person_captions(LOOKS[number], 1),
                    "file_path": f"{split}/{number:04d}/{number:04d}_{view:03d}_morning.jpg",
                    "processed_tokens": [["the"]],
                    "id": number,
                    "look": LOOKS[number],
                }
            )
    return write_person_set(folder, file, items, change=change)


def write_rstpreid(
    folder: Path, *, persons: int = 12, images: int = 2, change: Change | None = None
) -> Path:
    """``img_path`` in place of file_path, all images in one folder, two captions."""
    items: Items = []
    for number in range(persons):
        for view in range(images):
            items.append(
                {
                    "id": number,
                    "img_path": f"{number:04d}_c{view + 1}_{view:04d}.jpg",
                    "captions": person_captions(LOOKS[number], 2),
                    "split": split_of(number, persons),
                    "look": LOOKS[number],
                }
            )
    return write_person_set(folder, "data_captions.json", items, change=change)


def write_derived(
    folder: Path, *, persons: int = 12, lead: str = "", name: str = "{}_reid"
) -> Path:
    """``{train,val,test}_reid.json`` of CUHK-PEDES, with captions_bt in train."""
    parts: dict[str, Items] = {"train": [], "val": [], "test": []}
    for number, item in enumerate(cuhk_items(persons)):
        draw(folder / "imgs" / item["file_path"], item["look"], seed=number)
        kept = {"id": item["id"], "captions": item["captions"]}
        kept["file_path"] = lead + item["file_path"]
        if item["split"] == "train":
            kept["captions_bt"] = item["captions"]
        parts[item["split"]].append(kept)
    for split, items in parts.items():
        write_json(folder / f"{name.format(split)}.json", items)
    return folder


def write_pairs(folder: Path, *, persons: int = 12) -> Path:
    """``image``, ``image_id``, ``caption``: an item a caption in train, a list in val and test."""
    parts: dict[str, Items] = {"train": [], "val": [], "test": []}
    for number, item in enumerate(cuhk_items(persons)):
        draw(folder / "imgs" / item["file_path"], item["look"], seed=number)
        image = {"image": f"CUHK-PEDES/imgs/{item['file_path']}", "image_id": item["id"]}
        if item["split"] == "train":
            parts["train"] += [{**image, "caption": text} for text in item["captions"]]
        else:
            parts[item["split"]].append({**image, "caption": item["captions"]})
    for split, items in parts.items():
        write_json(folder / f"cuhk_{split}.json", items)
    return folder


def write_lines(file: Path, lines: Iterable[str]) -> Path:
    """A text file, one line each, folders made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes("".join(f"{line}\n" for line in lines).encode("utf-8"))
    return file


def class_captions(look: tuple[str, str], thing: str, view: int) -> list[str]:
    """Ten captions of one image of a class."""
    upper, lower = look
    said = [
        f"this {thing} is {upper} above and {lower} below",
        f"a {thing} with a {lower} lower half",
        f"the upper half of the {thing} is {upper}",
        f"a {upper} and {lower} {thing}",
        f"{lower} under {upper}, view {view}",
    ]
    return [f"{text} ." for text in said * 2]


def write_class_lists(folder: Path, classes: list[str], *, val: bool = True) -> None:
    """``trainvalclasses.txt`` and ``testclasses.txt``, and the two parts of the first."""
    cut, end = len(classes) // 2, len(classes) * 3 // 4
    write_lines(folder / "trainvalclasses.txt", classes[:end])
    write_lines(folder / "testclasses.txt", classes[end:])
    if val:
        write_lines(folder / "trainclasses.txt", classes[:cut])
        write_lines(folder / "valclasses.txt", classes[cut:end])


def write_cub(
    folder: Path,
    *,
    classes: int = 12,
    images: int = 3,
    val: bool = True,
    text: str = "text_c10",
    captions_in: str = "",
    quirks: bool = False,
) -> Path:
    """``CUB_200_2011/images/<001.Class>/``, images.txt, bounding_boxes.txt; captions, lists."""
    home, words = folder / "CUB_200_2011", folder / captions_in
    names = [f"{n + 1:03d}.Drawn_{a}_{b}" for n, (a, b) in enumerate(LOOKS[:classes])]
    listed, boxes = [], []
    for number, name in enumerate(names):
        for view in range(images):
            stem = f"Drawn_{view:04d}_{number:03d}"
            draw(home / "images" / name / f"{stem}.jpg", LOOKS[number], (16, 16), seed=view)
            listed.append(f"{len(listed) + 1} {name}/{stem}.jpg")
            boxes.append(f"{len(boxes) + 1} 2.0 3.0 10.0 11.0")
            said = class_captions(LOOKS[number], "bird", view)
            if quirks and number == view == 0:
                said[1:3] = ["", "a bird\ufffds wing is green"]
            write_lines(words / text / name / f"{stem}.txt", said)
    write_lines(home / "images.txt", listed)
    write_lines(home / "bounding_boxes.txt", boxes)
    write_class_lists(words, names, val=val)
    return folder


def write_flowers(
    folder: Path,
    *,
    classes: int = 12,
    images: int = 3,
    val: bool = True,
    text: str = "text_c10",
    nested: bool = False,
) -> Path:
    """``jpg/image_00001.jpg`` flat, or in class folders; ``text_c10/class_00001/``; lists."""
    names = [f"class_{n + 1:05d}" for n in range(classes)]
    numbers = np.random.default_rng(0).permutation(classes * images) + 1
    for at, number in enumerate(numbers):
        label, look = names[at // images], LOOKS[at // images]
        stem = f"image_{number:05d}"
        place = folder / "jpg" / label if nested else folder / "jpg"
        draw(place / f"{stem}.jpg", look, (16, 16), seed=at)
        write_lines(folder / text / label / f"{stem}.txt", class_captions(look, "flower", at))
    write_class_lists(folder, names, val=val)
    return folder
