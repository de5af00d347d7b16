import time

import numpy as np
import pytest

from mmref.errors import DataError
from mmref.metrics.bootstrap import intervals, paired_difference, pool_folds, resampled_means


def naive_means(values, objects, resamples, seed):
    """Draw objects one by one and average their queries."""
    generator = np.random.default_rng(seed)
    names = sorted(set(objects))
    draws = generator.integers(0, len(names), (resamples, len(names)), dtype=np.int32)
    result = []
    for draw in draws:
        drawn = [v for n in draw for v, o in zip(values, objects, strict=True) if o == names[n]]
        result.append(sum(drawn) / len(drawn))
    return result


def test_means_equal_a_naive_loop():
    values = np.array([1.0, 4.0, 2.0, 8.0, 5.0, 7.0])
    objects = ["b", "a", "b", "c", "b", "a"]
    fast = resampled_means(values, objects, resamples=50, seed=7)[:, 0]
    assert fast == pytest.approx(naive_means(values, objects, 50, 7))
    twice = resampled_means({"x": values, "y": -values}, objects, resamples=50, seed=7)
    assert twice[:, 0] == pytest.approx(fast)
    assert twice[:, 1] == pytest.approx(-fast)


def test_interval_is_the_percentiles_and_depends_on_the_seed_alone():
    generator = np.random.default_rng(0)
    values, objects = generator.random(200), np.arange(200) % 25
    means = resampled_means(values, objects, resamples=500, seed=3)[:, 0]
    first = intervals({"m": values}, objects, resamples=500, seed=3)
    assert first == {"m": tuple(np.quantile(means, [0.025, 0.975]))}
    assert first == intervals({"m": values}, objects, resamples=500, seed=3)
    assert first != intervals({"m": values}, objects, resamples=500, seed=4)
    low, high = first["m"]
    narrow = intervals({"m": values}, objects, resamples=500, seed=3, level=0.5)["m"]
    assert low < narrow[0] < values.mean() < narrow[1] < high


def test_intervals_cover_where_a_bootstrap_over_queries_would_not():
    generator = np.random.default_rng(1)
    covered = {"objects": 0, "queries": 0}
    for trial in range(200):
        values = np.repeat(generator.standard_normal(60), 10)  # ten queries repeat their object
        values += 0.3 * generator.standard_normal(600)
        for unit, ids in (("objects", np.repeat(np.arange(60), 10)), ("queries", np.arange(600))):
            low, high = intervals({"m": values}, ids, resamples=200, seed=trial)["m"]
            covered[unit] += low <= 0 <= high
    assert 0.88 <= covered["objects"] / 200 <= 0.99
    assert covered["queries"] / 200 < 0.7


def test_identical_values_differ_by_nothing():
    values = np.random.default_rng(0).random(40)
    result = paired_difference(values, values, np.arange(40) // 4)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)
    assert not result.significant
    assert (result.queries, result.objects) == (40, 10)


def test_paired_difference_sees_what_the_noise_of_queries_hides():
    generator = np.random.default_rng(2)
    base = 10 * generator.standard_normal(300)
    better = base + 0.5 + 0.5 * generator.standard_normal(300)
    objects = np.arange(300) // 3
    result = paired_difference(base, better, objects)
    assert result.difference == pytest.approx(np.mean(better - base))
    assert result.significant
    assert result.low > 0
    assert result.p_value == pytest.approx(2 / 10_001)
    back = paired_difference(better, base, objects)
    assert (back.low, back.high) == pytest.approx((-result.high, -result.low))
    assert back.p_value == result.p_value


def test_p_values_are_uniform_without_a_difference():
    generator = np.random.default_rng(5)
    objects = np.repeat(np.arange(50), 4)
    values = [
        paired_difference(
            np.zeros(200), np.repeat(generator.standard_normal(50), 4), objects, resamples=200
        ).p_value
        for _ in range(200)
    ]
    assert 0.01 <= np.mean(np.array(values) < 0.05) <= 0.12
    assert 0.4 <= np.mean(values) <= 0.6


def test_ten_thousand_resamples_of_a_thousand_objects_are_quick():
    values, objects = np.random.default_rng(0).random(6000), np.arange(6000) % 1000
    start = time.process_time()
    intervals({"m": values}, objects, resamples=10_000)
    assert time.process_time() - start < 3  # about 0.3 s; the bound is loose for busy machines


def test_folds_are_pooled_and_may_not_share_objects():
    folds = [({"m": np.array([1.0, 2.0])}, ["a", "b"]), ({"m": np.array([3.0])}, ["c"])]
    values, objects = pool_folds(folds)
    assert (values["m"].tolist(), objects.tolist()) == ([1, 2, 3], ["a", "b", "c"])
    with pytest.raises(DataError, match="'a' is in two folds"):
        pool_folds([*folds, ({"m": np.array([3.0])}, ["a"])])
    with pytest.raises(DataError, match="different figures"):
        pool_folds([*folds, ({"k": np.array([3.0])}, ["d"])])
    with pytest.raises(DataError, match="no folds"):
        pool_folds([])


def test_wrong_arguments():
    with pytest.raises(DataError, match="2 values, but 3 objects"):
        resampled_means(np.zeros(2), ["a", "b", "c"])
    with pytest.raises(DataError, match="0 values"):
        resampled_means(np.zeros(0), [])
    with pytest.raises(DataError, match="same queries"):
        paired_difference(np.zeros(2), np.zeros(3), ["a", "b"])
    with pytest.raises(ValueError, match="resamples"):
        resampled_means(np.zeros(1), ["a"], resamples=0)
    with pytest.raises(ValueError, match="level"):
        intervals({"m": np.zeros(1)}, ["a"], level=95)


def test_runs_are_drawn_before_their_objects():
    """Two runs whose objects agree within, not between: the spread is that of the runs."""
    values = np.array([1.0] * 50 + [3.0] * 50)
    objects = [f"{run}/{k}" for run in "ab" for k in range(50)]
    runs = [name[0] for name in objects]
    alone = resampled_means(values, objects, resamples=4000)[:, 0]
    apart = resampled_means(values, objects, resamples=4000, runs=runs)[:, 0]
    assert alone.std() < 0.15
    assert set(np.unique(apart)) == {1.0, 2.0, 3.0}
    shares = [np.mean(apart == value) for value in (1.0, 2.0, 3.0)]
    assert shares == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert paired_difference(np.zeros(100), values, objects, runs=runs).low == 1.0
    assert intervals({"x": values}, objects, runs=runs)["x"] == (1.0, 3.0)


def test_queries_weigh_alike_within_and_between_runs():
    values, objects = np.array([1.0, 1.0, 4.0]), ["a/x", "a/x", "b/x"]
    means = resampled_means(values, objects, resamples=3000, runs=["a", "a", "b"])[:, 0]
    assert set(np.unique(means)) == {1.0, 2.0, 4.0}  # both runs: (1 + 1 + 4) / 3


def test_one_run_is_as_none_and_runs_share_no_object():
    values, objects = np.arange(4.0), ["a", "a", "b", "c"]
    plain = resampled_means(values, objects, resamples=50)
    assert np.array_equal(plain, resampled_means(values, objects, resamples=50, runs=["r"] * 4))
    with pytest.raises(DataError, match="in two runs"):
        resampled_means(values, objects, runs=["r", "s", "r", "r"])
    with pytest.raises(DataError, match="each query has one"):
        resampled_means(values, objects, runs=["r", "s"])
