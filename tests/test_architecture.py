"""The house as docs describe it: imports only upward, small files, nothing printed."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import mmref

SOURCE = Path(mmref.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
NAMES = [str(file.relative_to(SOURCE)) for file in FILES]

# From the top of the house to the bottom; a room imports from rooms above it, and from itself.
ROOMS = (
    ("_version",),
    ("errors",),
    ("files", "environment", "recipes"),
    ("config",),
    ("processes",),
    ("data",),
    ("metrics",),
    ("encoders",),
    ("losses",),
    ("references",),
    ("model",),
    ("evaluation",),
    ("training",),
    ("experiments",),
    ("search",),
    ("server",),
    ("cli",),
    ("__main__",),
)
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
FRONT_DOOR = {"_version", "errors"}  # what ``import mmref`` itself may load


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(tree: ast.AST, package: list[str], *, typed: bool) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import of mmref, wherever it stands in the file.

    Args:
        tree: the file.
        package: the dotted parts of the file's package, for relative imports.
        typed: whether those under ``if TYPE_CHECKING`` count.
    """
    skipped = set()
    if not typed:
        for node in ast.walk(tree):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                skipped |= {id(inner) for part in node.body for inner in ast.walk(part)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            if module == "mmref":
                yield from ((node.lineno, f"mmref.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, module
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("import_module", "importlib.import_module", "__import__")
            and node.args
        ):
            named = node.args[0]
            parts = named.values if isinstance(named, ast.JoinedStr) else [named]
            if isinstance(parts[0], ast.Constant) and isinstance(parts[0].value, str):
                yield node.lineno, parts[0].value


def rooms_imported(text: str, package: list[str], *, typed: bool = True) -> list[tuple[int, str]]:
    found = imports_of(ast.parse(text), package, typed=typed)
    return [
        (line, name.split(".")[1])
        for line, name in found
        if name.startswith("mmref.") and name.split(".")[1]
    ]


def test_every_file_stands_in_a_known_room() -> None:
    assert {room_of(file) for file in FILES} - {"__init__"} <= set(FLOOR)
    assert len(FILES) > 50


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_imports_go_upward(file: Path) -> None:
    text, room = file.read_text(encoding="utf-8"), room_of(file)
    package = ["mmref", *file.relative_to(SOURCE).parent.parts]
    if room == "__init__":
        below = [x for x in rooms_imported(text, package, typed=False) if x[1] not in FRONT_DOOR]
    else:
        below = [
            (line, other)
            for line, other in rooms_imported(text, package)
            if other in FLOOR and other != room and FLOOR[other] >= FLOOR[room]
        ]
    assert below == [], f"{file.name} imports from rooms that are not above {room}"


class TestTheCheckItself:
    @pytest.mark.parametrize(
        "line",
        [
            "import mmref.cli.main",
            "from mmref.cli import main",
            "from mmref import cli",
            "from ..cli import main",
            "from .. import cli",
            "def f():\n    from mmref.cli.main import run",
            "import_module('mmref.cli.main')",
            "import_module(f'mmref.cli.{verb}')",
        ],
    )
    def test_it_sees_an_import(self, line: str) -> None:
        assert [room for _, room in rooms_imported(line, ["mmref", "data"])] == ["cli"]

    def test_it_sees_types_apart(self) -> None:
        text = "if TYPE_CHECKING:\n    from mmref.cli import main\nfrom mmref.data import text"
        assert [r for _, r in rooms_imported(text, ["mmref"], typed=False)] == ["data"]
        assert sorted(r for _, r in rooms_imported(text, ["mmref"])) == ["cli", "data"]


@pytest.mark.parametrize("module", ["mmref", "mmref.cli.main", "mmref.errors"])
def test_importing_is_light(module: str) -> None:
    heavy = ("torch", "numpy", "pyarrow", "faiss", "accelerate", "transformers", "scipy", "PIL")
    code = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\nfrom mmref.cli.main import run\n"
        "try:\n    run(['--help'])\n"
        "except SystemExit as left:\n    print(left.code, 'torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip().splitlines()[-1] == "0 False", result.stderr


def exported(file: Path) -> list[str] | None:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return None


WITH_ALL = [file for file in FILES if exported(file) is not None]


@pytest.mark.parametrize("file", WITH_ALL, ids=[str(f.relative_to(SOURCE)) for f in WITH_ALL])
def test_all_is_sorted_and_importable(file: Path) -> None:
    names = exported(file)
    assert names
    assert len(set(names)) == len(names)

    def key(name: str) -> tuple[int, str]:  # constants, classes, then the rest
        return (0 if name.isupper() else 1 if name[:1].isupper() else 2), name

    assert names == sorted(names, key=key)
    parts = ["mmref", *file.relative_to(SOURCE).with_suffix("").parts]
    module = import_module(".".join(parts).removesuffix(".__init__"))
    for name in names:
        assert getattr(module, name) is not None, name


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_nothing_is_printed_outside_the_command_line(file: Path) -> None:
    if room_of(file) == "cli":
        return
    said = [
        (node.lineno, ast.unparse(node.func))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func)
        in ("print", "pprint", "sys.stdout.write", "sys.stderr.write", "breakpoint")
    ]
    assert said == []


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_no_unsafe_loading(file: Path) -> None:
    """No pickle, no eval or exec, no torch.load without weights_only."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {name for _, name in imports_of(tree, ["mmref"], typed=True)}
    assert not names & {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal"}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in ("eval", "exec"), f"line {node.lineno}"
        if called in ("torch.load", "np.load", "numpy.load"):
            options = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called == "torch.load":
                assert options.get("weights_only") == "True", f"line {node.lineno}"
            else:
                assert options.get("allow_pickle", "False") == "False", f"line {node.lineno}"


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_files_are_small_and_finished(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 450
    assert re.findall(r"\b(?:TODO|FIXME|XXX|HACK)\b", text) == []
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), "a file says what it is for"
