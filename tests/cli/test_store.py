import json
import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmref.model import MMRef
from mmref.search.ingest.index import index_images
from mmref.search.stores.base import open_store

from .colours import load, save_pictures, save_run


@pytest.fixture(autouse=True)
def colour_runs(monkeypatch):
    monkeypatch.setattr(MMRef, "from_pretrained", load)


@pytest.fixture
def folder(tmp_path):
    """A run, pictures and a store of them."""
    run = save_run(tmp_path / "run")
    save_pictures(tmp_path / "pics")
    index_images(load(run), [tmp_path / "pics"], tmp_path / "s", run=run)
    return tmp_path


def spoil(store, sql):
    with closing(sqlite3.connect(store / "store.sqlite")) as database:
        database.execute(sql)
        database.commit()


def test_info(run_mmref, folder):
    document = json.loads(run_mmref("store", "info", folder / "s", "--json").out)
    assert (document["images"], document["dimension"], document["storage"]) == (6, 12, "fp32")
    assert document["run"]["digest"] == "c0ffee"
    lines = run_mmref("store", "info", folder / "s").out
    assert "48 vector (fp32)" in lines


def test_a_sound_store_verifies(run_mmref, folder):
    done = run_mmref("store", "verify", folder / "s", "--content")
    assert (done.status, done.out) == (0, f"{folder / 's'}: 6 images, nothing wrong\n")


VECTOR = "UPDATE vectors_1 SET {} WHERE id = 3"


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (VECTOR.format("vector = zeroblob(48)"), "has the length 0, not 1"),
        (VECTOR.format("vector = x'00'"), "has 1 bytes, not 48"),
        (VECTOR.format("profile = x'00'"), "its profile has 1 bytes, not"),
        (VECTOR.format("digest = 'else'"), "is of another content"),
        ("DELETE FROM vectors_1 WHERE id = 3", "has no vector"),
        ("UPDATE items SET metadata = '{' WHERE id = 3", "cannot be read"),
        ("UPDATE items SET generation = 99 WHERE id = 3", "newer than the store"),
        ("INSERT INTO vectors_1 SELECT 99, digest, vector, profile FROM vectors_1 LIMIT 1",
         "1 vectors of no item"),
        ("UPDATE totals SET images = 9", "6 items where 9 are noted"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_and_repaired(run_mmref, folder, sql, message):
    spoil(folder / "s", sql)
    done = run_mmref("store", "verify", folder / "s")
    assert done.status == 1
    assert message in done.out
    assert "--repair" in done.err
    mended = run_mmref("store", "verify", folder / "s", "--repair", "--json")
    assert mended.status == 0
    document = json.loads(mended.out)
    assert message in document["problems"][0]
    assert document["left"] == []
    assert run_mmref("store", "verify", folder / "s").status == 0
    run_mmref("index", folder / "run", folder / "pics", "--store", folder / "s")
    with open_store(str(folder / "s")) as store:
        assert len(store) == 6
        assert store.verify(content=True) == []


@pytest.mark.parametrize("name", ["vectors.npy", "ids.npy", "column-0.npy", "profile-values.npy"])
def test_a_wrong_cache_is_named_and_made_again(run_mmref, folder, name):
    (cached,) = (folder / "s").glob("cache-*")
    content = bytearray((cached / name).read_bytes())
    content[-3:] = b"\0\0\1"
    (cached / name).write_bytes(bytes(content))
    done = run_mmref("store", "verify", folder / "s")
    assert done.status == 1
    assert "cache: " in done.out
    assert run_mmref("store", "verify", folder / "s", "--repair").status == 0
    assert run_mmref("store", "verify", folder / "s").status == 0


def test_a_store_without_a_cache_is_sound(run_mmref, folder):
    shutil.rmtree(next((folder / "s").glob("cache-*")))
    assert run_mmref("store", "verify", folder / "s").status == 0


def test_pictures_that_changed_are_named(run_mmref, folder):
    (folder / "pics" / "red.png").unlink()
    done = run_mmref("store", "verify", folder / "s", "--content")
    assert done.status == 1
    assert f"{folder}/pics/red.png: the picture cannot be read" in done.out
    assert run_mmref("store", "verify", folder / "s").status == 0


def test_compact_gives_room_back(run_mmref, folder):
    with open_store(str(folder / "s")) as reader:
        identity = reader.identity
    with open_store(str(folder / "s"), identity) as store:
        spare = "CREATE TABLE spare (x); "
        store.database.db.execute(spare)
        store.database.db.execute("INSERT INTO spare VALUES (zeroblob(3000000))")
        store.database.db.execute("DROP TABLE spare")
    done = run_mmref("store", "compact", folder / "s", "--json")
    assert done.status == 0
    document = json.loads(done.out)
    assert document["bytes"] < document["bytes_before"] - 2_000_000
    assert "MB now" in run_mmref("store", "compact", folder / "s").out
    assert run_mmref("store", "verify", folder / "s").status == 0


def test_export_and_import(run_mmref, folder):
    done = run_mmref("store", "export", folder / "s", folder / "out")
    assert (done.status, done.out.split(": ")[1]) == (0, "6 images\n")
    names = sorted(entry.name for entry in (folder / "out").iterdir())
    assert names == ["items.parquet", "profiles.npz", "store.json", "vectors.npy"]
    done = run_mmref("store", "import", folder / "out", "--store", folder / "t", "--json")
    assert json.loads(done.out)["images"] == 6
    asked = ("a red sheet", "--json")
    one, two = (
        json.loads(run_mmref("search", "--store", folder / name, *asked).out) for name in ("s", "t")
    )
    assert one == two


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["verify", "{f}/absent"], 2, "does not exist"),
        (["compact", "{f}/absent"], 2, "does not exist"),
        (["export", "{f}/s", "{f}/pics"], 2, "exists: name a new folder"),
        (["export", "{f}/s", "/proc/x"], 2, "cannot write"),
        (["import", "{f}/pics", "--store", "{f}/t"], 2, "is not an export"),
        (["import", "{f}/out", "--store", "{f}/pics"], 2, "holds other files"),
        (["import", "{f}/bad", "--store", "{f}/t"], 1, "is damaged"),
    ],
)
def test_mistakes_are_one_line(run_mmref, folder, words, status, message):
    run_mmref("store", "export", folder / "s", folder / "out")
    shutil.copytree(folder / "out", folder / "bad")
    (folder / "bad" / "vectors.npy").write_bytes((folder / "bad" / "vectors.npy").read_bytes()[:99])
    done = run_mmref("store", *(word.format(f=folder) for word in words))
    assert done.status == status
    assert message in done.err
    assert "Traceback" not in done.err
    assert not (folder / "t").exists()


def bits(folder):
    content = bytearray((folder / "items.parquet").read_bytes())
    for place in range(60, 400, 7):
        content[place] ^= 255
    (folder / "items.parquet").write_bytes(bytes(content))


def vector(value):
    def harm(folder):
        vectors = np.load(folder / "vectors.npy")
        vectors[3, 2] = value
        np.save(folder / "vectors.npy", vectors)

    return harm


def column(name, value):
    def harm(folder):
        held = pq.read_table(folder / "items.parquet").to_pydict()
        held[name][3] = value
        pq.write_table(pa.table(held), folder / "items.parquet")

    return harm


@pytest.mark.parametrize(
    "harm",
    [
        bits,
        vector(np.nan),
        vector(7),
        column("path", None),
        column("path", ""),
        column("digest", None),
        column("metadata", "{"),
        column("metadata", "[1]"),
    ],
)
def test_a_damaged_export_is_told_in_one_line(run_mmref, folder, harm):
    run_mmref("store", "export", folder / "s", folder / "out")
    harm(folder / "out")
    done = run_mmref("store", "import", folder / "out", "--store", folder / "t")
    assert done.status == 1
    assert done.err.startswith(f"mmref: {folder / 'out'} is damaged: ")
    assert done.err.count("\n") == 1


def test_reencode_through_the_verb(run_mmref, folder):
    other = save_run(folder / "other", digest="decade", form="hubs")
    refused = run_mmref("index", other, folder / "pics", "--store", folder / "s")
    assert f"mmref index {other} --store {folder / 's'} --reencode" in refused.err
    done = run_mmref(
        "index", other, "--store", folder / "s", "--reencode", "--storage", "fp16", "--json"
    )
    assert (done.status, json.loads(done.out)["updated"]) == (0, 6)
    facts = json.loads(run_mmref("store", "info", folder / "s", "--json").out)
    assert (facts["run"]["digest"], facts["storage"]) == ("decade", "fp16")
    assert run_mmref("search", "--store", folder / "s", "a red sheet").status == 0


@pytest.mark.parametrize("verb", ["info", "verify", "compact", "export", "import"])
def test_help_has_an_example(run_mmref, verb):
    done = run_mmref("store", verb, "--help")
    assert done.status == 0
    assert "Example: mmref store" in done.out
    assert max(map(len, done.out.splitlines())) <= 80
