import csv
import json

import numpy as np
import pytest
from PIL import Image
from tests.evaluation.told import told

from mmref.cli import main
from mmref.config import Settings
from mmref.data.dataset import RetrievalDataset
from mmref.evaluation import inspection
from mmref.evaluation.failures import Failures
from mmref.training.trainer import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A manifest of pictures: six captions an object, some of them known to be wrong."""
    folder = tmp_path_factory.mktemp("data")
    texts, names, bad = told(objects=16)
    rng = np.random.default_rng(0)
    lines = []
    for number, name in enumerate(dict.fromkeys(names)):
        own = [i for i, n in enumerate(names) if n == name]
        for view in range(2):
            pixels = rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}-{view}.png")
            mine = own[view::2]
            lines.append(
                {
                    "image": f"{number}-{view}.png",
                    "captions": [texts[i] for i in mine],
                    "contradicted": [["colour"] if bad[i] else [] for i in mine],
                    "identity": name,
                    "split": "train" if number < 12 else "val",
                }
            )
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    settings = Settings().with_values(
        {
            "encoder.block": 4,
            "encoder.deep": 4,
            "encoder.image_height": 16,
            "encoder.image_width": 16,
            "encoder.width": 8,
            "encoder.grid": 4,
            "encoder.kernel_features": 16,
            "references.decoder_width": 16,
            "references.caption_epochs": 1,
            "training.epochs": 1,
        }
    )
    outcome = Trainer(RetrievalDataset.load(data), settings).run()
    folder = tmp_path_factory.mktemp("runs") / "run"
    outcome.model.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    whole = inspection.find_doubtful
    monkeypatch.setattr(
        inspection, "find_doubtful", lambda *a, **k: whole(*a, **{**k, "visits": 2000})
    )


def test_tables_and_files(run, data, tmp_path, run_mmref):
    found = run_mmref("inspect", run, "--data", data, "--top", 6, "--out", tmp_path / "out")
    assert found.status == 0, found.err
    assert "reference of" in found.out
    assert "predicts:" in found.out
    assert "others say" in found.out
    assert "R-precision" in found.out
    assert "retrieve a wrong image first" in found.out
    assert max(map(len, found.out.splitlines())) <= 80
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"doubtful.csv", "doubtful.json", "references.json", "failures.png"}
    with (tmp_path / "out" / "doubtful.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    doubtful = json.loads((tmp_path / "out" / "doubtful.json").read_text())
    assert [row["caption"] for row in rows] == [d["caption"] for d in doubtful["captions"]]
    assert 1 <= len(rows) <= 6
    assert 0 < doubtful["figures"]["share"] < 1
    references = json.loads((tmp_path / "out" / "references.json").read_text())
    assert len(references) == 3
    assert references[0]["words"] is not None
    with Image.open(tmp_path / "out" / "failures.png") as sheet:
        assert sheet.width > 500


def test_json_is_one_document_on_stdout(run, data, run_mmref):
    found = run_mmref(
        "inspect", run, "--data", data, "--split", "val", "--object", "o001", "--json"
    )
    assert found.status == 0, found.err
    whole = json.loads(found.out)
    assert whole["split"] == "val"
    assert [saying["object"] for saying in whole["references"]] == ["o001"]
    assert whole["failures"]["queries"] > 0


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--split", "dev"], 2, "no split 'dev'"),
        (["--object", "nobody"], 1, "no training object"),
        (["--top", "-1"], 2, "--top"),
        (["--top", "many"], 2, "--top"),
    ],
)
def test_what_is_wrong_is_one_line(run, data, run_mmref, words, status, message):
    found = run_mmref("inspect", run, "--data", data, *words)
    assert found.status == status
    assert message in found.err.splitlines()[-1]
    assert found.out == ""


def test_a_run_that_is_none_leaves_no_folder(data, tmp_path, run_mmref):
    found = run_mmref("inspect", tmp_path / "no", "--data", data, "--out", tmp_path / "out")
    assert found.status == 2
    assert not (tmp_path / "out").exists()


def test_none_of_the_doubtful_captions_may_be_asked_for(run, data, run_mmref):
    found = run_mmref("inspect", run, "--data", data, "--top", "0")
    assert found.status == 0, found.err
    assert "others say" not in found.out
    assert "captions were compared" in found.out


def test_a_sheet_of_an_earlier_inspection_does_not_stay(
    run, data, tmp_path, run_mmref, monkeypatch
):
    words = ("inspect", run, "--data", data, "--out", tmp_path)
    assert run_mmref(*words).status == 0
    assert (tmp_path / "failures.png").is_file()
    monkeypatch.setattr(
        inspection, "retrieval_failures", lambda *_, **__: Failures(queries=4, failed=0, worst=())
    )
    found = run_mmref(*words)
    assert found.status == 0, found.err
    assert not (tmp_path / "failures.png").exists()
    assert "removed the failures.png of an earlier" in " ".join(found.err.split())


def test_it_is_a_verb():
    assert "inspect" in main.VERBS
