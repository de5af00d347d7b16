"""Ingest with the compact encoder against the encoder's own rate fed from memory, in one run.

    OMP_NUM_THREADS=1 python benchmarks/ingest.py [--crops 1500] [--photos 300] [--rounds 5]

JPEG files are made on the spot: crops of persons (100 x 250) and photographs (1600 x 1200). In each
round the encoder takes the same pictures, decoded before, in the same batches from memory, and
then the files are indexed into a new store; ratios are medians over the rounds. The encoder has
one thread (or --threads), in both. Beside the ratio by the clock, for which the readers need a core
of their own, stands that by the processor time of the encoding thread: what the clock would show
were there always one. ``stages`` is the processor time of each, by itself, in ms for a picture.

Then 10,000 files are indexed a second time unchanged, and 100,000 listed, as --watch does between
rounds. Writes benchmarks/results/ingest.json.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmref.config import Settings
from mmref.environment import describe_environment
from mmref.experiments.profile_encoder import encoder_to_measure
from mmref.files import write_json
from mmref.model import MMRef
from mmref.references.refinement import Refiner
from mmref.search.ingest.index import BATCH, index_images
from mmref.search.ingest.listing import list_images
from mmref.search.ingest.metadata import taken
from mmref.search.ingest.reading import decode, encode
from mmref.search.records import content_digest

SIZES = {"crops": (100, 250), "photos": (1600, 1200)}
REFERENCES, KEPT, AIM = 400, 32, 0.85


def compact() -> MMRef:
    """The compact encoder of the default settings with weights at random, and a refinement."""
    settings = Settings().with_values({"encoder.kind": "compact"})
    size = (settings.encoder.image_height, settings.encoder.image_width)
    images = torch.randint(0, 256, (16, 3, *size), dtype=torch.uint8)
    captions = [f"a red coat and {number} bags" for number in range(64)]
    model = MMRef(encoder_to_measure(settings, captions, images).encoder, settings)  # type: ignore[arg-type]
    vectors = torch.nn.functional.normalize(torch.randn(REFERENCES, model.dimension), dim=1)
    model.refiner = Refiner(vectors, "posterior", weight=1.0, temperature=0.1, kept=KEPT)
    return model


def pictures(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEG files of smooth noise, about as large as photographs of that size are."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    width, height = size
    made = []
    for number in range(count):
        small = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        made.append(folder / f"{number:06d}.jpg")
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(made[-1], quality=85)
    return made


def timed(work: Callable[[], Any]) -> tuple[float, float, float]:
    """Seconds by the clock, of this thread, of all threads."""
    begun = time.perf_counter(), time.thread_time(), time.process_time()
    work()
    ended = time.perf_counter(), time.thread_time(), time.process_time()
    clock, thread, process = (end - begin for begin, end in zip(begun, ended, strict=True))
    return clock, thread, process


def stages(model: MMRef, files: list[Path]) -> dict[str, float]:
    """Processor milliseconds for one picture of each stage by itself."""
    contents = [file.read_bytes() for file in files]
    made: list[Any] = []
    works: dict[str, Callable[[], Any]] = {
        "read": lambda: [file.read_bytes() for file in files],
        "hash": lambda: [content_digest(content) for content in contents],
        "exif": lambda: [taken(content) for content in contents],
        "decode": lambda: made.extend(decode(content, model.image_size) for content in contents),
        "encode": lambda: in_batches(model, made),
    }
    return {name: round(1e3 * timed(work)[2] / len(files), 3) for name, work in works.items()}


def in_batches(model: MMRef, pixels: list[Any]) -> None:
    for start in range(0, len(pixels), BATCH):
        encode(model, pixels[start : start + BATCH])


def compared(model: MMRef, files: list[Path], rounds: int, work: Path) -> dict[str, Any]:
    """The encoder's own rate and that of ingest, in turn."""
    pixels = [decode(file.read_bytes(), model.image_size) for file in files]
    in_batches(model, pixels[:BATCH])
    own, whole = [], []
    for number in range(rounds):
        own.append(timed(lambda: in_batches(model, pixels)))
        store = work / f"{files[0].parent.name}-{number}.store"
        whole.append(timed(lambda: index_images(model, [files[0].parent], store)))  # noqa: B023
    ratios = [[o / w for o, w in zip(*pair, strict=True)] for pair in zip(own, whole, strict=True)]
    return {
        "files": len(files),
        "bytes_per_file": round(sum(file.stat().st_size for file in files) / len(files)),
        "encoder_images_per_s": round(len(files) / median(o[0] for o in own), 1),
        "ingest_images_per_s": round(len(files) / median(w[0] for w in whole), 1),
        "ratio_by_clock": round(median(r[0] for r in ratios), 3),
        "ratio_by_clock_best": round(max(r[0] for r in ratios), 3),
        "ratio_by_encoding_thread": round(median(r[1] for r in ratios), 3),
        "ratio_by_all_processor_time": round(median(r[2] for r in ratios), 3),
        "stages_ms": stages(model, files),
    }


def unchanged(model: MMRef, work: Path) -> dict[str, float]:
    """Files that a store knows, indexed once more; and listing alone."""
    model.refiner = None
    folder = work / "many"
    content = pictures(work / "small", 1, (16, 16))[0].read_bytes()
    for number in range(100_000):
        inner = folder / f"{number // 1000:03d}"
        inner.mkdir(parents=True, exist_ok=True)
        (inner / f"{number:06d}.jpg").write_bytes(content)
    some = [folder / f"{number:03d}" for number in range(10)]
    index_images(model, some, work / "many.store")
    clock, _, process = timed(lambda: index_images(model, some, work / "many.store"))
    listed = timed(lambda: list_images([folder], features=False))
    return {
        "files": 10_000,
        "files_per_s": round(10_000 / clock),
        "processor_ms_per_1000": round(1e3 * process / 10, 1),
        "listing_100000_s": round(listed[0], 2),
        "listing_100000_processor_s": round(listed[2], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=int, default=1500)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of the encoder, in both")
    parser.add_argument("--out", default=str(Path(__file__).parent / "results" / "ingest.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    report: dict[str, Any] = {"aim": AIM, "encoder_threads": options.threads, "batch": BATCH}
    with tempfile.TemporaryDirectory(prefix="mmref-ingest-") as name:
        work = Path(name)
        for kind, size in SIZES.items():
            files = pictures(work / kind, getattr(options, kind), size)
            report[kind] = compared(compact(), files, options.rounds, work)
            print(kind, report[kind])
        report["unchanged"] = unchanged(compact(), work)
        print("unchanged", report["unchanged"])
    report["load_at_end"] = round(os.getloadavg()[0], 1)
    write_json(options.out, report | {"environment": describe_environment()})


if __name__ == "__main__":
    main()
