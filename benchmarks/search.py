"""Search in the local store: 100,000 x 256 made-up clustered vectors, without the text encoder.

    python benchmarks/search.py [--images 100000] [--dimension 256] [--queries 1000]

Measures ``Searcher.search_vector`` (index, exact re-scoring, refinement, reading the hits from the
database): p50 and p95, refined and not, for both stored forms of a profile; recall@10 of the
nearest vectors against an exact search over all; bytes per image. Refined and unrefined searches
alternate query by query, so that a busy machine slows both. Writes benchmarks/results/search.json.
"""

import argparse
import platform
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import torch

from mmref.files import write_json
from mmref.references.refinement import Refiner
from mmref.search.engine import Searcher
from mmref.search.records import Changes, Place, Record, RunIdentity
from mmref.search.stores.base import open_store

REFERENCES, KEPT, CLUSTERS, NOISE = 400, 32, 2000, 1.0
BATCH = 1000


class Model:
    """A model that needs no encoder: the queries are vectors."""

    id, digest, kind, image_size = "benchmark", "benchmark", "compact", (64, 64)

    def __init__(self, dimension: int, form: str) -> None:
        generator = torch.Generator().manual_seed(0)
        references = torch.randn(REFERENCES, dimension, generator=generator)
        self.dimension = dimension
        self.refiner = Refiner(references, form, weight=1.0, temperature=0.1, kept=KEPT)


def clustered(count: int, dimension: int, seed: int) -> np.ndarray:
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, dimension), dtype=np.float32)
    generator = np.random.default_rng(seed)
    made = centres[generator.integers(0, CLUSTERS, count)]
    made += NOISE * generator.standard_normal((count, dimension), dtype=np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def fill(uri: str, model: Model, vectors: np.ndarray) -> dict[str, float]:
    begun = time.perf_counter()
    with open_store(uri, RunIdentity.of(model, "")) as store:  # type: ignore[arg-type]
        for start in range(0, len(vectors), BATCH):
            part = vectors[start : start + BATCH]
            arrays = model.refiner.profiles(torch.from_numpy(part), "image").to_arrays()
            store.apply(
                Changes(
                    [
                        Record(
                            Place(f"/pictures/{start + row:08d}.jpg", 0, 0, {}, "/pictures"),
                            f"{start + row:032x}",
                            vector,
                            {name: values[row] for name, values in arrays.items()},
                        )
                        for row, vector in enumerate(part)
                    ]
                )
            )
        written = time.perf_counter()
        store.finish()
    return {"write_s": written - begun, "index_s": time.perf_counter() - written}


def percentiles(seconds: list[float]) -> dict[str, float]:
    p50, p95 = np.percentile(np.array(seconds) * 1e3, [50, 95])
    return {"p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3)}


def exact_ten(vectors: np.ndarray, queries: np.ndarray) -> list[set[int]]:
    """The ten nearest rows of each query, by comparing all."""
    nearest = []
    for start in range(0, len(queries), 100):
        scores = queries[start : start + 100] @ vectors.T
        nearest += [set(row.tolist()) for row in np.argpartition(-scores, 10, axis=1)[:, :10]]
    return nearest


def measure(
    form: str, vectors: np.ndarray, queries: np.ndarray, nearest: list[set[int]]
) -> dict[str, object]:
    model = Model(vectors.shape[1], form)
    with tempfile.TemporaryDirectory() as folder:
        uri = str(Path(folder) / "store")
        times = fill(uri, model, vectors)
        begun = time.perf_counter()
        searcher = Searcher.open(uri, model)  # type: ignore[arg-type]
        searcher.search_vector(queries[0])
        times["open_s"] = time.perf_counter() - begun
        for query in queries[:20]:
            searcher.search_vector(query, refine=False)
        taken: dict[bool, list[float]] = {False: [], True: []}
        found = 0
        for number, query in enumerate(queries):
            for refine in (False, True) if number % 2 else (True, False):
                begun = time.perf_counter()
                hits = searcher.search_vector(query, refine=refine)
                taken[refine].append(time.perf_counter() - begun)
                if not refine:
                    found += len({hit.id - 1 for hit in hits} & nearest[number])
        info = searcher.store.info()
        searcher.close()
    plain, refined = percentiles(taken[False]), percentiles(taken[True])
    return {
        "unrefined": plain,
        "refined": refined,
        "ratio": round(refined["p50_ms"] / plain["p50_ms"], 3),
        "recall_at_10": round(found / (10 * len(queries)), 4),
        "bytes_per_image": {
            "vector": info["vector_bytes"],
            "profile": info["profile_bytes"],
            "on_disk": round(info["bytes"] / len(vectors)),
        },
        **{name: round(seconds, 2) for name, seconds in times.items()},
    }


def exact_milliseconds(vectors: np.ndarray, queries: np.ndarray) -> dict[str, float]:
    """The peer: faiss, exact and flat, over the same vectors, on one thread as well."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    taken = []
    for query in queries[:100]:
        begun = time.perf_counter()
        index.search(query[None], 10)
        taken.append(time.perf_counter() - begun)
    faiss.omp_set_num_threads(threads)
    return percentiles(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=256)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--out", default=str(Path(__file__).parent / "results" / "search.json"))
    options = parser.parse_args()
    vectors = clustered(options.images, options.dimension, seed=1)
    queries = clustered(options.queries, options.dimension, seed=2)
    nearest = exact_ten(vectors, queries)
    report: dict[str, object] = {
        "images": options.images,
        "dimension": options.dimension,
        "queries": options.queries,
        "references": REFERENCES,
        "kept": KEPT,
        "faiss_flat": exact_milliseconds(vectors, queries),
    }
    for form in ("posterior", "linear"):
        report[form] = figures = measure(form, vectors, queries, nearest)
        print(form, figures)
    report["machine"] = {
        "processor": platform.machine(),
        "threads": faiss.omp_get_max_threads(),
        "python": platform.python_version(),
        "faiss": faiss.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
    }
    write_json(options.out, report)
    print(f"faiss flat, exact: {report['faiss_flat']}")
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
