"""kill -9 while indexing: nothing is lost, nothing doubled, no part taken for a whole."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from mmref.search.ingest.index import index_images
from mmref.search.stores.base import open_store

from ..fakes import ColourModel, contents, pictures

COUNT = 96
BATCH = 4
KILLS = int(os.environ.get("MMREF_KILLS", "3"))  # more by hand
CHILD = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from fakes import ColourModel
from mmref.search.ingest.index import index_images

model = ColourModel(pause=0.02)
print("begin", flush=True)
def progress(seen, total, report):
    print("at", seen, flush=True)
index_images(model, [sys.argv[1]], sys.argv[2], batch_size={BATCH}, progress=progress)
print("end", flush=True)
"""


def killed(folder, store, after):
    """Index in another process; kill it ``after`` seconds past its beginning. Whether it lived."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), str(store)],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begin\n"
        time.sleep(after)
        child.send_signal(signal.SIGKILL)
        lines = child.stdout.read().splitlines()
    return b"end" in lines


@pytest.mark.slow
def test_killed_at_random_moments_the_store_comes_out_the_same(tmp_path):
    pictures(tmp_path / "pics", COUNT)
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    index_images(ColourModel(), [tmp_path / "pics"], whole, batch_size=BATCH)
    draw = random.Random(0)
    lived = 0
    for number in range(KILLS):
        if number and number % 4 == 0:  # begin again, so that late kills hit early work too
            for file in sorted((tmp_path / "pics").iterdir())[: COUNT // 2]:
                file.touch()
        lived += killed(tmp_path / "pics", torn, draw.uniform(0.0, 0.5))
        if (torn / "store.sqlite").exists() and (torn / "store.sqlite").stat().st_size:
            with closing(sqlite3.connect(torn / "store.sqlite")) as database:
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert lived < KILLS
    model = ColourModel()
    report = index_images(model, [tmp_path / "pics"], torn, batch_size=BATCH)
    assert report.done == COUNT
    with open_store(str(whole)) as wanted, open_store(str(torn)) as found:
        assert contents(found) == contents(wanted)
        assert len(found) == len(list(found.items())) == COUNT
        vector = ColourModel().encode_text(["red"])[0].numpy()
        one, other = wanted.candidates(vector, 10), found.candidates(vector, 10)
        assert one.scores.tolist() == other.scores.tolist()
    names = sorted(entry.name.split("-")[0] for entry in torn.iterdir())
    assert names == ["cache", "lock", "store.sqlite"]
