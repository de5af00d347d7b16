import numpy as np
import pytest
import torch
from torch import nn

from mmref.data.batches import load_inputs
from mmref.encoders.build import new_encoder, tokeniser_for
from mmref.errors import ModelError
from mmref.processes.shares import Share
from mmref.references.objective import Objective
from mmref.training.state import (
    AveragedWeights,
    TrainingModule,
    TrainingState,
    make_optimizer,
    mixed_precision,
)

from .sets import load_set, small


@pytest.fixture(scope="module")
def train_set(tmp_path_factory):
    return load_set(tmp_path_factory.mktemp("data")).split("train")


def new_state(train_set, *, seed=0, **values):
    settings = small(**values)
    torch.manual_seed(seed)
    inputs = load_inputs(train_set, None)
    captions = [c for texts in train_set.captions for c in texts]
    tokeniser = tokeniser_for(captions)
    encoder = new_encoder(settings.encoder, tokeniser, tokeniser.ids(captions), inputs.tensor)
    objective = Objective(
        settings, objects=8, dimensions=encoder.part_dimensions, vocabulary=len(tokeniser)
    )
    module = TrainingModule(encoder, objective)
    average = AveragedWeights(module, settings.training.average)
    return TrainingState(module, make_optimizer(module, settings), average), inputs


def step(state, inputs, seed=0):
    encoder = state.module.encoder
    torch.manual_seed(seed)
    ids = encoder.tokenise(["a red hat", "a blue shoe", "one black hat"])
    batch = encoder.text_batch(ids)
    losses = state.module(
        batch, inputs.tensor[:3], torch.tensor([0, 1, 2]), batch.words, np.random.default_rng(0), 1
    )
    state.optimizer.zero_grad()
    losses["total"].backward()
    state.optimizer.step()
    state.average.update(state.module)
    return {name: loss.detach() for name, loss in losses.items()}


def test_each_trained_parameter_has_one_group_with_its_rate(train_set):
    state, _ = new_state(
        train_set,
        loss__masked_words_weight=1,
        training__learning_rate=0.001,
        training__deep_learning_rate=0.002,
        references__learning_rate=0.003,
    )
    rates = {id(p): group["lr"] for group in state.optimizer.param_groups for p in group["params"]}
    decays = {
        id(p): group["weight_decay"]
        for group in state.optimizer.param_groups
        for p in group["params"]
    }
    parameters = dict(state.module.named_parameters())
    assert len(rates) == len(parameters)
    for name, parameter in parameters.items():
        if "closed_form" in name:
            assert rates[id(parameter)] == 0.001
        elif "banks" in name:
            assert rates[id(parameter)] == 0.003
            assert decays[id(parameter)] == 0.0
        elif "deep_text" in name:
            assert rates[id(parameter)] == pytest.approx(0.1 * 0.002)
        else:
            assert rates[id(parameter)] == 0.002
            assert decays[id(parameter)] == 0.01


def test_the_average_follows_slowly_and_copies_what_is_no_number():
    module = nn.BatchNorm1d(2)
    average = AveragedWeights(module, 0.5)
    nn.init.constant_(module.weight, 3.0)
    module.num_batches_tracked.fill_(4)
    average.update(module)  # the warm-up: decay 2 / 11
    assert average.tensors["weight"].tolist() == pytest.approx([3 - 2 * 2 / 11] * 2)
    assert average.tensors["num_batches_tracked"].item() == 4
    for _ in range(60):
        average.update(module)
    assert average.tensors["weight"].tolist() == pytest.approx([3.0, 3.0])
    last = AveragedWeights(module, 0.0)
    nn.init.constant_(module.weight, 7.0)
    last.update(module)
    assert last.tensors["weight"].tolist() == [7.0, 7.0]


def test_the_average_of_constant_features_is_no_nan(train_set):
    state, inputs = new_state(train_set)
    state.module.encoder.deviation[3] = torch.inf
    step(state, inputs)
    assert torch.isinf(state.average.tensors["encoder.deviation"]).any()
    assert not any(torch.isnan(value).any() for value in state.average.tensors.values())


def test_the_best_epoch_is_kept_as_a_copy(train_set):
    state, inputs = new_state(train_set)
    state.keep_best(40.0)
    kept = {name: value.clone() for name, value in state.best.items()}
    for _ in range(3):
        step(state, inputs)
    state.epoch = 1
    state.keep_best(40.0)  # not better
    assert (state.best_epoch, state.best_map) == (0, 40.0)
    assert all(torch.equal(kept[name], state.best[name]) for name in kept)
    state.keep_best(40.1)
    assert (state.best_epoch, state.best_map) == (1, 40.1)
    assert any(not torch.equal(kept[name], state.best[name]) for name in kept)


def test_a_restored_state_goes_on_bit_for_bit(train_set):
    one, inputs = new_state(train_set)
    for seed in range(3):
        step(one, inputs, seed)
    one.epoch, one.step, one.seconds, one.history = 2, 3, 1.5, [{"epoch": 1}]
    one.keep_best(12.5)
    two, _ = new_state(train_set, seed=9)
    two.restore({k: v.clone() for k, v in one.tensors().items()}, one.facts())
    assert two.facts() == one.facts()
    for seed in range(3, 6):
        first, second = step(one, inputs, seed), step(two, inputs, seed)
        assert first["total"].item() == second["total"].item()
    wanted, found = one.tensors(), two.tensors()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_a_state_of_another_architecture_is_refused(train_set):
    one, _ = new_state(train_set)
    other, _ = new_state(train_set, encoder__deep=16)
    with pytest.raises(ModelError, match="does not fit this training") as caught:
        other.restore(one.tensors(), one.facts())
    assert "\n" not in str(caught.value)
    facts = one.facts()
    del facts["updates"]
    with pytest.raises(ModelError, match="does not fit this training"):
        one.restore(one.tensors(), facts)


def test_moving_averages_are_restored_and_go_on_bit_for_bit(train_set):
    values = {
        "references__kind": "ema",
        "references__fusion_weight": 0,
        "references__reconstruction_weight": 0,
    }
    one, inputs = new_state(train_set, **values)
    start = one.module.objective.bank(0)().clone()
    step(one, inputs)
    assert not torch.equal(one.module.objective.bank(0)(), start)
    two, _ = new_state(train_set, seed=9, **values)
    two.restore({k: v.clone() for k, v in one.tensors().items()}, one.facts())
    for state in (one, two):
        step(state, inputs, 4)
    wanted, found = one.tensors(), two.tensors()
    assert {f"{where}.objective.banks.0.weight" for where in ("module", "average")} <= set(wanted)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_texts_learn_at_the_full_rate_unless_captions_came_first(train_set):
    def rates(**values):
        state, _ = new_state(train_set, training__deep_learning_rate=0.002, **values)
        text = state.module.encoder.deep_text
        assert text is not None
        own = {id(p) for p in text.parameters()}
        groups = state.optimizer.param_groups
        return {g["lr"] for g in groups for p in g["params"] if id(p) in own}

    assert rates(references__caption_epochs=0) == {0.002}
    assert rates(references__text_rate=0.5) == {0.001}
    assert rates(references__text_rate=0) == {0.0}


def test_a_rate_of_zero_leaves_texts_as_they_are(train_set):
    state, inputs = new_state(train_set, references__text_rate=0)
    before = {name: value.clone() for name, value in state.module.encoder.state_dict().items()}
    step(state, inputs)
    after = state.module.encoder.state_dict()
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("deep_text")} <= still
    assert any(name not in still for name in before)


def test_an_average_that_restarts_forgets(train_set):
    state, inputs = new_state(train_set)
    step(state, inputs)
    present = state.module.state_dict()
    assert any(not torch.equal(v, present[k]) for k, v in state.average.tensors.items())
    state.average.restart(state.module)
    assert state.average.updates == 0
    assert all(torch.equal(v, present[k]) for k, v in state.average.tensors.items())
    step(state, inputs, 1)  # the average is no view of the weights
    present = state.module.state_dict()
    assert any(not torch.equal(v, present[k]) for k, v in state.average.tensors.items())


def test_an_optimiser_of_another_order_is_refused(train_set):
    """Its state goes by the parameters' numbers: a moment must never meet another parameter."""
    one, inputs = new_state(train_set)
    step(one, inputs)
    two, _ = new_state(train_set)
    two.optimizer.param_groups.reverse()
    with pytest.raises(ModelError, match=r"does not fit this training .*another parameter"):
        two.restore(one.tensors(), one.facts())
    fewer, _ = new_state(train_set)
    fewer.optimizer.param_groups.pop()
    with pytest.raises(ModelError, match="does not fit this training"):
        fewer.restore(one.tensors(), one.facts())


def test_losses_keep_their_digits_under_autocast(train_set):
    """Similarities in bf16 would be wrong by 0.04 at tau 0.1."""
    state, inputs = new_state(train_set)
    encoder = state.module.encoder.eval()
    seen = []
    handle = state.module.objective.register_forward_pre_hook(
        lambda _, arguments: seen.append((arguments[0][0].dtype, torch.is_autocast_enabled("cpu")))
    )
    batch = encoder.text_batch(encoder.tokenise(["a red hat", "a blue shoe"]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = state.module(
            batch, inputs.tensor[:2], torch.tensor([0, 1]), batch.words, np.random.default_rng(0), 1
        )
    handle.remove()
    assert seen == [(torch.float32, False)]
    assert losses["total"].dtype == torch.float32


def test_dropout_is_each_share_s_own_and_leaves_the_common_chance_alone(train_set, monkeypatch):
    """Else processes would drop the same numbers of their rows, and then part in the decoder."""
    seen = []
    monkeypatch.setattr(
        "mmref.training.state._gathered",
        lambda texts, images, share: seen.append(images) or (texts, images),
    )
    state, inputs = new_state(train_set, encoder__input_dropout=0.5)
    module = state.module.train()
    batch = module.encoder.text_batch(module.encoder.tokenise(["a red hat", "a blue shoe"]))
    after = []
    for rank in (0, 1):
        torch.manual_seed(3)
        share = Share(0, 2, (2, 2), rank)
        given = inputs.tensor[:2], torch.tensor([0, 1]), batch.words, np.random.default_rng(0), 1
        module(batch, *given, share, seed=rank)
        after.append(torch.rand(1))
    assert not torch.equal(seen[0][0], seen[1][0])
    torch.manual_seed(3)
    assert after == [torch.rand(1)] * 2


@pytest.mark.parametrize(("wanted", "found"), [("fp32", "no"), ("bf16", "bf16")])
def test_precision_in_the_words_of_accelerate(wanted, found):
    assert mixed_precision(wanted) == found


def test_a_machine_without_bf16_units_computes_in_single_precision(monkeypatch):
    for available, units, found in [(False, True, "no"), (True, False, "no"), (True, True, "bf16")]:
        monkeypatch.setattr(torch.cuda, "is_available", lambda value=available: value)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda value=units: value)
        assert mixed_precision("auto") == found
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert mixed_precision("auto") == "no"
