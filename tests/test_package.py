import re
import subprocess
import sys
from importlib.metadata import entry_points, version

import pytest

import mmref


def test_all_is_sorted_and_every_name_can_be_had() -> None:
    assert mmref.__all__ == sorted(mmref.__all__)
    for name in mmref.__all__:
        assert getattr(mmref, name) is not None
    assert set(mmref.__all__) <= set(dir(mmref))


def test_names_are_the_objects_of_their_homes() -> None:
    from mmref.data.dataset import RetrievalDataset
    from mmref.model import MMRef

    assert mmref.MMRef is MMRef
    assert mmref.RetrievalDataset is RetrievalDataset
    assert callable(mmref.evaluate)
    assert callable(mmref.train)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="module 'mmref' has no attribute 'Nothing'"):
        _ = mmref.Nothing
    assert not hasattr(mmref, "torch")


def test_version_is_that_of_the_installation() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+([.a-z]+\d+)?", mmref.__version__)
    assert version("mmref") == mmref.__version__


def test_the_command_is_installed() -> None:
    (command,) = entry_points(group="console_scripts", name="mmref")
    assert callable(command.load())


def test_it_runs_as_a_module() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mmref", "--version"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (0, f"mmref {mmref.__version__}\n"), result.stderr


def test_errors_know_their_exit_status() -> None:
    from mmref import errors

    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    assert len(kinds) > 10
    for kind in kinds:
        assert issubclass(kind, errors.MMRefError)
        assert kind.__name__ in (errors.__doc__ or ""), "the tree in the docstring names it"
        assert kind.exit_status == (2 if issubclass(kind, errors.UsageError) else 1)
