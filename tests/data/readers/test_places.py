from pathlib import Path

import pytest

from mmref.data.readers.places import image_path, image_root, missing_folders


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("cam_a/1.png", "cam_a/1.png"),
        (r"cam_a\1.png", "cam_a/1.png"),
        ("./imgs//1.png ", "imgs/1.png"),
        ("/data/1.png", "/data/1.png"),
        ("../1.png", "../1.png"),
        ("./", ""),
    ],
)
def test_image_path(written: str, read: str) -> None:
    assert image_path(written) == read


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_the_root_under_which_most_images_exist(tmp_path: Path) -> None:
    images = [f"{place}/{number}.png" for place in "ab" for number in range(5)]
    put(tmp_path / "few", images[0])
    put(tmp_path / "most", *images[2:])
    places = [tmp_path / "none", tmp_path / "few", tmp_path / "most"]
    assert image_root(images, places) == tmp_path / "most"
    assert image_root(images, places[:1]) is None


def test_one_image_among_thousands_is_enough(tmp_path: Path) -> None:
    images = [f"a/{number}.png" for number in range(5000)]
    put(tmp_path, "a/4321.png")
    assert image_root(images, [tmp_path / "x", tmp_path]) == tmp_path


def test_a_missing_folder_stands_for_those_in_it(tmp_path: Path) -> None:
    images = [f"{split}/{number:04d}/1.jpg" for split in ("train", "test") for number in range(7)]
    put(tmp_path, *images[:6])
    assert missing_folders(tmp_path, images) == [
        f"image folders missing under {tmp_path}: 2 (test, train/0006), with 8 of 14 images"
    ]
    put(tmp_path, *images)
    assert missing_folders(tmp_path, images) == []


def test_absolute_paths(tmp_path: Path) -> None:
    put(tmp_path, "in/1.png")
    (note,) = missing_folders(Path("/"), [f"{tmp_path}/in/1.png", f"{tmp_path}/out/1.png"])
    assert f": 1 ({tmp_path}/out), with 1 of 2 images" in note
