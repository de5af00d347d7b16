import pytest
import torch

from mmref.config import RefinementSettings
from mmref.training.scoring import SHARES, best_share, judge
from mmref.training.selection import validation_map
from mmref.training.trainer import Trainer
from mmref.training.validation import encode_captions, encode_images

from .sets import load_set, small

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    return load_set(tmp_path_factory.mktemp("features"))


def started(features, **values):
    trainer = Trainer(features, small(**values))
    trainer._start()
    assert trainer.validation is not None
    return trainer, trainer.encoder.eval(), trainer.validation


def naive(encoder, validation, share):
    encoder.deep_share.fill_(share)
    texts = encoder.join(encode_captions(encoder, validation.captions, CPU))
    images = encoder.join(encode_images(encoder, validation.inputs.tensor, CPU))
    objects = (validation.query_objects, validation.gallery_objects)
    return validation_map(texts, images, *objects, None, None)


def test_the_best_share_is_found(features):
    _, encoder, validation = started(features)
    share, found = best_share(encoder, validation, CPU)
    scores = [naive(encoder, validation, share) for share in SHARES]
    assert len(set(scores)) > 1
    assert found == pytest.approx(max(scores))
    assert share == SHARES[scores.index(max(scores))]


def test_equally_good_shares_are_the_smallest(features, monkeypatch):
    _, encoder, validation = started(features)
    monkeypatch.setattr("mmref.training.scoring.validation_map", lambda *_: 50.0)
    assert best_share(encoder, validation, CPU) == (0.0, 50.0)


def test_one_part_has_one_share(features):
    _, encoder, validation = started(features, encoder__deep=0)
    before = float(encoder.deep_share)
    assert best_share(encoder, validation, CPU)[0] == before == float(encoder.deep_share)


def test_the_figures_are_those_of_the_choice(features):
    trainer, encoder, validation = started(features)
    references = trainer._references()
    grid = RefinementSettings(kept=8)
    choice, rows, figures = judge(encoder, validation, references, grid, CPU)
    assert figures["unrefined"].metrics["mAP"] == pytest.approx(rows[0]["mAP"])
    assert ("refined" in figures) == (choice is not None)
    if choice is not None:
        tried = [r["mAP"] for r in rows if (r["form"], r["weight"]) == (choice.form, choice.weight)]
        assert figures["refined"].metrics["mAP"] in [pytest.approx(value) for value in tried]
    none, no_rows, plain = judge(encoder, validation, None, grid, CPU)
    assert (none, no_rows, set(plain)) == (None, [], {"unrefined"})
    assert judge(encoder, None, references, grid, CPU) == (None, [], {})
