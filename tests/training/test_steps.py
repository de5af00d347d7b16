"""What an epoch gives to its steps: rates, the guidance's ramp, chance of its own."""

from types import SimpleNamespace

import pytest
import torch

from mmref.training.schedule import learning_rate_factor
from mmref.training.trainer import Trainer

from .sets import load_set, small


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load_set(tmp_path_factory.mktemp("data"))


def test_rates_follow_the_schedule_and_guidance_grows_over_its_epochs(dataset, monkeypatch):
    chosen = small(training__epochs=3, references__ramp_epochs=1.5, training__warmup=0.3)
    trainer = Trainer(dataset, chosen)
    steps, rates, guidance = trainer.steps, [], []
    groups = trainer.state.optimizer.param_groups
    first = [group["lr"] for group in groups]
    take = steps.step

    def step(inputs, epoch, number, guided):
        rates.append([group["lr"] for group in groups])
        guidance.append(guided)
        return take(inputs, epoch, number, guided)

    monkeypatch.setattr(steps, "step", step)
    for number in range(2):
        steps.epoch(number)
    each = trainer.pairs.steps
    assert each > 1
    assert guidance == pytest.approx([min(1, k / (1.5 * each)) for k in range(2 * each)])
    factors = [learning_rate_factor(k, 3 * each, 0.3) for k in range(2 * each)]
    assert rates == [pytest.approx([factor * rate for rate in first]) for factor in factors]


def test_gradients_of_all_that_learns_are_clipped_together(dataset):
    trainer = Trainer(dataset, small(training__gradient_clip=1e-3))
    inputs = trainer.steps.inputs(next(trainer.pairs.epoch(0)))
    trainer.steps.step(inputs, 0, 0, 1.0)
    gradients = [p.grad for p in trainer.state.module.parameters() if p.grad is not None]
    assert torch.stack([g.norm() for g in gradients]).norm().item() == pytest.approx(1e-3, rel=1e-2)


def test_dropout_differs_between_processes_epochs_and_steps(dataset):
    steps = Trainer(dataset, small()).steps
    assert steps._own_seed(0, 0) == 0
    places = [(rank, epoch, step) for rank in (0, 1) for epoch in (0, 1) for step in (0, 1)]
    found = []
    for rank, epoch, step in places * 2:
        steps.group = SimpleNamespace(count=2, rank=rank)
        found.append(steps._own_seed(epoch, step))
    assert found[:8] == found[8:]
    assert len(set(found)) == 8
    assert all(0 <= seed < 2**63 for seed in found)


def test_statistics_of_the_weights_and_of_their_average_are_shared(tmp_path):
    trainer = Trainer(load_set(tmp_path, pixels=True), small("compact"))
    steps, state = trainer.steps, trainer.state
    averaged, sent = [], []
    steps.group = SimpleNamespace(count=2, mean=averaged.extend, broadcast=sent.extend)
    steps.share_statistics()
    sides = state.module.state_dict(), state.average.tensors
    counted = [name for name in sides[0] if name.endswith(("running_mean", "running_var"))]
    wanted = {side[name].data_ptr() for name in counted for side in sides}
    assert counted
    assert {tensor.data_ptr() for tensor in averaged} == wanted
    assert wanted <= {tensor.data_ptr() for tensor in sent}
