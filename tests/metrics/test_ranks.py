import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmref.errors import DataError
from mmref.metrics.ranks import ranks_from_scores, relevant_ranks

from .naive import naive_ranks


@st.composite
def cases(draw, most_images=40):
    """Scores with many or few ties, several relevant images or single ones."""
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    queries, images = draw(st.integers(1, 6)), draw(st.integers(1, most_images))
    objects = draw(st.integers(1, images))
    levels = draw(st.sampled_from([1, 3, 10, 10_000]))
    scores = (generator.integers(-levels, levels + 1, (queries, images)) / levels).astype("f4")
    held = np.concatenate([np.arange(objects), generator.integers(0, objects, images - objects)])
    return scores, generator.integers(0, objects, queries), generator.permutation(held)


def blocks(scores):
    return lambda start, stop: scores[start:stop]


@settings(max_examples=300, deadline=None)
@given(cases(), st.sampled_from([0.0, 0.05, 0.4]), st.integers(1, 4000))
def test_ranks_equal_comparing_every_pair(case, tolerance, block_bytes):
    scores, asked, held = case
    ranks = ranks_from_scores(
        blocks(scores), asked, held, tolerance=tolerance, block_bytes=block_bytes
    )
    expected = naive_ranks(scores, asked, held, tolerance)
    assert [ranks.of(i).tolist() for i in range(len(ranks))] == expected


@pytest.mark.parametrize("spread", [1.0, 1e-6, 1e-30, 1e20])
@pytest.mark.parametrize("relevant", [1, 2, 50])
def test_counts_are_exact_at_any_scale_and_in_large_galleries(spread, relevant):
    generator = np.random.default_rng(0)
    scores = (generator.standard_normal((3, 5000)) * spread).astype("f4")
    scores[:, 100:200] = scores[:, :100]  # ties
    held = np.ones(5000, dtype=int)
    held[generator.choice(5000, relevant, replace=False)] = 0
    ranks = ranks_from_scores(blocks(scores), [0, 0, 0], held)
    assert [ranks.of(i).tolist() for i in range(3)] == naive_ranks(scores, [0, 0, 0], held)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_relevant_images_all_above_or_all_below(side):
    generator = np.random.default_rng(1)
    held = np.arange(3000) % 30
    scores = generator.standard_normal((30, 3000)).astype("f4")
    scores += np.float32(side * 20) * (held == np.arange(30)[:, None])
    ranks = ranks_from_scores(blocks(scores), np.arange(30), held)
    first = 1 if side > 0 else 2901
    assert ranks.of(7).tolist() == list(range(first, first + 100))


def test_equal_scores_everywhere():
    ranks = ranks_from_scores(blocks(np.zeros((1, 6), "f4")), ["a"], list("aabbbb"))
    assert ranks.of(0).tolist() == [5, 6]
    mean = ranks_from_scores(blocks(np.zeros((1, 6), "f4")), ["a"], list("aabbbb"), ties="expected")
    assert mean.of(0) == pytest.approx([7 / 3, 14 / 3])


def test_tolerance_ties_what_rounding_separates():
    scores = np.float32([[0.5, 0.5 - 1e-7, 0.4]])
    exact = ranks_from_scores(blocks(scores), ["a"], ["a", "b", "c"])
    tied = ranks_from_scores(blocks(scores), ["a"], ["a", "b", "c"], tolerance=1e-6)
    mean = ranks_from_scores(blocks(scores), ["a"], list("abc"), tolerance=1e-6, ties="expected")
    assert (exact.of(0), tied.of(0), mean.of(0)) == ([1.0], [2.0], [1.5])


@pytest.mark.parametrize("ties", ["pessimistic", "expected"])
def test_neither_blocks_nor_threads_nor_company_change_a_rank(ties):
    generator = torch.Generator().manual_seed(0)
    texts = torch.nn.functional.normalize(torch.randn(37, 8, generator=generator), dim=1)
    images = torch.nn.functional.normalize(torch.randn(90, 8, generator=generator), dim=1)
    asked, held = [f"o{i % 9}" for i in range(37)], [f"o{i % 9}" for i in range(90)]
    options = {"ties": ties, "tolerance": 1e-6}
    whole = relevant_ranks(texts, images, asked, held, **options)
    for block_bytes, threads in ((1, 1), (90 * 4 * 5, 2), (1 << 20, 3)):
        other = relevant_ranks(
            texts, images, asked, held, block_bytes=block_bytes, threads=threads, **options
        )
        assert np.array_equal(other.positions, whole.positions)
    alone = relevant_ranks(texts[5:6], images, asked[5:6], held, **options)
    assert np.array_equal(alone.positions, whole.of(5))


def test_scores_are_never_changed_and_may_be_tensors_of_half_precision():
    scores = torch.rand(4, 30).half()
    before = scores.clone()
    ranks = ranks_from_scores(blocks(scores), [0, 1, 2, 0], np.arange(30) % 3)
    assert torch.equal(scores, before)
    expected = naive_ranks(scores.float().numpy(), [0, 1, 2, 0], np.arange(30) % 3)
    assert [ranks.of(i).tolist() for i in range(4)] == expected


def test_double_precision_is_kept():
    scores = np.array([[0.5, 0.5 + 1e-12]])
    assert ranks_from_scores(blocks(scores), [0], [0, 1]).of(0).tolist() == [2]
    assert ranks_from_scores(blocks(scores), [1], [0, 1]).of(0).tolist() == [1]


def test_a_query_without_relevant_image_is_an_error_or_skipped():
    scores = np.float32([[0.1, 0.2], [0.3, 0.1], [0.5, 0.6]])
    with pytest.raises(DataError, match=r"1 of 3 queries.*row 1, object 'z'"):
        ranks_from_scores(blocks(scores), ["a", "z", "b"], ["a", "b"])
    ranks = ranks_from_scores(blocks(scores), ["a", "z", "b"], ["a", "b"], missing="skip")
    assert (ranks.skipped, ranks.kept.tolist(), len(ranks)) == (1, [0, 2], 2)
    assert [ranks.of(0).tolist(), ranks.of(1).tolist()] == [[2], [1]]
    with pytest.raises(DataError, match="no query has a relevant image"):
        ranks_from_scores(blocks(scores), ["x", "y", "z"], ["a", "b"], missing="skip")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(value):
    scores = np.ones((2, 5), "f4")
    scores[1, 3] = value
    with pytest.raises(DataError, match="NaN or infinite"):
        ranks_from_scores(blocks(scores), [0, 0], [0, 0, 1, 1, 1])


def test_shapes_and_objects_must_fit():
    x = torch.eye(3)
    with pytest.raises(DataError, match="do not fit"):
        relevant_ranks(x, torch.eye(4), [0, 1, 2], [0, 1, 2, 3])
    with pytest.raises(DataError, match="one object is needed"):
        relevant_ranks(x, x, [0, 1], [0, 1, 2])
    with pytest.raises(DataError, match="one type"):
        relevant_ranks(x, x, ["0", "1", "2"], [0, 1, 2])
    with pytest.raises(DataError, match="empty gallery"):
        relevant_ranks(x, torch.zeros(0, 3), [0, 1, 2], [])
    with pytest.raises(DataError, match=r"shape \(1, 3\), not \(3, 3\)"):
        ranks_from_scores(lambda a, b: x[:1], [0, 1, 2], [0, 1, 2])


@pytest.mark.parametrize("wrong", [{"ties": "best"}, {"missing": "drop"}, {"tolerance": -1.0}])
def test_unknown_rules_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        relevant_ranks(torch.eye(2), torch.eye(2), [0, 1], [0, 1], **wrong)
