import numpy as np
import pytest

from mmref.errors import UsageError
from mmref.search.query import Query, mixed


def test_a_query_says_what_it_is():
    query = Query.of(["red", "blue"], ["a.png"], without="green")
    assert query.label == "red + blue + image a.png, not: green"
    assert query.modality == "text"
    assert Query.of(image="a.png").modality == "image"
    assert Query.of(without="green").label == "not: green"


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"texts": (("", 1.0),)},
        {"texts": (("  \n", 1.0),)},
        {"texts": (("red", 0.0),)},
        {"texts": (("red", float("nan")),)},
    ],
)
def test_an_empty_query_is_refused(parts):
    with pytest.raises(UsageError):
        Query(**parts)


def test_mixing_gives_a_unit_vector_and_weights_count():
    parts = np.eye(3, dtype=np.float32)
    out = mixed(parts, [1.0, 2.0, -2.0])
    np.testing.assert_allclose(out, np.array([1, 2, -2]) / 3, atol=1e-6)
    assert out.dtype == np.float32


def test_parts_that_cancel_are_refused():
    with pytest.raises(UsageError, match="cancel"):
        mixed(np.float32([[1, 0], [1, 0]]), [1.0, -1.0])
