import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmref.data.dataset import RetrievalDataset
from mmref.data.readers import resolve_source
from mmref.errors import DataError, PathError, UsageError

from .layouts import (
    Items,
    cuhk_items,
    write_caption_all,
    write_cuhk_pedes,
    write_derived,
    write_icfg_pedes,
    write_json,
    write_pairs,
    write_rstpreid,
)

load = RetrievalDataset.load


def counts(data: RetrievalDataset) -> dict[str, tuple[int, int, int]]:
    parts = {name: data.split(name) for name in data.split_names}
    return {
        name: (len(part.object_names), len(part), sum(map(len, part.captions)))
        for name, part in parts.items()
    }


def refuse(source: Any, *parts: str, kind: type[Exception] = DataError, **options: Any) -> None:
    with pytest.raises(kind) as caught:
        load(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message, message


def has_note(data: RetrievalDataset, *parts: str) -> bool:
    return any(all(part in note for part in parts) for note in data.notes)


class TestCuhkPedes:
    def test_the_published_form(self, tmp_path: Path) -> None:
        data = load(write_cuhk_pedes(tmp_path / "CUHK-PEDES"))
        assert (data.name, data.format, data.protocol) == ("CUHK-PEDES", "cuhk-pedes", "person")
        assert counts(data) == {"train": (6, 12, 24), "val": (3, 6, 12), "test": (3, 6, 12)}
        assert data.images[0] == "CUHK01/0001_0.png" and data.objects[0] == "1"
        assert all(path.is_file() for path in data.image_paths)
        assert data.notes == ("read from reid_raw.json",)

    def test_quirks_of_real_copies(self, tmp_path: Path) -> None:
        data = load(write_cuhk_pedes(tmp_path, quirks=True))
        assert data.objects[0] == data.objects[1] == "1"
        assert data.captions[0][0] == data.captions[0][1]
        assert len(data.captions[1]) == 2
        assert data.captions[2][0] == "The person s shirt is green."
        assert len(data.captions[3]) == 1 and data.captions[3][0].startswith("The person wears")
        assert has_note(data, "blank captions dropped: 1")
        assert has_note(data, "lost characters (U+FFFD), cleaned: 1")
        assert len(data.split("train").queries()) == 23  # the repeated caption is asked twice

    @pytest.mark.parametrize("below", ["", "images", "imgs"])
    def test_image_folders_are_found(self, tmp_path: Path, below: str) -> None:
        data = load(write_cuhk_pedes(tmp_path / "set", below=below))
        assert data.root == tmp_path / "set" / below
        assert all(path.is_file() for path in data.image_paths)

    @pytest.mark.parametrize("lead", ["imgs/", "./imgs//", "imgs\\"])
    def test_paths_that_begin_with_imgs(self, tmp_path: Path, lead: str) -> None:
        def change(items: Items) -> None:
            for item in items:
                item["file_path"] = lead + item["file_path"]

        data = load(write_cuhk_pedes(tmp_path, change=change))
        assert all(path.is_file() for path in data.image_paths)

    def test_missing_folders_are_named(self, tmp_path: Path) -> None:
        write_cuhk_pedes(tmp_path)
        for name in ("cam_a", "Market"):
            for file in (tmp_path / "imgs" / name).iterdir():
                file.unlink()
            (tmp_path / "imgs" / name).rmdir()
        data = load(tmp_path)
        assert has_note(data, "image folders missing", ": 2 (Market, cam_a), with 8 of 24 images")

    def test_all_images_missing(self, tmp_path: Path) -> None:
        write_cuhk_pedes(tmp_path / "set", below="elsewhere")
        refuse(tmp_path / "set", "none of the 24 images", "CUHK01/0001_0.png", "set/imgs")
        refuse(tmp_path / "set", "put the folders cam_a, cam_b")

    @pytest.mark.parametrize(
        ("change", "parts"),
        [
            ({"id": None}, ["item 1: the id is null"]),
            ({"id": True}, ["item 1: the id is true/false"]),
            ({"id": 1.5}, ["item 1: the id is the number 1.5"]),
            ({"id": ...}, ["item 1: no 'id' (keys present: split, captions"]),
            ({"file_path": ...}, ["item 1: no 'file_path'"]),
            ({"file_path": ""}, ["item 1: the image's path is the string ''"]),
            ({"file_path": "a\0b"}, ["item 1: the image's path"]),
            ({"captions": ...}, ["item 1: no 'captions'"]),
            ({"captions": 3}, ["item 1: captions must be a list of strings"]),
            ({"captions": [None]}, ["item 1: captions must be strings, but one is null"]),
            ({"split": "dev"}, ["item 1: split is the string 'dev', not train, val or test"]),
            ({"split": ...}, ["no split for 1 of 24 images", "CUHK01/0001_0.png", "--splits FILE"]),
            ({"id": 12}, ["1 persons stand in train and in test", "ids 12", "--splits FILE"]),
            ({"file_path": "\ud800"}, ["half a surrogate pair"]),
        ],
    )
    def test_malformed_items(
        self, tmp_path: Path, change: dict[str, Any], parts: list[str]
    ) -> None:
        def alter(items: Items) -> None:
            items[0] = {k: v for k, v in {**items[0], **change}.items() if v is not ...}

        refuse(write_cuhk_pedes(tmp_path, change=alter), str(tmp_path), *parts)

    def test_broken_files(self, tmp_path: Path) -> None:
        file = tmp_path / "reid_raw.json"
        for content, part in [
            (b'[{"id": 1,\n "cap', "line 2 column 2: broken JSON"),
            (b"{}", "holds an object, not a list"),
            (b"[]", "is an empty list"),
            (b"[3]", "item 1: the number 3"),
            (b"[" * 100_000, "broken JSON"),
        ]:
            file.write_bytes(content)
            refuse(tmp_path, str(file), part)

    def test_bytes_that_are_no_utf_8_are_cleaned(self, tmp_path: Path) -> None:
        write_cuhk_pedes(tmp_path)
        file = tmp_path / "reid_raw.json"
        file.write_bytes(file.read_bytes().replace(b"wears a red", b"wears\x92a red", 1))
        data = load(tmp_path)
        assert data.captions[0][0].startswith("The person wears a red shirt")
        assert has_note(data, "reid_raw.json is no whole UTF-8")

    def test_training_rows_without_captions_are_left_out_and_test_rows_stay(
        self, tmp_path: Path
    ) -> None:
        def silence(items: Items) -> None:
            items[0]["captions"], items[-1]["captions"] = [""], []

        data = load(write_cuhk_pedes(tmp_path, change=silence))
        assert len(data.split("train")) == 11 and len(data.split("test")) == 6
        assert has_note(data, "train images without a caption left out: 1")
        assert has_note(data, "in the gallery: 1")


class TestWhereASetLies:
    def test_folder_above_json_and_forced(self, tmp_path: Path) -> None:
        folder = write_cuhk_pedes(tmp_path / "CUHK-PEDES")
        wanted = load(folder).fingerprint()
        for source in (tmp_path, folder / "reid_raw.json", f"cuhk-pedes:{tmp_path}"):
            assert load(source).fingerprint() == wanted

    def test_images_of_another_copy_are_said_aloud(self, tmp_path: Path) -> None:
        whole = write_rstpreid(tmp_path / "RSTPReid")
        assert not has_note(load(whole), "not from beside")
        copy = tmp_path / "copy"
        copy.mkdir()
        (copy / "data_captions.json").write_text((whole / "data_captions.json").read_text())
        assert has_note(load(f"rstpreid:{copy}"), f"from {whole / 'imgs'}, not from beside data_")

    def test_an_unknown_json_name_is_told_by_its_first_path(self, tmp_path: Path) -> None:
        write_cuhk_pedes(tmp_path, file="mine.json")
        assert load(tmp_path / "mine.json").name == "CUHK-PEDES"
        write_icfg_pedes(tmp_path, file="other.json")
        assert load(tmp_path / "other.json").name == "ICFG-PEDES"
        write_json(tmp_path / "none.json", [{"file_path": "x.jpg"}])
        refuse(tmp_path / "none.json", "no known set's JSON", "format:path", kind=PathError)

    def test_two_sets_under_one_root(self, tmp_path: Path) -> None:
        write_cuhk_pedes(tmp_path / "CUHK-PEDES")
        write_rstpreid(tmp_path / "RSTPReid")
        refuse(
            tmp_path,
            "holds several data sets (cuhk-pedes, rstpreid): name one",
            f"cuhk-pedes:{tmp_path}",
            kind=UsageError,
        )
        assert load(f"rstpreid:{tmp_path}").name == "RSTPReid"
        assert load(tmp_path / "CUHK-PEDES").name == "CUHK-PEDES"

    def test_a_forced_set_that_is_not_there(self, tmp_path: Path) -> None:
        write_rstpreid(tmp_path)
        refuse(f"icfg-pedes:{tmp_path}", "holds no ICFG-PEDES: no ICFG-PEDES.json", kind=PathError)

    def test_a_manifest_comes_first(self, tmp_path: Path) -> None:
        write_cuhk_pedes(tmp_path)
        (tmp_path / "manifest.csv").touch()
        assert resolve_source(tmp_path).reader.name == "manifest"


class TestIcfgPedes:
    @pytest.mark.parametrize("file", ["ICFG-PEDES.json", "ICFG_PEDES.json"])
    def test_both_names_and_a_val_split_that_is_drawn(self, tmp_path: Path, file: str) -> None:
        data = load(write_icfg_pedes(tmp_path, file=file))
        assert data.format == "icfg-pedes" and data.split_names == ["train", "val", "test"]
        assert counts(data) == {"train": (6, 12, 12), "val": (2, 4, 4), "test": (4, 8, 8)}
        assert "0" in data.object_names
        assert has_note(data, "no val split: 2 of 8 training objects (4 images)", "seed 0")

    def test_the_draw_is_the_same_for_train_and_evaluate_and_for_any_order(
        self, tmp_path: Path
    ) -> None:
        one = load(write_icfg_pedes(tmp_path / "a", persons=24))
        two = load(write_icfg_pedes(tmp_path / "b", persons=24, change=lambda items: items[::-1]))
        assert one.split("val").object_names == two.split("val").object_names
        other = load(tmp_path / "a", seed=1)
        assert other.split("val").object_names != one.split("val").object_names
        assert other.split("test").object_names == one.split("test").object_names

    def test_a_copy_with_a_val_split_keeps_it(self, tmp_path: Path) -> None:
        def change(items: Items) -> None:
            for item in items[:4]:
                item["split"] = "val"

        data = load(write_icfg_pedes(tmp_path, change=change))
        assert data.split("val").object_names == ["0", "1"] and not has_note(data, "held out")

    def test_ids_that_count_anew_in_test_are_other_people(self, tmp_path: Path) -> None:
        def change(items: Items) -> None:
            for item in items:
                item["id"] -= 8 * (item["split"] == "test")

        data = load(write_icfg_pedes(tmp_path, change=change))
        assert data.split("test").object_names == ["test/0", "test/1", "test/2", "test/3"]
        assert has_note(data, "count anew")
        assert not set(data.split("test").objects) & set(data.split("train").objects)


class TestRstpReid:
    def test_img_path(self, tmp_path: Path) -> None:
        data = load(write_rstpreid(tmp_path / "RSTPReid"))
        assert (data.name, data.format, data.protocol) == ("RSTPReid", "rstpreid", "person")
        assert data.images[1] == "0000_c2_0001.jpg" and data.root.name == "imgs"
        assert counts(data)["train"] == (6, 12, 24)


class TestDerivedFiles:
    @pytest.mark.parametrize("name", ["{}_reid", "cuhk_{}"])
    def test_one_file_a_split(self, tmp_path: Path, name: str) -> None:
        data = load(write_derived(tmp_path, name=name))
        whole = load(write_cuhk_pedes(tmp_path / "whole"))
        assert data.format == "cuhk-pedes" and counts(data) == counts(whole)
        assert sorted(data.images) == sorted(whole.images)
        assert has_note(data, "captions_bt (back-translations) ignored: 12")

    def test_naming_one_of_the_files_reads_all(self, tmp_path: Path) -> None:
        write_derived(tmp_path)
        data = load(tmp_path / "test_reid.json")
        assert data.split_names == ["train", "val", "test"]

    def test_files_of_an_unknown_set_ask_for_its_name(self, tmp_path: Path) -> None:
        write_derived(tmp_path, lead="odd/")
        refuse(tmp_path, "test_reid.json, which may be of several sets", f"cuhk-pedes:{tmp_path}")

    def test_a_caption_an_item(self, tmp_path: Path) -> None:
        data = load(write_pairs(tmp_path / "CUHK-PEDES"))
        whole = load(write_cuhk_pedes(tmp_path / "whole"))
        assert counts(data) == counts(whole)
        assert data.captions == whole.captions and data.objects == whole.objects
        assert all(path.is_file() for path in data.image_paths)

    def test_a_val_file_that_is_the_test_file(self, tmp_path: Path) -> None:
        write_derived(tmp_path)
        (tmp_path / "val_reid.json").write_bytes((tmp_path / "test_reid.json").read_bytes())
        data = load(tmp_path)
        assert has_note(data, "the 6 val images are test images: this val is left out")
        assert has_note(data, "2 of 6 training objects")
        assert not set(data.split("val").objects) & set(data.split("test").objects)

    def test_a_split_that_contradicts_the_files_name(self, tmp_path: Path) -> None:
        write_derived(tmp_path)
        file = tmp_path / "train_reid.json"
        items = json.loads(file.read_text())
        items[1]["split"] = "test"
        write_json(file, items)
        refuse(tmp_path, "item 2: split is 'test', but the file's name says train")

    def test_nothing_in_a_file_is_run(self, tmp_path: Path) -> None:
        mark = tmp_path / "ran"
        text = f"__import__('pathlib').Path({str(mark)!r}).touch()"

        def change(items: Items) -> None:
            items[0]["captions"] = text
            items[1]["captions"] = [text]

        assert text in load(write_cuhk_pedes(tmp_path, change=change)).captions[0]
        assert not mark.exists()


class TestSplitFiles:
    def test_caption_all_says_what_is_missing_and_how_to_name_it(self, tmp_path: Path) -> None:
        write_caption_all(tmp_path)
        refuse(
            tmp_path,
            "caption_all.json says of none of its 24 images whether it is train, val or test",
            "no split is guessed",
            "--splits FILE",
            f'"cuhk-pedes:{tmp_path}?splits=FILE"',
        )

    def forms(self, folder: Path) -> list[Path]:
        items = cuhk_items()
        of_id = {item["id"]: item["split"] for item in items}
        by_split = {s: [i for i, x in of_id.items() if x == s] for s in ("train", "val", "test")}
        by_path = {f"imgs/{item['file_path']}": item["split"] for item in items}
        lines = [f"{number},{split}" for number, split in of_id.items()]
        images = [f"{item['file_path']},{item['split']}" for item in items]
        (folder / "ids.csv").write_text("identity,split\n" + "\n".join(lines))
        (folder / "images.csv").write_text("image,split\n" + "\n".join(images))
        release = [{k: item[k] for k in ("split", "file_path", "id")} for item in items]
        return [
            write_json(folder / "lists.json", by_split),
            write_json(folder / "ids.json", of_id),
            write_json(folder / "paths.json", by_path),
            write_json(folder / "release.json", release),
            folder / "ids.csv",
            folder / "images.csv",
        ]

    def test_every_form_gives_the_published_splits(self, tmp_path: Path) -> None:
        write_caption_all(tmp_path / "set")
        wanted = load(write_cuhk_pedes(tmp_path / "whole")).splits
        for file in self.forms(tmp_path):
            data = load(f"cuhk-pedes:{tmp_path / 'set'}?splits={file}")
            assert data.splits == wanted, file
            assert has_note(data, f"splits are those of {file}")
        assert load(f"{tmp_path / 'set'}?splits={file}").splits == wanted
        assert load(tmp_path / "set", splits=file).splits == wanted

    @pytest.mark.parametrize(
        ("content", "part"),
        [
            ({"train": [1, 2]}, "names no split for 20 of 24 images (the first: Market/0003_0.png"),
            ({"train": [1], "test": [1]}, "'1' stands in train and in test"),
            ({"dev": [1]}, "'dev' is not train, val or test"),
            ({"1": "dev"}, "the split is the string 'dev', not train, val or test"),
            ({"train": [[1]]}, "a list is no identity"),
            ([{"id": 1}], "item 1: no 'split'"),
            ([1], "item 1: the number 1, not an object"),
            ({}, "names nothing"),
            (3, "holds the number 3"),
        ],
    )
    def test_bad_split_files(self, tmp_path: Path, content: Any, part: str) -> None:
        write_caption_all(tmp_path / "set")
        file = write_json(tmp_path / "splits.json", content)
        refuse(tmp_path / "set", str(file), part, splits=file)

    def test_a_missing_split_file_and_two_of_them(self, tmp_path: Path) -> None:
        write_caption_all(tmp_path / "set")
        file = write_json(tmp_path / "s.json", {"train": [1]})
        source = f"{tmp_path / 'set'}?splits="
        refuse(f"{source}{tmp_path}/no.json", "no.json' does not exist", kind=PathError)
        refuse(source, "the split file '' does not exist", kind=PathError)
        refuse(f"{source}{file}", "two split files", kind=UsageError, splits=file)

    def test_names_that_the_set_does_not_hold_are_counted(self, tmp_path: Path) -> None:
        write_caption_all(tmp_path / "set")
        of_id = {item["id"]: item["split"] for item in cuhk_items()}
        file = write_json(tmp_path / "s.json", {**of_id, "99": "test", "98": "val"})
        assert has_note(load(tmp_path / "set", splits=file), "does not hold: 2 (the first: 99)")

    def test_a_person_in_two_splits_by_image(self, tmp_path: Path) -> None:
        write_caption_all(tmp_path / "set")
        of_path = {item["file_path"]: item["split"] for item in cuhk_items()}
        of_path["CUHK01/0001_0.png"] = "test"
        file = write_json(tmp_path / "s.json", of_path)
        refuse(tmp_path / "set", "1 persons stand in train and in test (ids 1)", splits=file)

    def test_of_a_manifest(self, tmp_path: Path) -> None:
        rows = [{"image": f"{n}.png", "caption": "x", "identity": n} for n in "abc"]
        (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, rows)))
        for name in "abc":
            (tmp_path / f"{name}.png").touch()
        file = write_json(tmp_path / "s.json", {"train": ["a"], "val": ["b.png"], "test": ["c"]})
        assert load(tmp_path, splits=file).splits == ["train", "val", "test"]


def test_reading_loads_no_torch(tmp_path: Path) -> None:
    write_cuhk_pedes(tmp_path)
    code = (
        "import sys; from mmref.data.dataset import RetrievalDataset as D; "
        f"print(len(D.load({str(tmp_path)!r})), 'torch' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.split() == ["24", "False"], found.stderr
