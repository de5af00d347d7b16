"""kill -9 at random moments of index, prune, group, re-encode and compact, and a full disk.

    OMP_NUM_THREADS=1 python benchmarks/store_kill.py [--kills 50] [--images 240] [--seed 0]

A store of made-up pictures is changed again and again by another process that is killed at a
random moment: by ``index`` (new, changed and moved pictures), ``index --prune``, ``index
--reencode`` (from one run to another and back), ``store compact`` and ``store group``, from whose
first time on the store is grouped by the pictures' sizes. After each kill ``store
verify`` must find nothing, every picture that was in the store and is on disk must be in it once,
each vector must be that of its picture by the store's run; then the same command is run to its end,
and the store must equal one made of the pictures from nothing. A full disk is a tmpfs of a few MB
where mounting is permitted, else a limit on the size of files. Writes
benchmarks/results/store_kill.json.
"""

import argparse
import contextlib
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mmref.environment import describe_environment
from mmref.errors import MMRefError
from mmref.files import write_json
from mmref.references.refinement import Refiner
from mmref.search.groups.grouping import Grouping
from mmref.search.groups.regroup import group_store
from mmref.search.ingest.index import index_images
from mmref.search.ingest.reencode import reencode
from mmref.search.records import RunIdentity
from mmref.search.stores import cache
from mmref.search.stores.base import open_store

VERBS = ("index", "prune", "group", "reencode", "compact")
DIMENSION = 12
cache.STALE_ROWS = 20  # so that the index is written often


class Model:
    """A run that looks at quarters; two of them, whose vectors differ."""

    kind, image_size, dimension = "compact", (8, 8), DIMENSION

    def __init__(self, name: str, pause: float = 0.0) -> None:
        self.id, self.digest, self.pause = name, name, pause
        references = torch.randn(20, DIMENSION, generator=torch.Generator().manual_seed(1))
        form = "posterior" if name == "one" else "hubs"
        self.refiner = Refiner(references, form, weight=0.5, temperature=0.2, kept=6)

    def encode_image(self, items: Any, batch_size: int = 256) -> torch.Tensor:
        """Pixels to unit vectors."""
        time.sleep(self.pause)
        quarters = items.reshape(len(items), 3, 2, 4, 2, 4).mean(axis=(3, 5)) / 255 - 0.5
        flat = torch.tensor(quarters.reshape(len(items), DIMENSION)).float()
        return torch.nn.functional.normalize(flat if self.id == "one" else flat.flip(1), dim=1)

    def encode_text(self, texts: Any, batch_size: int = 256) -> torch.Tensor:
        """Nobody asks in words here."""
        raise NotImplementedError


def draw_picture(path: Path, seed: int) -> None:
    quarters = np.random.default_rng(seed).integers(0, 256, (2, 2, 3)).astype(np.uint8)
    Image.fromarray(quarters.repeat(6, 0).repeat(6, 1)).save(path)


def act(verb: str, run: str, pictures: Path, store: Path, pause: float) -> None:
    """What the other process does."""
    model: Any = Model(run, pause)
    if verb in ("index", "prune"):
        index_images(model, [pictures], store, batch_size=8, prune=verb == "prune")
    elif verb == "reencode":
        reencode(model, store, batch_size=8, prune=True)
    elif verb == "group":
        group_store(str(store), Grouping("size"))
    else:
        with open_store(str(store), RunIdentity.of(model, "")) as opened:
            opened.compact()


def killed(verb: str, run: str, pictures: Path, store: Path, after: float) -> bool:
    """Act in another process and kill it; whether it was done before."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            act(verb, run, pictures, store, 0.01)
            os._exit(0)
        os._exit(1)
    time.sleep(after)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in (0, -signal.SIGKILL):
        raise SystemExit(f"{verb} failed in the other process")
    return status == 0


def contents(store: Path) -> tuple[str, dict[str, tuple[str, bytes]]]:
    """The store's run, and digest and vector as encoded by path; no path twice."""
    with open_store(str(store)) as opened, opened.view() as view:
        items = list(view.items())
        paths = Counter(item.place.path for item in items)
        assert not paths or max(paths.values()) == 1
        rows = view.own([item.id for item in items])[0]
        found = {i.place.path: (i.digest, r.tobytes()) for i, r in zip(items, rows, strict=True)}
        if items:
            near = view.candidates(rows[0], 2 * len(items))
            assert sorted(near.ids.tolist()) == [item.id for item in items]
        return opened.identity.id, found


def change(pictures: Path, verb: str, draw: random.Random, number: int) -> None:
    """Give the next command something to do."""
    files = sorted(pictures.glob("*.png"))
    if verb == "index":
        for row in range(24):
            draw_picture(pictures / f"new-{number}-{row}.png", draw.randrange(1 << 30))
        for file in draw.sample(files, 6):
            draw_picture(file, draw.randrange(1 << 30))
        for file in draw.sample(sorted(pictures.glob("*.png")), 6):
            file.rename(file.with_name(f"moved-{number}-{file.name[-12:]}"))
    elif verb in ("prune", "reencode"):
        for file in draw.sample(files, 12 if verb == "prune" else 2):
            file.unlink()


def check(store: Path, known: dict[str, tuple[str, bytes]]) -> None:
    """After a kill: sound, nothing lost, nothing doubled, no vector of another picture."""
    with open_store(str(store)) as opened:
        problems = opened.verify()
    if problems:
        raise SystemExit(f"verify found: {problems}")
    _, now = contents(store)
    moved = {digest for digest, _ in now.values()}
    lost = [
        p for p, (d, _) in known.items() if p not in now and d not in moved and Path(p).exists()
    ]
    if lost:
        raise SystemExit(f"lost: {lost[:3]}")


def fresh_contents(run: str, pictures: Path) -> dict[str, tuple[str, bytes]]:
    model: Any = Model(run)
    with tempfile.TemporaryDirectory() as folder:
        index_images(model, [pictures], Path(folder) / "s", batch_size=8)
        return contents(Path(folder) / "s")[1]


def run_kills(kills: int, images: int, seed: int, work: Path) -> dict[str, Any]:
    """Kill each verb in turn until there were enough kills that hit."""
    draw = random.Random(seed)
    pictures, store, run = work / "pictures", work / "store", "one"
    pictures.mkdir()
    for row in range(images):
        draw_picture(pictures / f"{row:04d}.png", row)
    act("index", run, pictures, store, 0)
    moments: list[dict[str, Any]] = []
    number, longest = 0, dict.fromkeys(VERBS, 0.3)
    while len(moments) < kills:
        verb = VERBS[number % len(VERBS)]
        number += 1
        _, known = contents(store)
        change(pictures, verb, draw, number)
        wanted = ("two" if run == "one" else "one") if verb == "reencode" else run
        for _ in range(3):  # the later kills meet a command that goes on
            after = draw.uniform(0, longest[verb])
            if killed(verb, wanted, pictures, store, after):
                longest[verb] *= 0.7
                break
            longest[verb] *= 1.1  # so that early and late moments are met, however busy it is here
            check(store, known)
            moments.append({"verb": verb, "after_s": round(after, 3)})
        act(verb, wanted, pictures, store, 0)
        run = wanted
        act("index", run, pictures, store, 0)
        act("prune", run, pictures, store, 0)
        check(store, {})
        found, whole = contents(store), fresh_contents(run, pictures)
        if found != (run, whole):
            raise SystemExit(f"after {verb} the store is not that of its pictures")
    left = [entry.name for entry in store.iterdir() if entry.name.startswith(".partial-")]
    counts = Counter(moment["verb"] for moment in moments)
    return {"kills": len(moments), "by_verb": dict(counts), "left": left, "moments": moments}


def full_disk(work: Path, mount: bool) -> dict[str, Any]:
    """Fill a small disk: an error in one line, the old state, and going on once there is room."""
    disk, pictures = work / "disk", work / "many"
    disk.mkdir()
    pictures.mkdir()
    for row in range(60):
        draw_picture(pictures / f"{row:04d}.png", row)
    mounted = (
        mount
        and os.geteuid() == 0
        and not subprocess.call(
            ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], stderr=subprocess.DEVNULL
        )
    )
    store, model, found = disk / "store", Model("one"), {"disk": "tmpfs of 3 MB"}
    try:
        index_images(model, [pictures], store, batch_size=8)  # type: ignore[arg-type]
        before = contents(store)
        for row in range(60, 4000 if mounted else 1000):
            draw_picture(pictures / f"{row:04d}.png", row)
        if not mounted:
            found["disk"] = "files of at most 0.4 MB"
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
        for verb in ("index", "reencode") if mounted else ("index",):
            try:
                act(verb, "one" if verb == "index" else "two", pictures, store, 0)
            except MMRefError as error:
                found[verb] = str(error).replace(str(work), "")
            else:
                raise SystemExit(f"{verb} did not notice that the disk is full")
            run, now = contents(store)
            if run != "one" or any(now.get(path) != row for path, row in before[1].items()):
                raise SystemExit(f"the old state is gone after {verb}")
            with open_store(str(store)) as opened:
                assert opened.verify() == []
        if mounted:
            subprocess.check_call(["mount", "-o", "remount,size=200m", str(disk)])
        else:
            limits = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        act("index", "one", pictures, store, 0)
        if contents(store)[1] != fresh_contents("one", pictures):
            raise SystemExit("the store is not whole once there is room")
    finally:
        if mounted:
            subprocess.call(["umount", "-l", str(disk)])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-mount", action="store_true", help="limit files in place of a tmpfs")
    parser.add_argument("--out", default=str(Path(__file__).parent / "results/store_kill.json"))
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp())
    try:
        report = run_kills(options.kills, options.images, options.seed, work)
        report["full_disk"] = full_disk(work, not options.no_mount)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print({name: value for name, value in report.items() if name != "moments"})
    write_json(options.out, report | describe_environment())
    print(f"written: {options.out}")


if __name__ == "__main__":
    main()
