"""kill -9 at random moments, in training and in indexing, and what is left afterwards.

    OMP_NUM_THREADS=1 python benchmarks/kill.py [--kills 10] [--objects 60] [--seed 0]

Draws a small set of figures, trains and indexes it once undisturbed, then again and again with a
kill at a random moment, each time going on with the same command (``--resume`` in training), until
there were as many kills as asked for. Everything must come out as undisturbed: training the same
metrics.json (times aside) and the same bytes of weights, for both encoders; indexing the same
paths, contents, vectors and profiles. After each kill every file under its final name is read: one
that is not whole fails the benchmark. Writes benchmarks/results/kill.json.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import yaml
from safetensors.numpy import load_file

from mmref.data.synthetic.generate import SyntheticSettings, generate
from mmref.environment import describe_environment
from mmref.files import write_json
from mmref.model import MMRef

CHILD = """
import sys
import mmref.search.ingest.index, mmref.training.trainer, mmref.training.run_folder
from mmref.cli import main
main.VERBS = ("train", "index")
print("begin", flush=True)
main.run(sys.argv[1:])
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
SMALL = ["--set", "training.epochs=6", "--set", "training.batch_size=32"]
COMPACT = ["--encoder", "compact", "--set", "encoder.width=8", *SMALL]
FEATURES = ["--encoder", "features", *SMALL]


def command(words: list[str], after: float | None = None) -> tuple[bool, float]:
    """Run a verb; kill it ``after`` seconds past its imports. Whether it ended, and its seconds."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert child.stdout is not None
    child.stdout.readline()
    begun = time.perf_counter()
    try:
        _, complaint = child.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        child.communicate()
        return False, time.perf_counter() - begun
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(words)} failed: {complaint.decode()[-2000:]}")
    return True, time.perf_counter() - begun


def without_times(value: Any) -> Any:
    """A report without what may differ: seconds."""
    if isinstance(value, dict):
        return {
            k: without_times(v) for k, v in value.items() if k not in ("seconds", "data_wait_share")
        }
    return [without_times(v) for v in value] if isinstance(value, list) else value


def run_contents(folder: Path) -> dict[str, Any]:
    """All of a run that must come out the same."""
    digests = {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.iterdir()
        if file.name in {"config.yaml", "model.json", "model.safetensors", "references.safetensors"}
    }
    report = without_times(json.loads((folder / "metrics.json").read_text()))
    return {"files": digests, "metrics": report, "model": MMRef.from_pretrained(folder).digest}


def whole_files(folder: Path) -> str:
    """Read every file under its final name; say how far the run was."""
    if not folder.exists():
        return "before the folder"
    for file in folder.iterdir():
        if file.name.startswith(".partial-") or file.is_dir():
            continue
        if file.suffix == ".safetensors":
            load_file(file)
        elif file.suffix == ".json":
            json.loads(file.read_text())
        elif file.suffix == ".yaml":
            assert set(yaml.safe_load(file.read_text())) >= {"encoder", "training"}
    names = {file.name for file in folder.iterdir()}
    if "model.json" in names:
        return "finished"
    if "metrics.json" in names:
        return "while the run is written"
    if "checkpoint.safetensors" in names:
        from mmref.training.checkpoint import load_checkpoint

        loaded = load_checkpoint(folder)
        assert loaded is not None
        return f"after epoch {loaded[1]['state']['epoch']}"
    return "before the first checkpoint"


def train_with_kills(
    data: Path, options: list[str], work: Path, kills: int, draw: random.Random
) -> dict[str, Any]:
    """Train undisturbed and with kills; compare."""
    words = ["train", "--data", str(data), *options, "--out"]
    whole = work / "whole" / "run"
    _, seconds = command([*words, str(whole)])
    wanted = run_contents(whole)
    moments: list[dict[str, Any]] = []
    runs, equal, torn = 0, 0, work / "torn-0" / "run"
    while True:
        again = ["--resume"] if torn.exists() else []
        going_on = ["train", "--data", str(data), "--out", str(torn), "--resume"]
        # A folder that was begun knows its settings: resume with nothing but its name.
        begun = (torn / "config.yaml").exists()
        enough = len(moments) >= kills
        after = None if enough else draw.uniform(0.0, 0.6 * seconds)
        ended, lasted = command(going_on if begun else [*words, str(torn), *again], after)
        if not ended:
            moments.append({"after_s": round(lasted, 2), "state": whole_files(torn)})
            continue
        runs += 1
        equal += run_contents(torn) == wanted
        left = [f.name for f in torn.iterdir() if f.name.startswith((".partial-", "checkpoint"))]
        if left:
            raise SystemExit(f"left behind: {left}")
        if enough:
            break
        torn = work / f"torn-{runs}" / "run"
    return {
        "undisturbed_s": round(seconds, 2),
        "kills": len(moments),
        "moments": moments,
        "runs": runs,
        "runs_equal": equal,
    }


def store_contents(store: Path) -> dict[str, tuple[str, ...]]:
    """Path -> what the store holds of it."""
    with closing(sqlite3.connect(f"file:{store / 'store.sqlite'}?mode=ro", uri=True)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = database.execute("SELECT path, digest, metadata, vector, profile FROM items")
        return {
            row[0]: tuple(hashlib.sha256(str(part).encode()).hexdigest() for part in row[1:])
            for row in rows
        }


def index_with_kills(
    run: Path, images: Path, work: Path, kills: int, draw: random.Random
) -> dict[str, Any]:
    """Index undisturbed and with kills; compare."""
    words = ["index", str(run), str(images), "--store"]
    whole = work / "whole.store"
    _, seconds = command([*words, str(whole)])
    wanted = store_contents(whole)
    moments: list[dict[str, Any]] = []
    stores, equal, torn = 0, 0, work / "torn-0.store"
    while True:
        enough = len(moments) >= kills
        after = None if enough else draw.uniform(0.0, 0.8 * seconds)
        ended, lasted = command([*words, str(torn)], after)
        if not ended:
            database = torn / "store.sqlite"
            rows = store_contents(torn) if database.exists() and database.stat().st_size else {}
            if any(wanted.get(path) != row for path, row in rows.items()):
                raise SystemExit("a killed store holds what the undisturbed one does not")
            moments.append({"after_s": round(lasted, 2), "images": len(rows)})
            if len(rows) < len(wanted):
                continue
            command([*words, str(torn)])  # killed behind its last image
        stores += 1
        equal += store_contents(torn) == wanted
        if enough:
            break
        torn = work / f"torn-{stores}.store"
    return {
        "images": len(wanted),
        "undisturbed_s": round(seconds, 2),
        "kills": len(moments),
        "moments": moments,
        "stores": stores,
        "stores_equal": equal,
    }


def with_features(data: Path, folder: Path) -> Path:
    """The same set with features (mean colours of a grid), for the other encoder."""
    import numpy as np

    from mmref.data.dataset import RetrievalDataset
    from mmref.data.images import load_pixels

    dataset = RetrievalDataset.load(data)
    pixels = load_pixels(dataset, (16, 8)).pixels
    folder.mkdir()
    np.save(folder / "features.npy", pixels.reshape(len(pixels), -1).astype(np.float32) / 255)
    lines = [json.loads(line) for line in (data / "manifest.jsonl").read_text().splitlines()]
    with (folder / "manifest.jsonl").open("w") as file:
        for number, line in enumerate(lines):
            file.write(json.dumps(line | {"feature_row": number}) + "\n")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--objects", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default=str(Path(__file__).parent / "results" / "kill.json"))
    options = parser.parse_args()
    draw = random.Random(options.seed)
    work = Path(tempfile.mkdtemp())
    try:
        data = generate(SyntheticSettings(objects=options.objects), work / "figures", processes=1)
        report: dict[str, Any] = {"objects": options.objects, "seed": options.seed}
        features = with_features(data, work / "features")
        for name, source, words in (("compact", data, COMPACT), ("features", features, FEATURES)):
            report[f"training_{name}"] = found = train_with_kills(
                source, words, work / name, options.kills, draw
            )
            print(name, {k: v for k, v in found.items() if k != "moments"}, flush=True)
        many = SyntheticSettings(objects=5 * options.objects, seed=1)
        images = generate(many, work / "many") / "images"
        report["indexing"] = found = index_with_kills(
            work / "compact" / "whole" / "run", images, work, options.kills, draw
        )
        print("indexing", {k: v for k, v in found.items() if k != "moments"})
    finally:
        shutil.rmtree(work, ignore_errors=True)
    report |= describe_environment()
    write_json(options.out, report)
    print(f"written: {options.out}")
    lost = [
        name
        for name, part in report.items()
        if isinstance(part, dict)
        and part.get("runs_equal", part.get("stores_equal")) != part.get("runs", part.get("stores"))
    ]
    if lost:
        raise SystemExit(f"not as undisturbed: {', '.join(lost)}")


if __name__ == "__main__":
    main()
