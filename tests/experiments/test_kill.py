"""Runs in processes of their own: killed, failing, and the same as in this process."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmref.experiments.ablation import run_ablation
from mmref.experiments.grid import Entry

from .sets import plan_on, small, write_set

PARENT = """
import sys
from mmref.config import Settings
from mmref.experiments.ablation import run_ablation
from mmref.experiments.grid import Entry, Grid, Plan, units

entries = [Entry(n, n, Settings.from_yaml(f)) for n, f in zip("ab", sys.argv[3:])]
plan = Plan("mine", Grid(tuple(entries)), units(1), source=sys.argv[1])
run_ablation(plan, sys.argv[2], jobs=1, picture=False)
"""


def workers(out):
    """Processes at work in this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if "mmref.experiments.worker" in words and words[3].startswith(str(out)):
                found.append(int(entry.name))
    return found


def until(holds, seconds=30):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks into /proc")
def test_killed_it_loses_only_the_run_in_progress(tmp_path):
    data, out = write_set(tmp_path / "data"), tmp_path / "out"
    short, long = small(), small(training__remix=0.25)
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for file, settings in zip(files, (short, long), strict=True):
        file.write_text(settings.to_yaml())
    # While a runs nothing is lost but a; it is killed when b has begun.
    parent = subprocess.Popen([sys.executable, "-c", PARENT, data, out, *files])
    try:
        until(lambda: (out / "work" / "b--seed-0.json").exists() and workers(out))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        until(lambda: not workers(out))
    finally:
        parent.kill()
        parent.wait()
    first = out / "runs" / "a" / "seed-0.json"
    assert first.is_file()
    assert not (out / "results.json").exists()
    assert not (out / "runs" / "b" / "seed-0.json").exists()
    before = first.stat().st_mtime_ns

    plan = plan_on(data, entries=(Entry("a", "a", short), Entry("b", "b", long)))
    said = []
    torn = run_ablation(plan, out, jobs=2, picture=False, progress=lambda *w: said.append(w[3]))
    assert torn.failures == {}
    assert first.stat().st_mtime_ns == before
    assert "1 of 2 runs are finished already" in said
    assert [p.name for p in (out / "work").iterdir()] == []
    whole = run_ablation(plan, tmp_path / "whole", jobs=0, picture=False)
    assert figures(torn) == figures(whole)


DEMO = """
import os
from mmref.experiments.demo import processes

with processes(1) as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    input()
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks into /proc")
def test_what_a_demo_started_ends_when_it_is_killed():
    parent = subprocess.Popen(
        [sys.executable, "-c", DEMO], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with parent:
        child = Path("/proc") / parent.stdout.readline().decode().strip()
        assert child.exists()
        parent.kill()
    until(lambda: not child.exists() or "\nState:\tZ" in (child / "status").read_text())


def figures(results):
    return {name: (row["units"], row["ci95"]) for name, row in results.rows.items()}


@pytest.mark.slow
def test_a_run_that_fails_in_its_process_says_why(tmp_path):
    data = write_set(tmp_path / "data")
    pixels = Entry("pixels", "no such files", small(encoder__kind="compact"))
    results = run_ablation(
        plan_on(data, entries=(pixels,)), tmp_path / "out", jobs=1, picture=False
    )
    (message,) = results.failures.values()
    assert "0 of" in message or "image" in message
    assert "\n" not in message
    failed = json.loads((tmp_path / "out" / "work" / "pixels--seed-0.failed").read_text())
    assert "Traceback" in failed["traceback"]
