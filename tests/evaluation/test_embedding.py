import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from tests.evaluation.fakes import OBJECTS, FakeModel, folder_of_greys

from mmref import RetrievalDataset
from mmref.errors import DataError, PathError
from mmref.evaluation import embedding
from mmref.evaluation.embedding import embed_dataset


@pytest.fixture
def greys(tmp_path):
    (tmp_path / "pictures").mkdir()
    return folder_of_greys(tmp_path / "pictures")


def lines(folder):
    text = (folder / "manifest.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_all_that_a_data_set_says_goes_along(greys, tmp_path):
    extra = pa.array([{"camera": f"ä{n}"} for n in range(len(greys))])
    table = greys.table.append_column("where", extra)
    dataset = replace(greys, table=table, notes=("a note",))
    found = embed_dataset(FakeModel(noise=0), dataset, tmp_path / "out")
    assert (found.images, found.dimension, found.skipped) == (len(greys), OBJECTS, ())
    assert found.notes == ("a note",)
    again = RetrievalDataset.load(tmp_path / "out")
    assert again.has_features
    assert not again.features_only
    assert again.captions == greys.captions
    assert again.objects == greys.objects
    assert again.splits == greys.splits
    assert again.image_paths == greys.image_paths
    assert again.table["where"].to_pylist() == extra.to_pylist()
    numbers = [int(name.split("-")[1]) for name in greys.objects]
    assert np.argmax(again.features(), axis=1).tolist() == numbers
    assert again.features().dtype == np.float32
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "features.npy",
        "manifest.jsonl",
    ]


def test_rows_and_vectors_stay_together_when_images_are_unreadable(greys, tmp_path, monkeypatch):
    for row in (0, 5, 6):
        greys.image_paths[row].write_bytes(b"no image")
    seen = []
    plain = embedding.encode_images

    def keep(*given):
        seen.append(plain(*given))
        return seen[-1]

    monkeypatch.setattr(embedding, "encode_images", keep)
    found = embed_dataset(FakeModel(), greys, tmp_path / "out")
    assert found.images == len(greys) - 3
    assert [bad.path for bad in found.skipped] == [str(greys.image_paths[r]) for r in (0, 5, 6)]
    kept = [row for row in range(len(greys)) if row not in (0, 5, 6)]
    again = RetrievalDataset.load(tmp_path / "out")
    assert again.objects == [greys.objects[row] for row in kept]
    assert [line["feature_row"] for line in lines(tmp_path / "out")] == list(range(len(kept)))
    assert np.allclose(again.features(), seen[0][0].numpy())


def test_too_many_unreadable_images_are_refused_and_nothing_is_left(greys, tmp_path):
    for path in greys.image_paths[: len(greys) // 2]:
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match="images cannot be read"):
        embed_dataset(FakeModel(), greys, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    embed_dataset(FakeModel(), greys, tmp_path / "out", most_unreadable=0.6)


def test_half_precision(greys, tmp_path):
    embed_dataset(FakeModel(), greys, tmp_path / "out")
    embed_dataset(FakeModel(), greys, tmp_path / "half", half=True)
    one, two = (RetrievalDataset.load(tmp_path / name).features() for name in ("out", "half"))
    assert np.load(tmp_path / "half" / "features.npy").dtype == np.float16
    assert np.allclose(one, two, atol=1e-3)
    assert not np.array_equal(one, two)


def test_rows_without_captions_are_left_out_and_told(greys, tmp_path):
    column = greys.table.column_names.index("captions")
    captions = [[] if row in (1, 2) else own for row, own in enumerate(greys.captions)]
    dataset = replace(greys, table=greys.table.set_column(column, "captions", pa.array(captions)))
    found = embed_dataset(FakeModel(noise=0), dataset, tmp_path / "out")
    assert (found.images, found.without_captions) == (len(greys) - 2, 2)
    assert "2 images without a caption are left out" in found.notes[0]
    again = RetrievalDataset.load(tmp_path / "out")
    numbers = [int(name.split("-")[1]) for name in again.objects]
    assert len(numbers) == len(greys) - 2
    assert np.argmax(again.features(), axis=1).tolist() == numbers
    none = pa.array([[] for _ in captions], pa.list_(pa.string()))
    silent = replace(greys, table=greys.table.set_column(column, "captions", none))
    with pytest.raises(DataError, match="no caption at all"):
        embed_dataset(FakeModel(), silent, tmp_path / "none")


def test_another_protocol_is_told(greys, tmp_path):
    dataset = replace(greys, protocol="person", format="rstpreid")
    found = embed_dataset(FakeModel(), dataset, tmp_path / "out")
    assert "no longer asked by the protocol of rstpreid" in found.notes[0]


def test_nothing_is_written_over(greys, tmp_path):
    (tmp_path / "out").mkdir()
    embed_dataset(FakeModel(), greys, tmp_path / "out")  # empty: may be filled
    model = FakeModel()
    with pytest.raises(PathError, match="is not empty: name a new folder"):
        embed_dataset(model, greys, tmp_path / "out")
    (tmp_path / "file").touch()
    with pytest.raises(PathError, match="is a file"):
        embed_dataset(model, greys, tmp_path / "file")
    assert model.images_seen == []


def test_an_interruption_leaves_nothing(greys, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(embedding, "_lines", fail)
    with pytest.raises(KeyboardInterrupt):
        embed_dataset(FakeModel(), greys, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["pictures"]
