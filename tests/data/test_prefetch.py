import threading
import time

import pytest

from mmref.data.prefetch import Ahead


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("ahead", [1, 2, 20])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_all_in_order(threads, ahead, count):
    def make(number):
        time.sleep(0.002 * (number % 2))
        return number

    with Ahead(make, count, ahead=ahead, threads=threads) as items:
        assert list(items) == list(range(count))


def test_no_more_is_made_than_was_said():
    made = []
    with Ahead(made.append, 100, ahead=2) as items:
        next(items)
        until = time.monotonic() + 5
        while len(made) < 3 and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(0.02)
        assert made == [0, 1, 2]


def test_an_error_comes_out_where_its_item_would():
    def make(number):
        if number == 2:
            raise ValueError("the third")
        return number

    with Ahead(make, 5) as items:
        assert [next(items), next(items)] == [0, 1]
        with pytest.raises(ValueError, match="the third"):
            next(items)


def test_the_threads_end_with_the_block():
    with pytest.raises(KeyError), Ahead(lambda k: k, 50, threads=2) as items:
        next(items)
        raise KeyError
    assert not [t for t in threading.enumerate() if t.name.startswith("mmref-ahead")]


def test_waiting_is_counted():
    with Ahead(lambda k: time.sleep(0.03), 3) as items:
        list(items)
        assert 0.06 < items.waited < 1
    with Ahead(lambda k: k, 3) as items:
        for _ in range(3):
            time.sleep(0.03)
            next(items)
        assert items.waited < 0.03
