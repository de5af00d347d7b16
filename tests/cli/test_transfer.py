import json

import pytest

from .runs import write_data, write_run


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("transfer")
    for seed, name in enumerate(("figures", "birds", "flowers")):
        data = write_data(root / name, seed=seed)
        write_run(data, root / f"run-{name}", seed=seed)
    write_data(root / "flags", length=0, pixels=True)
    write_run(root / "flags", root / "run-flags", kind="compact", refined=False)
    return root


NAMES = ("figures", "birds", "flowers", "flags")


def asked(run_mmref, place, out, *words, names=NAMES):
    runs = [place / f"run-{name}" for name in names]
    data = [word for name in names for word in ("--data", place / name)]
    return run_mmref("transfer", *runs, *data, "--out", out, *words)


def test_four_runs_on_four_sets(run_mmref, place, tmp_path):
    out = tmp_path / "out"
    done = asked(run_mmref, place, out, "--split", "test")
    assert done.status == 0
    assert {p.name for p in out.iterdir()} == {"cells", "results.json", "results.md", "results.png"}
    values = json.loads((out / "results.json").read_text())
    cell = values["cells"][1][2]
    assert f"{cell['t2i']['mAP']:.1f}" in done.out
    assert f"[{cell['ci95']['mAP'][0]:.1f}, {cell['ci95']['mAP'][1]:.1f}]" in done.out
    assert f"{values['cells'][0][0]['t2i']['mAP']:.1f}*" in done.out
    assert f"{cell['share']:.0f} %" in done.out
    assert "- (1)" in done.out
    assert "(1) flags has no features" in " ".join(done.out.split())
    assert max(map(len, done.out.splitlines())) <= 80
    assert "16/16" in done.err
    assert "run-figures on birds: " in done.err
    assert " ".join(done.err.split()).endswith(".json, .md and .png")
    again = asked(run_mmref, place, out, "--split", "test", "--metric", "R@1", "--json")
    assert json.loads(again.out)["metric"] == "R@1"
    assert "run-figures on birds: " not in again.err.replace("run-figures on birds: images", "")


def test_no_plot_writes_tables_alone(run_mmref, place, tmp_path):
    done = asked(run_mmref, place, tmp_path / "out", "--no-plot", "--no-refine", names=NAMES[:1])
    assert done.status == 0
    assert not (tmp_path / "out" / "results.png").exists()
    assert " ".join(done.err.split()).endswith(".json and .md")
    assert "plain cosine" in done.out


def test_a_missing_matplotlib_is_named(run_mmref, place, tmp_path, monkeypatch):
    monkeypatch.setattr("mmref.experiments.plots.find_spec", lambda name: None)
    done = asked(run_mmref, place, tmp_path / "out", names=NAMES[:1])
    assert done.status == 0
    assert "note: no heat map: matplotlib is not installed: pip install 'mmref[plots]'" in (
        " ".join(done.err.split())
    )
    assert (tmp_path / "out" / "results.md").exists()


def test_nothing_at_all_leaves_with_1(run_mmref, place, tmp_path):
    done = run_mmref(
        "transfer", place / "run-figures", "--data", place / "flags", "--out", tmp_path / "out"
    )
    assert done.status == 1
    last = done.err.splitlines()[-1]
    assert last.startswith("mmref: not one of 1 cells could be computed")
    assert "flags has no features" in last
    assert (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["gone", "--data", "figures"], 2, "no run folder at"),
        (["run-figures", "--data", "gone"], 2, "does not exist"),
        (["run-figures", "--data", "figures", "--metric", "AP@50"], 2, "AP@50"),
        (["run-figures"], 2, "--data"),
        (["--data", "figures"], 2, "RUN"),
    ],
)
def test_what_is_wrong_is_one_line(run_mmref, place, tmp_path, words, status, message):
    filled = [place / w if w[0] != "-" and w != "AP@50" else w for w in words]
    done = run_mmref("transfer", *filled, "--out", tmp_path / "out")
    assert done.status == status
    assert message in done.err.splitlines()[-1]
    assert "Traceback" not in done.err
    assert not (tmp_path / "out").exists()
