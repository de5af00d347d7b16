import json
import shutil

import pytest
from PIL import Image

from mmref.model import MMRef
from mmref.search.ingest.index import index_images

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


def test_in_a_pipe_a_path_stands_in_one_line(run_mmref, folder, monkeypatch):
    monkeypatch.delenv("COLUMNS")
    done = run_mmref("search", "--store", folder / "s", "a red card", "-k", "2")
    assert str(folder / "pics" / "red.png") in [line.split()[-1] for line in done.out.splitlines()]


def test_what_hits_are_sorted_by_is_shown(run_mmref, folder, tmp_path):
    table = tmp_path / "hits.csv"
    ask = ("search", "--store", folder / "s", "a red card", "-k", "3", "--sort", "-size")
    lines = run_mmref(*ask, "--csv", table).out.splitlines()
    assert lines[0].split()[-3:] == ["sorted", "by", "image"]
    sizes = [int(line.split()[-2]) for line in lines[2:5]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == max(
        (folder / "pics" / line.split()[-1]).stat().st_size for line in lines[2:5]
    )
    assert table.read_text().splitlines()[0].endswith(",reference_score,sort_value")
    hits = json.loads(run_mmref(*ask, "--json").out)["results"]
    assert [hit["sort_value"] for hit in hits] == sizes


def test_a_group_that_is_the_folder_has_no_column_of_its_own(run_mmref, folder):
    done = run_mmref("search", "--store", folder / "s", "a red card", "--group-by", "folder")
    assert "group" not in done.out.splitlines()[0]
    named = run_mmref("search", "--store", folder / "s", "a red card", "--group-by", "name")
    assert "group" in named.out.splitlines()[0]


def test_a_column_to_sort_by_may_be_misspelt(run_mmref, folder):
    done = run_mmref("search", "--store", folder / "s", "a red card", "--sort", "dates")
    assert (done.status, done.err) == (2, "mmref: no image has a column 'dates': is it date?\n")


def test_an_empty_store_is_said_to_be_empty(run_mmref, folder, tmp_path):
    (tmp_path / "pics").mkdir()
    (tmp_path / "pics" / "a.png").write_text("no picture")
    index = run_mmref("index", folder / "run", tmp_path / "pics", "--store", tmp_path / "s")
    assert index.status == 1
    done = run_mmref("search", "--store", tmp_path / "s", "a red card")
    assert "no match: the store is empty, mmref index adds images to it" in done.err


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
        (["--store", "{s}", "--image", "\udcff"], 2, "neither an image file nor"),
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


def asked(run_mmref, folder, *words):
    return run_mmref("search", "--store", folder / "s", *words)


def paths(done):
    return [hit["path"].rsplit("/", 1)[1] for hit in json.loads(done.out)["results"]]


def test_several_texts_weights_and_what_is_not_wanted(run_mmref, folder):
    done = asked(run_mmref, folder, "2.0:a red card", "a blue card", "--not", "yellow", "--json")
    assert json.loads(done.out)["query"] == "2:a red card + a blue card, not: yellow"
    plain = paths(asked(run_mmref, folder, "a red card", "--json"))
    without = paths(asked(run_mmref, folder, "a red card", "--not", "a yellow card", "--json"))
    assert without.index("yellow.png") > plain.index("yellow.png")
    red, blue = folder / "pics" / "red.png", folder / "pics" / "blue.png"
    two = asked(run_mmref, folder, "--image", red, "--image", f"2:{blue}", "--json")
    assert not {"red.png", "blue.png"} & set(paths(two))


def test_pages_follow_the_cursor(run_mmref, folder):
    words = ("a red card", "-k", "4")
    done = asked(run_mmref, folder, *words)
    token = done.err.split("more: --cursor ")[1].split()[0]
    rest = asked(run_mmref, folder, *words, "--cursor", token)
    assert "more" not in rest.err
    assert [line.split()[0] for line in rest.out.splitlines() if line.strip()[:1].isdigit()] == [
        *"56"
    ]
    document = json.loads(asked(run_mmref, folder, *words, "--json").out)
    assert document["next"] == token
    wrong = asked(run_mmref, folder, "a blue card", "--cursor", token)
    assert wrong.status == 2
    assert "another question" in wrong.err


def test_a_filter_and_its_mistakes(run_mmref, folder):
    done = asked(run_mmref, folder, "a red card", "--filter", "name in ('blue.png')", "--json")
    assert paths(done) == ["blue.png"]
    none = asked(run_mmref, folder, "a red card", "--filter", "size < 0")
    assert (none.status, none.out, none.err) == (0, "", "no match\n")
    wrong = asked(run_mmref, folder, "a red card", "--filter", "name = blue")
    assert wrong.status == 2
    assert wrong.out == ""
    message, shown, caret = wrong.err.rstrip().split("\n")
    assert "text stands in quotes: 'blue'" in message
    assert shown == "  name = blue"
    assert caret.index("^") == shown.index("blue")


@pytest.mark.parametrize(
    ("where", "note"),
    [
        ("size > '9'", "size holds numbers such as"),
        ("date >= 2015", "write 2015 as a month or a day"),
        ("name = 7", "name holds text such as 'black.png': write 7 in quotes"),
        ("folder > 2026-01-01", "no dates"),
        ("name ~ 'red' and size ~ 'k'", "write 'k' without quotes"),
        ("name in (7, 8) or size = 1", "write 8 in quotes"),
    ],
)
def test_a_value_of_another_kind_than_its_column_is_noted(run_mmref, folder, where, note):
    done = asked(run_mmref, folder, "a red card", "--filter", where)
    assert (done.status, done.out) == (0, "")
    assert done.err.startswith("note: ")
    assert note in done.err


@pytest.mark.parametrize("where", ["size < 0", "name = 'no'", "not size > '9' and size < 0"])
def test_a_filter_that_merely_finds_nothing_is_not_explained(run_mmref, folder, where):
    assert asked(run_mmref, folder, "a red card", "--filter", where).err == "no match\n"


def test_a_column_that_no_image_has_is_noted(run_mmref, folder):
    done = asked(run_mmref, folder, "a red card", "--filter", "Siez > 9 and camera != 'c3'")
    assert (done.status, done.out) == (0, "")
    there = "date, folder, name, path, size"
    camera = f"no item has a column 'camera': there are {there}"
    assert done.err == f"note: no item has a column 'Siez': is it size?; {camera}\nno match\n"
    either = asked(run_mmref, folder, "a red card", "--filter", "camera = 1 or size > 9", "--json")
    assert json.loads(either.out)["note"] == camera
    assert len(paths(either)) == 6
    cut = asked(
        run_mmref, folder, "a red card", "--filter", "camera is missing", "--auto-cut", "--json"
    )
    assert "note" in json.loads(cut.out)
    assert "note" not in json.loads(asked(run_mmref, folder, "red", "--json").out)


def test_a_batch_notes_them_too(run_mmref, folder, tmp_path):
    lines = ['{"text": "red", "filter": "camra = 1"}', "blue"]
    (tmp_path / "q.txt").write_text("\n".join(lines))
    done = asked(run_mmref, folder, "--queries", tmp_path / "q.txt", "--json")
    first, second = map(json.loads, done.out.splitlines())
    assert first["note"].startswith("no item has a column 'camra'")
    assert "note" not in second
    assert done.err.startswith("note: red: no item has a column 'camra'")


def test_nothing_found_goes_on_nowhere(run_mmref, folder):
    for words in (
        ("a red card", "--filter", "size < 0", "-k", "1"),
        ("a red card", "--min-score", "50", "-k", "1"),
        ("a red snark hunting boojum", "--auto-cut", "-k", "1"),
        ("a red card", "--filter", "size < 0", "--group-by", "folder"),
    ):
        done = asked(run_mmref, folder, *words)
        assert "match" in done.err
        assert "--cursor" not in done.err
        assert "next" not in json.loads(asked(run_mmref, folder, *words, "--json").out)


def test_no_confident_match(run_mmref, folder):
    done = asked(run_mmref, folder, "a red snark hunting boojum", "--auto-cut")
    assert (done.status, done.out) == (0, "")
    assert "no confident match" in done.err
    document = asked(run_mmref, folder, "a red snark hunting boojum", "--auto-cut", "--json")
    assert json.loads(document.out)["confidence"]["confident"] is False
    assert paths(asked(run_mmref, folder, "a red card", "--auto-cut", "--json"))[0] == "red.png"


def test_folds_and_groups_in_the_table(run_mmref, tmp_path):
    run = save_run(tmp_path / "run")
    save_pictures(tmp_path / "pics" / "one")
    save_pictures(tmp_path / "pics" / "two")
    indexed(run, tmp_path / "pics", tmp_path / "s")
    folded = asked(run_mmref, tmp_path, "a red card", "--fold")
    assert folded.out.splitlines()[0].split() == [
        *["rank", "score", "base", "ref", "id", "also", "image"]
    ]
    assert folded.out.count("+1") == 6
    grouped = asked(run_mmref, tmp_path, "a red card", "--group-by", "folder")
    assert max(map(len, grouped.out.splitlines()[:-1])) <= 80
    assert grouped.out.count("+5") == 2
    document = json.loads(asked(run_mmref, tmp_path, "a red card", "--fold", "--json").out)
    assert len(document["results"][0]["others"]) == 1
    both = asked(run_mmref, tmp_path, "a red card", "--fold", "--group-by", "folder")
    assert both.status == 2


def test_many_questions(run_mmref, folder, tmp_path):
    lines = ["a red card", '{"text": "a blue card", "k": 1}', "xyzzy"]
    (tmp_path / "q.txt").write_text("\n".join(lines))
    words = ("--queries", tmp_path / "q.txt", "-k", "2")
    done = asked(run_mmref, folder, *words, "--json", "--csv", tmp_path / "t.csv")
    assert done.status == 1
    first, second, third = map(json.loads, done.out.splitlines())
    assert first["results"][0]["path"].endswith("red.png")
    assert len(first["results"]) == 2
    assert len(second["results"]) == 1
    assert third == {"query": "xyzzy", "error": third["error"]}
    assert "knows no word" in third["error"]
    assert "1 of 3 questions failed" in done.err
    assert (tmp_path / "t.csv").read_text().count("\n") == 4
    shown = asked(run_mmref, folder, *words, "--sheet", tmp_path / "s.png")
    assert "a red card\n" in shown.out
    assert "a blue card\n" in shown.out
    assert (tmp_path / "s.png").is_file()
    alone = asked(run_mmref, folder, "red", *words)
    assert alone.status == 2
    assert "--queries stands alone" in alone.err


def test_copies_and_a_table(run_mmref, folder, tmp_path):
    words = ("a red card", "-k", "2", "--copy-to", tmp_path / "out", "--csv", tmp_path / "t.csv")
    done = asked(run_mmref, folder, *words)
    assert done.status == 0
    assert f"copies: 2 in {tmp_path / 'out'}" in done.err
    assert (tmp_path / "out" / "0001-red.png").is_file()
    assert (tmp_path / "t.csv").read_text().startswith("query,rank,id,path,score,")
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert asked(run_mmref, folder, *words).status == 0
    assert len(list((tmp_path / "out").iterdir())) == 2
    bad = asked(run_mmref, folder, "a red card", "--csv", "/proc/x.csv")
    assert (bad.status, bad.out) == (2, "")


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
