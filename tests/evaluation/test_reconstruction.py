from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch

from mmref.data.dataset import RetrievalDataset
from mmref.errors import DataError, ModelError
from mmref.evaluation.reconstruction import _deranged, masked_word_accuracy
from mmref.model import MMRef
from mmref.training.trainer import Trainer

_spec = spec_from_file_location("sets", Path(__file__).parents[1] / "training" / "sets.py")
sets = module_from_spec(_spec)
_spec.loader.exec_module(sets)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Eight objects, each with its own two colours; held-out captions say both in other words."""
    folder = tmp_path_factory.mktemp("data")
    dataset = RetrievalDataset.load(sets.write_set(folder, held_out=True, noise=0.05))
    settings = sets.small(
        training__epochs=60,
        training__deep_learning_rate=0.01,
        training__warmup=0.0,
        references__decoder_width=32,
        references__reconstruction_weight=1,
        references__learning_rate=0.03,
    )
    outcome = Trainer(dataset, settings, validate=False).run()
    pairs = dict.fromkeys(
        (texts[0], name)
        for texts, name in zip(
            outcome.train.table["held_out_captions"].to_pylist(), outcome.train.objects, strict=True
        )
    )
    return outcome.model, [caption for caption, _ in pairs], [name for _, name in pairs]


def test_the_right_reference_knows_more_than_another_or_none(trained):
    found = masked_word_accuracy(*trained, mask_rate=0.4)
    assert found["right"] > found["shuffled"] + 10
    assert found["right"] > found["none"] + 5
    assert found["words"] >= len(trained[1])
    assert all(0 <= found[name] <= 100 for name in ("right", "shuffled", "none"))


def test_the_same_seed_masks_the_same_words(trained):
    assert masked_word_accuracy(*trained, seed=1) == masked_word_accuracy(*trained, seed=1)
    counts = {masked_word_accuracy(*trained, seed=seed)["words"] for seed in range(6)}
    assert len(counts) > 1


def test_a_loaded_model_measures_the_same(trained, tmp_path):
    model, captions, objects = trained
    model.save_pretrained(tmp_path / "run")
    loaded = MMRef.from_pretrained(tmp_path / "run")
    wanted = masked_word_accuracy(model, captions, objects)
    assert masked_word_accuracy(loaded, captions, objects) == wanted


def test_captions_longer_than_a_batch_are_all_counted(trained, monkeypatch):
    model, captions, objects = trained
    monkeypatch.setattr("mmref.evaluation.reconstruction._BATCH", 3)
    many = masked_word_accuracy(model, captions * 3, objects * 3)
    assert many["words"] >= 3 * len(captions)


def test_what_cannot_be_measured_is_said(trained):
    model, captions, objects = trained
    with pytest.raises(DataError, match="'a stranger' is no training object"):
        masked_word_accuracy(model, captions[:1], ["a stranger"])
    with pytest.raises(DataError, match="2 captions, but 1 objects"):
        masked_word_accuracy(model, captions[:2], objects[:1])
    with pytest.raises(DataError, match="not one of these captions"):
        masked_word_accuracy(model, ["xyzzy"], objects[:1])
    with pytest.raises(DataError, match="not one of these captions"):
        masked_word_accuracy(model, [], [])
    base = MMRef(model.encoder, model.settings)
    with pytest.raises(ModelError, match="trained without reconstruction"):
        masked_word_accuracy(base, captions, objects)


@pytest.mark.parametrize("count", [2, 3, 10])
def test_a_shuffle_leaves_nobody_with_their_own(count):
    for seed in range(10):
        other = _deranged(count, np.random.default_rng(seed))
        assert sorted(other.tolist()) == list(range(count))
        assert not torch.any(other == torch.arange(count))
