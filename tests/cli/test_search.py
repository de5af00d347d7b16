import json
import shutil

import pytest
from PIL import Image

from mmref.model import MMRef
from mmref.search.ingest import index_images

from .colours import COLOURS, load, save_features, save_pictures, save_run


@pytest.fixture(autouse=True)
def colour_runs(monkeypatch):
    monkeypatch.setattr(MMRef, "from_pretrained", load)


def indexed(run, source, store):
    index_images(load(run), [source], store, run=run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, pictures and a store of them."""
    folder = tmp_path_factory.mktemp("search")
    run = save_run(folder / "run")
    save_pictures(folder / "pics")
    indexed(run, folder / "pics", folder / "s")
    return folder


@pytest.mark.parametrize("name", COLOURS)
def test_a_sentence_finds_its_picture(run_mmref, folder, name):
    done = run_mmref("search", "--store", folder / "s", f"a {name} sheet", "--json")
    assert done.status == 0
    document = json.loads(done.out)
    assert document["query"] == f"a {name} sheet"
    first = document["results"][0]
    assert first["path"] == str(folder / "pics" / f"{name}.png")
    assert list(first) == [
        *("rank", "id", "path", "score", "base_score", "reference_score", "metadata")
    ]
    scores = [hit["score"] for hit in document["results"]]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 6


def test_the_table_fits_80_columns(run_mmref, folder):
    done = run_mmref("search", "--store", folder / "s", "a red card", "-k", "3")
    assert done.status == 0
    lines = done.out.splitlines()
    assert max(map(len, lines[:-1])) <= 80
    assert lines[0].split() == ["rank", "score", "base", "ref", "id", "image"]
    assert sum(line.strip()[:1] in "123" for line in lines if line.strip()) >= 3
    assert lines[-1] == f"in {folder / 'pics'}/"
    assert any(line.split()[-1:] == ["red.png"] for line in lines)
    plain = run_mmref("search", "--store", folder / "s", "a red card", "--no-refine").out
    assert plain.splitlines()[0].split() == ["rank", "score", "id", "image"]


def test_an_image_finds_others_not_itself(run_mmref, folder):
    red = folder / "pics" / "red.png"
    done = run_mmref("search", "--store", folder / "s", "--image", red, "--json")
    paths = [hit["path"] for hit in json.loads(done.out)["results"]]
    assert len(paths) == 5
    assert str(red) not in paths
    both = run_mmref("search", "--store", folder / "s", "a blue card", "--image", red, "--json")
    assert json.loads(both.out)["query"] == f"a blue card + image {red}"


def test_unknown_words_are_said(run_mmref, folder):
    done = run_mmref("search", "--store", folder / "s", "a red bandersnatch", "-k", "1")
    assert done.status == 0
    assert "never seen bandersnatch" in done.err


def test_min_score_and_no_match(run_mmref, folder):
    done = run_mmref("search", "--store", folder / "s", "a red card", "--min-score", "50")
    assert done.status == 0
    assert done.out == ""
    assert "no match with a score of at least 50" in done.err
    empty = run_mmref(
        "search", "--store", folder / "s", "a red card", "--min-score", "50", "--json"
    )
    assert json.loads(empty.out) == {"query": "a red card", "results": []}


def test_a_sheet_is_written(run_mmref, folder, tmp_path):
    sheet = tmp_path / "hits.png"
    done = run_mmref("search", "--store", folder / "s", "a red card", "--sheet", sheet)
    assert done.status == 0
    assert "contact sheet" in done.err
    with Image.open(sheet) as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 20)}
    assert set(COLOURS.values()) <= colours
    image = folder / "pics" / "red.png"
    assert (
        run_mmref("search", "--store", folder / "s", "--image", image, "--sheet", sheet).status == 0
    )


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--store", "{s}"], 2, "give a sentence or an image"),
        (["--store", "{s}", ""], 2, "sentence is empty"),
        (["--store", "{s}", "a red card", "-k", "0"], 2, "-k must be at least 1"),
        (["--store", "{absent}", "red"], 2, "does not exist"),
        (["--store", "{pics}", "red"], 2, "is not a store"),
        (["--store", "{s}", "--image", "{absent}"], 2, "neither an image file nor"),
        (["--store", "{s}", "--image", "{s}/store.sqlite"], 1, "not an image"),
        (["--store", "{s}", "xyzzy"], 2, "knows no word of"),
        (["--store", "{s}", "red", "--run", "{absent}"], 2, "no run folder"),
        (["--store", "{s}", "red", "--run", "{other}"], 1, "was made by the run run-"),
        (["--store", "{s}", "red", "--sheet", "/proc/x.png"], 2, "cannot write"),
        (["red"], 2, "--store"),
    ],
)
def test_mistakes_are_one_line(run_mmref, folder, tmp_path, words, status, message):
    names = {"s": folder / "s", "absent": tmp_path / "absent", "pics": folder / "pics"}
    names["other"] = save_run(tmp_path / "other", digest="decade")
    done = run_mmref("search", *(word.format(**names) for word in words))
    assert done.status == status
    assert message in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_store_and_run_may_move(run_mmref, folder, tmp_path):
    shutil.copytree(folder / "s", tmp_path / "moved")
    assert run_mmref("search", "--store", tmp_path / "moved", "a red card").status == 0
    run = save_run(tmp_path / "run")
    save_pictures(tmp_path / "pics")
    indexed(run, tmp_path / "pics", tmp_path / "s")
    run.rename(tmp_path / "elsewhere")
    lost = run_mmref("search", "--store", tmp_path / "s", "a red card")
    assert lost.status == 2
    assert "--run RUN" in lost.err
    found = run_mmref(
        "search", "--store", tmp_path / "s", "a red card", "--run", tmp_path / "elsewhere"
    )
    assert found.status == 0


def test_features_are_searched_by_id(run_mmref, tmp_path):
    run = save_run(tmp_path / "run", kind="features", form=None)
    source = save_features(tmp_path / "data")
    indexed(run, source, tmp_path / "s")
    done = run_mmref("search", "--store", tmp_path / "s", "a green card", "--json")
    first = json.loads(done.out)["results"][0]
    assert first["path"] == "green-id"
    assert first["metadata"]["object"] == "green"
    assert first["reference_score"] is None
    other = run_mmref("search", "--store", tmp_path / "s", "--image", "green-id", "--json")
    assert len(json.loads(other.out)["results"]) == 5
    sheet = run_mmref(
        "search", "--store", tmp_path / "s", "a red card", "--sheet", tmp_path / "s.png"
    )
    assert sheet.status == 0
    assert run_mmref("search", "--store", tmp_path / "s", "--image", "none-id").status == 2


def test_a_damaged_store_is_named(run_mmref, folder, tmp_path):
    shutil.copytree(folder / "s", tmp_path / "s")
    file = tmp_path / "s" / "store.sqlite"
    file.write_bytes(file.read_bytes()[:5000])
    done = run_mmref("search", "--store", tmp_path / "s", "a red card")
    assert done.status == 1
    assert "is damaged" in done.err
    assert "mmref index RUN IMAGES... --store NEW" in done.err


def test_store_info(run_mmref, folder, tmp_path):
    done = run_mmref("store", "info", folder / "s", "--json")
    facts = json.loads(done.out)
    assert facts["images"] == 6
    assert facts["dimension"] == 12
    assert facts["run"]["path"] == str(folder / "run")
    shown = run_mmref("store", "info", folder / "s").out
    assert "images           6" in shown
    assert "posterior" in shown
    assert run_mmref("store", "info", tmp_path / "absent").status == 2


@pytest.mark.parametrize("words", [["search"], ["store", "info"]])
def test_help_has_an_example(run_mmref, words):
    done = run_mmref(*words, "--help")
    assert done.status == 0
    assert f"Example: mmref {' '.join(words)} " in done.out
    assert max(map(len, done.out.splitlines())) <= 80
