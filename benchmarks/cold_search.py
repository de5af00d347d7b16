"""A cold ``mmref search`` from the shell, on a store of 100,000 images.

    OMP_NUM_THREADS=1 python benchmarks/cold_search.py demo/mmref [--images 100000]

Every search is a process of its own: Python, torch, the run, the store, one sentence, the printed
hits. The vectors are made up (clustered, as in ``benchmarks/store_scale.py``), the run is a real
one. Beside it what no such search can do without: a process that only loads torch and FAISS. The
first search after writing is given apart; the disk's cache is warm for the others. Writes
benchmarks/results/cold_search.json; the aim is 2.5 s.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mmref.environment import describe_environment
from mmref.files import write_json
from mmref.model import MMRef
from mmref.search.records import Changes, Place, Record, RunIdentity
from mmref.search.stores.base import open_store

AIM, BATCH, CLUSTERS = 2.5, 2000, 500


def fill(store: str, run: Path, images: int) -> None:
    model = MMRef.from_pretrained(run)
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((CLUSTERS, model.dimension), dtype=np.float32)
    with open_store(store, RunIdentity.of(model, str(run.absolute()))) as opened:
        for start in range(0, images, BATCH):
            count = min(BATCH, images - start)
            made = centres[generator.integers(0, CLUSTERS, count)]
            made += generator.standard_normal(made.shape, dtype=np.float32)
            made /= np.linalg.norm(made, axis=1, keepdims=True)
            profiles = {}
            if model.refiner is not None:
                profiles = model.refiner.profiles(torch.from_numpy(made), "image").to_arrays()
            opened.apply(
                Changes(
                    [
                        Record(
                            Place(f"/pictures/{start + row:07d}.jpg", 1000, 1, {}, "/pictures"),
                            f"{start + row:032x}",
                            made[row],
                            {name: values[row] for name, values in profiles.items()},
                        )
                        for row in range(count)
                    ]
                )
            )
        opened.finish()


def seconds(command: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a trained run of the compact encoder")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", default=str(Path(__file__).parent / "results/cold_search.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        fill(store, options.run, options.images)
        search = [sys.executable, "-m", "mmref", "search", "--store", store, "a red coat"]
        load = [sys.executable, "-c", "import torch, faiss"]
        first = seconds(search)
        taken: dict[str, list[float]] = {"search": [], "loading torch and FAISS": []}
        for _ in range(options.rounds):
            taken["search"].append(seconds(search))
            taken["loading torch and FAISS"].append(seconds(load))
    report = {
        "environment": describe_environment(),
        "images": options.images,
        "aim_s": AIM,
        "first_s": round(first, 3),
        **{
            name: {"median_s": round(statistics.median(each), 3), "least_s": round(min(each), 3)}
            for name, each in taken.items()
        },
    }
    print(report)
    write_json(options.out, report)


if __name__ == "__main__":
    main()
