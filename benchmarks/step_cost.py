"""What MMRef adds to a training step: time and memory against the base objective's step.

CLIP ViT-B/16's shape at 384 x 128 with weights at random, 11,003 objects and captions of about 23
words, as CUHK-PEDES has. *whole* is everything at once: fusion, guidance and the reconstruction
beside the encoders; *default* is what the recipe cuhk-pedes does. The steps alternate within one
process and share one encoder, so that a busy machine slows all alike; the ratio is the median over
rounds of (variant / base of the same round), of the wall clock and of processor time; on a CPU
the latter decides. Memory is the peak of a process that does two steps, less what it holds before
the objective is made.

    python benchmarks/step_cost.py                 # batch 8, some minutes on a CPU
    python benchmarks/step_cost.py --batch 64      # where there is a GPU
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import torch

from mmref.config import Settings
from mmref.environment import describe_environment
from mmref.experiments.profile_cost import Step
from mmref.experiments.profile_encoder import Measured, encoder_to_measure
from mmref.experiments.profile_work import made_captions, published_work

RESULTS = Path(__file__).parent / "results" / "step_cost.json"
RECIPE, SET = "cuhk-pedes", "cuhk-pedes"
MOST_TIME, MOST_MEMORY = 1.15, 1.1
VARIANTS = ("base", "default", "whole")


def settings_of(variant: str, precision: str) -> Settings:
    recipe = Settings.from_yaml(RECIPE).with_values({"training.precision": precision})
    if variant == "base":
        return recipe.base_objective()
    if variant == "whole":
        return recipe.with_values({"references.reconstruction_weight": 1.0})
    return recipe


def encoder(precision: str) -> tuple[Measured, list[str]]:
    settings = settings_of("default", precision)
    work = published_work(SET)
    captions = made_captions(work.words * 1.2, 256)
    size = (16, 3, settings.encoder.image_height, settings.encoder.image_width)
    images = torch.randint(0, 256, size, dtype=torch.uint8)
    return encoder_to_measure(settings, captions, images), captions


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def step_of(variant: str, made: tuple[Measured, list[str]], batch: int, precision: str) -> Step:
    settings = settings_of(variant, precision)
    objects = published_work(SET).objects
    return Step(settings, made[0], made[1], objects, batch, device())


def timed(step: Step) -> tuple[float, float]:
    if step.device.type == "cuda":
        torch.cuda.synchronize()
    wall, cpu = time.perf_counter(), time.process_time()
    step.whole()
    if step.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - cpu


def alternate(batch: int, rounds: int, precision: str) -> dict[str, dict[str, float]]:
    made = encoder(precision)
    steps = {name: step_of(name, made, batch, precision) for name in VARIANTS}
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    for number in range(rounds + 1):
        # Turn the order round, so that none always follows the same one.
        names = VARIANTS[number % 3 :] + VARIANTS[: number % 3]
        for name in names:
            found = timed(steps[name])
            steps[name].clear()
            if number:  # the first round warms up
                spent[name].append(found)
                print(f"round {number} {name:8s} {found[0]:.2f} s, processor {found[1]:.2f} s")
    return {
        name: {
            "seconds": median(wall for wall, _ in rows),
            "processor_seconds": median(cpu for _, cpu in rows),
            "to_base": median(a[0] / b[0] for a, b in zip(rows, spent["base"], strict=True)),
            "processor_to_base": median(
                a[1] / b[1] for a, b in zip(rows, spent["base"], strict=True)
            ),
        }
        for name, rows in spent.items()
    }


def resident() -> int:
    with Path("/proc/self/statm").open(encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def memory_of(variant: str, batch: int, precision: str) -> dict[str, int]:
    """In the child: the peak of two steps, as JSON."""
    made = encoder(precision)
    if torch.cuda.is_available():
        before = 0
    else:
        before = resident()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    step = step_of(variant, made, batch, precision)
    step.whole()
    step.whole()
    if torch.cuda.is_available():
        return {"peak": torch.cuda.max_memory_allocated(), "before": before}
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (peak,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    weights = sum(p.nbytes for p in step.encoder.parameters())
    return {"peak": int(peak) * 1024 - before + weights, "before": before}


def peak_in_a_process(variant: str, batch: int, precision: str) -> int:
    words = ["--child", variant, "--batch", str(batch), "--precision", precision]
    done = subprocess.run(
        [sys.executable, __file__, *words], check=True, capture_output=True, text=True
    )
    return int(json.loads(done.stdout)["peak"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--child", choices=VARIANTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(memory_of(args.child, args.batch, args.precision)))
        return
    peaks = {name: peak_in_a_process(name, args.batch, args.precision) for name in VARIANTS}
    rows = alternate(args.batch, args.rounds, args.precision)
    for name, row in rows.items():
        row |= {"peak_bytes": peaks[name], "memory_to_base": peaks[name] / peaks["base"]}
        print(
            f"{name:8s} {row['seconds']:.2f} s, {row['to_base']:.3f} of base (processor "
            f"{row['processor_to_base']:.3f}), {peaks[name] / 1e9:.2f} GB, "
            f"{row['memory_to_base']:.3f} of base"
        )
    whole = rows["whole"]
    # A busy machine stretches the wall clock of a step, not the work that it is.
    ratio = whole["to_base" if torch.cuda.is_available() else "processor_to_base"]
    result = {
        "shape": "CLIP ViT-B/16, 384 x 128, weights at random",
        "objects": published_work(SET).objects,
        "batch": args.batch,
        "rounds": args.rounds,
        "precision": args.precision,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "date": datetime.now(UTC).date().isoformat(),
        "variants": rows,
        "bounds": {"time": MOST_TIME, "memory": MOST_MEMORY},
        "met": ratio <= MOST_TIME and whole["memory_to_base"] <= MOST_MEMORY,
        **describe_environment(),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
