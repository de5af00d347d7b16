import json
import shutil

import numpy as np
import pytest

from .runs import write_data, write_run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A set with vectors and pictures; two runs on vectors, one on pictures."""
    root = tmp_path_factory.mktemp("compare")
    data = write_data(root / "things", pixels=True)
    write_run(data, root / "one")
    write_run(data, root / "two", seed=1, refined=False)
    write_run(data, root / "pixels", kind="compact", refined=False)
    return root


def test_a_table_with_a_test_and_json_in_a_file(run_mmref, place, tmp_path):
    target = tmp_path / "found.json"
    done = run_mmref(
        "compare", place / "one", place / "two", "--data", place / "things", "--i2t",
        "--json", target,
    )  # fmt: skip
    assert done.status == 0
    found = json.loads(target.read_text())
    assert (found["split"], found["queries"], found["gallery"]) == ("val", 16, 8)
    assert [run["name"] for run in found["runs"]] == ["one", "two"]
    told = found["t2i"]["mAP"]
    row = next(line for line in done.out.splitlines() if "text to image, mAP" in line)
    assert f"{told['first']:.1f}" in row
    assert f"{told['difference']:+.1f}" in row
    text = " ".join(done.out.split())
    assert "A: one (features, refined: posterior" in text
    assert "B: two (features, plain cosine" in text
    assert "Paired bootstrap over 8 objects" in text
    assert max(map(len, done.out.splitlines())) <= 80
    plain = run_mmref(
        "compare", place / "one", place / "two", "--data", place / "things", "--no-refine",
        "--split", "test", "--json", "-",
    )  # fmt: skip
    other = json.loads(plain.out)
    assert (other["split"], other["i2t"]) == ("test", None)
    assert other["runs"][0]["refinement"]["form"] is None


def test_each_run_takes_its_own_inputs(run_mmref, place, tmp_path):
    data = shutil.copytree(place / "things", tmp_path / "things")
    (data / "1.png").write_bytes(b"no image")
    done = run_mmref("compare", place / "one", place / "pixels", "--data", data)
    assert done.status == 0
    text = " ".join(done.out.split())
    assert "14 captions, 7 images, 7 objects" in text
    assert "1 images that one of the runs cannot read" in text
    assert "B compact ones" in text


def test_the_same_run_twice_works_and_is_said(run_mmref, place):
    done = run_mmref("compare", place / "one", place / "one", "--data", place / "things")
    assert done.status == 0
    assert "Both are the same model" in " ".join(done.out.split())


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["one", "none", "--data", "things"], 2, "no run folder at"),
        (["one", "two", "--data", "none"], 2, "none"),
        (["one", "two", "--data", "things", "--split", "dev"], 2, "has no split 'dev'"),
        (["one", "pixels", "--data", "vectors"], 1, "pixels: vectors holds features but no image"),
        (["one", "pixels", "--data", "pictures"], 1, "one: pictures has no features"),
        (["one", "two", "--data", "short"], 1, "one: this run takes vectors of 6 numbers"),
        (["one", "things", "--data", "things"], 1, "lacks model.json"),
        (["one", "--data", "things"], 2, "RUN_B"),
    ],
)
def test_what_is_wrong_is_one_line(run_mmref, place, words, status, message):
    if not (place / "vectors").exists():
        write_data(place / "vectors")
        write_data(place / "pictures", length=0, pixels=True)
        write_data(place / "short", length=3)
    filled = [place / w if "-" not in w and w not in ("dev", "none") else w for w in words]
    filled = [place / "gone" if w == "none" and words[1] == "none" else w for w in filled]
    done = run_mmref("compare", *filled)
    assert done.status == status
    last = done.err.splitlines()[-1]
    assert last.startswith("mmref: ")
    assert message in last
    assert done.out == ""


def test_runs_of_one_name_are_told_apart_by_their_paths(run_mmref, place, tmp_path):
    shutil.copytree(place / "two", tmp_path / "one")
    done = run_mmref(
        "compare", place / "one", tmp_path / "one", "--data", place / "things", "--json", "-"
    )
    names = [run["name"] for run in json.loads(done.out)["runs"]]
    assert names == [str(place / "one"), str(tmp_path / "one")]
    assert np.isfinite([one["p_value"] for one in json.loads(done.out)["t2i"].values()]).all()
