"""Bytes per image, measured on made-up records, and what 10 million and a billion of them need.

    python benchmarks/sizing.py --images 4000 --dimension 512

Measured are: the rows that a Milvus store sends (all fields, as they travel), indexes of the same
kind as Milvus builds (HNSW with M = 24, IVF with 8 bits a number) as faiss writes them, and a local
store's files. The rest is multiplication. Prints tables; writes benchmarks/results/sizing.json.
"""

import argparse
import platform
import tempfile
from pathlib import Path

import faiss
import numpy as np
import torch

from mmref.files import write_json
from mmref.references.refinement import Refiner
from mmref.search.records import Changes, Place, Record, RunIdentity, content_digest
from mmref.search.stores.base import STORAGES, open_store
from mmref.search.stores.milvus_rows import FIELD, packed_profile, place_fields
from mmref.search.stores.rows import layout_of

SIZES = (10_000_000, 1_000_000_000)
NUMBERS = ("pk", "id", "born", "died", "path_key", "size", "mtime_ns")
NODE_BYTES = 64e9  # memory of one query node
FILLED = 0.7  # of which Milvus should fill
SEGMENT_BYTES = 1e9  # raw data of one sealed segment, the server's default
REFERENCES = 512


def places(count: int) -> list[Place]:
    """Paths and metadata of a usual length."""
    made = []
    for number in range(count):
        camera, day = number % 40, 1 + number % 28
        metadata = {"camera": f"c{camera:02d}", "object": f"p{number // 5:08d}", "split": "test"}
        path = f"/data/gallery/2026-01-{day:02d}/camera_{camera:02d}/{number:010d}.jpg"
        made.append(Place(path, 180_000 + number, 1_767_225_600_000_000_000, metadata, "/data"))
    return made


def clustered(count: int, dimension: int) -> np.ndarray:
    random = np.random.default_rng(0)
    centres = random.standard_normal((64, dimension))
    made = centres[random.integers(0, 64, count)] + random.standard_normal((count, dimension))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def profiles(vectors: np.ndarray, form: str | None) -> list[dict[str, np.ndarray]]:
    if form is None:
        return [{} for _ in vectors]
    drawn = torch.Generator().manual_seed(0)
    references = torch.randn(REFERENCES, vectors.shape[1], generator=drawn)
    refiner = Refiner(references, form, weight=0.5, temperature=0.1)
    arrays = refiner.profiles(torch.from_numpy(vectors), "image").to_arrays()
    return [{name: values[row] for name, values in arrays.items()} for row in range(len(vectors))]


def row_bytes(places_: list[Place], made: list[dict[str, np.ndarray]]) -> dict[str, float]:
    """Mean bytes of a Milvus row's fields, the vector apart."""
    texts = columns = profile = 0
    for place, arrays in zip(places_, made, strict=True):
        fields = place_fields(place)
        texts += sum(len(fields[name].encode()) for name in ("path", "source", "metadata")) + 32
        columns += len(str(fields[FIELD]).encode())
        profile += len(packed_profile(arrays, layout_of(arrays)))
    count = len(places_)
    return {
        "numbers": 8.0 * len(NUMBERS),
        "texts": texts / count,
        "columns": columns / count,
        "profile": profile / count,
    }


def index_bytes(vectors: np.ndarray, kind: str) -> float:
    dimension = vectors.shape[1]
    if kind == "HNSW":
        index = faiss.IndexHNSWFlat(dimension, 24, faiss.METRIC_INNER_PRODUCT)
    else:
        quantizer = faiss.IndexFlatIP(dimension)
        sort = faiss.ScalarQuantizer.QT_8bit
        index = faiss.IndexIVFScalarQuantizer(
            quantizer, dimension, 16, sort, faiss.METRIC_INNER_PRODUCT
        )
        index.train(vectors)
    index.add(vectors)
    return len(faiss.serialize_index(index)) / len(vectors)


def local_bytes(places_: list[Place], vectors: np.ndarray, form: str | None, storage: str) -> float:
    refinement = None if form is None else {"form": form}
    run = RunIdentity("sizing", "0", "compact", vectors.shape[1], None, refinement, "")
    made = profiles(vectors, form)
    with tempfile.TemporaryDirectory() as folder:
        with open_store(str(Path(folder) / "s"), run, storage=storage) as store:
            for start in range(0, len(places_), 500):
                part = slice(start, start + 500)
                rows = zip(places_[part], vectors[part], made[part], strict=True)
                store.apply(
                    Changes([Record(p, content_digest(v.tobytes()), v, a) for p, v, a in rows])
                )
            store.finish()
            store.compact()
        with open_store(str(Path(folder) / "s")) as store:
            return float(store.info()["bytes"]) / len(places_)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--out", default=str(Path(__file__).parent / "results" / "sizing.json"))
    options = parser.parse_args()
    held, vectors = places(options.images), clustered(options.images, options.dimension)
    forms = (None, "posterior", "linear")
    rows = {form or "none": row_bytes(held, profiles(vectors, form)) for form in forms}
    indexes = {kind: index_bytes(vectors, kind) for kind in ("HNSW", "IVF_SQ8")}
    local = {
        f"{storage}, {form or 'not refined'}": local_bytes(held, vectors, form, storage)
        for storage in STORAGES
        for form in (None, "posterior")
    }
    vector = 4.0 * options.dimension
    report = {
        "images": options.images,
        "dimension": options.dimension,
        "references": REFERENCES,
        "milvus_row_bytes": rows,
        "vector_bytes": vector,
        "index_bytes": indexes,
        "local_store_bytes": local,
        "milvus": [],
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    print(f"bytes per image, measured on {options.images:,} of {options.dimension} numbers")
    for form, fields in rows.items():
        parts = "  ".join(f"{name} {value:,.0f}" for name, value in fields.items())
        print(f"  Milvus row, refinement {form}: vector {vector:,.0f}  {parts}")
    for kind, value in indexes.items():
        print(f"  index {kind}: {value:,.0f}")
    for name, value in local.items():
        print(f"  local store on disk, {name}: {value:,.0f}")
    print("\n| images | refinement | index | stored | memory | nodes of 64 GB | segments |")
    print("|---|---|---|---|---|---|---|")
    for count in SIZES:
        for form, fields in rows.items():
            beside = sum(fields.values())
            for kind, value in indexes.items():
                stored, memory = count * (vector + beside + value), count * (value + beside)
                nodes = int(np.ceil(memory / (NODE_BYTES * FILLED)))
                segments = int(np.ceil(count * (vector + beside) / SEGMENT_BYTES))
                line = {
                    "images": count,
                    "refinement": form,
                    "index": kind,
                    "stored_bytes": stored,
                    "memory_bytes": memory,
                    "nodes": nodes,
                    "segments": segments,
                }
                report["milvus"].append(line)
                print(
                    f"| {count:,} | {form} | {kind} | {stored / 1e12:,.2f} TB "
                    f"| {memory / 1e12:,.2f} TB | {nodes:,} | {segments:,} |"
                )
    write_json(options.out, report)


if __name__ == "__main__":
    main()
