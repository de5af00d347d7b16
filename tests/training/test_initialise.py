import pytest
import torch
from torch.nn.functional import normalize

from mmref.encoders.parts import PartsEncoder
from mmref.training.initialise import new_objective, read_references, start_references
from mmref.training.trainer import Trainer

from .sets import load_set, small

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return load_set(tmp_path_factory.mktemp("features"))


def sides(trainer):
    """Each part's mean caption and mean image of each object, Tensor[8, d_part]."""
    encoder, pairs = trainer.encoder.eval(), trainer.pairs
    numbers, owners = pairs.caption_objects()
    with torch.no_grad():
        texts = encoder.text_parts(encoder.text_batch([pairs.ids[n] for n in numbers]))
        images = encoder.image_parts(pairs.inputs.tensor)
    image_owners = torch.from_numpy(pairs.image_objects)
    return [
        tuple(
            torch.stack([side[own == k].mean(dim=0) for k in range(8)])
            for side, own in ((text, owners), (image, image_owners))
        )
        for text, image in zip(texts, images, strict=True)
    ]


def start(trainer, parts=None, **values):
    """References after a start, by part."""
    objective = new_objective(trainer.settings, trainer.encoder, trainer.pairs)
    before = [bank.detach().clone() for bank in objective.references()]
    start_references(trainer.encoder, objective, trainer.pairs, CPU, parts, **values)
    return before, [bank.detach() for bank in objective.references()]


def test_both_modalities_count_alike(features):
    trainer = Trainer(features, small())
    _, found = start(trainer)
    for reference, (text, image) in zip(found, sides(trainer), strict=True):
        assert torch.allclose(reference, normalize(text + image, dim=1), atol=1e-5)


def test_captions_alone_for_the_parts_that_are_named(features):
    trainer = Trainer(features, small())
    _, found = start(trainer, captions_only=[1])
    closed, deep = sides(trainer)
    assert torch.allclose(found[0], normalize(closed[0] + closed[1], dim=1), atol=1e-5)
    assert torch.allclose(found[1], normalize(deep[0], dim=1), atol=1e-5)
    assert not torch.allclose(found[1], normalize(deep[0] + deep[1], dim=1), atol=1e-2)


def test_other_parts_stay(features):
    before, found = start(Trainer(features, small()), [1])
    assert torch.equal(before[0], found[0])
    assert not torch.allclose(before[1], found[1], atol=1e-2)


def test_without_references_nothing_is_encoded(features, monkeypatch):
    trainer = Trainer(features, small().base_objective())
    monkeypatch.setattr(PartsEncoder, "text_parts", None)
    assert start(trainer) == ([], [])
    objective = new_objective(trainer.settings, trainer.encoder, trainer.pairs)
    assert read_references(trainer.encoder, objective, trainer.pairs, CPU) is None


def test_word_targets_are_those_of_the_training_captions(features):
    trainer = Trainer(features, small(references__words_weight=0.3))
    objective = new_objective(trainer.settings, trainer.encoder, trainer.pairs)
    assert objective.words is not None
    targets = objective.words.targets
    tokeniser, pairs = trainer.encoder.tokeniser, trainer.pairs
    assert targets.shape == (8, len(tokeniser))
    for number, own in enumerate(pairs.by_object):
        said = {word for caption in own for word in pairs.ids[caption]}
        idf = trainer.encoder.ngrams.idf
        wanted = {word for word in said if idf[word] > 1 + 1e-6}
        assert set(targets[number].nonzero().flatten().tolist()) <= said
        assert wanted <= set(targets[number].nonzero().flatten().tolist())


def test_references_are_read_with_their_means_and_scatter(features):
    trainer = Trainer(features, small())
    trainer._start()
    objective, encoder = trainer.state.module.objective, trainer.encoder
    found = read_references(encoder, objective, trainer.pairs, CPU)
    assert found is not None
    assert torch.allclose(
        found.vectors, encoder.join([b.detach() for b in objective.references()]), atol=1e-6
    )
    assert found.scatter is not None
    assert found.text_mean.norm() > 0.01
    short = read_references(encoder, objective, trainer.pairs, CPU, means=False)
    assert short is not None
    assert short.scatter is None
    assert short.text_mean.norm() == short.image_mean.norm() == 0
    assert torch.equal(short.vectors, found.vectors)


def test_references_may_start_anywhere_and_prototypes_may_not(features):
    before, found = start(Trainer(features, small(references__init="random")))
    assert all(torch.equal(a, b) for a, b in zip(before, found, strict=True))
    means = small(references__kind="mean", references__fusion_weight=0, references__init="random")
    before, found = start(Trainer(features, means))
    assert not any(torch.allclose(a, b, atol=1e-2) for a, b in zip(before, found, strict=True))
