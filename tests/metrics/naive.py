"""Independent, slow implementations that the fast ones are compared with."""

from itertools import pairwise, permutations

import numpy as np


def naive_ranks(scores, query_objects, gallery_objects, tolerance=0.0):
    """Pessimistic ranks of the relevant images of each query, by comparing every pair."""
    result = []
    for row, wanted in zip(scores, query_objects, strict=True):
        own = sorted((s for s, o in zip(row, gallery_objects, strict=True) if o == wanted))[::-1]
        others = [s for s, o in zip(row, gallery_objects, strict=True) if o != wanted]
        result.append(
            [
                sum(bool(x >= s - row.dtype.type(tolerance)) for x in others) + place + 1
                for place, s in enumerate(own)
            ]
        )
    return result


def figures_of_order(relevant):
    """Percent figures of one ranked list of booleans."""
    places = [place + 1 for place, hit in enumerate(relevant) if hit]
    return {
        **{f"R@{k}": 100.0 * any(relevant[:k]) for k in (1, 5, 10)},
        "mAP": 100.0 * float(np.mean([(n + 1) / place for n, place in enumerate(places)])),
        "mINP": 100.0 * len(places) / places[-1],
    }


def pessimistic_figures(row, relevant):
    """Sort one row with tied irrelevant images first."""
    order = sorted(range(len(row)), key=lambda i: (-row[i], relevant[i]))
    return figures_of_order([relevant[i] for i in order])


def expected_figures(row, relevant):
    """Mean over every order that the scores allow (at most 7 images)."""
    total, count = {}, 0
    for order in permutations(range(len(row))):
        if all(row[a] >= row[b] for a, b in pairwise(order)):
            count += 1
            for name, value in figures_of_order([relevant[i] for i in order]).items():
                total[name] = total.get(name, 0.0) + value
    return {name: value / count for name, value in total.items()}


def every_order(row):
    """Every order of the images that the scores allow (at most 7 images)."""
    for order in permutations(range(len(row))):
        if all(row[a] >= row[b] for a, b in pairwise(order)):
            yield order


def precision_of_order(relevant, depth):
    """Percent of the first places of one ranked list that are relevant; empty places are not."""
    return 100.0 * sum(relevant[:depth]) / depth
