"""A whole evaluation from cached vectors, refined or not, against the usual way: time and memory.

`benchmarks/ranks.py` measures the ranks; here it is `evaluate_vectors`, both directions and with
the references of ICFG-PEDES's training objects, and the memory beside the vectors: the peak of the
process less what it held when the vectors were loaded. The usual way (whole matrix, sort of every
row) is that of `benchmarks/ranks.py`; it has no refinement. Each way runs in a process of its own;
ratios are of CPU seconds, which a busy machine changes less than seconds.

    python benchmarks/evaluation.py             # 19,848 x 19,848 x 512, ICFG-PEDES's test set
    python benchmarks/evaluation.py --size 4000
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from ranks import DIMENSION, FULL, OBJECTS, full_matrix, machine, make_vectors

from mmref.evaluation.vectors import evaluate_vectors
from mmref.references.refinement import Refiner

RESULTS = Path(__file__).parent / "results" / "evaluation.json"
TRAINING_OBJECTS = 3_102  # of ICFG-PEDES
USUAL = "full matrix"
FORMS = {"hubs": "hubs", "linear": "linear", "posterior": "posterior"}
WAYS = (USUAL, "mmref", "mmref, image to text", *(f"mmref, refined: {form}" for form in FORMS))
RATIOS = ("times_less_cpu", "times_less_memory")
LIMIT = 1 << 30


def references(count: int) -> torch.Tensor:
    """References around nothing in particular: the cost does not depend on where they are."""
    drawn = torch.randn(count, DIMENSION, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.normalize(drawn, dim=1)


def held() -> int:
    """Bytes of this process now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("no VmRSS: this benchmark needs Linux")


def run_one(way: str, path: Path, count: int) -> None:
    """In the child: one way, its figures, seconds and memory as JSON on stdout."""
    with np.load(path) as stored:
        texts, images, ids = (torch.from_numpy(stored[n]) for n in ("texts", "images", "ids"))
    objects = ids.numpy()
    refiner = None
    if "refined" in way:
        form = FORMS[way.rpartition(" ")[2]]
        refiner = Refiner(references(count), form, weight=1.0, temperature=0.1, kept=32)
    direction = "i2t" if "image to text" in way else "t2i"

    def evaluate(part: slice) -> dict[str, float]:
        if way == USUAL:
            return full_matrix(texts[part], images[part], ids[part])
        vectors = (texts[part], images[part], objects[part], objects[part])
        return evaluate_vectors(*vectors, refiner, direction=direction).metrics

    evaluate(slice(0, 64))  # start threads and load kernels outside the measurement
    before, start, cpu = held(), time.perf_counter(), time.process_time()
    figures = evaluate(slice(None))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    beside = max(0, peak - before)
    told = {"seconds": seconds, "cpu_seconds": cpu, "bytes_beside_vectors": beside}
    print(json.dumps(told | {"figures": figures}))


def measure(size: int, objects: int, count: int, ways: list[str]) -> list[dict[str, object]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npz"
        make_vectors("clustered", size, objects, path)
        for way in ways:
            command = [sys.executable, __file__, "--child", way, "--vectors", str(path)]
            command += ["--references", str(count)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append({"way": way, **json.loads(done.stdout)})
    usual = next((row for row in rows if row["way"] == USUAL), None)
    for row in rows:
        if usual and row is not usual:
            row["times_less_cpu"] = usual["cpu_seconds"] / row["cpu_seconds"]
            row["times_less_memory"] = usual["bytes_beside_vectors"] / row["bytes_beside_vectors"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=FULL, help="queries, and gallery images")
    parser.add_argument("--references", type=int, default=TRAINING_OBJECTS)
    parser.add_argument("--out", type=Path, help=f"default: {RESULTS.name} at full size")
    parser.add_argument("--child", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--vectors", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        run_one(args.child, args.vectors, args.references)
        return
    objects = OBJECTS if args.size == FULL else max(1, args.size // 20)
    rows = measure(args.size, objects, args.references, list(WAYS))
    print(
        f"{args.size:,} captions x {args.size:,} images, d = {DIMENSION}, {objects:,} objects, "
        f"{args.references:,} references, {torch.get_num_threads()} threads"
    )
    names = ("seconds", "CPU s", "MB beside", "less CPU", "less MB", "mAP")
    print(f"{'way':<28}" + "".join(f"{name:>10}" for name in names))
    for row in rows:
        times = [f"{row[ratio]:.1f}" if ratio in row else "" for ratio in RATIOS]
        beside = f"{row['bytes_beside_vectors'] / 1e6:.0f}"
        cells = (f"{row['seconds']:.2f}", f"{row['cpu_seconds']:.2f}", beside, *times)
        line = "".join(f"{cell:>10}" for cell in (*cells, f"{row['figures']['mAP']:.4f}"))
        print(f"{row['way']:<28}{line}")
    most = max(row["bytes_beside_vectors"] for row in rows if row["way"] != USUAL)
    print(f"at most {most / 1e6:.0f} MB beside the vectors (goal: under {LIMIT / 1e6:.0f})")
    target = args.out or (RESULTS if args.size == FULL else None)
    if target:
        target.parent.mkdir(parents=True, exist_ok=True)
        result = {
            "size": args.size,
            "objects": objects,
            "dimension": DIMENSION,
            "references": args.references,
            "machine": machine(),
            "results": rows,
        }
        target.write_text(json.dumps(result, indent=2) + "\n")
        print(f"wrote {target}")


if __name__ == "__main__":
    main()
