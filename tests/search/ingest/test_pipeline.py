import threading
import time

import pytest

from mmref.search.ingest.pipeline import AHEAD, BEHIND, WriteBehind, read_ahead


def test_results_stand_in_order_and_only_a_few_batches_are_read_ahead():
    begun = []

    def batches():
        for number in range(20):
            begun.append(number)
            yield [number, number + 0.5]

    def slow_when_early(value):
        time.sleep(0.002 if value % 2 else 0)
        return value

    taken = []
    for batch in read_ahead(batches(), slow_when_early, 3):
        assert len(begun) - len(taken) <= AHEAD + 1
        taken.append(batch)
    assert taken == [[number, number + 0.5] for number in range(20)]


def test_what_a_reader_raises_is_raised_and_the_rest_is_dropped():
    read = []

    def fail(value):
        read.append(value)
        if value == 3:
            raise ValueError("no")
        return value

    with pytest.raises(ValueError, match="no"):
        list(read_ahead(([number] for number in range(100)), fail, 1))
    assert len(read) < 10


def test_writing_overlaps_and_is_bounded():
    gate, written = threading.Event(), []

    def write(batch):
        gate.wait(10)
        written.append(batch)

    with WriteBehind(write) as writer:
        for number in range(BEHIND):
            writer.put(number)
        assert written == []
        late = threading.Timer(0.05, gate.set)
        late.start()
        writer.put(BEHIND)  # waits for room
        assert written[:1] == [0]
    assert written == list(range(BEHIND + 1))


def test_what_waits_behind_a_write_that_fails_is_not_written():
    gate, written = threading.Event(), []

    def write(batch):
        gate.wait(10)
        if batch == 0:
            raise OSError("full")
        written.append(batch)

    def two():
        with WriteBehind(write) as writer:
            writer.put(0)
            writer.put(1)
            gate.set()
            time.sleep(0.05)  # the thread takes what comes next

    with pytest.raises(OSError, match="full"):
        two()
    assert written == []


def test_a_write_that_fails_is_told_at_the_next_and_nothing_more_is_written():
    written = []

    def write(batch):
        if batch == 1:
            raise OSError("full")
        written.append(batch)

    def many():
        with WriteBehind(write) as writer:
            for number in range(50):
                writer.put(number)
                time.sleep(0.002)

    with pytest.raises(OSError, match="full"):
        many()
    assert written == [0]

    def last():
        with WriteBehind(write) as writer:
            writer.put(1)

    with pytest.raises(OSError, match="full"):
        last()


def test_an_error_of_the_caller_drops_what_waits_and_completes_what_is_under_way():
    begun, gate, written = threading.Event(), threading.Event(), []

    def write(batch):
        begun.set()
        gate.wait(10)
        written.append(batch)

    def interrupted():
        with WriteBehind(write) as writer:
            writer.put(0)
            writer.put(1)
            begun.wait(10)
            threading.Timer(0.05, gate.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert written == [0]
