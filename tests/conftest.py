"""Fixtures that several rooms share."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from mmref.cli import main


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def run_mmref(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Run the command line in this process: ``run_mmref("data", "folder", "--json")``."""
    monkeypatch.setenv("COLUMNS", "80")
    verbs = main.VERBS

    def call(*words: object) -> Outcome:
        arguments = [str(word) for word in words]
        monkeypatch.setattr(main, "VERBS", tuple(v for v in verbs if v in arguments[:1]))
        monkeypatch.setattr(main.app, "registered_commands", [])
        monkeypatch.setattr(main.app, "registered_groups", [])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            main.run(arguments)
        out, err = capsys.readouterr()
        code = left.value.code
        return Outcome(code if isinstance(code, int) else int(bool(code)), out, err)

    return call
