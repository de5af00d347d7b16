import numpy as np
import pytest
import torch

from mmref.errors import DataError
from mmref.evaluation import vectors as module
from mmref.evaluation.vectors import evaluate_vectors, refined_blocks
from mmref.metrics.protocols import METRICS, figures
from mmref.metrics.ranks import ranks_from_scores
from mmref.references.refinement import FORMS, Refiner


def unit(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator), dim=-1)


@pytest.fixture
def scene():
    texts, images = unit(40, 16, seed=0), unit(60, 16, seed=1)
    asked, held = [f"o{i % 8}" for i in range(40)], [f"o{i % 8}" for i in range(60)]
    return texts, images, asked, held


def make_refiner(form, references=30, weight=0.7):
    return Refiner(
        unit(references, 16, seed=2),
        form,
        weight=weight,
        temperature=0.2,
        kept=6,
        text_mean=unit(16, seed=3) * 0.2,
        image_mean=unit(16, seed=4) * 0.2,
        scatter=torch.diag(torch.linspace(0.1, 2.0, 16)),
    )


def by_whole_matrix(scores, asked, held):
    ranks = ranks_from_scores(lambda a, b: scores[a:b], asked, held, tolerance=1e-6)
    return figures(ranks, asked).metrics


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dense_bytes", [0, 1 << 20])
def test_refined_blocks_are_the_refiners_similarity(scene, form, dense_bytes, monkeypatch):
    monkeypatch.setattr(module, "_DENSE_BYTES", dense_bytes)  # 0: sparse profiles stay sparse
    texts, images, *_ = scene
    refiner = make_refiner(form)
    scores = refined_blocks(texts, images, refiner)
    expected = refiner.similarity(texts, images)
    assert torch.cat([scores(0, 7), scores(7, 40)]) == pytest.approx(expected.numpy(), abs=1e-5)
    back = refined_blocks(images, texts, refiner, ("image", "text"))
    # Queries are exact and the gallery is as stored: which side is rounded changes places.
    near = 5e-4 if form == "posterior" else 1e-5
    assert pytest.approx(expected.numpy(), abs=near) == back(0, 60).T


@pytest.mark.parametrize("form", [None, *FORMS])
@pytest.mark.parametrize("block_bytes", [1, 60 * 4 * 7, 1 << 20])
def test_figures_equal_those_of_the_whole_matrix(scene, form, block_bytes):
    texts, images, asked, held = scene
    refiner = make_refiner(form) if form else None
    scores = refiner.similarity(texts, images) if refiner else texts @ images.T
    options = {"refiner": refiner, "block_bytes": block_bytes}
    forward = evaluate_vectors(texts, images, asked, held, **options)
    assert forward.metrics == pytest.approx(by_whole_matrix(scores, asked, held))
    back = evaluate_vectors(texts, images, asked, held, direction="i2t", **options)
    assert back.metrics == pytest.approx(by_whole_matrix(scores.T.contiguous(), held, asked))
    assert (back.queries, back.gallery) == (60, 40)


def test_without_weight_refinement_changes_nothing(scene):
    plain = evaluate_vectors(*scene)
    refined = evaluate_vectors(*scene, make_refiner("posterior", weight=0.0))
    assert refined.metrics == plain.metrics


def test_no_query_depends_on_the_others(scene):
    texts, images, asked, held = scene
    refiner = make_refiner("posterior")
    whole = evaluate_vectors(texts, images, asked, held, refiner)
    order = np.random.default_rng(0).permutation(40)
    shuffled = evaluate_vectors(texts[order], images, [asked[i] for i in order], held, refiner)
    for name in METRICS:
        assert np.array_equal(shuffled.per_query[name], whole.per_query[name][order])
    alone = evaluate_vectors(texts[3:4], images, asked[3:4], held, refiner)
    assert alone.per_query["mAP"].item() == whole.per_query["mAP"][3]


def test_equal_vectors_tie_whatever_the_rounding(scene):
    texts, images, asked, held = scene
    doubled = torch.cat([images, images])  # each image again, under another object
    result = evaluate_vectors(texts, doubled, asked, held + [f"x{h}" for h in held])
    assert result.metrics["R@1"] == 0  # the tied irrelevant image ranks first
    mean = evaluate_vectors(texts, doubled, asked, held + [f"x{h}" for h in held], ties="expected")
    assert mean.metrics["R@1"] == pytest.approx(evaluate_vectors(*scene).metrics["R@1"] / 2)


def test_wrong_arguments(scene):
    texts, images, asked, held = scene
    with pytest.raises(DataError, match="40 caption and 60 image vectors, but 39 and 60 objects"):
        evaluate_vectors(texts, images, asked[1:], held)
    with pytest.raises(ValueError, match="direction"):
        evaluate_vectors(texts, images, asked, held, direction="both")
    with pytest.raises(DataError, match="1 of 40 queries"):
        evaluate_vectors(texts, images, ["gone", *asked[1:]], held)
