"""Whole sets of every domain: the same in any number of processes, and whole or not there."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmref.data.dataset import RetrievalDataset
from mmref.data.synthetic import SyntheticSettings, domains, draw_view, plan_objects, write_captions
from mmref.data.synthetic.annotations import annotations, read_settings
from mmref.data.synthetic.generate import generate

each_domain = pytest.mark.parametrize("name", sorted(domains()))
CAPTIONS = ("captions", "stated", "omitted", "contradicted")


def small(name, **values):
    return SyntheticSettings(
        domain=name, objects=5, val_objects=2, test_objects=2, images=2, image_size=(64, 64),
        seed=7, **values,
    )  # fmt: skip


def contents(folder: Path) -> dict[str, str]:
    """Digest of each file: of the text, or of the pixels."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".png":
            with Image.open(path) as image:
                data = np.asarray(image).tobytes()
        elif path.is_file():
            data = path.read_bytes()
        else:
            continue
        found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


@each_domain
def test_the_same_set_in_one_process_and_in_two(name, tmp_path):
    one, two = (contents(generate(small(name), tmp_path / str(n), processes=n)) for n in (1, 2))
    assert one == two
    assert len(one) == 2 + 9 * 2
    assert contents(generate(replace(small(name), seed=8), tmp_path / "other")) != one


@each_domain
def test_sweeping_the_training_captions_leaves_pictures_and_other_captions_alone(name, tmp_path):
    fixed = small(name, test_omit=0.5, test_contradict=0.2, test_vague=0.3, test_paraphrase=0.1)
    sets = {}
    for omit in (0.0, 0.5, 0.75):
        for contradict in (0.0, 0.5):
            made = replace(fixed, omit=omit, contradict=contradict, vague=omit, paraphrase=omit)
            told = {}
            for item in plan_objects(made):
                for view in range(made.images):
                    told[item.name, view] = item.attributes, write_captions(made, item, view)
            sets[omit, contradict] = told
    first = sets[0.0, 0.0]
    for told in sets.values():
        assert list(told) == list(first)
        for (key, view), (attributes, captions) in told.items():
            assert attributes == first[key, view][0]
            same = captions == first[key, view][1]
            assert same == (not key.startswith("train") or told is first)
    item = plan_objects(fixed)[0]
    np.testing.assert_array_equal(
        draw_view(replace(fixed, omit=0.0), item, 1).pixels,
        draw_view(replace(fixed, omit=0.75), item, 1).pixels,
    )


@each_domain
def test_more_objects_leave_those_before_them_as_they_are(name):
    few, many = small(name), replace(small(name), objects=9, images=3)
    grown = {item.name: item for item in plan_objects(many)}
    for item in plan_objects(few):
        if item.split == "train":
            assert grown[item.name].attributes == item.attributes
            a, b = (write_captions(settings, item, 1) for settings in (few, many))
            assert all(a[column] == b[column] for column in CAPTIONS)


@pytest.mark.parametrize("processes", [1, 2])
def test_progress_is_told_to_the_end(tmp_path, processes):
    told: list[tuple[int, int]] = []

    def progress(done, total):
        told.append((done, total))

    generate(small("figures"), tmp_path / "set", processes=processes, progress=progress)
    assert told[-1] == (18, 18)
    assert told == sorted(told)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_generated_set_knows_its_settings_and_statements(tmp_path):
    made = small("figures")
    data = RetrievalDataset.load(generate(made, tmp_path / "set", processes=2))
    assert read_settings(data.root) == made
    objects = {item.name: item for item in plan_objects(made)}
    part = data.split("test")
    notes = annotations(part)
    for row, name in enumerate(part.objects):
        assert notes.attributes[row] == objects[name].attributes
        view = draw_view(made, objects[name], part.metadata(row)["view_number"])
        assert notes.visible[row] == list(view.visible)


CHILD = """
import os, signal, sys
from mmref.data.synthetic.generate import SyntheticSettings, generate

def progress(done, total):
    if done >= total * float(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

settings = SyntheticSettings(objects=20, images=2, image_size=(64, 32))
generate(settings, sys.argv[1], processes=2, progress=progress)
"""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("share", [0.1, 1.0])
def test_workers_clean_up_when_their_parent_is_killed(tmp_path, share):
    """Also when all is drawn and the folder is about to get its name."""
    old = generate(small("figures"), tmp_path / "set")
    before = contents(old)
    command = [sys.executable, "-c", CHILD, str(old), str(share)]
    done = subprocess.run(command, capture_output=True, timeout=180, check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 120
    while len(list(tmp_path.iterdir())) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    assert contents(old) == before
    assert json.loads((old / "settings.json").read_text())["objects"] == 5
