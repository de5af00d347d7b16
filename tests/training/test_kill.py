"""kill -9 while training; ``benchmarks/kill.py`` does many more, at random moments."""

import os
import signal
import subprocess
import sys

import pytest
import torch

from mmref.data.dataset import RetrievalDataset
from mmref.model import MMRef
from mmref.training.checkpoint import CHECKPOINT_FILE, load_checkpoint
from mmref.training.run_folder import is_finished
from mmref.training.trainer import train

from .sets import report, small, write_set

CHILD = """
import sys
from mmref import RetrievalDataset, train
from mmref.config import Settings

settings = Settings.from_yaml(sys.argv[3]) if len(sys.argv) > 3 else None
def progress(stage, done, total, note):
    print(stage, done, flush=True)
train(RetrievalDataset.load(sys.argv[1]), sys.argv[2], settings, resume=True, progress=progress)
"""


def killed(*words, at):
    """Train in another process, with as many threads as here; kill it at this line."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, words)],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    with process:
        for line in process.stdout:
            if line.decode().strip() == at:
                process.send_signal(signal.SIGKILL)
                break
        else:
            pytest.fail(f"it ended before {at}")
    assert process.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_killed_twice_the_run_comes_out_the_same(tmp_path):
    data = write_set(tmp_path / "data")
    config = tmp_path / "settings.yaml"
    config.write_text(small().to_yaml())
    whole, torn = tmp_path / "whole" / "run", tmp_path / "torn" / "run"
    dataset = RetrievalDataset.load(data)
    train(dataset, whole, small())
    killed(data, torn, config, at="train 3")
    assert not is_finished(torn)
    killed(data, torn, at="train 14")
    loaded = load_checkpoint(torn)
    assert loaded is not None
    assert 1 <= loaded[1]["state"]["epoch"] < 3
    train(dataset, torn, resume=True)
    assert report(torn) == report(whole)
    for name in ("model.safetensors", "references.safetensors", "model.json", "config.yaml"):
        assert (torn / name).read_bytes() == (whole / name).read_bytes()
    assert MMRef.from_pretrained(torn).digest == MMRef.from_pretrained(whole).digest
    assert not (torn / CHECKPOINT_FILE).exists()
