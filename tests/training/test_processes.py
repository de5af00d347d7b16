"""Two processes train as one does; killed, they leave a run that goes on with two or one."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.encoders.clip.made import checkpoint

from mmref.data.dataset import RetrievalDataset
from mmref.processes.group import Group
from mmref.training.checkpoint import CHECKPOINT_FILE, load_checkpoint
from mmref.training.run_folder import is_finished
from mmref.training.trainer import train

from . import ranks
from .sets import report, small, write_set

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed"),
]
LONGEST = 300  # seconds for what takes ten on a quiet machine
EPOCHS = 30
LAUNCHERS = {
    "torchrun": ("torch.distributed.run", "--nproc_per_node=2"),
    "accelerate": ("accelerate.commands.launch", "--multi_gpu", "--num_processes=2"),
}
PORTS = {"torchrun": "--master_port", "accelerate": "--main_process_port"}


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


def environment(**values):
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("ACCELERATE_", "COV_"))}
    return plain | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""} | values


def launched(launcher, *words):
    """``mmref`` by two processes."""
    options = [*LAUNCHERS[launcher], f"{PORTS[launcher]}={free_port()}"]
    command = [sys.executable, "-m", *options, "-m", "mmref", *map(str, words)]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    write_set(folder / "features")
    write_set(folder / "pixels", pixels=True)
    shutil.copytree(folder / "pixels", folder / "damaged")
    (folder / "damaged" / "09_1.png").write_bytes(b"bad")
    checkpoint(folder / "checkpoint", "clip")
    (folder / "settings.yaml").write_text(small(training__epochs=EPOCHS).to_yaml())
    (folder / "tmp").mkdir()
    return folder


@pytest.fixture(scope="module")
def told(folder):
    """What both processes wrote."""
    port = free_port()
    here = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    here["TMPDIR"] = str(folder / "tmp")
    both = [
        subprocess.Popen(
            [sys.executable, "-W", "error", ranks.__file__, str(folder)],
            env=environment(**here, RANK=str(rank), LOCAL_RANK=str(rank)),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate(timeout=LONGEST)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_exchanges_and_pixels(told, folder):
    for rank, seen in enumerate(out["exchanges"] for out in told):
        blocks = {name: seen.pop(name) for name in list(seen) if name.startswith("own blocks")}
        assert seen == dict.fromkeys(seen, True)
        assert blocks == {
            "own blocks 2": [[0, 2, 4], [6, 8, 10]][rank],
            "own blocks 4": [[0, 4], [8]][rank],
            "own blocks 20": [[0], []][rank],
        }
    assert list((folder / "tmp").glob("mmref*")) == []


@pytest.mark.parametrize("case", [*ranks.CASES, "undivided"])
def test_losses_and_gradients_are_those_of_one_process(case, told, folder):
    alone = ranks.one_step(folder, "everything" if case == "undivided" else case)
    found = dict(np.load(folder / f"{case}.npz"))
    assert set(found) == set(alone)
    assert sum(name.startswith("encoder.") for name in found) > 3
    for name, value in alone.items():
        scale = float(value.abs().max())
        assert np.abs(found[name] - value.numpy()).max() <= 1e-5 * max(scale, 1e-2), name


def test_processes_agree_bit_for_bit(told):
    first, second = told
    assert first["states"] == second["states"]
    assert len({str(value) for value in first["states"].values()}) > 9  # each stage changes it
    for case in ranks.CASES:
        assert first[f"step {case}"] == second[f"step {case}"]
    assert first["whole"] == second["whole"]


def test_evaluation_is_that_of_one_process(told, folder, monkeypatch):
    written = json.loads((folder / "report.json").read_text())
    monkeypatch.setattr(ranks.encoding, "_BATCH", 3)
    alone = ranks.evaluation(folder, Group())
    for out in told:
        assert out["evaluation"] == json.loads(json.dumps(alone))
    assert alone["status"] == 0
    assert alone["pixels"][4] == ["09_1.png"]
    again = json.loads((folder / "report.json").read_text())
    assert {k: written[k] for k in ("t2i", "ci95", "gallery")} == {
        k: again[k] for k in ("t2i", "ci95", "gallery")
    }


def test_a_wrong_command_ends_both_and_is_said_once(told, folder):
    assert [out["refusal"][0] for out in told] == [2, 2]
    assert "".join(out["refusal"][1] for out in told) == (
        f"mmref: {folder / 'whole' / 'run'} is not empty: add --resume to go on with its run, "
        "or name another folder\n"
    )


def worker(launcher, rank):
    """The process id of a rank that this launcher started."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(status.read_text().rpartition(")")[2].split()[1])
            known = (status.parent / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == launcher.pid and f"RANK={rank}".encode() in known:
            return int(status.parent.name)
    return None


@pytest.fixture(scope="module")
def torn(folder):
    """A run of which a process was killed in the middle, and what was said."""
    run = folder / "torn" / "run"
    words = ["--data", folder / "features", "--config", folder / "settings.yaml", "--out", run]
    process, until = launched("torchrun", "train", *words), time.monotonic() + LONGEST
    while not (run / CHECKPOINT_FILE).is_file() and process.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.02)
    pid = worker(process, 1)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=LONGEST)
    assert process.returncode == 1
    return run, err


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the process in /proc")
def test_a_killed_process_leaves_a_run_that_goes_on(torn, told, folder):
    run, err = torn
    said = [line for line in err.splitlines() if line.startswith("mmref: ")]
    assert said == [
        "mmref: a process of this training ended (rank 1): go on with --resume",
    ]
    loaded = load_checkpoint(run)
    assert loaded is not None
    assert loaded[1]["state"]["epoch"] < EPOCHS
    assert not is_finished(run)
    alone, data = folder / "alone" / "run", RetrievalDataset.load(folder / "features")
    shutil.copytree(run, alone)
    train(data, alone, resume=True)
    assert report(alone)["processes"] == 1
    assert report(alone)["epochs"] == EPOCHS

    words = ["train", "--data", folder / "features", "--out", run, "--resume"]
    again = launched("accelerate", *words)
    out, err = again.communicate(timeout=LONGEST)
    assert again.returncode == 0, err
    assert out.count("Trained in") == 1
    assert report(run)["processes"] == 2
    whole = folder / "whole" / "run"
    for name in ("model.safetensors", "references.safetensors", "model.json", "config.yaml"):
        assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert report(run) == report(whole)
