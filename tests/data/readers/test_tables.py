import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmref.data.dataset import RetrievalDataset
from mmref.data.readers.manifest import ManifestReader
from mmref.errors import DataError

ROWS: list[dict[str, Any]] = [
    {"image": "a.png", "captions": ["red", "round"], "identity": "x", "split": "train"},
    {"image": "b.png", "captions": ["blue"], "identity": "y", "split": "val"},
    {"image": "c.png", "captions": ["green"], "identity": "z", "split": "test"},
]


def read(path: Path) -> RetrievalDataset:
    return ManifestReader().read(path, seed=0)


def refuse(path: Path, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(str(path)), message
    for part in parts:
        assert part in message, message


def write_csv(folder: Path, text: str) -> Path:
    for name in "abc":
        (folder / f"{name}.png").touch()
    file = folder / "manifest.csv"
    file.write_text(text, encoding="utf-8")
    return file


def write_parquet(folder: Path, **columns: Any) -> Path:
    for name in "abc":
        (folder / f"{name}.png").touch()
    base: dict[str, Any] = {
        key: [row[key] for row in ROWS] for key in ("image", "captions", "identity", "split")
    }
    table = {key: value for key, value in {**base, **columns}.items() if value is not ...}
    pq.write_table(pa.table(table), folder / "manifest.parquet")
    return folder / "manifest.parquet"


class TestCsv:
    def test_lists_numbers_and_quotes(self, tmp_path: Path) -> None:
        file = write_csv(
            tmp_path,
            "\ufeffimage,captions,identity,split,price,zip,weight\n"
            'a.png,"[""red, round"", ""big""]",007,train,5,01234,1.5\n'
            "\n"
            'b.png,"[""blue""]",8,val,,99999,2\n',
        )
        data = read(file)
        assert data.captions == [["red, round", "big"], ["blue"]]
        assert data.objects == ["007", "8"] and data.splits == ["train", "val"]
        assert data.metadata(0) == {"price": 5, "zip": "01234", "weight": 1.5}
        assert data.metadata(1) == {"price": None, "zip": "99999", "weight": 2.0}

    def test_a_single_caption(self, tmp_path: Path) -> None:
        write_csv(tmp_path, 'image,caption,identity\na.png,"[red, or so]",x\nb.png,5,y\n')
        assert read(tmp_path).captions == [["[red, or so]"], ["5"]]

    def test_features(self, tmp_path: Path) -> None:
        np.save(tmp_path / "features.npy", np.eye(2, dtype=np.float32))
        text = "image,caption,identity,feature_row\na,red,x,1\nb,blue,y,{}\n"
        file = write_csv(tmp_path, text.format(0))
        assert read(tmp_path).features().tolist() == [[0, 1], [1, 0]]
        write_csv(tmp_path, text.format(""))
        refuse(file, "line 3: feature_row must be a whole number", "not null")
        write_csv(tmp_path, text.format("one"))
        refuse(file, "line 2: feature_row must be a whole number", "the string '1'")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "is empty"),
            ("image,captions,identity\n", "has no rows"),
            ("picture,identity\n", "no column 'image' (columns present: picture, identity)"),
            ("picture,identity\na,x\n", "no column 'image' (columns present: picture, identity)"),
            ("image;caption;identity\na;b;c\n", "separate columns by commas"),
            ("image,caption,caption,identity\n", "column 'caption' stands twice"),
            ("image,caption,identity\na.png,b\n", "line 2: 2 cells for 3 columns"),
            ("image,caption,identity\na.png,b,c,d\n", "line 2: 4 cells for 3 columns"),
            ('image,caption,identity\na.png,"b,c\n', "broken CSV"),
            ("image,captions,identity\na.png,red,x\n", "line 2: captions must be a JSON list"),
            ("image,captions,identity\na.png,5,x\n", "line 2: captions must be a JSON list of"),
            ("image,captions,identity\na.png,,x\n", "line 2: captions is empty"),
            ("image,caption,identity\na.png,red,\n", "line 2: identity is empty"),
            ("image,caption,identity,split\na.png,red,x,\n", "split is empty"),
        ],
    )
    def test_refused(self, tmp_path: Path, text: str, message: str) -> None:
        if message == "split is empty":
            text += "b.png,red,y,train\n"
        refuse(write_csv(tmp_path, text), message)

    def test_a_long_cell(self, tmp_path: Path) -> None:
        write_csv(tmp_path, f"image,caption,identity\na.png,{'red ' * 50_000},x\nb.png,b,y\n")
        assert len(read(tmp_path).captions[0][0]) == 199_999


class TestParquet:
    def test_rows(self, tmp_path: Path) -> None:
        file = write_parquet(tmp_path, price=[1.5, None, 2.0], identity=[3, 4, 5])
        for path in (tmp_path, file):
            data = read(path)
            assert data.captions == [["red", "round"], ["blue"], ["green"]]
            assert data.objects == ["3", "4", "5"]
            assert data.metadata(0) == {"price": 1.5} and data.metadata(1) == {"price": None}

    def test_a_split_column_of_nulls_is_no_split(self, tmp_path: Path) -> None:
        write_parquet(tmp_path, split=[None, None, None])
        assert read(tmp_path).notes[0].startswith("no split column")

    def test_refused(self, tmp_path: Path) -> None:
        file = write_parquet(tmp_path, identity=["x", None, "y"])
        refuse(file, "row 2: identity must be a string")
        write_parquet(tmp_path, image=[b"pixels", b"pixels", b"pixels"])
        refuse(file, "row 1: image must be the path of a file as a string, not binary data")
        write_parquet(tmp_path, identity=...)
        refuse(file, "no column 'identity' (columns present: image, captions, split)")
        write_parquet(tmp_path, captions=["a", "b", "c"])
        refuse(file, "row 1: captions must be a list")
        file.write_bytes(file.read_bytes()[:50])
        refuse(file, "not a readable Parquet file")
        file.write_bytes(b"")
        refuse(file, "not a readable Parquet file")


def test_the_three_kinds_read_alike(tmp_path: Path) -> None:
    folders = [tmp_path / kind for kind in ("jsonl", "csv", "parquet")]
    for folder in folders:
        folder.mkdir()
    text = "\n".join(json.dumps(row) for row in ROWS)
    (folders[0] / "manifest.jsonl").write_text(text)
    for row in ROWS:
        (folders[0] / row["image"]).touch()
    lines = [
        f'{row["image"]},"{json.dumps(row["captions"]).replace(chr(34), chr(34) * 2)}",'
        f"{row['identity']},{row['split']}"
        for row in ROWS
    ]
    write_csv(folders[1], "\n".join(["image,captions,identity,split", *lines]))
    write_parquet(folders[2])
    assert len({read(folder).fingerprint() for folder in folders}) == 1
