import os
import socket
import subprocess
import sys
import time

import pytest
import torch.distributed as dist

from mmref.errors import ConfigError, MissingExtraError, TrainingError
from mmref.processes import endings
from mmref.processes.endings import BrokenGroupError, TerminatedError, is_broken, runs
from mmref.processes.group import Group
from mmref.processes.launch import Place, is_silent


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(endings, "PATIENCE", 0.2)


@pytest.fixture
def groups():
    """Both processes' views, in one process."""
    store = dist.HashStore()
    return [Group(Place(rank, 2, rank, 2), store) for rank in range(2)]


def failing(group, error):
    with pytest.raises(BaseException) as caught, group.guarded():
        raise error
    return caught.value


@pytest.mark.parametrize("kind", [ConfigError, TrainingError, KeyboardInterrupt, ValueError])
def test_the_first_error_is_that_of_all_and_told_once(groups, kind):
    own = failing(groups[1], kind("it is  wrong"))
    other = failing(groups[0], RuntimeError("[gloo] Connection closed by peer [::1]:4000"))
    assert isinstance(own, kind)
    assert not is_silent(own)
    assert is_silent(other)
    if kind is ValueError:
        assert isinstance(other, TrainingError)
        assert str(other) == "process 1 failed: it is wrong"
    else:
        assert type(other) is kind
        assert str(other) == ("" if kind is KeyboardInterrupt else "it is wrong")


def test_the_same_error_in_both_is_told_once(groups):
    found = [failing(group, ConfigError("no such key")) for group in groups]
    assert [is_silent(error) for error in found] == [False, True]


def test_an_error_with_an_initialiser_of_its_own(groups):
    failing(groups[0], MissingExtraError("matplotlib", "plots"))
    found = failing(groups[1], BrokenGroupError())
    assert isinstance(found, MissingExtraError)
    assert str(found) == "matplotlib is not installed: pip install 'mmref[plots]'"


def test_waiting_ends_when_another_fails(groups):
    failing(groups[0], ConfigError("no such key"))
    begun = time.monotonic()
    with pytest.raises(ConfigError, match="no such key"), groups[1].guarded():
        groups[1].first(lambda: 1)
    assert time.monotonic() - begun < 2


def dead():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("error", [BrokenGroupError(), TerminatedError(), dist.DistError("x")])
def test_a_killed_process_is_named(error):
    store = dist.HashStore()
    groups = [Group(Place(rank, 3, rank, 3), store) for rank in range(3)]
    store.set("pid/1", f"{socket.gethostname()} {dead()}")
    first, second = failing(groups[0], error), failing(groups[2], error)
    message = "a process of this training ended (rank 1): go on with --resume"
    assert str(first) == str(second) == message
    assert (type(first), first.exit_status) == (TrainingError, 1)
    assert [is_silent(first), is_silent(second)] == [False, True]


def test_a_process_out_of_sight_is_not_named():
    store = dist.HashStore()
    group = Group(Place(0, 2, 0, 1), store)
    store.set("pid/1", f"another-machine {dead()}")
    with pytest.raises(TrainingError) as caught, group.guarded("evaluation", "start it again"):
        raise RuntimeError("NCCL error: remote process exited")
    assert str(caught.value) == (
        "a process of this evaluation ended (killed, or out of reach): start it again"
    )


def test_nested_guards_handle_an_error_once(groups):
    with pytest.raises(ConfigError) as caught, groups[0].guarded(), groups[0].guarded():
        raise ConfigError("no such key")
    assert caught.value.elsewhere is False


def test_what_is_an_end_of_others():
    assert is_broken(RuntimeError("Application timeout caused pair closure (gloo)"))
    assert is_broken(RuntimeError("Connection reset by peer"))
    assert not is_broken(RuntimeError("CUDA out of memory"))
    assert not is_broken(TrainingError("the connection of loss and rate"))
    assert not is_broken(ValueError("peer"))


def test_a_zombie_does_not_run():
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    process.stdout.read()
    until = time.monotonic() + 20
    while runs(process.pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert not runs(process.pid)
    process.wait()
    process.stdout.close()
    assert runs(os.getpid())


CHILD = """
import os, signal, time
import torch.distributed as dist
from mmref.processes import endings
from mmref.processes.endings import Endings, TerminatedError
from mmref.processes.launch import Place
endings.GRACE = 0.2
found = Endings(Place(0, 2), dist.HashStore(), "training", "go on with --resume")
found.watch()
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
except TerminatedError:
    print("raised", flush=True)
time.sleep(30)  # stuck
"""


def test_a_process_that_is_stuck_ends_after_sigterm_all_the_same():
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.returncode, done.stdout) == (1, "raised\n")
    assert done.stderr.endswith(
        "mmref: a process of this training ended (killed, or out of reach): go on with --resume\n"
    )
