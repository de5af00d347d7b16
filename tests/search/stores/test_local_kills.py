"""kill -9 at random moments of every verb, a full disk, and readers in other processes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmref.search.records import Changes
from mmref.search.stores.base import open_store

from .contract_items import RUN, fill, records, unit

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "store_kill.py"
READER = f"""
import sys, time
sys.path[:0] = [{str(Path(__file__).parents[3])!r}]
from tests.search.stores.contract_items import unit
from mmref.search.stores.base import open_store

query, sizes, generations = unit(1, seed=4)[0], set(), []
print("ready", flush=True)
with open_store(sys.argv[1]) as store:
    end = time.monotonic() + 60
    while len(store) < 450 and time.monotonic() < end:
        with store.view() as view:
            found = view.candidates(query, 1000)
            items = view.get(found.ids.tolist())
            assert len(items) == len(found.ids) == len(view)
            sizes.add(len(items))
            generations.append(view.generation)
assert generations == sorted(generations)
print(sorted(sizes))
"""


@pytest.mark.slow
def test_killed_at_random_moments_nothing_is_lost(tmp_path):
    words = ["--kills", "8", "--images", "60", "--no-mount", "--seed", "3"]
    out = tmp_path / "kills.json"
    subprocess.run(
        [sys.executable, str(BENCHMARK), *words, "--out", str(out)],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    report = json.loads(out.read_text())
    assert report["kills"] >= 8
    assert report["left"] == []
    assert "disk full" in report["full_disk"]["index"]


@pytest.mark.slow
def test_readers_in_other_processes_see_whole_generations(tmp_path):
    uri = str(tmp_path / "s")
    fill(uri, 50)
    made = unit(400, seed=4)
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, uri],
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for _ in range(3)
    ]
    for reader in readers:
        assert reader.stdout.readline() == b"ready\n"
    with open_store(uri, RUN) as writer:
        for start in range(0, 400, 40):
            writer.apply(Changes(records(made[start : start + 40], 50 + start)))
            writer._rewrite_cache(at_least=60)
            time.sleep(0.05)
    for reader in readers:
        answer = reader.communicate()[0]
        assert reader.returncode == 0
        assert set(json.loads(answer)) <= set(range(50, 451, 40))
