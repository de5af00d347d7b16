from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmref.data.dataset import RetrievalDataset
from mmref.data.readers.class_lists import ClassLists
from mmref.errors import DataError, PathError, UsageError

from .layouts import write_class_lists, write_cub, write_flowers, write_json, write_lines

load = RetrievalDataset.load
Write = Callable[..., Path]


def classes(data: RetrievalDataset) -> dict[str, int]:
    return {name: len(data.split(name).object_names) for name in data.split_names}


def refuse(source: Any, *parts: str, kind: type[Exception] = DataError, **options: Any) -> None:
    with pytest.raises(kind) as caught:
        load(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def note(data: RetrievalDataset, part: str) -> str:
    return next((said for said in data.notes if part in said), "")


class TestCub:
    def test_the_published_form(self, tmp_path: Path) -> None:
        data = load(write_cub(tmp_path))
        assert (data.name, data.format, data.protocol) == ("CUB-200-2011", "cub", "class")
        assert classes(data) == {"train": 6, "val": 3, "test": 3} and len(data) == 36
        assert data.images[0] == "001.Drawn_red_green/Drawn_0000_000.jpg"
        assert all(path.is_file() for path in data.image_paths)
        assert data.metadata(0) == {
            "class_name": "Drawn red green",
            "box_x": 2.0,
            "box_y": 3.0,
            "box_width": 10.0,
            "box_height": 11.0,
        }
        assert len(data.split("test").queries()) == 90  # every caption, repetitions included
        lists = note(data, "class lists")
        assert "train trainclasses.txt (6, digest " in lists and "test testclasses.txt (3" in lists

    def test_quirks(self, tmp_path: Path) -> None:
        data = load(write_cub(tmp_path, quirks=True))
        assert len(data.captions[0]) == 9 and data.captions[0][1] == "a bird s wing is green"
        assert note(data, "blank captions dropped: 1") and note(data, "(U+FFFD), cleaned: 1")
        assert note(data, "images with other than 10 captions: 1")

    @pytest.mark.parametrize("captions_in", ["", "CUB_200_2011", "cvpr2016_cub"])
    @pytest.mark.parametrize("text", ["text_c10", "text"])
    def test_where_captions_lie(self, tmp_path: Path, captions_in: str, text: str) -> None:
        write_cub(tmp_path, captions_in=captions_in, text=text, images=1)
        for source in (tmp_path, tmp_path / "CUB_200_2011", f"cub:{tmp_path}"):
            assert classes(load(source)) == {"train": 6, "val": 3, "test": 3}

    def test_without_val_some_training_classes_are_held_out(self, tmp_path: Path) -> None:
        data = load(write_cub(tmp_path, val=False))
        assert classes(data) == {"train": 7, "val": 2, "test": 3}
        assert note(data, "no val split: 2 of 9 training objects (6 images)")
        assert "train trainvalclasses.txt (9" in note(data, "class lists")

    def test_without_images_txt(self, tmp_path: Path) -> None:
        wanted = load(write_cub(tmp_path)).images
        (tmp_path / "CUB_200_2011" / "images.txt").unlink()
        data = load(tmp_path)
        assert data.images == wanted and data.metadata_names == ["class_name"]

    def test_lists_by_number_alone(self, tmp_path: Path) -> None:
        wanted = load(write_cub(tmp_path))
        numbers = [str(number) for number in range(1, 13)]
        write_class_lists(tmp_path, numbers)
        data = load(tmp_path)
        assert data.splits == wanted.splits
        assert note(data, "class lists") == note(wanted, "class lists")  # one digest

    def test_another_split_under_the_same_names_has_another_digest(self, tmp_path: Path) -> None:
        one = load(write_cub(tmp_path, val=False))
        names = one.object_names
        write_class_lists(tmp_path, names[::-1], val=False)
        assert note(load(tmp_path), "class lists") != note(one, "class lists")

    def test_missing_captions_of_some_images(self, tmp_path: Path) -> None:
        write_cub(tmp_path)
        for name in ("001.Drawn_red_green", "012.Drawn_blue_green"):
            next((tmp_path / "text_c10" / name).iterdir()).unlink()
        data = load(tmp_path)
        assert len(data.split("train")) == 17 and len(data.split("test")) == 9
        assert note(data, "caption files missing: 2 (001.Drawn_red_green/Drawn_0000_000.txt")

    def test_missing_image_folders(self, tmp_path: Path) -> None:
        write_cub(tmp_path)
        images = tmp_path / "CUB_200_2011" / "images"
        (images / "003.Drawn_red_white").rename(tmp_path / "away")
        assert ": 1 (003.Drawn_red_white), with 3 of 36 images" in note(
            load(tmp_path), "folders missing"
        )
        images.rename(tmp_path / "all")
        refuse(f"cub:{tmp_path}", "holds no images of CUB-200-2011: put the folder images/")
        images.mkdir()
        refuse(f"cub:{tmp_path}", "none of the 36 images of CUB-200-2011 exists")

    @pytest.mark.parametrize(
        ("file", "lines", "parts"),
        [
            ("images.txt", ["1 001.Drawn_red_green"], ["line 1", "is not 001.Class/image.jpg"]),
            ("images.txt", ["1"], ["line 1: 1 cells, not 2"]),
            ("bounding_boxes.txt", ["1 2 3 4 x"], ["line 1: a box is not four numbers"]),
            ("bounding_boxes.txt", ["", "1 2 3"], ["line 2: 3 cells, not 5"]),
        ],
    )
    def test_broken_tables(
        self, tmp_path: Path, file: str, lines: list[str], parts: list[str]
    ) -> None:
        write_cub(tmp_path, images=1)
        written = write_lines(tmp_path / "CUB_200_2011" / file, lines)
        refuse(tmp_path, str(written), *parts)

    def test_no_captions_at_all(self, tmp_path: Path) -> None:
        write_cub(tmp_path, images=1)
        (tmp_path / "text_c10").rename(tmp_path / "away")
        refuse(f"cub:{tmp_path}", "holds no captions of CUB-200-2011: put the folder text_c10/")
        refuse(tmp_path / "CUB_200_2011", "looks like CUB-200-2011 without captions")


class TestFlowers:
    @pytest.mark.parametrize("nested", [False, True])
    @pytest.mark.parametrize("text", ["text_c10", "text"])
    def test_both_layouts(self, tmp_path: Path, nested: bool, text: str) -> None:
        data = load(write_flowers(tmp_path, nested=nested, text=text))
        assert (data.name, data.format, data.protocol) == ("Flowers-102", "flowers", "class")
        assert classes(data) == {"train": 6, "val": 3, "test": 3}
        assert all(path.is_file() for path in data.image_paths)
        assert data.metadata(0) == {"class_name": "class 1"}
        assert data.images[0].startswith("class_00001/") == nested

    def test_names_of_classes(self, tmp_path: Path) -> None:
        write_flowers(tmp_path / "flowers")
        write_json(tmp_path / "flowers" / "cat_to_name.json", {"1": "pink primrose"})
        data = load(tmp_path)
        assert data.metadata(0) == {"class_name": "pink primrose"}
        assert data.metadata(len(data) - 1) == {"class_name": "class 12"}

    def test_missing_images(self, tmp_path: Path) -> None:
        write_flowers(tmp_path)
        for file in (tmp_path / "jpg").iterdir():
            file.unlink()
        refuse(tmp_path, "none of the 36 images of Flowers-102 exists", "put the Flowers-102")

    def test_no_captions_at_all(self, tmp_path: Path) -> None:
        write_flowers(tmp_path, images=1)
        (tmp_path / "text_c10").rename(tmp_path / "away")
        refuse(tmp_path, "looks like Flowers-102 without captions: put the folder text_c10/")

    def test_beside_cub(self, tmp_path: Path) -> None:
        write_cub(tmp_path / "CUB_200_2011", images=1)
        write_flowers(tmp_path / "flowers", images=1)
        refuse(tmp_path, "several data sets (cub, flowers)", kind=UsageError)
        assert load(f"flowers:{tmp_path}").name == "Flowers-102"
        assert load(f"cub:{tmp_path}").name == "CUB-200-2011"  # a folder of its name in itself


@pytest.mark.parametrize("write", [write_cub, write_flowers])
class TestClassLists:
    def names(self, folder: Path) -> list[str]:
        return load(folder).object_names

    def test_train_and_test_may_not_share_classes(self, tmp_path: Path, write: Write) -> None:
        names = self.names(write(tmp_path, images=1, val=False))
        write_lines(tmp_path / "testclasses.txt", names[8:])
        refuse(tmp_path, "1 classes stand in trainvalclasses.txt and in testclasses.txt", names[8])

    def test_train_and_val_may_not_share_classes(self, tmp_path: Path, write: Write) -> None:
        names = self.names(write(tmp_path, images=1))
        write_lines(tmp_path / "valclasses.txt", names[5:9])
        refuse(tmp_path, "1 classes stand in trainclasses.txt and in valclasses.txt")

    def test_unknown_classes_and_empty_lists(self, tmp_path: Path, write: Write) -> None:
        write(tmp_path, images=1)
        write_lines(tmp_path / "testclasses.txt", ["", "001.Another_Bird"])
        refuse(
            tmp_path, "testclasses.txt line 2: there is no class '001.Another_Bird' among the 12"
        )
        write_lines(tmp_path / "testclasses.txt", [""])
        refuse(tmp_path, "testclasses.txt names no class")

    def test_missing_lists(self, tmp_path: Path, write: Write) -> None:
        write(tmp_path, images=1, val=False)
        (tmp_path / "trainvalclasses.txt").unlink()
        refuse(tmp_path, "holds testclasses.txt and neither trainvalclasses.txt nor")
        (tmp_path / "testclasses.txt").unlink()
        refuse(tmp_path, "has no class lists: put testclasses.txt", "--splits FILE")

    def test_classes_in_no_list_are_left_out(self, tmp_path: Path, write: Write) -> None:
        names = self.names(write(tmp_path, images=2, val=False))
        write_lines(tmp_path / "testclasses.txt", names[10:])
        data = load(tmp_path)
        assert names[9] not in data.object_names and len(data) == 22
        assert f"left out: 1 ({names[9]}), with 2 images" in note(data, "in no list")

    def test_lists_that_contradict_each_other_are_said(self, tmp_path: Path, write: Write) -> None:
        names = self.names(write(tmp_path, images=1))
        write_lines(tmp_path / "trainvalclasses.txt", names[:8])
        assert "(1 classes differ): it is ignored" in note(load(tmp_path), "together")

    def test_a_split_file_by_class(self, tmp_path: Path, write: Write) -> None:
        names = self.names(write(tmp_path, images=1))
        lists = {"train": names[:4], "val": names[4:6], "test": names[6:]}
        file = write_json(tmp_path / "s.json", lists)
        assert classes(load(tmp_path, splits=file)) == {"train": 4, "val": 2, "test": 6}
        of_image = dict.fromkeys(load(tmp_path).images, "train")
        of_image |= dict.fromkeys(names[1:], "test")
        refuse(
            tmp_path,
            "names no split",
            splits=write_json(tmp_path / "t.json", dict.fromkeys(names[1:], "test")),
        )

    def test_a_class_in_two_splits_by_image(self, tmp_path: Path, write: Write) -> None:
        data = load(write(tmp_path, images=2))
        of_image = dict(zip(data.images, data.splits, strict=True)) | {data.images[0]: "test"}
        file = write_json(tmp_path / "s.json", of_image)
        refuse(tmp_path, f"class {data.objects[0]} of", "stands in test and in train", splits=file)

    def test_a_file_is_not_the_set(self, tmp_path: Path, write: Write) -> None:
        write(tmp_path, images=1)
        name = "cub" if write is write_cub else "flowers"
        refuse(
            f"{name}:{tmp_path / 'testclasses.txt'}", "is a file: name the folder", kind=PathError
        )


def test_train_alone_will_do(tmp_path: Path) -> None:
    write_lines(tmp_path / "trainclasses.txt", ["class_00001", "class_00002"])
    write_lines(tmp_path / "testclasses.txt", ["class_00003"])
    lists = ClassLists.read([tmp_path], [f"class_0000{n}" for n in (1, 2, 3)], "Flowers-102")
    assert lists.split_of == {"class_00001": "train", "class_00002": "train", "class_00003": "test"}
