import json
import os
import stat
import subprocess
import sys

import pytest

from mmref.errors import PathError
from mmref.files import (
    PARTIAL_MARK,
    atomic_folder,
    atomic_write,
    require_writable_folder,
    write_json,
)


class StopHereError(Exception):
    pass


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_appears_whole_under_its_name(tmp_path):
    target = tmp_path / "new" / "a.safetensors"
    with atomic_write(target) as partial:
        partial.write_bytes(b"half")
        assert partial.parent == target.parent
        assert partial.suffix == ".safetensors"
        assert partial.name.startswith(PARTIAL_MARK)
        assert not target.exists()
    assert target.read_bytes() == b"half"
    assert names(target.parent) == ["a.safetensors"]


def test_an_error_in_the_block_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(StopHereError), atomic_write(target) as partial:
        partial.write_text("half of the new")
        raise StopHereError
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_pipe_or_a_device_is_not_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for name in ("pipe", "link"):
        with (
            pytest.raises(PathError, match=f"{name} is a device or a pipe: name a file"),
            atomic_write(tmp_path / name),
        ):
            pytest.fail("nothing is to be written")
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["link", "pipe"]


def child(code, *arguments):
    """Run a few lines in another process; its exit status."""
    head = "import os, resource, sys\nfrom mmref.files import *\n"
    words = [sys.executable, "-c", head + code, *map(str, arguments)]
    return subprocess.run(words, check=False).returncode


def test_a_kill_leaves_the_old_file_and_a_marked_leftover(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    code = """
with atomic_write(sys.argv[1]) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), 9)
"""
    assert child(code, target) == -9
    assert target.read_text() == "old"
    assert len(names(tmp_path)) == 2
    assert [name for name in names(tmp_path) if not name.startswith(PARTIAL_MARK)] == ["a.txt"]


def test_the_mode_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a.txt") as partial:
            partial.write_text("x")
        with atomic_folder(tmp_path / "b") as folder:
            (folder / "c").write_text("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o750


def test_where_nothing_can_be_written_the_error_says_so(tmp_path):
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file" / "a.txt", "/proc/mmref/a.txt"):
        with pytest.raises(PathError, match="cannot write"), atomic_write(target):
            pytest.fail("there is nothing to write to")
    with pytest.raises(PathError, match="cannot write"), atomic_folder("/proc/mmref/run"):
        pytest.fail("there is nothing to write to")


def test_a_full_disk_leaves_the_old_file(tmp_path):
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    code = """
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with atomic_write(sys.argv[1]) as partial:
        partial.write_bytes(b"x" * 5000)
except PathError as error:
    sys.exit(0 if str(error) == f"cannot write {sys.argv[1]}: File too large" else 3)
sys.exit(4)
"""
    assert child(code, target) == 0
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "run"
    target.mkdir()
    (target / "old.txt").write_text("old")
    with atomic_folder(target) as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "new.txt").write_text("new")
        assert names(target) == ["old.txt"]
    assert names(target) == ["deep"]
    assert names(tmp_path) == ["run"]


def test_a_folder_stays_when_the_block_fails(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(StopHereError), atomic_folder(tmp_path / "run") as partial:
        (partial / "half.txt").write_text("half")
        raise StopHereError
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == []


def test_json_is_readable_utf8_and_never_nan(tmp_path):
    write_json(tmp_path / "a.json", {"é": [1.5, None]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"é": [1.5, None]}
    assert "é" in text
    assert text.endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert json.loads((tmp_path / "a.json").read_text()) == {"é": [1.5, None]}


def test_a_folder_to_write_to_is_made_or_refused(tmp_path):
    assert require_writable_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert names(tmp_path / "a" / "b") == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(PathError, match="is a file: name a folder"):
        require_writable_folder(tmp_path / "file")
    with pytest.raises(PathError, match="cannot write to /proc/mmref"):
        require_writable_folder("/proc/mmref")
