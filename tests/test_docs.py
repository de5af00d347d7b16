"""What README, CONTRIBUTING and docs name exists: files, links, commands, options, Python names."""

import ast
import re
import shlex
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import mmref
from mmref.cli.main import VERBS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TOP = ("src", "tests", "benchmarks", "docs", "examples", ".ci")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page: Path, *languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    return [text for language, text in found if language in languages]


def commands(page: Path) -> list[list[str]]:
    """Words of every ``mmref ...`` in console blocks and in backquotes."""
    text = page.read_text("utf-8")
    lines = [
        line.removeprefix("$ ").strip()
        for block in blocks(page, "console", "sh", "bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    lines += re.findall(r"(?<!`)`(mmref [^`\n]+)`(?!`)", re.sub(r"```.*?```", "", text, flags=re.S))
    return [
        shlex.split(line.partition("  #")[0])[1:]
        for line in lines
        if re.match(r"(\.venv/bin/)?mmref ", line)
    ]


def options_of(words: list[str]) -> list[str]:
    return [word.split("=")[0] for word in words if re.match(r"--?[A-Za-z]", word)]


def test_the_pages_are_there() -> None:
    assert all(page.is_file() for page in PAGES)
    assert len(PAGES) >= 5
    assert len(commands(ROOT / "README.md")) >= 8


@pages
def test_links_resolve(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
    local = [t.partition("#")[0] for t in targets if "://" not in t and not t.startswith("#")]
    assert [t for t in local if not (page.parent / t).exists()] == []


@pages
def test_named_files_exist(page: Path) -> None:
    named = re.findall(r"`([\w.-]+(?:/[\w.{},*-]+)+/?)`", page.read_text("utf-8"))
    inside = [name for name in named if name.split("/")[0] in TOP]
    missing = [name for name in inside if "*" not in name and not (ROOT / name).exists()]
    assert missing == []


def test_commands_exist() -> None:
    named = {(page.name, words[0]) for page in PAGES for words in commands(page)}
    assert {n for n in named if n[1] not in VERBS and not n[1].startswith("-")} == set()


@pytest.mark.parametrize("verb", [(verb,) for verb in VERBS] + [("store", "info")], ids=" ".join)
def test_options_exist(verb: tuple[str, ...], run_mmref: Callable[..., Any]) -> None:
    shown = run_mmref(*verb, "--help")
    assert shown.status == 0
    known = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", shown.out))
    for page in PAGES:
        named = [words for words in commands(page) if tuple(words[: len(verb)]) == verb]
        used = {option for words in named for option in options_of(words)}
        assert used <= known, f"{page.name}: mmref {' '.join(verb)} has no {used - known}"


@pages
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in re.findall(r"(?:^|`)make ([a-z]+)", page.read_text("utf-8"), re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target} is not there"


@pages
def test_python_is_whole_and_its_names_can_be_had(page: Path) -> None:
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module == "mmref":
                assert {name.name for name in node.names} <= set(mmref.__all__)


def test_the_python_of_the_readme_is_the_example() -> None:
    example = (ROOT / "examples" / "quickstart.py").read_text("utf-8")
    lines = {line.strip() for line in example.splitlines()}
    (block,) = blocks(ROOT / "README.md", "python")
    assert [ln for ln in block.splitlines() if ln.strip() and ln.strip() not in lines] == []


def test_settings_named_on_the_pages_exist() -> None:
    from mmref.config import Settings, dotted_names

    known = set(dotted_names(Settings().model_dump()))
    for page in PAGES:
        for words in commands(page):
            named = [w for before, w in pairwise(words) if before == "--set"]
            assert {word.split("=")[0] for word in named} <= known
