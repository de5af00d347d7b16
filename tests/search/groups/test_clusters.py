import numpy as np
import pytest

from mmref.search.groups import clusters as module
from mmref.search.groups.clusters import clusters


def around(centres, each, spread, seed=0):
    drawn = np.random.default_rng(seed)
    made = np.repeat(centres, each, axis=0)
    made = made + spread * drawn.standard_normal(made.shape) / made.shape[1] ** 0.5
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def centres(count, dimension=32, seed=1):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dimension, count)))[0].T


@pytest.mark.parametrize("exact_rows", [10**6, 100])
def test_objects_that_lie_apart_are_found(monkeypatch, exact_rows):
    monkeypatch.setattr(module, "EXACT_ROWS", exact_rows)
    monkeypatch.setattr(module, "_PROBES", 64)
    vectors = around(centres(20), 12, 0.4)
    found = clusters(vectors, 0.6)
    assert found.tolist() == np.repeat(np.arange(20) * 12, 12).tolist()


def test_a_chain_is_no_cluster():
    angles = np.radians(np.arange(0, 180, 6))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    found = clusters(vectors, 0.97)
    for name in np.unique(found):
        inside = vectors[found == name]
        assert (inside @ inside.T).mean() >= 0.97
    assert len(np.unique(found)) >= 4


def test_clusters_are_named_by_their_first_row_and_do_not_depend_on_the_order():
    vectors = around(centres(9), 5, 0.5)
    order = np.random.default_rng(3).permutation(len(vectors))
    one, other = clusters(vectors, 0.6), clusters(vectors[order], 0.6)
    for found in (one, other):
        for row, name in enumerate(found):
            assert name <= row
            assert found[name] == name
    pairs = one[order][:, None] == one[order][None]
    np.testing.assert_array_equal(pairs, other[:, None] == other[None])


def test_more_equal_images_than_neighbours_are_one_cluster():
    vectors = np.repeat(around(centres(2), 1, 0.0), 100, axis=0)
    assert clusters(vectors, 0.9).tolist() == [0] * 100 + [100] * 100


def test_the_largest_size():
    vectors = np.repeat(around(centres(1), 1, 0.0), 40, axis=0)
    assert max(np.bincount(clusters(vectors, 0.9, most=16))) <= 16


def test_few_images():
    vectors = around(centres(1), 1, 0.0)
    assert clusters(vectors[:0], 0.9).tolist() == []
    assert clusters(vectors, 0.9).tolist() == [0]
