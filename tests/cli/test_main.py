import os
import shlex
import subprocess
import sys
from importlib.util import find_spec

import pytest

from mmref import __version__
from mmref.cli import main
from mmref.errors import DataError, PathError

VERBS = tuple(verb for verb in main.VERBS if find_spec(f"mmref.cli.{verb}"))


@pytest.fixture
def mmref(run_mmref, monkeypatch):
    """``run_mmref`` with all verbs at once."""

    def call(*words):
        monkeypatch.setattr(main, "VERBS", VERBS)
        return run_mmref(*words)

    return call


@pytest.fixture
def whole(monkeypatch, capsys):
    """The command line with all verbs registered, as ``mmref`` starts it."""
    monkeypatch.setattr(main, "VERBS", VERBS)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*words):
        monkeypatch.setattr(main.app, "registered_commands", [])
        monkeypatch.setattr(main.app, "registered_groups", [])
        with pytest.raises(SystemExit) as left:
            main.run(list(words))
        return left.value.code, *capsys.readouterr()

    return call


def example(text):
    """The example of a help text as words, its lines joined."""
    lines = text.splitlines()
    first = next(n for n, line in enumerate(lines) if line.strip().startswith("Example: "))
    joined = lines[first].strip().removeprefix("Example: ")
    for line in lines[first + 1 :]:
        if not joined.endswith("\\"):
            break
        joined = joined[:-1] + line.strip()
    return shlex.split(joined)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_at_80_columns(whole, verb):
    status, out, err = whole(verb, "--help")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert out.startswith(f"Usage: mmref {verb} [OPTIONS]")
    words = example(out)
    assert words[:2] == ["mmref", verb]
    for word in words:
        if word.startswith("--"):
            assert f"{word} " in out.split("Example: ")[0]
    for mark in ("<str>", "{", "[[", "<list"):
        assert mark not in out
    assert whole(verb, "-h")[1] == out


def test_the_first_help_lists_every_verb(whole):
    status, out, _ = whole("--help")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    listed = [
        line.split()[0] for line in out.split("Commands:\n")[1].splitlines() if line[:3] > "  "
    ]
    assert [word for word in listed if word in VERBS] == list(VERBS)
    assert out.rstrip().endswith("Start here: mmref demo")


def test_no_verb_shows_the_help_and_leaves_with_2(whole):
    status, out, err = whole()
    assert status == 2
    assert "Usage: mmref" in out + err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "no such command 'trian'"),
        (["--nonsense"], "no such option: --nonsense"),
        (["train"], "missing option '--data'"),
        (["train", "--data"], "option '--data' requires an argument"),
        (["evaluate"], "missing argument 'RUN'"),
        (["evaluate", "run", "--data", "x", "--ties", "maybe"], "'maybe' is not one of"),
        (["data", "one", "two"], "unexpected extra argument"),
        (["store", "burn"], "no such command 'burn'"),
        (["search", "--store", "x", "-k", "many", "red"], "invalid value for '-k'"),
    ],
)
def test_a_mistake_in_the_words_is_one_line_and_2(whole, words, message):
    status, out, err = whole(*words)
    assert status == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("mmref: ")
    assert message in err
    assert "--help" in err


def test_the_version_is_shown(whole):
    assert whole("--version") == (0, f"mmref {__version__}\n", "")


def failing(monkeypatch, error):
    def command(source):
        raise error

    command.__annotations__ = {"source": str}
    monkeypatch.setattr("mmref.cli.data.command", command)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (PathError("no such place"), 2, "mmref: no such place"),
        (DataError("unusable:\n  two lines"), 1, "mmref: unusable: two lines"),
        (KeyboardInterrupt(), 130, "mmref: interrupted"),
        (
            ZeroDivisionError("division\nby zero"),
            1,
            "mmref: unexpected ZeroDivisionError: division",
        ),
    ],
)
def test_errors_are_one_line_and_a_status(mmref, monkeypatch, error, status, line):
    failing(monkeypatch, error)
    monkeypatch.setattr(main, "_ignore_interrupts", lambda: None)  # of this process
    done = mmref("data", "x")
    assert done.status == status
    assert done.err.startswith(line)
    assert len(done.err.splitlines()) == 1


def test_debug_shows_the_traceback(monkeypatch, whole):
    failing(monkeypatch, DataError("unusable"))
    monkeypatch.setattr(main, "VERBS", ("data",))
    for words in (["--debug", "data", "x"], ["data", "x", "--debug"]):
        monkeypatch.setattr(main.app, "registered_commands", [])
        with pytest.raises(DataError, match="unusable"):
            main.run(words)


def test_what_is_no_text_is_shown_all_the_same():
    code = """
import mmref.cli.main as m

def command(source: str) -> None:
    print(source)

m.import_module("mmref.cli.data").command = command
m.VERBS = ("data",)
m.run(["data", "x\\udcff"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\\udcff\n", "")


def test_a_second_interrupt_while_the_process_ends_is_not_told():
    code = """
import atexit, os, signal
import mmref.cli.main as m

def command(source: str) -> None:
    os.kill(os.getpid(), signal.SIGINT)

m.import_module("mmref.cli.data").command = command
m.VERBS = ("data",)
atexit.register(os.kill, os.getpid(), signal.SIGINT)
m.run(["data", "x"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "mmref: interrupted\n")


def test_a_reader_that_leaves_early_is_no_error_message():
    code = "import mmref.cli.main as m; m.VERBS = ('data',); m.run(['data', '--help'])"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    child.stdout.close()
    _, err = child.communicate()
    assert err == b""


def test_the_command_line_starts_without_torch():
    code = (
        "import sys, mmref.cli.main as m\n"
        f"m.VERBS = {VERBS!r}\n"
        "try: m.run(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "print([n for n in ('torch', 'numpy', 'pyarrow', 'accelerate') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
