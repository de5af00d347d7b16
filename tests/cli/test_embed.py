"""``mmref embed``, and a checkpoint in the place of a run for the other verbs."""

import json

import numpy as np
import pytest
from tests.encoders.clip.made import checkpoint
from tests.training.sets import write_set

QUICK = ("training.epochs=1", "encoder.deep=8", "encoder.block=8", "references.caption_epochs=1")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("checkpoint") / "small-clip", "clip")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_set(
        tmp_path_factory.mktemp("data") / "hats", pixels=True, size=(32, 32), objects=9
    )


def sets(*assignments):
    return [word for one in assignments for word in ("--set", one)]


def test_vectors_of_a_checkpoint_train_the_features_encoder(run_mmref, clip, data, tmp_path):
    (tmp_path / "data").symlink_to(data)
    done = run_mmref("embed", clip, "--data", tmp_path / "data", "--out", tmp_path / "vectors")
    assert done.status == 0, done.err
    assert "36 vectors of 16 numbers" in done.out
    assert "--encoder features" in done.out
    matrix = np.load(tmp_path / "vectors" / "features.npy")
    assert matrix.shape == (36, 16)
    assert np.allclose(np.linalg.norm(matrix, axis=1), 1, atol=1e-5)
    run = tmp_path / "run"
    words = ("--data", tmp_path / "vectors", "--encoder", "features", "--out", run)
    done = run_mmref("train", *words, *sets(*QUICK))
    assert done.status == 0, done.err
    done = run_mmref("evaluate", run, "--data", tmp_path / "vectors", "--json", "-")
    assert json.loads(done.out)["gallery"] == 12


def test_unreadable_images_are_named(run_mmref, clip, tmp_path):
    folder = write_set(tmp_path / "hats", pixels=True, size=(32, 32), objects=9)
    for name in ("00_0.png", "04_1.png"):
        (folder / name).write_bytes(b"bad")
    done = run_mmref("embed", clip, "--data", folder, "--out", tmp_path / "vectors", "--half")
    assert done.status == 0
    assert "34 vectors of 16 numbers" in done.out
    assert "2 images skipped" in " ".join(done.out.split())
    assert "00_0.png: not an image" in done.err


@pytest.mark.parametrize(
    ("model", "out", "message"),
    [
        ("nowhere", "new", "no run folder at nowhere"),
        ("clip", "data", "is not empty: name a new folder"),
    ],
)
def test_wrong_questions_are_one_line(run_mmref, clip, data, tmp_path, model, out, message):
    places = {"clip": clip, "new": tmp_path / "new", "data": data}
    done = run_mmref("embed", places.get(model, model), "--data", data, "--out", places[out])
    assert done.status == 2
    assert done.err.startswith("mmref: ")
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "new").exists()


class TestCheckpointAsRun:
    def test_evaluate(self, run_mmref, clip, data):
        done = run_mmref("evaluate", clip, "--data", data, "--i2t", "--json", "-")
        assert done.status == 0, done.err
        found = json.loads(done.out)
        assert found["unrefined"] is None
        assert found["i2t"] is not None
        assert found["model"]["kind"] == "clip"

    def test_index_and_search(self, run_mmref, clip, data, tmp_path):
        store = tmp_path / "hats.store"
        done = run_mmref("index", clip, data, "--store", store)
        assert done.status == 0, done.err
        done = run_mmref("search", "--store", store, "a red hat", "-k", "3", "--json")
        assert done.status == 0, done.err
        assert len(json.loads(done.out)["results"]) <= 3

    def test_train(self, run_mmref, clip, data, tmp_path):
        run = tmp_path / "run"
        small = (f"encoder.checkpoint={clip}", "training.epochs=1", "references.decoder_epochs=0")
        words = ("--data", data, "--encoder", "clip", "--out", run)
        done = run_mmref("train", *words, *sets(*small))
        assert done.status == 0, done.err
        said = " ".join(done.err.split())
        assert "note: defaults for clip: loss.temperature 0.02" in said
        assert "encoder.image_height 32" in said
        assert (run / "tokenizer.json").is_file()
        assert "word" not in (run / "README.md").read_text().split("## Limits")[-1][:200]

    def test_word_dropout(self, run_mmref, clip, data, tmp_path):
        wrong = (f"encoder.checkpoint={clip}", "training.word_dropout=0.1")
        words = ("--data", data, "--encoder", "clip", "--out", tmp_path / "run")
        done = run_mmref("train", *words, *sets(*wrong))
        assert done.status == 2
        assert "clip reads pieces of words: set it to 0" in done.err

    def test_without_weights_and_network(self, run_mmref, data, tmp_path, monkeypatch):
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        done = run_mmref("train", "--data", data, "--encoder", "clip", "--out", tmp_path / "run")
        assert done.status == 1
        assert "hf download openai/clip-vit-base-patch16 --local-dir FOLDER" in done.err
        assert not (tmp_path / "run").exists()
