import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from mmref.config import RefinementSettings
from mmref.evaluation.vectors import evaluate_vectors
from mmref.experiments.refining import (
    ALL,
    DEPTHS,
    KEPT,
    points,
    re_scored,
    refine_all,
    unrefined,
)
from mmref.references.kept import References, RefinementChoice, make_refiner
from mmref.references.refinement import reference_scores

GRID = RefinementSettings(forms=("posterior", "linear"), weights=(1.0,), temperatures=(0.1,))


@pytest.fixture(scope="module")
def found():
    generator = torch.Generator().manual_seed(0)
    centres = normalize(torch.randn(12, 6, generator=generator), dim=1)
    objects = [f"o{k}" for k in range(12) for _ in range(4)]
    noise = torch.randn(2, 48, 6, generator=generator)
    texts, images = normalize(centres.repeat_interleave(4, 0) + 0.5 * noise, dim=2)
    vectors = normalize(torch.randn(40, 6, generator=generator), dim=1)
    references = References(vectors, tuple(map(str, range(40))), texts.mean(0), images.mean(0), {})
    rows, values = refine_all(references, GRID, texts, images, objects, objects)
    return references, texts, images, objects, rows, values


def test_the_grid_is_whole(found):
    rows = found[4]
    assert len(rows) == len(points(GRID)) == len(KEPT) * len(DEPTHS) + len(DEPTHS)
    assert len({tuple(row[k] for k in ("form", "kept", "depth")) for row in rows}) == len(rows)


@pytest.mark.parametrize("kept", [8, 16, ALL])
def test_with_all_re_scored_it_is_the_refined_evaluation(found, kept):
    references, texts, images, objects, rows, values = found
    at = next(
        k
        for k, r in enumerate(rows)
        if (r["form"], r["kept"], r["depth"]) == ("posterior", kept, ALL)
    )
    refiner = make_refiner(references, RefinementChoice("posterior", 1.0, 0.1, kept or 40))
    right = evaluate_vectors(texts, images, objects, objects, refiner)
    assert rows[at]["mAP"] == pytest.approx(right.metrics["mAP"])
    assert values["mAP"][at] == pytest.approx(right.per_query["mAP"])
    assert rows[at]["bytes"] == 4 * 6 + 6 * (kept or 40)
    plain, micros = unrefined(texts, images, objects, objects)
    assert plain.metrics["mAP"] != pytest.approx(right.metrics["mAP"])
    assert 0 < micros < rows[at]["microseconds"]


def test_re_scoring_moves_the_top_alone():
    generator = torch.Generator().manual_seed(1)
    cosine = torch.rand(5, 30, generator=generator)
    reference = torch.rand(5, 30, generator=generator) - 1  # linear profiles may disagree
    order = cosine.argsort(dim=1, descending=True)
    ranked = re_scored(cosine, reference, order, 2.0, 10).argsort(dim=1, descending=True)
    for q in range(5):
        near = order[q, :10].tolist()
        right = sorted(near, key=lambda i: -float(cosine[q, i] + 2 * reference[q, i]))
        assert ranked[q].tolist() == right + order[q, 10:].tolist()
    whole = re_scored(cosine, reference, order, 2.0, ALL)
    assert torch.equal(whole, re_scored(cosine, reference, order, 2.0, 30))


@pytest.mark.parametrize("form", ["posterior", "linear"])
def test_what_is_timed_is_the_similarity(found, form):
    references, texts, images, *_ = found
    refiner = make_refiner(references, RefinementChoice(form, 1.0, 0.1, 8))
    stored, asked = (
        refiner.profiles(images, "image"),
        refiner.profiles(texts[:1], "text", exact=True),
    )
    right = refiner.reference_similarity(asked, stored)[0].numpy()
    scores = reference_scores(asked.to_arrays(), stored.to_arrays())
    assert np.allclose(scores, right, atol=1e-5)
