import numpy as np
import pytest

from mmref.errors import UsageError
from mmref.search.folding import folded, grouped
from mmref.search.records import Item, Place


def test_the_same_bytes_fold_whatever_the_vectors():
    vectors = np.float32([[1, 0], [0, 1], [0, -1]])
    found = folded(["a", "b", "a"], vectors, 1.0)
    assert [(bunch.row, bunch.others) for bunch in found] == [(0, [2]), (1, [])]


def test_near_vectors_join_the_first_hit_that_is_near():
    angles = np.radians([0, 20, 10, 35])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    found = folded(list("abcd"), vectors, float(np.cos(np.radians(15.5))))
    assert [(bunch.row, bunch.others) for bunch in found] == [(0, [2]), (1, [3])]


def test_items_without_the_column_stand_alone():
    values = [{"object": 1}, {}, {"object": "1"}, {"object": 1}, {"object": None}]
    items = [Item(n, Place(f"{n}", 0, 0, given, ""), "") for n, given in enumerate(values)]
    found = grouped(items, "object")
    assert [(b.group, b.row, b.others) for b in found] == [
        (1, 0, [3]),
        (None, 1, []),
        ("1", 2, []),
        (None, 4, []),
    ]
    with pytest.raises(UsageError, match="no image has a column 'objekt'"):
        grouped(items, "objekt")
    assert grouped([], "objekt") == []
