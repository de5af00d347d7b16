import pytest

from mmref.errors import UsageError
from mmref.processes import group
from mmref.processes.group import Group, join
from mmref.processes.launch import Place, is_silent, place, require_alone


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, Place()),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, Place()),
        ({"WORLD_SIZE": "4"}, Place()),  # no rank: no launcher
        ({"WORLD_SIZE": "two", "RANK": "0"}, Place()),
        ({"WORLD_SIZE": "2", "RANK": "1"}, Place(1, 2, 1, 2)),
        (
            {"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"},
            Place(5, 8, 1, 4),
        ),
    ],
)
def test_place(found, expected):
    assert place(found) == expected


def test_other_verbs_are_refused(monkeypatch, run_mmref, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    require_alone("train")
    with pytest.raises(UsageError, match="mmref index is one process, not 2"):
        require_alone("index")
    found = run_mmref("data", tmp_path)
    assert found.status == 2
    assert found.err == (
        "mmref: mmref data is one process, not 2: start it without torchrun and accelerate\n"
    )


def test_before_a_group_stands_rank_0_speaks(monkeypatch, run_mmref):
    monkeypatch.setenv("WORLD_SIZE", "2")
    said = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        said.append(run_mmref("train", "--nothing"))
        assert is_silent(KeyboardInterrupt()) == (rank == "1")
    assert [one.status for one in said] == [2, 2]
    assert said[0].err.count("\n") == 1
    assert said[1].err == said[1].out == ""


def test_incomplete_variables_are_said(monkeypatch):
    monkeypatch.setattr(group, "_joined", None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(UsageError, match=r"MASTER_ADDR is not set: start .* torchrun"):
        join()


def test_more_processes_than_gpus_are_said(monkeypatch):
    monkeypatch.setattr(group, "_joined", None)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    monkeypatch.setattr(group.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(group.torch.cuda, "device_count", lambda: 1)
    values = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=r"2 processes on a machine with 1 GPU\(s\)"):
        join()
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert group.on_cpu()


def test_one_process_is_a_group_too(monkeypatch):
    monkeypatch.setattr(group, "_joined", None)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = join()
    assert isinstance(alone, Group)
    assert alone is join()
    assert (alone.rank, alone.count, alone.main) == (0, 1, True)
    alone.meet()
    assert alone.send({"a": group.torch.ones(1)})["a"].item() == 1
    with pytest.raises(ValueError, match="mine"), alone.guarded("training", "x"):
        raise ValueError("mine")
