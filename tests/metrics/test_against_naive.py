"""Every figure against loops that share no line with it, from vectors to percent.

Vectors of small whole numbers have exact products, so that many of them tie; the naive side
compares scores one by one and sorts with the tie rule written out.
"""

from collections import Counter
from functools import cmp_to_key
from math import comb, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmref.evaluation.classes import evaluate_classes
from mmref.evaluation.vectors import evaluate_vectors

TOLERANCE = 1e-6
CASES = settings(max_examples=200, deadline=None)


@st.composite
def collections(draw, most_images=50):
    """Captions and images of some objects; each has one image, or several of them."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    objects = draw(st.integers(1, 6))
    single = draw(st.booleans())
    counts = [1 if single else int(generator.integers(1, 1 + most_images // objects))] * objects
    if not single:
        counts = [int(generator.integers(1, count + 1)) for count in counts]
    held = [f"o{k}" for k, count in enumerate(counts) for _ in range(count)]
    asked = [f"o{k}" for k in range(objects) for _ in range(int(generator.integers(1, 4)))]
    reach, length = draw(st.sampled_from([(1, 2), (1, 3), (2, 4), (40, 6)]))
    texts, images = (
        generator.integers(-reach, reach + 1, (len(names), length)) for names in (asked, held)
    )
    order = generator.permutation(len(held))
    return texts, images[order], asked, [held[i] for i in order]


def products(left, right):
    left, right = [list(map(float, x)) for x in left], [list(map(float, y)) for y in right]
    return [[sum(a * b for a, b in zip(x, y, strict=True)) for y in right] for x in left]


def equal(a, b):
    return abs(a - b) <= TOLERANCE


def worst_order(row, relevant):
    """Best score first; among equal scores the irrelevant images first."""

    def compare(a, b):
        if not equal(row[a], row[b]):
            return -1 if row[a] > row[b] else 1
        return int(relevant[a]) - int(relevant[b])

    return [relevant[i] for i in sorted(range(len(row)), key=cmp_to_key(compare))]


def figures_of(hits):
    found = {f"R@{k}": float(any(hits[:k])) for k in (1, 5, 10)}
    seen, precision, last = 0, 0.0, 0
    for place, hit in enumerate(hits, start=1):
        if hit:
            seen, last = seen + 1, place
            precision += seen / place
    found["mAP"], found["mINP"] = precision / seen, seen / last
    return found


def groups_of(row, relevant):
    """Sizes of the groups of equal scores from the best: (relevant, irrelevant)."""
    groups = []
    for i in sorted(range(len(row)), key=lambda i: -row[i]):
        if not groups or not equal(groups[-1][0], row[i]):
            groups.append([row[i], 0, 0])
        groups[-1][1 if relevant[i] else 2] += 1
    return [(good, bad) for _, good, bad in groups]


def expected_figures(row, relevant):
    """Means over all orders of equal scores, by counting the orders that put k hits before."""
    total = sum(relevant)
    found = {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0, "mAP": 0.0, "mINP": 0.0}
    before, hits = 0, 0
    for good, bad in groups_of(row, relevant):
        size = good + bad
        for place in range(1, size + 1):  # the place within the group
            for earlier in range(
                max(0, place - 1 - bad), min(good - 1, place - 1) + 1 if good else 0
            ):
                # A hit stands at this place with `earlier` hits of its group before it.
                ways = comb(place - 1, earlier) * comb(size - place, good - 1 - earlier)
                chance = ways / comb(size, good)
                rank, nth = before + place, hits + earlier + 1
                found["mAP"] += chance * nth / rank / total
                if nth == total:
                    found["mINP"] += chance * total / rank
                if nth == 1:
                    for k in (1, 5, 10):
                        found[f"R@{k}"] += chance * (rank <= k)
        before, hits = before + size, hits + good
    return found


def naive(scores, asked, held, rule):
    rows = []
    for row, name in zip(scores, asked, strict=True):
        relevant = [other == name for other in held]
        of_row = figures_of(worst_order(row, relevant)) if rule == "pessimistic" else None
        rows.append(of_row or expected_figures(row, relevant))
    return {name: 100 * sum(one[name] for one in rows) / len(rows) for name in rows[0]}


@pytest.mark.parametrize("rule", ["pessimistic", "expected"])
@pytest.mark.parametrize("direction", ["t2i", "i2t"])
@CASES
@given(case=collections())
def test_retrieval_figures(rule, direction, case):
    texts, images, asked, held = case
    vectors = torch.from_numpy(texts).float(), torch.from_numpy(images).float()
    found = evaluate_vectors(*vectors, asked, held, direction=direction, ties=rule)
    if direction == "t2i":
        expected = naive(products(texts, images), asked, held, rule)
    else:
        expected = naive(products(images, texts), held, asked, rule)
    assert found.metrics == pytest.approx(expected, abs=1e-9)


def naive_classes(texts, images, asked, held, rule):
    names = sorted(set(asked))
    means = []
    for name in names:
        mean = [0.0] * len(texts[0])
        for text, own in zip(texts.tolist(), asked, strict=True):
            if own == name:
                mean = [a + b for a, b in zip(mean, text, strict=True)]
        length = sqrt(sum(a * a for a in mean)) or 1.0
        means.append([a / length for a in mean])
    precisions = []
    for mean, name in zip(means, names, strict=True):
        row, relevant = products([mean], images)[0], [own == name for own in held]
        if rule == "pessimistic":
            precisions.append(sum(worst_order(row, relevant)[:50]) / 50)
            continue
        before, hits = 0, 0.0
        for good, bad in groups_of(row, relevant):
            room = min(max(50 - before, 0), good + bad)
            hits += room * good / (good + bad)
            before += good + bad
        precisions.append(hits / 50)
    right = []
    for image, name in zip(images, held, strict=True):
        row = products([image], means)[0]
        best = max(row)
        first = [n for n, score in zip(names, row, strict=True) if equal(score, best)]
        if rule == "pessimistic":
            right.append(float(first == [name]))
        else:
            right.append((name in first) / len(first))
    sizes = Counter(held)
    ceiling = sum(min(sizes[name], 50) / 50 for name in names) / len(names)
    return [100 * sum(p) / len(p) for p in (precisions, right)] + [100 * ceiling]


@pytest.mark.parametrize("rule", ["pessimistic", "expected"])
@CASES
@given(case=collections(most_images=120))
def test_class_figures(rule, case):
    texts, images, asked, held = case
    vectors = torch.from_numpy(texts).double(), torch.from_numpy(images).double()
    found = evaluate_classes(*vectors, asked, held, ties=rule)
    told = [*found.metrics().values(), found.ceiling]
    assert told == pytest.approx(naive_classes(texts, images, asked, held, rule), abs=1e-9)
