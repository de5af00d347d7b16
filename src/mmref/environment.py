"""What a figure was measured with: versions and machine, for reports and benchmarks."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from mmref._version import __version__

_PACKAGES = ("torch", "numpy", "faiss-cpu", "accelerate", "pillow")


def describe_environment() -> dict[str, Any]:
    """Versions of mmref and what it stands on, and the machine (JSON).

    Example:
        >>> sorted(describe_environment())
        ['machine', 'versions']
    """
    versions = {"mmref": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return {
        "versions": versions,
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "processor": _processor(),
        },
    }


def _processor() -> str:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
