import numpy as np
import pytest
import torch

from mmref.errors import DataError
from mmref.metrics.reranking import dual_softmax, k_reciprocal


def unit(matrix):
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype("f4")


def clustered(seed, objects=12, images=6, captions=3, noise=1.2):
    """Captions and images around shared centres, with a gap between the modalities."""
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((objects, 16))
    of_text, of_image = (
        np.repeat(np.arange(objects), captions),
        np.repeat(np.arange(objects), images),
    )
    texts = centres[of_text] + noise * generator.standard_normal((len(of_text), 16)) + 1.0
    views = centres[of_image] + 0.6 * generator.standard_normal((len(of_image), 16)) - 0.5
    return unit(texts), unit(views), of_text, of_image


def precision(scores, of_text, of_image, depth=6):
    top = np.argsort(-scores, axis=1)[:, :depth]
    return float((of_image[top] == of_text[:, None]).mean())


def test_dual_softmax_is_the_product_of_both_softmaxes():
    scores = np.random.default_rng(0).standard_normal((5, 7)).astype("f4")
    raised = np.exp(scores / 0.5)
    product = raised / raised.sum(0) * raised / raised.sum(1, keepdims=True)
    assert np.exp(dual_softmax(scores, temperature=0.5)) == pytest.approx(product, rel=1e-4)
    assert np.isfinite(dual_softmax(scores, temperature=1e-3)).all()
    assert dual_softmax(torch.from_numpy(scores)).shape == (5, 7)


def test_k_reciprocal_helps_where_images_of_an_object_agree():
    gains = []
    for seed in range(5):
        texts, images, of_text, of_image = clustered(seed)
        scores = texts @ images.T
        after = k_reciprocal(scores, images @ images.T, k1=6, k2=3)
        gains.append(precision(after, of_text, of_image) - precision(scores, of_text, of_image))
    assert np.mean(gains) > 0.03


def test_k_reciprocal_with_full_weight_keeps_the_order_within_a_query():
    texts, images, *_ = clustered(0)
    scores = texts @ images.T
    after = k_reciprocal(scores, images @ images.T, weight=1.0)
    assert np.array_equal(np.argsort(-after, 1), np.argsort(-scores, 1))


@pytest.mark.parametrize("rerank", ["dual", "reciprocal"])
def test_both_are_transductive_as_they_say(rerank):
    texts, images, *_ = clustered(1)
    scores, within = texts @ images.T, images @ images.T

    def run(part):
        return dual_softmax(part) if rerank == "dual" else k_reciprocal(part, within, k1=4)

    together, alone = run(scores)[:3], run(scores[:3])
    order = np.argsort(-together, 1), np.argsort(-alone, 1)
    assert not np.array_equal(*order)


def test_tiny_galleries_and_single_queries_work():
    one = k_reciprocal(np.float32([[0.5]]), np.float32([[1.0]]))
    assert one.shape == (1, 1)
    assert np.isfinite(one).all()
    few = k_reciprocal(np.float32([[0.5, 0.1]]), np.eye(2, dtype="f4"))
    assert few[0, 0] > few[0, 1]


def test_inputs_are_left_alone():
    scores, within = np.float32([[0.5, 0.1]]), np.eye(2, dtype="f4")
    k_reciprocal(scores, within)
    assert np.array_equal(within, np.eye(2))
    assert scores.tolist() == [[0.5, np.float32(0.1)]]


def test_wrong_arguments():
    with pytest.raises(DataError, match="NaN"):
        dual_softmax(np.float32([[np.nan]]))
    with pytest.raises(DataError, match="matrix is needed"):
        dual_softmax(np.zeros(3, "f4"))
    with pytest.raises(ValueError, match="temperature"):
        dual_softmax(np.zeros((1, 1), "f4"), temperature=0)
    with pytest.raises(DataError, match=r"not \(2, 2\)"):
        k_reciprocal(np.zeros((1, 2), "f4"), np.zeros((3, 3), "f4"))
    with pytest.raises(ValueError, match="weight"):
        k_reciprocal(np.zeros((1, 2), "f4"), np.zeros((2, 2), "f4"), weight=2)
