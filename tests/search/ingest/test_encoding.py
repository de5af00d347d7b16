from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from mmref.search.ingest.encoding import encoded
from mmref.search.ingest.pipeline import AHEAD, BEHIND
from mmref.search.ingest.reading import NOT_FINITE, Encoding


@dataclass(frozen=True)
class Given:
    """A file whose pixels are a number."""

    digest: str
    pixels: int | None
    answer: Any = None

    def lighter(self):
        return replace(self, pixels=None)

    def encoded(self, answer):
        return replace(self, answer=answer)


class Numbers:
    """Encodes numbers; not those below 0."""

    def __init__(self, slots=0):
        self.slots = slots
        self.asked = []

    def __call__(self, items):
        self.asked += items
        return [NOT_FINITE if n < 0 else Encoding(np.float32([n]), {}) for n in items]


@pytest.mark.parametrize("slots", [0, 2])
def test_content_that_is_on_its_way_is_encoded_once(slots):
    encoder = Numbers(slots)
    rows = [[1, 2, 1], [2, None], [-3], []]
    batches = [[Given(str(n), n) for n in row] for row in rows]
    made = list(encoded(iter(batches), encoder, 3))
    answers = [[getattr(file.answer, "vector", file.answer) for file in files] for files, _ in made]
    assert answers == [[1, 2, 1], [2, None], [NOT_FINITE], []]
    assert [count for _, count in made] == [2, 0, 0, 0]
    assert sorted(encoder.asked) == [-3, 1, 2]
    assert all(file.pixels is None for files, _ in made for file in files)


def test_what_was_written_long_ago_is_not_held():
    encoder = Numbers()
    held = AHEAD + BEHIND + 2
    numbers = [*range(held + 1), held, 0]  # the first is not on its way any more
    list(encoded(([Given(str(n), n)] for n in numbers), encoder, 1))
    assert encoder.asked == [*range(held + 1), 0]
