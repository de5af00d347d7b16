import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mmref.errors import ModelError
from mmref.training.checkpoint import (
    CHECKPOINT_FILE,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
    without_prefix,
)

FACTS = {"state": {"epoch": 3, "best_map": 41.123456789012345}, "identity": {"train": "é"}}


def tensors():
    return {"a": torch.randn(3, 4), "b": torch.tensor(7), "c": torch.arange(3, dtype=torch.int32)}


def test_tensors_and_facts_come_back_as_they_were(tmp_path):
    wanted = tensors()
    wanted["transposed"] = wanted["a"].T
    save_checkpoint(tmp_path, wanted, FACTS)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    found, facts = loaded
    assert facts == FACTS
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT_FILE]


def test_no_checkpoint_is_none(tmp_path):
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "absent") is None


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.99])
def test_a_truncated_checkpoint_is_never_taken_for_a_whole_one(tmp_path, share):
    save_checkpoint(tmp_path, tensors(), FACTS)
    whole = (tmp_path / CHECKPOINT_FILE).read_bytes()
    (tmp_path / CHECKPOINT_FILE).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match=r"checkpoint\.safetensors is damaged") as caught:
        load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_something_else_is_no_checkpoint(tmp_path):
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"{}" * 100)
    with pytest.raises(ModelError, match="is damaged"):
        load_checkpoint(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / CHECKPOINT_FILE)
    with pytest.raises(ModelError, match="is damaged"):
        load_checkpoint(tmp_path)
    save_checkpoint(tmp_path, tensors(), {"state": {}})
    with pytest.raises(ModelError, match="holds no training state"):
        load_checkpoint(tmp_path)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    save_checkpoint(tmp_path, tensors(), FACTS)
    before = (tmp_path / CHECKPOINT_FILE).read_bytes()
    code = """
import resource, sys, torch
from pathlib import Path
from mmref.errors import TrainingError
from mmref.training.checkpoint import save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save_checkpoint(Path(sys.argv[1]), {"a": torch.zeros(100_000)}, {})
except TrainingError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert f"cannot write the checkpoint of {tmp_path} (" in done.stdout
    assert "File too large" in done.stdout
    assert "go on with --resume" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT_FILE]


def step(module, optimizer, seed):
    optimizer.zero_grad()
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    module(x).square().sum().backward()
    optimizer.step()


def test_an_optimiser_goes_on_bit_for_bit():
    def new():
        torch.manual_seed(0)
        module = nn.Linear(3, 2)
        return module, torch.optim.AdamW(module.parameters(), lr=0.1)

    (one, first), (two, second) = new(), new()
    for seed in range(3):
        step(one, first, seed)
    two.load_state_dict(one.state_dict())
    restore_optimizer(second, {k: v.clone() for k, v in optimizer_tensors(first).items()})
    for seed in range(3, 6):
        step(one, first, seed)
        step(two, second, seed)
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.bias, two.bias)


def test_a_fresh_optimiser_has_no_tensors():
    assert optimizer_tensors(torch.optim.AdamW(nn.Linear(2, 2).parameters())) == {}


def test_prefixes_do_not_mix():
    found = without_prefix("best.", {"best.a": torch.zeros(1), "best": torch.zeros(2)})
    assert list(found) == ["a"]
