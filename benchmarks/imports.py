"""How long ``import mmref`` and ``mmref --help`` take, each in a fresh process.

    python benchmarks/imports.py

Bounds: import below 0.3 s and without torch, help below 0.5 s. Best of several runs, for a busy
machine can only slow them. Writes benchmarks/results/imports.json; leaves with 1 beyond a bound.
"""

import argparse
import platform
import subprocess
import sys
import time
from pathlib import Path

from mmref.files import write_json

IMPORT_BOUND, HELP_BOUND = 0.3, 0.5
HEAVY = ("torch", "numpy", "faiss", "pyarrow", "PIL", "pydantic", "rich")
TIMED = """
import sys, time
begun = time.perf_counter()
import mmref
print(time.perf_counter() - begun, *(name for name in {heavy} if name in sys.modules))
"""


def imported(repeats: int) -> tuple[float, list[str]]:
    best, loaded = float("inf"), []
    for _ in range(repeats):
        command = [sys.executable, "-c", TIMED.format(heavy=HEAVY)]
        words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        best, loaded = min(best, float(words[0])), words[1:]
    return best, loaded


def helped(repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "mmref", "--help"], capture_output=True, check=True)
        best = min(best, time.perf_counter() - begun)
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", default=str(Path(__file__).parent / "results" / "imports.json"))
    options = parser.parse_args()
    seconds, loaded = imported(options.repeats)
    help_seconds = helped(options.repeats)
    report = {
        "import_mmref_s": round(seconds, 4),
        "import_bound_s": IMPORT_BOUND,
        "heavy_modules_loaded": loaded,
        "help_s": round(help_seconds, 4),
        "help_bound_s": HELP_BOUND,
        "repeats": options.repeats,
        "python": platform.python_version(),
    }
    write_json(options.out, report)
    for name, value in report.items():
        print(f"{name:<22} {value}")
    good = seconds < IMPORT_BOUND and help_seconds < HELP_BOUND and "torch" not in loaded
    print("within the bounds" if good else "BEYOND THE BOUNDS")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
