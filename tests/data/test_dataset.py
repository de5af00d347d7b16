import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmref.data.dataset import Query, RetrievalDataset, build_table, file_exists, split_name
from mmref.errors import DataError, PathError, SplitError, UsageError

IMAGES = ["a1.png", "a2.png", "b1.png", "c1.png", "c2.png"]
CAPTIONS = [["red", "round"], ["red"], ["red"], ["blue"], ["blue", "sky", "blue"]]
OBJECTS = ["a", "a", "b", "c", "c"]
SPLITS = ["train", "train", "train", "val", "val"]


def made(root: Path = Path("/none"), **columns: object) -> RetrievalDataset:
    parts = {"images": IMAGES, "captions": CAPTIONS, "objects": OBJECTS, "splits": SPLITS}
    table = build_table(**{**parts, **columns})  # type: ignore[arg-type]
    return RetrievalDataset(table, root, "five", "manifest")


def with_features(rows: list[int], root: Path = Path("/none")) -> RetrievalDataset:
    matrix = np.arange(40, dtype=np.float32).reshape(20, 2)
    data = made(root, feature_rows=rows)
    return RetrievalDataset(data.table, root, "five", "manifest", matrix)


class TestRows:
    def test_columns(self) -> None:
        data = made(metadata={"price": [1, 2, 3, 4, 5]})
        assert (len(data), data.images, data.captions) == (5, IMAGES, CAPTIONS)
        assert (data.objects, data.splits) == (OBJECTS, SPLITS)
        assert data.object_names == ["a", "b", "c"]
        assert data.metadata(3) == {"price": 4}
        assert data.image_paths[0] == Path("/none/a1.png")

    def test_an_absolute_image_stays_where_it_is(self, tmp_path: Path) -> None:
        data = made(images=[str(tmp_path / "x.png"), *IMAGES[1:]])
        assert data.image_paths[0] == tmp_path / "x.png"

    def test_metadata_may_not_take_a_columns_name(self) -> None:
        with pytest.raises(DataError, match="'object' is taken"):
            made(metadata={"object": OBJECTS})

    def test_queries_are_distinct_pairs_in_first_seen_order(self) -> None:
        assert made().queries() == [
            Query("red", "a"),
            Query("round", "a"),
            Query("red", "b"),
            Query("blue", "c"),
            Query("sky", "c"),
        ]

    @pytest.mark.parametrize("protocol", ["person", "class"])
    def test_person_and_class_sets_ask_every_caption(self, protocol: str) -> None:
        asked = replace(made(), protocol=protocol)
        assert [tuple(query) for query in asked.queries()] == [
            (text, name) for texts, name in zip(CAPTIONS, OBJECTS, strict=True) for text in texts
        ]
        assert len(asked.queries()) == 8 and len(made().queries()) == 5

    def test_parts_keep_the_protocol(self) -> None:
        data = replace(made(), protocol="person")
        parts = [data.split("val"), data.select([0]), data.with_objects(["a"])]
        assert {part.protocol for part in [*parts, data.with_split(SPLITS)]} == {"person"}
        assert made().protocol == "manifest"

    def test_an_unknown_protocol(self) -> None:
        with pytest.raises(ValueError, match="'pairs' is none of manifest, person, class"):
            replace(made(), protocol="pairs")


class TestParts:
    def test_split(self) -> None:
        data = made()
        assert data.split("train").images == IMAGES[:3]
        assert data.split("validation").objects == ["c", "c"]
        assert len(data) == 5

    def test_an_unknown_split_names_those_present(self) -> None:
        with pytest.raises(SplitError, match="no split 'test': it has train, val"):
            made().split("test")

    def test_split_names_in_reading_order(self) -> None:
        data = made(splits=["zebra", "test", "val", "train", "ant"])
        assert data.split_names == ["train", "val", "test", "ant", "zebra"]

    def test_select_keeps_the_given_order_and_repeats(self) -> None:
        data = made().select([4, 0, 4])
        assert data.images == ["c2.png", "a1.png", "c2.png"]
        assert len(made().select([])) == 0

    @pytest.mark.parametrize("index", [-1, 5])
    def test_select_out_of_range(self, index: int) -> None:
        with pytest.raises(IndexError, match=r"0\.\.4"):
            made().select([index])

    def test_with_objects(self) -> None:
        assert made().with_objects(["c", "a"]).images == ["a1.png", "a2.png", "c1.png", "c2.png"]
        with pytest.raises(DataError, match="no object 'x'"):
            made().with_objects(["a", "x"])

    def test_with_split(self) -> None:
        data = made()
        moved = data.with_split(["val", "val", "train", "training", "test"])
        assert moved.splits == ["val", "val", "train", "train", "test"]
        assert moved.split("test").images == ["c2.png"]
        assert data.splits == SPLITS
        with pytest.raises(ValueError, match="2 split names for 5 rows"):
            data.with_split(["a", "b"])

    def test_split_names_are_normalised(self) -> None:
        found = [split_name(name) for name in ("VALID", "Testing", "dev", " train ", "fold 1")]
        assert found == ["val", "test", "dev", "train", "fold 1"]


class TestClosedSet:
    @pytest.mark.parametrize(
        ("objects", "splits", "closed"),
        [
            ("aab", "tvt", True),
            ("aabb", "tvtv", True),
            ("aabc", "tvtv", False),  # one leak and one unseen object
            ("abc", "ttv", False),
            ("aab", "ttt", False),
            ("aab", "vvv", False),
        ],
    )
    def test_all_other_objects_are_training_objects(
        self, objects: str, splits: str, closed: bool
    ) -> None:
        names = {"t": "train", "v": "val"}
        count = len(objects)
        data = made(
            images=[str(index) for index in range(count)],
            captions=[["x"]] * count,
            objects=list(objects),
            splits=[names[split] for split in splits],
        )
        assert data.closed_set is closed


class TestFeatures:
    def test_features_follow_the_rows(self) -> None:
        data = with_features([7, 3, 3, 0, 19])
        assert data.features()[:, 0].tolist() == [14, 6, 6, 0, 38]
        assert data.select([4, 1]).features()[:, 0].tolist() == [38, 6]
        assert data.features().dtype == np.float32

    def test_half_precision_becomes_float32(self) -> None:
        data = made(feature_rows=[0] * 5)
        data = RetrievalDataset(data.table, data.root, "x", "manifest", np.ones((1, 2), np.float16))
        assert data.features().dtype == np.float32

    def test_none(self) -> None:
        assert not made().has_features
        with pytest.raises(DataError, match="has no features"):
            made().features()

    def test_features_only_when_no_image_file_exists(self, tmp_path: Path) -> None:
        assert with_features([0] * 5, tmp_path).features_only
        (tmp_path / IMAGES[4]).touch()
        assert not with_features([0] * 5, tmp_path).features_only
        assert not made(tmp_path / "none").features_only

    def test_names_that_cannot_be_files_do_not_exist(self) -> None:
        assert not file_exists(Path("a\0b"))
        assert not file_exists(Path("x" * 5000))


class TestFingerprint:
    def test_changes_with_what_the_rows_say(self, tmp_path: Path) -> None:
        base = made(tmp_path).fingerprint()
        assert base == made(tmp_path / "elsewhere").fingerprint()
        assert len(base) == 64
        others = [
            made(tmp_path, captions=[["Red", "round"], *CAPTIONS[1:]]),
            made(tmp_path, objects=["z", *OBJECTS[1:]]),
            made(tmp_path, metadata={"price": [1, 2, 3, 4, 5]}),
            made(tmp_path).with_split(["test", *SPLITS[1:]]),
            made(tmp_path).select([1, 0, 2, 3, 4]),
        ]
        assert len({base, *(data.fingerprint() for data in others)}) == 6

    def test_moving_a_border_between_captions_changes_it(self) -> None:
        one = made(captions=[["a", "bc"], *CAPTIONS[1:]]).fingerprint()
        assert one != made(captions=[["ab", "c"], *CAPTIONS[1:]]).fingerprint()

    def test_image_sizes_count(self, tmp_path: Path) -> None:
        (tmp_path / "a1.png").write_bytes(b"12")
        before = made(tmp_path).fingerprint()
        (tmp_path / "a1.png").write_bytes(b"123")
        assert made(tmp_path).fingerprint() != before

    def test_features_count_and_their_place_does_not(self) -> None:
        data = with_features([0, 1, 2, 3, 4])
        assert data.feature_matrix is not None
        moved = RetrievalDataset(
            made(feature_rows=[5, 6, 7, 8, 9]).table,
            data.root,
            "moved",
            "manifest",
            np.concatenate([data.feature_matrix[10:15], data.feature_matrix[:5]]),
        )
        assert moved.fingerprint() == data.fingerprint()
        assert with_features([0, 1, 2, 3, 5]).fingerprint() != data.fingerprint()


class TestLoad:
    def write(self, folder: Path) -> Path:
        folder.mkdir(exist_ok=True)
        lines = []
        for name in "ab":
            (folder / f"{name}.png").touch()
            lines.append(json.dumps({"image": f"{name}.png", "caption": "x", "identity": name}))
        (folder / "manifest.jsonl").write_text("\n".join(lines))
        return folder

    def test_folder_file_and_format(self, tmp_path: Path) -> None:
        folder = self.write(tmp_path / "two")
        for source in (folder, str(folder / "manifest.jsonl"), f"manifest:{folder}"):
            data = RetrievalDataset.load(source)
            assert (data.name, data.format, data.root) == ("two", "manifest", folder)
        assert len(RetrievalDataset.load(folder, format="manifest")) == 2

    def test_a_relative_source(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.write(tmp_path / "two")
        monkeypatch.chdir(tmp_path / "two")
        data = RetrievalDataset.load(".")
        assert data.name == "two" and data.image_paths[0].is_absolute()

    def test_a_colon_in_a_path_that_exists(self, tmp_path: Path) -> None:
        folder = self.write(tmp_path / "manifest:two")
        assert len(RetrievalDataset.load(folder)) == 2

    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("none", "none does not exist"),
            (r"C:\data\flags", r"C:\\data\\flags does not exist"),
            ("manifest:none", "none does not exist"),
            ("manifest:", "the path after the colon does not exist"),
            ("other:none", "other:none does not exist"),
            ("", "path is empty"),
            ("a\0b", "does not exist"),
            ("x" * 5000, "does not exist"),
        ],
    )
    def test_a_missing_path(self, source: str, message: str) -> None:
        with pytest.raises(PathError, match=message) as caught:
            RetrievalDataset.load(source)
        assert caught.value.exit_status == 2

    def test_an_unknown_format_lists_the_formats(self, tmp_path: Path) -> None:
        for call in ({"source": f"coco:{tmp_path}"}, {"source": tmp_path, "format": "coco"}):
            with pytest.raises(UsageError, match=r"no format 'coco': formats are .*manifest"):
                RetrievalDataset.load(**call)  # type: ignore[arg-type]
