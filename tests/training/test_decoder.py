import pytest
import torch

from mmref.errors import TrainingError
from mmref.evaluation.reconstruction import masked_word_accuracy
from mmref.references.objective import new_decoder
from mmref.training.decoder import learn_decoder
from mmref.training.trainer import Trainer

from .sets import load_set, small


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    return Trainer(load_set(tmp_path_factory.mktemp("features")), small(), validate=False)


def decoder_and_references(trainer, seed=0):
    torch.manual_seed(seed)
    size = sum(trainer.encoder.part_dimensions)
    references = torch.nn.functional.normalize(torch.randn(len(trainer.pairs.objects), size), dim=1)
    return new_decoder(trainer.settings, len(trainer.encoder.tokeniser), size), references


def learn(trainer, decoder, references, progress=lambda *_: None, **values):
    settings = trainer.settings.with_values(values)
    return learn_decoder(decoder, references, trainer.pairs, settings, progress)


def test_the_loss_falls_and_nothing_but_the_decoder_changes(trainer):
    decoder, references = decoder_and_references(trainer)
    encoder = {k: v.clone() for k, v in trainer.encoder.state_dict().items()}
    before, told = references.clone(), []
    steps = learn(
        trainer, decoder, references, lambda *said: told.append(said),
        **{"references.decoder_epochs": 200, "training.deep_learning_rate": 0.01},
    )  # fmt: skip
    assert [said[:3] for said in told] == [("decoder", k + 1, steps) for k in range(steps)]
    first, last = (float(told[k][3].split()[-1]) for k in (0, -1))
    assert last < 0.5 * first
    assert torch.equal(references, before)
    assert all(torch.equal(v, encoder[k]) for k, v in trainer.encoder.state_dict().items())
    assert not decoder.training


def test_the_same_seed_learns_the_same_and_another_does_not(trainer):
    found = []
    for seed in (0, 0, 1):
        decoder, references = decoder_and_references(trainer)
        values = {"training.seed": seed, "references.decoder_epochs": 5}
        learn(trainer, decoder, references, **values)
        found.append(decoder.readout.weight.detach().clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_no_epochs_are_no_steps(trainer):
    decoder, references = decoder_and_references(trainer)
    assert learn(trainer, decoder, references, **{"references.decoder_epochs": 0}) == 0
    assert float(decoder.readout.weight.detach().abs().max()) == 0


def test_a_loss_that_is_no_number_is_said(trainer):
    decoder, references = decoder_and_references(trainer)
    with pytest.raises(TrainingError, match=r"lower training.deep_learning_rate"):
        learn(trainer, decoder, references * torch.nan)


def test_a_run_has_a_decoder_unless_told_otherwise(tmp_path):
    dataset = load_set(tmp_path)
    plain = small(training__epochs=1, references__reconstruction_weight=0)
    without = Trainer(dataset, plain.with_values({"references.decoder_epochs": 0})).run().model
    with_one = Trainer(dataset, plain).run()
    model = with_one.model
    assert without.references.decoder == {}
    assert model.references.decoder
    assert with_one.parameters["decoder"] > 0
    # It reads what is there: neither vectors nor references differ for it.
    assert torch.equal(model.references.vectors, without.references.vectors)
    captions = list(dict.fromkeys(c for own in dataset.captions for c in own))
    assert torch.equal(model.encode_text(captions), without.encode_text(captions))
    names = [model.references.objects[0]] * len(captions)
    assert masked_word_accuracy(model, captions, names)["words"] > 0
