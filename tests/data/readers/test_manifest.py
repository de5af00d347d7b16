import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmref.data.dataset import RetrievalDataset
from mmref.data.readers.manifest import ManifestReader
from mmref.errors import DataError, PathError

ROWS: list[dict[str, Any]] = [
    {"image": "a.png", "captions": ["red", "round"], "identity": "x", "split": "train"},
    {"image": "b.png", "captions": ["blue"], "identity": "y", "split": "val"},
    {"image": "c.png", "captions": ["green"], "identity": "z", "split": "test"},
]


def rows(**change: Any) -> list[dict[str, Any]]:
    """The three rows with some values of the second one changed; ``...`` removes a key."""
    second = {key: value for key, value in {**ROWS[1], **change}.items() if value is not ...}
    return [ROWS[0], second, ROWS[2]]


def write(folder: Path, lines: Sequence[dict[str, Any] | str], images: bool = True) -> Path:
    text = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    file = folder / "manifest.jsonl"
    file.write_text("\n".join(text) + "\n", encoding="utf-8")
    if images:
        for name in "abc":
            (folder / f"{name}.png").touch()
    return file


def read(path: Path, seed: int = 0) -> RetrievalDataset:
    return ManifestReader().read(path, seed)


def refuse(path: Path, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(path)), message
    for part in parts:
        assert part in message, message


class TestJsonl:
    def test_rows(self, tmp_path: Path) -> None:
        write(tmp_path, [{**row, "price": index} for index, row in enumerate(ROWS)])
        data = read(tmp_path)
        assert data.images == ["a.png", "b.png", "c.png"]
        assert data.captions == [["red", "round"], ["blue"], ["green"]]
        assert data.objects == ["x", "y", "z"] and data.splits == ["train", "val", "test"]
        assert [data.metadata(row)["price"] for row in range(3)] == [0, 1, 2]
        assert data.notes == () and data.feature_matrix is None

    def test_byte_order_mark_blank_lines_and_windows_line_ends(self, tmp_path: Path) -> None:
        file = write(tmp_path, ROWS)
        text = file.read_text().replace("\n", "\r\n\r\n")
        file.write_bytes(b"\xef\xbb\xbf" + text.encode())
        assert len(read(tmp_path)) == 3

    def test_line_separators_inside_a_caption_do_not_end_the_line(self, tmp_path: Path) -> None:
        caption = "one\u2028two\x85three"
        lines = [json.dumps(row, ensure_ascii=False) for row in rows(captions=[caption])]
        write(tmp_path, lines)
        assert read(tmp_path).captions[1] == [caption]

    def test_single_caption_and_whole_number_identity(self, tmp_path: Path) -> None:
        write(tmp_path, rows(captions=..., caption=" one ", identity=7))
        data = read(tmp_path)
        assert (data.captions[1], data.objects[1]) == (["one"], "7")

    def test_broken_line(self, tmp_path: Path) -> None:
        file = write(tmp_path, [ROWS[0], '{"image": "b.png", ', ROWS[2]])
        refuse(file, "line 2: broken JSON at column 20")
        write(tmp_path, [ROWS[0], "[" * 100_000])
        refuse(file, "line 2: broken JSON")
        write(tmp_path, [ROWS[0], '["a"]'])
        refuse(file, "line 2: a list, but each line is an object")

    def test_not_utf8(self, tmp_path: Path) -> None:
        file = write(tmp_path, ROWS)
        file.write_bytes(file.read_bytes().replace(b"blue", b"bl\xfce"))
        refuse(file, "line 2: byte", "not UTF-8")

    def test_empty_file(self, tmp_path: Path) -> None:
        file = write(tmp_path, [])
        for content in ("", "\n \n", "\ufeff"):
            file.write_text(content, encoding="utf-8")
            refuse(file, "is empty")

    def test_a_folder_without_permission(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def denied(_: Path) -> bytes:
            raise PermissionError(13, "Permission denied")

        file = write(tmp_path, ROWS)
        monkeypatch.setattr(Path, "read_bytes", denied)
        with pytest.raises(DataError, match=f"cannot read {file}: Permission denied"):
            read(tmp_path)


class TestValues:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"image": ...}, "no column 'image' (columns present: captions, identity, split)"),
            ({"identity": ...}, "no column 'identity' (columns present: image, captions, split)"),
            ({"captions": ...}, "no column 'captions' (columns present: image, identity, split)"),
            ({"image": 5}, "image must be the path of a file as a string, not the number 5"),
            ({"image": None}, "not null"),
            ({"image": " "}, "image is empty"),
            ({"image": "a\0.png"}, "no possible path"),
            ({"captions": []}, "captions is empty"),
            ({"captions": [" ", ""]}, "captions is empty"),
            ({"captions": "one"}, "captions must be a list of strings, not the string 'one'"),
            ({"captions": None}, "captions must be a list of strings, not null"),
            ({"captions": {"a": 1}}, "captions must be a list of strings, not an object"),
            ({"captions": ["a", 5]}, "captions must be strings, but one is the number 5"),
            ({"captions": ["a", None]}, "captions must be strings, but one is null"),
            ({"captions": ["a\ud800"]}, "half a surrogate pair"),
            ({"captions": ..., "caption": ["a"]}, "must be one string, not a list; use captions"),
            ({"captions": ..., "caption": ""}, "captions is empty"),
            ({"captions": ..., "caption": None}, "captions is empty"),
            ({"caption": "two"}, "both caption and captions"),
            ({"identity": None}, "identity must be a string or a whole number, not null"),
            ({"identity": True}, "not true/false True"),
            ({"identity": 1.5}, "not the number 1.5"),
            ({"identity": ""}, "identity is empty"),
            ({"split": ""}, "split is empty"),
            ({"split": ...}, "split is empty or no string"),
            ({"split": 3}, "split is empty or no string"),
            ({"object": "o"}, "the column name 'object' is taken"),
        ],
    )
    def test_refused(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        file = write(tmp_path, rows(**change))
        refuse(file, "manifest.jsonl line 2: ", message)

    def test_empty_captions_beside_others_are_dropped_and_counted(self, tmp_path: Path) -> None:
        write(tmp_path, rows(captions=["blue", " ", ""]))
        data = read(tmp_path)
        assert data.captions[1] == ["blue"]
        assert data.notes == ("empty captions dropped: 2 (the first in line 2)",)

    def test_one_object_only(self, tmp_path: Path) -> None:
        file = write(tmp_path, [{**row, "identity": "x"} for row in ROWS])
        refuse(file, "one object only ('x')")

    def test_rows_of_the_same_image_are_kept(self, tmp_path: Path) -> None:
        write(tmp_path, [*ROWS, ROWS[0]])
        assert read(tmp_path).images == ["a.png", "b.png", "c.png", "a.png"]

    def test_metadata_of_several_kinds_becomes_text(self, tmp_path: Path) -> None:
        extra = [{"m": 1, "big": 10**30}, {"m": "one", "deep": {"a": [1]}}, {"m": ["x"]}]
        write(tmp_path, [{**row, **more} for row, more in zip(ROWS, extra, strict=True)])
        data = read(tmp_path)
        assert [data.metadata(row)["m"] for row in range(3)] == ["1", "one", '["x"]']
        assert data.metadata(0)["big"] == str(10**30)
        assert data.metadata(1) == {"m": "one", "big": None, "deep": {"a": [1]}}

    def test_none_of_the_images_exists(self, tmp_path: Path) -> None:
        write(tmp_path, ROWS, images=False)
        with pytest.raises(DataError, match=r"none of the 3 images .*a\.png"):
            read(tmp_path)
        (tmp_path / "c.png").touch()
        assert len(read(tmp_path)) == 3


class TestSplits:
    def test_none_given_is_drawn_by_object_and_said(self, tmp_path: Path) -> None:
        write(tmp_path, [{k: v for k, v in row.items() if k != "split"} for row in ROWS])
        data = read(tmp_path, seed=4)
        assert sorted(data.splits) == ["test", "train", "val"]
        assert data.notes == ("no split column: 70/15/15 % of the objects drawn by seed 4",)

    def test_other_spellings_are_said(self, tmp_path: Path) -> None:
        write(tmp_path, rows(split="validation"))
        data = read(tmp_path)
        assert data.splits[1] == "val"
        assert data.notes == ("split 'validation' is read as 'val'",)

    def test_any_name_is_allowed(self, tmp_path: Path) -> None:
        write(tmp_path, rows(split="fold 3"))
        assert read(tmp_path).split_names == ["train", "test", "fold 3"]


class TestFeatures:
    def features(self, folder: Path, matrix: Any = None) -> list[dict[str, Any]]:
        if matrix is None:
            matrix = np.arange(8, dtype=np.float32).reshape(4, 2)
        np.save(folder / "features.npy", matrix)
        return [{**row, "feature_row": 3 - index} for index, row in enumerate(ROWS)]

    def test_vectors_without_pixels(self, tmp_path: Path) -> None:
        write(tmp_path, self.features(tmp_path), images=False)
        data = read(tmp_path)
        assert data.features().tolist() == [[6, 7], [4, 5], [2, 3]]
        assert data.features_only and isinstance(data.feature_matrix, np.memmap)

    def test_vectors_and_pixels(self, tmp_path: Path) -> None:
        write(tmp_path, self.features(tmp_path))
        data = read(tmp_path)
        assert data.has_features and not data.features_only

    @pytest.mark.parametrize("value", [None, "1", 1.0, -1, True, 2**70, [1]])
    def test_bad_rows(self, tmp_path: Path, value: Any) -> None:
        lines = self.features(tmp_path)
        lines[1]["feature_row"] = value
        refuse(write(tmp_path, lines), "line 2: feature_row must be a whole number")

    def test_bad_files(self, tmp_path: Path) -> None:
        lines = self.features(tmp_path)
        write(tmp_path, lines)
        path = tmp_path / "features.npy"
        cases: list[tuple[Any, str]] = [
            (np.ones((3, 2), np.float32), "has 3 rows, but feature_row goes up to 3"),
            (np.full((4, 2), np.nan), "row 3 holds NaN"),
            (np.ones(4), "has shape (4,)"),
        ]
        for matrix, message in cases:
            np.save(path, matrix)
            with pytest.raises(DataError) as caught:
                read(tmp_path)
            assert message in str(caught.value)
        path.unlink()
        with pytest.raises(DataError, match=r"features\.npy is missing"):
            read(tmp_path)

    def test_a_matrix_without_the_column_is_ignored_aloud(self, tmp_path: Path) -> None:
        self.features(tmp_path)
        write(tmp_path, ROWS)
        data = read(tmp_path)
        assert not data.has_features
        assert data.notes == ("features.npy ignored: the manifest has no column feature_row",)


class TestFiles:
    def test_jsonl_comes_first_and_the_others_are_named(self, tmp_path: Path) -> None:
        write(tmp_path, ROWS)
        (tmp_path / "manifest.csv").write_text("broken")
        assert read(tmp_path).notes == ("manifest.csv ignored beside manifest.jsonl",)

    def test_names(self, tmp_path: Path) -> None:
        file = write(tmp_path, ROWS)
        other = file.rename(tmp_path / "birds.jsonl")
        assert read(other).name == "birds"
        assert ManifestReader().recognises(other)
        assert not ManifestReader().recognises(tmp_path)
        with pytest.raises(PathError, match="must end in"):
            read(tmp_path / "a.png")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
KEYS = st.sampled_from(
    ["image", "captions", "caption", "identity", "split", "feature_row", "extra"]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.dictionaries(KEYS, JSON_VALUES), max_size=3))
def test_any_json_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, records: list[dict[str, Any]]
) -> None:
    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    write(folder, [*ROWS, *(json.dumps({**ROWS[0], **record}) for record in records)])
    try:
        data = read(folder)
    except DataError as error:
        assert "\n" not in str(error)
    else:
        assert len(data) == 3 + len(records)
