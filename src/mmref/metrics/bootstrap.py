"""Intervals and paired tests by bootstrap over objects.

The captions of one object are not independent: they describe the same thing and share its images.
So whole objects are drawn with replacement, each with all its queries, and a figure is the mean
over the queries drawn. (Our choice; the usual bootstrap over queries gives intervals too narrow.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmref.errors import DataError
from mmref.metrics.ranks import Objects

Values = NDArray[np.float64]
_DRAWS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class PairedDifference:
    """Second minus first, over the same queries.

    Attributes:
        difference: mean over queries, in the unit of the values.
        low: lower end of the interval.
        high: upper end.
        p_value: two-sided, at least 2 / (resamples + 1); 1 for identical values.
        queries: number of queries.
        objects: number of objects.
    """

    difference: float
    low: float
    high: float
    p_value: float
    queries: int
    objects: int

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def resampled_means(
    values: Mapping[str, Values] | Values,
    objects: Objects,
    *,
    resamples: int = 2000,
    seed: int = 0,
    runs: Objects | None = None,
) -> NDArray[np.float64]:
    """Means over queries in samples of objects drawn with replacement.

    Args:
        values: one value for each query, ``[q]``, or several arrays by name.
        objects: the object of each query, ``[q]``.
        runs: the trained model that each query was asked of, ``[q]``, where there are several with
            objects of their own. Then runs are drawn first, and objects within each: what one
            training happened to learn is common to all its objects (our choice).
        resamples: number of samples.
        seed: the draw depends on it and on the number of objects only.

    Returns:
        float64 ``[resamples, k]`` for k arrays (1 for a plain array).

    Raises:
        DataError: lengths differ, or there are no queries.

    Example:
        >>> resampled_means(np.array([1.0, 3.0]), ["a", "a"], resamples=2).tolist()
        [[2.0], [2.0]]
    """
    table = np.stack(
        [np.asarray(v, dtype=np.float64) for v in values.values()]
        if isinstance(values, Mapping)
        else [np.asarray(values, dtype=np.float64)],
        axis=1,
    )
    if table.ndim != 2 or len(table) != len(objects) or len(table) == 0:
        raise DataError(
            f"{len(table)} values, but {len(objects)} objects: each query has one of both"
        )
    if resamples < 1:
        raise ValueError(f"resamples is at least 1, not {resamples}")
    _, codes = np.unique(np.asarray(objects), return_inverse=True)
    number = int(codes.max()) + 1
    columns = [*table.T, np.ones(len(table))]
    each = [np.bincount(codes, c, minlength=number) for c in columns]
    sums = np.stack(each, axis=1).astype(np.float64)
    generator = np.random.default_rng(seed)
    means = np.empty((resamples, table.shape[1]))
    if runs is not None and len(np.unique(np.asarray(runs))) > 1:
        return _of_runs(sums, _runs_of(codes, runs), resamples, generator)
    step = max(1, _DRAWS_AT_ONCE // number)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        draws = generator.integers(0, number, (size, number), dtype=np.int32)
        draws += np.arange(size, dtype=np.int32)[:, None] * np.int32(number)
        counts = np.bincount(draws.ravel(), minlength=size * number).reshape(size, number)
        drawn = counts.astype(np.float64) @ sums
        means[start : start + size] = drawn[:, :-1] / drawn[:, -1:]
    return means


def _runs_of(codes: NDArray[np.intp], runs: Objects) -> list[NDArray[np.intp]]:
    """The object codes of each run.

    Raises:
        DataError: an object belongs to two runs.
    """
    _, numbers = np.unique(np.asarray(runs), return_inverse=True)
    if len(numbers) != len(codes):
        raise DataError(f"{len(codes)} queries, but {len(numbers)} runs: each query has one")
    found = [np.unique(codes[numbers == run]) for run in range(int(numbers.max()) + 1)]
    if sum(map(len, found)) != int(codes.max()) + 1:
        raise DataError("an object was asked for in two runs: name objects by run")
    return found


def _of_runs(
    sums: NDArray[np.float64],
    runs: list[NDArray[np.intp]],
    resamples: int,
    generator: np.random.Generator,
) -> NDArray[np.float64]:
    """Means of samples of runs, and of objects within each drawn run."""
    means = np.empty((resamples, sums.shape[1] - 1))
    for row in range(resamples):
        drawn = np.zeros(sums.shape[1])
        for run in generator.integers(0, len(runs), len(runs)):
            own = runs[run]
            drawn += sums[own[generator.integers(0, len(own), len(own))]].sum(axis=0)
        means[row] = drawn[:-1] / drawn[-1]
    return means


def intervals(
    values: Mapping[str, Values],
    objects: Objects,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
    runs: Objects | None = None,
) -> dict[str, tuple[float, float]]:
    """Percentile interval of the mean of each array.

    Raises:
        DataError: as `resampled_means`.

    Example:
        >>> intervals({"R@1": np.array([100.0, 0.0])}, ["a", "b"])
        {'R@1': (0.0, 100.0)}
    """
    means = resampled_means(values, objects, resamples=resamples, seed=seed, runs=runs)
    low, high = np.quantile(means, _tails(level), axis=0)
    return {name: (float(low[i]), float(high[i])) for i, name in enumerate(values)}


def paired_difference(
    first: Values,
    second: Values,
    objects: Objects,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    runs: Objects | None = None,
) -> PairedDifference:
    """Compare two methods on the same queries.

    The p-value doubles the smaller share of resampled differences on either side of zero, plus one
    in numerator and denominator, so it is never 0.

    Args:
        first: one value for each query, ``[q]``.
        second: likewise, same queries in the same order.
        objects: the object of each query.
        level: of the interval.
        resamples: number of samples.
        seed: of the draw.
        runs: as in `resampled_means`.

    Raises:
        DataError: lengths differ, or there are no queries.

    Example:
        >>> same = np.array([1.0, 0.0, 1.0])
        >>> paired_difference(same, same, ["a", "b", "c"]).p_value
        1.0
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != two.shape or one.ndim != 1:
        raise DataError(f"a paired test needs the same queries, not {one.shape} and {two.shape}")
    means = resampled_means(two - one, objects, resamples=resamples, seed=seed, runs=runs)[:, 0]
    low, high = np.quantile(means, _tails(level))
    smaller = min(int(np.sum(means <= 0)), int(np.sum(means >= 0)))
    return PairedDifference(
        difference=float(np.mean(two - one)),
        low=float(low),
        high=float(high),
        p_value=min(1.0, 2 * (smaller + 1) / (resamples + 1)),
        queries=len(one),
        objects=len(np.unique(np.asarray(objects))),
    )


def pool_folds(
    folds: Sequence[tuple[Mapping[str, Values], Objects]],
) -> tuple[dict[str, Values], NDArray[Any]]:
    """Join the per-query values of folds that hold different objects.

    Args:
        folds: for each fold its values by name and its queries' objects.

    Raises:
        DataError: an object occurs in two folds, or the folds hold different figures.

    Example:
        >>> values, objects = pool_folds([
        ...     ({"mAP": np.array([1.0])}, ["a"]), ({"mAP": np.array([2.0])}, ["b"])
        ... ])
        >>> values["mAP"].tolist(), objects.tolist()
        ([1.0, 2.0], ['a', 'b'])
    """
    if not folds:
        raise DataError("no folds to pool")
    names = list(folds[0][0])
    if any(set(values) != set(names) for values, _ in folds):
        raise DataError("the folds hold different figures: pool those of one evaluation")
    seen: set[Any] = set()
    for _, objects in folds:
        own = set(np.unique(np.asarray(objects)).tolist())
        if seen & own:
            shared = sorted(seen & own)
            raise DataError(f"object {shared[0]!r} is in two folds: folds must not share objects")
        seen |= own
    return (
        {name: np.concatenate([np.asarray(values[name]) for values, _ in folds]) for name in names},
        np.concatenate([np.asarray(objects) for _, objects in folds]),
    )


def _tails(level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"level is between 0 and 1, not {level}")
    return (1 - level) / 2, (1 + level) / 2
