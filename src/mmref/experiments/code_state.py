"""Which code a run was made with: a version and a digest, for a version alone hides a change."""

import hashlib
from functools import cache
from pathlib import Path

import mmref
from mmref._version import __version__

_BESIDE = ("cli", "search")  # they decide nothing about a run


@cache
def code_state() -> str:
    """The version of mmref and a digest of its source files, as this process began with them.

    Example:
        >>> code_state() == f"{__version__}+{digest_of(Path(mmref.__file__).parent)}"
        True
    """
    return f"{__version__}+{digest_of(Path(mmref.__file__).parent)}"


def digest_of(package: Path) -> str:
    """Twelve digits of the SHA-256 of a package's Python files and their names.

    The command line and the search are left out: no run of an ablation goes through them.

    Example:
        >>> import tempfile
        >>> package = Path(tempfile.mkdtemp())
        >>> _ = (package / "a.py").write_text("x = 1")
        >>> before = digest_of(package)
        >>> _ = (package / "a.py").write_text("x = 2")
        >>> len(before), before == digest_of(package)
        (12, False)
    """
    found = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        place = file.relative_to(package)
        if place.parts[0] not in _BESIDE:
            data = file.read_bytes()
            found.update(f"{place.as_posix()} {len(data)}\n".encode() + data)
    return found.hexdigest()[:12]
