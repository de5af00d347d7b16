import numpy as np
import pytest

from mmref.metrics.counting import count_at_least, row_keys


@pytest.mark.parametrize("seed", range(40))
def test_counts_equal_comparisons(seed):
    generator = np.random.default_rng(seed)
    rows, columns = generator.integers(1, 9), generator.integers(1, 2000)
    scores = generator.standard_normal((rows, columns))
    if seed % 3 == 0:
        scores = np.round(scores)  # many equal scores
    if seed % 10 == 0:
        scores[:] = scores[0, 0]
    scores = scores.astype(generator.choice(["f4", "f8"]))
    row = np.sort(generator.integers(0, rows, generator.integers(1, 30)))
    cut = generator.choice(scores.ravel(), len(row)) + generator.choice([0, 0, 1], len(row))
    cut = cut.astype(scores.dtype)[np.lexsort((cut, row))]
    expected = [int((scores[r] >= c).sum()) for r, c in zip(row, cut, strict=True)]
    assert count_at_least(scores, row, cut).tolist() == expected


def test_rows_without_a_cut_are_ignored():
    scores = np.float32([[5, 6], [1, 2], [7, 8]])
    assert count_at_least(scores, np.array([1]), np.float32([2])).tolist() == [1]


def test_keys_sort_by_row_then_value():
    keys = row_keys(np.array([1, 0, 1, 0]), np.array([-5.0, 3.0, -np.inf, 9.0]))
    assert np.argsort(keys).tolist() == [1, 3, 2, 0]
