"""What all verbs share: consoles, JSON on stdout, progress bars on stderr."""

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmref.files import write_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

STDOUT = "-"
_WHOLE_LINES = 10_000  # letters: longer than paths are


def out(whole_lines: bool = False) -> "Console":
    """The console for results (stdout).

    Args:
        whole_lines: break no line in a file or a pipe, so that paths can be searched for and
            copied; COLUMNS in the environment says otherwise.
    """
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    if whole_lines and not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WHOLE_LINES
    return console


def err() -> "Console":
    """The console for everything else (stderr)."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(message: str) -> None:
    """One line on stderr, as it is, without markup."""
    err().print(message, markup=False, soft_wrap=True)


def emit_json(value: Any, target: str | Path = STDOUT) -> None:
    """Print one JSON document on stdout, or write it to a file."""
    if str(target) == STDOUT:
        json.dump(value, sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        write_json(target, value)


def progress_bar(*columns: Any) -> "Progress":
    """A progress bar on stderr with count, rate and remaining time."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        *columns,
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err(),
        transient=False,
    )
