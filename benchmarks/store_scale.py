"""The local store at scale: 1,000,000 x 512 made-up clustered vectors, without the encoder.

    OMP_NUM_THREADS=1 python benchmarks/store_scale.py [--images 1000000] [--dimension 512]
        [--storage fp32] [--peers faiss,usearch,lancedb] [--work DIR]

Measures ``Searcher.search_vector`` (index, exact re-scoring, refinement, reading hits from the
database): p50, p95 and p99, refined and not in turn; filters that keep 1 % and 10 %, a new one
each time and a repeated one; recall@10 against an exact search, for queries drawn as the vectors
are and for queries far from all of them; opening; adding 1,000 images; all beside FAISS (IVF of
the same number of lists), usearch and lancedb where they are installed (``mmref[bench]``), on the
same vectors and queries, asked in turn, 25 queries at a time. A folder given as --work is kept and
used again. Writes
benchmarks/results/store_scale.json.
"""

import argparse
import contextlib
import gc
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch

from mmref.files import write_json
from mmref.references.refinement import Refiner
from mmref.search.engine import Searcher
from mmref.search.filters import Filter
from mmref.search.records import Changes, Place, Record, RunIdentity
from mmref.search.stores.base import open_store

REFERENCES, KEPT, CLUSTERS, NOISE = 400, 32, 2000, 1.0
BATCH, CAMERAS, FARAWAY, TURN = 2000, 100, 0.45, 25


class Model:
    """A model that needs no encoder: the queries are vectors."""

    id, digest, kind, image_size = "benchmark", "benchmark", "compact", (64, 64)

    def __init__(self, dimension: int) -> None:
        generator = torch.Generator().manual_seed(0)
        references = torch.randn(REFERENCES, dimension, generator=generator)
        self.dimension = dimension
        self.refiner = Refiner(references, "posterior", weight=1.0, temperature=0.1, kept=KEPT)


def clustered(count: int, dimension: int, seed: int) -> np.ndarray:
    centres = np.random.default_rng(0).standard_normal((CLUSTERS, dimension), dtype=np.float32)
    generator = np.random.default_rng(seed)
    made = centres[generator.integers(0, CLUSTERS, count)]
    made += NOISE * generator.standard_normal((count, dimension), dtype=np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def faraway(count: int, dimension: int) -> np.ndarray:
    """Queries at a low cosine from all vectors, as sentences are: two vectors and noise."""
    generator = np.random.default_rng(5)
    noise = generator.standard_normal((count, dimension), dtype=np.float32)
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    made = clustered(count, dimension, 6) + clustered(count, dimension, 7) + 2 * noise
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def blocks(images: int, dimension: int) -> Iterator[np.ndarray]:
    for number, start in enumerate(range(0, images, 100_000)):
        yield clustered(min(100_000, images - start), dimension, 100 + number)


def records(model: Model, part: np.ndarray, start: int) -> list[Record]:
    arrays = model.refiner.profiles(torch.from_numpy(part), "image").to_arrays()
    return [
        Record(
            Place(
                f"/pictures/{(start + row) // 1000:04d}/{start + row:08d}.jpg",
                100_000 + (start + row) % 90_001,
                (1_700_000_000 + 61 * (start + row)) * 10**9,
                {"camera": f"c{(start + row) % CAMERAS}", "year": 1980 + (start + row) % 45},
                "/pictures",
            ),
            f"{start + row:032x}",
            vector,
            {name: values[row] for name, values in arrays.items()},
        )
        for row, vector in enumerate(part)
    ]


def fill(uri: str, model: Model, images: int, storage: str) -> dict[str, float]:
    begun = time.perf_counter()
    start = 0
    with open_store(uri, RunIdentity.of(model, ""), storage=storage) as store:
        for block in blocks(images, model.dimension):
            for first in range(0, len(block), BATCH):
                part = block[first : first + BATCH]
                store.apply(Changes(records(model, part, start)))
                start += len(part)
        written = time.perf_counter()
        store.finish()
    return {"write_s": written - begun, "index_s": time.perf_counter() - written}


def _chunks(file: Path) -> Iterator[int]:
    with file.open("rb", buffering=0) as opened:
        while part := opened.read(1 << 22):
            yield len(part)


class Taken(float):
    """Seconds by the clock, and those in which this thread worked.

    The second are fewer where others use the machine.
    """

    worked: float


def percentiles(seconds: list[Taken]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(np.array(seconds) * 1e3, [50, 95, 99])
    found = {"p50_ms": p50, "p95_ms": p95, "p99_ms": p99}
    found["worked_p50_ms"] = 1e3 * float(np.median([one.worked for one in seconds]))
    found["worked_p99_ms"] = 1e3 * float(np.percentile([one.worked for one in seconds], 99))
    return {name: round(float(value), 3) for name, value in found.items()}


def timed(call: Callable[[], Any]) -> tuple[Taken, Any]:
    begun, worked = time.perf_counter(), time.thread_time()
    found = call()
    taken = Taken(time.perf_counter() - begun)
    taken.worked = time.thread_time() - worked
    return taken, found


def exact_ten(images: int, queries: np.ndarray, keep: np.ndarray | None = None) -> np.ndarray:
    """The ten nearest rows of each query by comparing all, or those that ``keep`` names."""
    best = np.full((len(queries), 10), -np.inf, dtype=np.float32)
    rows = np.zeros((len(queries), 10), dtype=np.int64)
    start = 0
    for block in blocks(images, queries.shape[1]):
        scores = queries @ block.T
        if keep is not None:
            scores[~keep[:, start : start + len(block)]] = -np.inf
        top = np.argpartition(scores, -10, axis=1)[:, -10:]
        best = np.concatenate([best, np.take_along_axis(scores, top, axis=1)], axis=1)
        rows = np.concatenate([rows, top + start], axis=1)
        order = np.argpartition(best, -10, axis=1)[:, -10:]
        best, rows = np.take_along_axis(best, order, 1), np.take_along_axis(rows, order, 1)
        start += len(block)
    return rows


def recall(found: list[list[int]], wanted: np.ndarray) -> float:
    pairs = zip(found, wanted, strict=True)
    return round(sum(len(set(row[:10]) & set(ten.tolist())) for row, ten in pairs) / wanted.size, 4)


def peers(names: list[str], images: int, dimension: int, lists: int, work: Path) -> dict[str, Any]:
    """Other indexes over the same vectors: name -> (build seconds, ask)."""
    made: dict[str, Any] = {}
    for name in names:
        begun = time.perf_counter()
        with contextlib.suppress(ImportError):
            made[name] = (globals()[f"peer_{name}"](images, dimension, lists, work), begun)
            made[name] = (made[name][0], time.perf_counter() - begun)
            print(name, "built in", round(made[name][1]), "s", flush=True)
        if name not in made:
            print(name, "is not installed", flush=True)
    return made


def peer_faiss(images: int, dimension: int, lists: int, work: Path) -> Any:
    """FAISS alone: IVF over fp16 vectors, with as many lists."""
    file = work / "peer.faiss"
    if not file.exists():
        kind = f"IVF{max(lists, 256)},SQfp16"
        index = faiss.index_factory(dimension, kind, faiss.METRIC_INNER_PRODUCT)
        index.cp.niter, index.cp.max_points_per_centroid = 8, 40
        for block in blocks(images, dimension):
            if not index.is_trained:
                index.train(block)
            index.add(block)
        faiss.write_index(index, str(file))
    index = faiss.read_index(str(file))
    index.nprobe = 64

    def ask(query: np.ndarray) -> list[int]:
        return index.search(query[None], 10)[1][0].tolist()

    return ask


def peer_usearch(images: int, dimension: int, lists: int, work: Path) -> Any:
    """usearch: HNSW over fp16 vectors."""
    from usearch.index import Index

    index = Index(ndim=dimension, metric="ip", dtype="f16")
    file, start = work / "peer.usearch", 0
    if file.exists():
        index.view(str(file))
    else:
        for block in blocks(images, dimension):
            index.add(np.arange(start, start + len(block)), block, threads=2)
            start += len(block)
        index.save(str(file))

    def ask(query: np.ndarray) -> list[int]:
        return [int(key) for key in index.search(query, 10).keys]

    return ask


def peer_lancedb(images: int, dimension: int, lists: int, work: Path) -> Any:
    """lancedb: IVF_PQ with exact re-scoring."""
    import lancedb
    import pyarrow as pa

    database = lancedb.connect(str(work / "peer.lance"))
    if "vectors" not in database.table_names():
        kind = pa.list_(pa.float32(), dimension)

        def batches() -> Iterator[pa.RecordBatch]:
            start = 0
            for block in blocks(images, dimension):
                column = pa.FixedSizeListArray.from_arrays(pa.array(block.ravel()), dimension)
                rows = pa.array(np.arange(start, start + len(block)))
                start += len(block)
                yield pa.RecordBatch.from_arrays([column, rows], ["vector", "row"])

        table = database.create_table(
            "vectors", batches(), schema=pa.schema([("vector", kind), ("row", pa.int64())])
        )
        parts = max(lists, 256)
        table.create_index(
            metric="dot", num_partitions=parts, num_sub_vectors=dimension // 8, index_type="IVF_PQ"
        )
    table = database.open_table("vectors")

    def ask(query: np.ndarray) -> list[int]:
        asked = table.search(query).distance_type("dot").nprobes(64).refine_factor(20).limit(10)
        return asked.select(["row", "_distance"]).to_arrow()["row"].to_pylist()

    return ask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--storage", default="fp32", choices=["fp32", "fp16", "int8"])
    parser.add_argument("--peers", default="faiss,usearch,lancedb")
    parser.add_argument("--work")
    parser.add_argument("--out", default=str(Path(__file__).parent / "results/store_scale.json"))
    options = parser.parse_args()
    work = Path(options.work or tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    try:
        report = measure(options, work)
    finally:
        if not options.work:
            shutil.rmtree(work, ignore_errors=True)
    write_json(options.out, report)
    print(f"written: {options.out}")


def measure(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    images, dimension = options.images, options.dimension
    model: Any = Model(dimension)
    uri = str(work / f"{options.storage}.store")
    report: dict[str, Any] = {"images": images, "dimension": dimension, "storage": options.storage}
    if not Path(uri).exists():
        report |= fill(uri, model, images, options.storage)
        print({k: v for k, v in report.items() if k.endswith("_s")}, flush=True)
    near = clustered(options.queries, dimension, seed=2)
    far = faraway(200, dimension)
    wanted = {"near": exact_ten(images, near), "far": exact_ten(images, far)}
    gc.collect()
    opened = []
    for _ in range(3):
        begun = time.perf_counter()
        with Searcher.open(uri, model) as searcher:
            searcher.search_vector(near[0])
        opened.append(time.perf_counter() - begun)
    report["open_and_first_search_s"] = [round(seconds, 3) for seconds in opened]
    with Searcher.open(uri, model) as searcher:
        searcher.search_vector(near[0])
        with searcher.store.view() as view:
            codes = view.snapshot().base.codes  # type: ignore[attr-defined]
        lists = codes.lists if codes else 0
        if codes:
            report["index"] = {"lists": lists} | vars(codes.effort)
            print(report["index"], flush=True)
        others = peers(options.peers.split(",") if options.peers else [], images, dimension,
                       lists, work)  # fmt: skip
        file = next(Path(uri).glob("cache-*")) / "vectors.npy"
        report["cold"] = percentiles([timed(lambda q=q: searcher.search_vector(q))[0] for q in far])
        time.sleep(2)  # the store reads its vectors ahead, and so do its peers
        sum(_chunks(file))
        for query in near[:50]:
            searcher.search_vector(query, refine=False)
            for ask, _ in others.values():
                ask(query)
        taken: dict[str, list[Taken]] = {}
        rows: dict[str, list[list[int]]] = {}

        def noted(name: str, call: Callable[[], Any], read: Callable[[Any], list[int]]) -> None:
            seconds, found = timed(call)
            taken.setdefault(name, []).append(seconds)
            rows.setdefault(name, []).append(read(found))

        base = [lambda hits: [hit.id - 1 for hit in hits], lambda found: found]
        for start in range(0, len(near), TURN):
            turn = near[start : start + TURN]
            for refine in (False, True) if start // TURN % 2 else (True, False):
                for query in turn:
                    noted(
                        "refined" if refine else "unrefined",
                        lambda q=query, r=refine: searcher.search_vector(q, refine=r),
                        base[0],
                    )
            for name, (ask, _) in others.items():
                for query in turn:
                    noted(name, lambda q=query, ask=ask: ask(q), base[1])
            time.sleep(0.1)  # threads of a peer may still be at work
        for query in far:
            noted("far", lambda q=query: searcher.search_vector(q, refine=False), base[0])
            for name, (ask, _) in others.items():
                noted(f"{name} far", lambda q=query, ask=ask: ask(q), base[1])
        for name, seconds in taken.items():
            found = percentiles(seconds)
            if name != "refined":
                found["recall_at_10"] = recall(
                    rows[name], wanted["far" if name.endswith("far") else "near"]
                )
            report[name] = found
            print(name, found, flush=True)
        report["refined_ratio"] = round(
            report["refined"]["p50_ms"] / report["unrefined"]["p50_ms"], 3
        )
        report |= filtered(searcher, near[:150], images)
    report["peers_build_s"] = {name: round(seconds, 1) for name, (_, seconds) in others.items()}
    del others
    gc.collect()
    report |= added(uri, model, work, images)
    report["peak_memory_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    report["machine"] = {
        "processor": platform.machine(),
        "threads": faiss.omp_get_max_threads(),
        "python": platform.python_version(),
        "faiss": faiss.__version__,
        "numpy": np.__version__,
    }
    return report


def filtered(searcher: Searcher, queries: np.ndarray, images: int) -> dict[str, Any]:
    """Filters that keep 1 % (one camera of 100) and 10 % (ten cameras), new and repeated."""
    numbers = np.arange(images)
    report = {}
    for name, count in (("filter 1 %", 1), ("filter 10 %", 10)):
        texts, keep = [], np.zeros((len(queries), images), bool)
        for row in range(len(queries)):
            cameras = [(row * 7 + n) % CAMERAS for n in range(count)]
            named = ", ".join(f"'c{camera}'" for camera in cameras)
            texts.append(f"camera in ({named}) and year >= 1980")
            keep[row] = np.isin(numbers % CAMERAS, cameras)
        wanted = exact_ten(images, queries, keep)
        taken, rows = [], []
        for query, text in zip(queries, texts, strict=True):
            where = Filter.parse(text)
            seconds, found = timed(lambda q=query, w=where: searcher.store.candidates(q, 200, w))
            taken.append(seconds)
            rows.append((found.ids - 1).tolist())
        report[name] = percentiles(taken) | {"recall_at_10": recall(rows, wanted)}
        taken = [
            timed(lambda q=q, w=where: searcher.store.candidates(q, 200, w))[0] for q in queries
        ]
        report[f"{name}, repeated"] = percentiles(taken)
        print(name, report[name], report[f"{name}, repeated"], flush=True)
    where = Filter.parse("date >= 2024-01-01 and date < 2024-03-01")
    first = timed(lambda: searcher.store.candidates(queries[0], 200, where))[0]
    dates = [
        timed(
            lambda q=query, n=n: searcher.store.candidates(
                q, 200, Filter.parse(f"date = 2024-01-{n % 28 + 1:02d}")
            )
        )[0]
        for n, query in enumerate(queries[:100])
    ]
    report["filter by date"] = percentiles(dates) | {"first_ms": round(1e3 * first, 1)}
    print("filter by date", report["filter by date"], flush=True)
    return report


def added(uri: str, model: Any, work: Path, images: int) -> dict[str, Any]:
    """1,000 more images into the store, without encoding; and the first search after that."""
    part = clustered(1000, model.dimension, seed=9)
    fresh = records(model, part, images + 10_000)
    begun = time.perf_counter()
    with open_store(uri, RunIdentity.of(model, "")) as store:
        store.apply(Changes(fresh[:500]))
        store.apply(Changes(fresh[500:]))
        store.finish()
    seconds = time.perf_counter() - begun
    with open_store(uri) as store:
        first = timed(lambda: store.candidates(part[0], 10))[0]
        wanted = {record.place.path for record in fresh}
        ids = [item.id for item in store.at(sorted(wanted)).values()]
    with open_store(uri, RunIdentity.of(model, "")) as store:
        store.apply(Changes(removed=ids))
    found = {"add_1000_s": round(seconds, 2), "first_search_after_s": round(first, 3)}
    print(found, flush=True)
    return found


if __name__ == "__main__":
    main()
