import json

import pytest

from mmref.model import MMRef
from mmref.search.ingest.index import index_images

from .colours import load, save_pictures, save_run


@pytest.fixture
def store(monkeypatch, tmp_path):
    """A store of two folders of pictures."""
    monkeypatch.setattr(MMRef, "from_pretrained", load)
    run = save_run(tmp_path / "run")
    save_pictures(tmp_path / "pics" / "bright", ("red", "white", "yellow"))
    save_pictures(tmp_path / "pics" / "dark", ("black", "blue"))
    save_pictures(tmp_path / "pics", ("green",))
    index_images(load(run), [tmp_path / "pics"], tmp_path / "s", run=run)
    return tmp_path / "s"


def test_grouped_and_ungrouped(run_mmref, store, tmp_path):
    done = run_mmref("store", "group", store, "--by", "folder", "--dry-run")
    assert done.status == 0
    assert f"{store}: 2 groups of 2 to 3 images, 5 images in them, 1 alone" in done.out
    assert 'bright": 3 images, red.png, white.png, yellow.png\n' in done.out
    assert "nothing was changed" in done.out
    assert done.err == ""
    assert json.loads(run_mmref("store", "info", store, "--json").out)["groups"] is None
    words = ["--by", "folder", "--share", "0.25", "--sheet", tmp_path / "groups.png", "--json"]
    document = json.loads(run_mmref("store", "group", store, *words).out)
    assert document["grouping"] == {"by": "folder", "share": 0.25, "threshold": None}
    assert (document["groups"], document["grouped"], document["alone"]) == (2, 5, 1)
    assert (tmp_path / "groups.png").is_file()
    assert (
        "by folder, share 0.25: 2 groups of 2 to 3 images" in run_mmref("store", "info", store).out
    )
    facts = json.loads(run_mmref("store", "info", store, "--json").out)["groups"]
    assert (facts["by"], facts["groups"], facts["largest"]) == ("folder", 2, 3)
    assert run_mmref("store", "verify", store).status == 0
    hits = json.loads(run_mmref("search", "red", "--store", store, "--json").out)
    assert (
        run_mmref("store", "group", store, "--off").out == f"{store}: no groups, 6 images alone\n"
    )
    assert json.loads(run_mmref("search", "red", "--store", store, "--json").out) != hits


def test_new_images_wait_for_the_next_clusters(run_mmref, store, tmp_path):
    run_mmref("store", "group", store, "--by", "clusters", "--threshold", "0.9")
    save_pictures(tmp_path / "pics" / "more", ("red",))
    (tmp_path / "pics" / "more" / "red.png").write_bytes(
        (tmp_path / "pics" / "bright" / "red.png").read_bytes() + b" "
    )
    assert run_mmref("index", tmp_path / "run", tmp_path / "pics", "--store", store).status == 0
    line = "by clusters, mean cosine 0.9, share 0.5: no groups, 7 images alone; 1 are new since"
    assert line in run_mmref("store", "info", store).out
    run_mmref("store", "group", store, "--by", "clusters", "--threshold", "0.9")
    assert "1 groups of 2 to 2 images" in run_mmref("store", "info", store).out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "say what to group by (--by object), or --off"),
        (["--by", "folder", "--off"], "say what to group by (--by object), or --off"),
        (["--off", "--share", "1"], "--share and --threshold go with --by"),
        (["--off"], "is not grouped"),
        (["--by", "objekt"], "no image has a column 'objekt': there are clusters, date"),
        (["--by", "folder", "--share", "2"], "the share is from 0 to 1, not 2"),
        (["--by", "folder", "--threshold", "0.5"], "a threshold is for clusters"),
    ],
)
def test_what_makes_no_sense_is_refused(run_mmref, store, words, message):
    done = run_mmref("store", "group", store, *words)
    assert done.status == 2
    assert message in done.err
