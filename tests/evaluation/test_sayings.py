from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch

from mmref.data.dataset import RetrievalDataset
from mmref.errors import DataError, ModelError
from mmref.evaluation.sayings import nearest, predicted_words, reference_numbers
from mmref.model import MMRef
from mmref.training.trainer import Trainer

_spec = spec_from_file_location("sets", Path(__file__).parents[1] / "training" / "sets.py")
sets = module_from_spec(_spec)
_spec.loader.exec_module(sets)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    dataset = RetrievalDataset.load(sets.write_set(tmp_path_factory.mktemp("d"), noise=0.05))
    settings = sets.small(
        training__epochs=30,
        training__deep_learning_rate=0.01,
        training__warmup=0.0,
        references__decoder_width=32,
        references__reconstruction_weight=1,
        references__learning_rate=0.03,
    )
    outcome = Trainer(dataset, settings, validate=False).run()
    return outcome.model, outcome.train


def test_a_reference_predicts_the_words_of_its_object(trained):
    model, train = trained
    frames = [query.caption for query in train.queries()]
    names = list(model.references.objects)
    found = predicted_words(model, names, frames, count=3)
    hits = 0
    for name, words in zip(names, found, strict=True):
        own = {w for c, o in train.queries() if o == name for w in c.replace(",", "").split()}
        hits += bool(words) and words[0].word in own
        assert all(word.lift >= 1 and 0 < word.probability <= 1 for word in words)
        assert not {"a", "one", "and", "hat", "shoe"} & {word.word for word in words[:1]}
    assert hits >= 0.7 * len(names)


def test_the_same_seed_predicts_the_same_words(trained):
    model, train = trained
    frames = [query.caption for query in train.queries()]
    name = model.references.objects[:1]
    assert predicted_words(model, name, frames) == predicted_words(model, name, frames)


def test_a_run_without_reconstruction_predicts_none(trained):
    model, _ = trained
    bare = MMRef(model.encoder, model.settings, replace(model.references, decoder={}, parts=()))
    assert predicted_words(bare, list(model.references.objects[:1]), ["a red hat"]) is None


def test_an_unknown_object_and_a_run_without_references_are_said(trained):
    model, _ = trained
    with pytest.raises(DataError, match="no training object"):
        reference_numbers(model, ["nobody"])
    with pytest.raises(ModelError, match="without references"):
        reference_numbers(MMRef(model.encoder, model.settings), ["nobody"])


def test_nearest_are_in_order_and_say_whose_they_are():
    vectors = torch.nn.functional.normalize(torch.tensor([[1.0, 1], [1, 0], [0, 1]]), dim=1)
    found = nearest(torch.tensor([1.0, 0]), vectors, ["a", "b", "c"], ["x", "y", "x"], "x", 2)
    assert [(n.what, n.object, n.own) for n in found] == [("b", "y", False), ("a", "x", True)]
    assert found[1].cosine == pytest.approx(0.7071, abs=1e-4)
