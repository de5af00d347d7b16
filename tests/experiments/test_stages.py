import time

import pytest

from mmref.data.dataset import RetrievalDataset
from mmref.experiments.demo import affordable_epochs, epochs_within, training_seconds
from mmref.experiments.stages import StageSteps, beside_epochs, stage_seconds
from mmref.training.trainer import Trainer

from .sets import small, write_set


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return RetrievalDataset.load(write_set(tmp_path_factory.mktemp("data")))


def slow(steps, each):
    def stage(progress):
        for done in range(steps):
            time.sleep(each)
            progress("captions", done + 1, steps, "")

    return stage


def test_a_stage_is_timed_by_its_first_steps():
    begun = time.monotonic()
    assert stage_seconds(slow(4000, 0.01), 4) > 35
    assert time.monotonic() - begun < 5
    assert stage_seconds(slow(1, 0.02), 4) > 0.015
    assert stage_seconds(lambda progress: None, 4) == 0


def test_steps_of_all_trainings_are_counted():
    told = []
    steps = StageSteps(lambda *words: told.append(words))
    for stage, done in (("captions", 1), ("captions", 2), ("train", 1), ("decoder", 1),
                        ("captions", 1), ("captions", 2), ("decoder", 1)):  # fmt: skip
        steps(stage, done, 2, "")
    assert steps.facts()["caption_steps"] == 4
    assert len(told) == 7


def test_both_stages_are_timed_where_a_training_has_them(dataset):
    assert beside_epochs(Trainer(dataset, small()), 2) > 0
    captions = small(references__decoder_epochs=0)
    assert beside_epochs(Trainer(dataset, captions), 2) > 0
    assert beside_epochs(Trainer(dataset, small().base_objective()), 2) == 0


def test_a_step_that_was_disturbed_does_not_count():
    def stage(progress):
        for done in range(100):
            time.sleep(0.3 if done == 3 else 0.005)
            progress("captions", done + 1, 100, "")

    assert stage_seconds(stage, 8) < 5  # the mean would say more


def test_a_training_is_timed_stage_by_stage(dataset, monkeypatch):
    monkeypatch.setattr(Trainer, "measure", lambda self, steps: (1.0, 3.0))  # a second a step
    monkeypatch.setattr("mmref.experiments.stages.beside_epochs", lambda trainer, steps: 24.0)
    beside, epoch = training_seconds(dataset, small())
    assert 27 < beside < 57
    assert epoch == Trainer(dataset, small()).pairs.steps + 3


def test_other_stages_leave_room_for_fewer_epochs():
    assert epochs_within(100, 0, 10) == 10
    assert epochs_within(100, 45, 10) == 5
    assert epochs_within(100, 999, 10) == 2
    assert epochs_within(float("inf"), 45, 10) == 40


def test_trainings_are_timed_two_at_a_time_in_processes_of_their_own(dataset):
    assert affordable_epochs(dataset, small(), 0.001) == 2
