import logging

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mmref.training.events import EventLog, event_log


def row(epoch, loss, value=None):
    return {"epoch": epoch, "losses": {"total": loss}, "mAP": value, "refined_mAP": None}


def read(folder, tag):
    events = EventAccumulator(str(folder / "events"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_rows_are_read_back_by_epoch(tmp_path):
    with event_log(tmp_path, 0) as write:
        write(row(1, 2.5, 40.0))
        write(row(2, 1.5))
    assert read(tmp_path, "loss/total") == [(1, 2.5), (2, 1.5)]
    assert read(tmp_path, "val/mAP") == [(1, 40.0)]


def test_epochs_that_are_trained_again_replace_what_a_kill_left(tmp_path):
    killed = EventLog(tmp_path, 0)
    for epoch in (1, 2, 3):
        killed(row(epoch, 9.0))
    with event_log(tmp_path, 1) as write:  # the checkpoint was that of epoch 1
        write(row(2, 2.0))
    killed.close()
    assert read(tmp_path, "loss/total") == [(1, 9.0), (2, 2.0)]


def test_each_row_is_on_disk_at_once(tmp_path):
    log = EventLog(tmp_path, 0)
    log(row(1, 2.5))
    assert read(tmp_path, "loss/total") == [(1, 2.5)]
    log.close()


def test_where_nothing_can_be_written_training_goes_on(tmp_path, caplog):
    (tmp_path / "events").write_text("a file in the way")
    with caplog.at_level(logging.WARNING, "mmref"), event_log(tmp_path, 0) as write:
        write(row(1, 2.5))
    assert [record.getMessage() for record in caplog.records] == [
        "no more TensorBoard events: File exists"
    ]


def test_a_disk_that_fills_up_ends_the_events_alone(tmp_path, caplog, monkeypatch):
    log = EventLog(tmp_path, 0)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(log._writer, "write", full)
    with caplog.at_level(logging.WARNING, "mmref"):
        log(row(1, 2.5))
        log(row(2, 1.5))
    log.close()
    assert len(caplog.records) == 1
    with pytest.raises(KeyError):
        read(tmp_path, "loss/total")
