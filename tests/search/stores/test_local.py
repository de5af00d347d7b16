import json
import os
import shutil
import sqlite3
import threading
from contextlib import closing

import numpy as np
import pytest

from mmref.errors import PathError, StoreError
from mmref.search.records import Changes, Place, Record, RunIdentity
from mmref.search.stores import base_files, cache, database, schema
from mmref.search.stores.base import open_store
from mmref.search.stores.local import LocalStore

RUN = RunIdentity("run", "ab12", "compact", 8, (8, 8), {"form": "posterior", "kept": 2}, "/runs/r")


def vectors(count, seed=0, dimension=8):
    made = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def records(made, start=0, profile=True):
    return [
        Record(
            Place(f"/p/{start + n:05d}.png", 10, 20, {"n": start + n}, "/p"),
            f"d{start + n}",
            vector,
            {"indices": np.int32([n, 5]), "values": np.float16([1, 0.5])} if profile else None,
        )
        for n, vector in enumerate(made)
    ]


@pytest.fixture
def folder(tmp_path):
    with LocalStore(str(tmp_path / "s"), RUN) as store:
        store.apply(Changes(records(vectors(50))))
        store.finish()
    return tmp_path / "s"


def asked(store, sql):
    with store.database.reading() as session:
        return session.query(sql)


def near(store, query, count=5):
    found = store.candidates(query, count)
    return found.ids.tolist(), found.scores


def exact(made, query, count=5):
    scores = made @ query
    order = np.lexsort((np.arange(len(made)), -scores))[:count]
    return (order + 1).tolist(), scores[order]


def check(store, made, seed=9):
    for query in vectors(4, seed):
        ids, scores = near(store, query)
        wanted, wanted_scores = exact(made, query)
        assert ids == wanted
        np.testing.assert_allclose(scores, wanted_scores, atol=1e-6)


def test_what_is_written_is_found_again(folder):
    with open_store(str(folder)) as store:
        check(store, vectors(50))
        assert len(store) == 50
        assert store.identity == RUN
        item = store.find("/p/00007.png")
        assert (item.id, item.place.metadata, item.digest) == (8, {"n": 7}, "d7")
        assert store.find("8") == item
        assert store.find("/p/none.png") is store.find("99") is store.find("²") is None
        assert [one.id for one in store.get([3, 99, 1])] == [3, 1]
        np.testing.assert_array_equal(store.vectors([8, 2]), vectors(50)[[7, 1]])
        with pytest.raises(StoreError, match="no item 99"):
            store.vectors([1, 99])
        found = store.candidates(vectors(50)[7], 1)
        assert found.profiles["indices"].tolist() == [[7, 5]]
        info = store.info()
        assert (info["images"], info["dimension"], info["run"]["id"]) == (50, 8, "run")
        assert (info["vector_bytes"], info["profile_bytes"]) == (32, 12)
        json.dumps(info)


def test_changes_after_the_cache_was_written_are_seen(folder):
    made = vectors(50)
    with LocalStore(str(folder), RUN) as writer, open_store(str(folder)) as reader:
        check(reader, made)
        more = vectors(6, seed=1)
        writer.apply(Changes(records(more, start=50)))
        made = np.concatenate([made, more])
        check(reader, made)
        made[3] = vectors(1, seed=2)[0]
        writer.apply(Changes(records(made[3:4], start=3)))
        check(reader, made)
        writer.apply(Changes(removed=[11, 52]))
        query = vectors(1, seed=3)[0]
        made[[10, 51]] = -query  # ranked last
        ids, _ = near(reader, query, 54)
        assert len(ids) == 54
        assert not {11, 52} & set(ids)
        assert ids[:5] == exact(made, query)[0]
        before = sorted(entry.name for entry in folder.glob("cache-*"))
        writer.finish()
        assert sorted(entry.name for entry in folder.glob("cache-*")) == before  # small delta
    with open_store(str(folder)) as reader:
        assert near(reader, query, 54)[0] == ids
        item = reader.find("/p/00003.png")
        assert item.id == 4


def test_the_cache_is_written_anew_when_too_much_changed(folder, monkeypatch):
    monkeypatch.setattr(cache, "STALE_ROWS", 3)
    before = {entry.name for entry in folder.glob("cache-*")}
    with LocalStore(str(folder), RUN) as writer:
        writer.apply(Changes(records(vectors(6, seed=1), start=50)))
        writer._rewrite_cache(at_least=3)
        after = {entry.name for entry in folder.glob("cache-*")}
        assert len(after) == 1
        assert after != before
        check(writer, np.concatenate([vectors(50), vectors(6, seed=1)]))


def damage_missing(cached):
    shutil.rmtree(cached)


def damage_cut(cached):
    file = cached / "vectors.npy"
    file.write_bytes(file.read_bytes()[:300])


def damage_stamp(cached):
    (cached / "stamp.json").write_text("{")


def damage_bytes(cached):
    file = cached / "vectors.npy"
    content = bytearray(file.read_bytes())
    content[-32:] = bytes(32)
    file.write_bytes(bytes(content))


def damage_other_store(cached):
    stamp = json.loads((cached / "stamp.json").read_text())
    (cached / "stamp.json").write_text(json.dumps(stamp | {"store": "another"}))


def damage_codes(cached):
    file = cached / "codes.faiss"
    file.write_bytes(bytes(file.stat().st_size))


@pytest.mark.parametrize(
    "harm",
    [damage_missing, damage_cut, damage_stamp, damage_bytes, damage_other_store, damage_codes],
)
def test_a_missing_or_damaged_cache_is_made_again(tmp_path, harm, monkeypatch):
    monkeypatch.setattr(base_files, "EXACT_ROWS", 900)
    made = vectors(1000)
    with LocalStore(str(tmp_path / "s"), RUN) as store:
        store.apply(Changes(records(made)))
        store.finish()
    (cached,) = (tmp_path / "s").glob("cache-*")
    assert (cached / "codes.faiss").exists()
    harm(cached)
    with open_store(str(tmp_path / "s")) as store:
        check(store, made)
    with LocalStore(str(tmp_path / "s"), RUN) as store:
        store.finish()
        check(store, made)
    (cached,) = (tmp_path / "s").glob("cache-*")
    assert json.loads((cached / "stamp.json").read_text())["rows"] == 1000


@pytest.mark.parametrize("storage", ["fp32", "fp16", "int8"])
def test_codes_of_many_equal_vectors_are_sound_and_those_of_others_are_not(
    tmp_path, storage, monkeypatch
):
    monkeypatch.setattr(base_files, "EXACT_ROWS", 900)
    made = vectors(1400)
    made[200:1000] = made[0]
    for folder, rows in (("s", made), ("other", vectors(1400, seed=1))):
        with LocalStore(str(tmp_path / folder), RUN, storage=storage) as store:
            store.apply(Changes(records(rows)))
            store.finish()
            assert store.verify() == []
    mine, theirs = (next((tmp_path / name).glob("cache-*/codes.faiss")) for name in ("s", "other"))
    mine.write_bytes(theirs.read_bytes())
    with open_store(str(tmp_path / "s")) as store:
        (problem,) = store.verify()
    assert "do not find a vector by itself" in problem


def test_a_cache_that_is_ahead_of_the_database_is_not_used(folder):
    (cached,) = folder.glob("cache-*")
    stamp = json.loads((cached / "stamp.json").read_text())
    (cached / "stamp.json").write_text(json.dumps(stamp | {"generation": 99}))
    cached.rename(folder / "cache-99")
    with open_store(str(folder)) as store:
        check(store, vectors(50))


def test_a_batch_is_written_whole_or_not_at_all(folder):
    bad = records(vectors(3, seed=1), start=50)
    bad[2] = Record(bad[2].place, "d", np.full(8, np.nan, np.float32), bad[2].profile)
    with LocalStore(str(folder), RUN) as store:
        with pytest.raises(ValueError, match="finite"):
            store.apply(Changes(bad, removed=[1]))
        assert len(store) == 50
        check(store, vectors(50))


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_database_is_named_damaged(folder, keep):
    file = folder / "store.sqlite"
    content = file.read_bytes()
    file.write_bytes(content[: max(100, int(keep * len(content)))])
    for writer in (None, RUN):
        with pytest.raises(StoreError, match=r"damaged.*mmref index"):
            open_store(str(folder), writer)


def test_a_file_that_is_no_database(folder):
    (folder / "store.sqlite").write_text("nothing of the kind\n" * 200)
    with pytest.raises(StoreError, match="damaged"):
        open_store(str(folder))


def test_a_database_of_another_program(tmp_path):
    (tmp_path / "s").mkdir()
    other = sqlite3.connect(tmp_path / "s" / "store.sqlite")
    other.execute("CREATE TABLE t (x)")
    other.execute("PRAGMA user_version = 1")
    other.commit()
    other.close()
    with pytest.raises(StoreError, match="another program"):
        open_store(str(tmp_path / "s"))


def test_a_damaged_vector_is_noticed(folder):
    with closing(sqlite3.connect(folder / "store.sqlite")) as opened:
        opened.execute("UPDATE vectors_1 SET vector = x'00' WHERE id = 3")
        opened.commit()
    shutil.rmtree(next(folder.glob("cache-*")))
    with open_store(str(folder)) as store, pytest.raises(StoreError, match="wrong length"):
        store.candidates(vectors(1)[0], 3)


def test_paths_that_are_no_store(tmp_path):
    with pytest.raises(PathError, match="does not exist"):
        open_store(str(tmp_path / "absent"))
    (tmp_path / "file").touch()
    with pytest.raises(PathError, match="is a file"):
        open_store(str(tmp_path / "file"))
    with pytest.raises(PathError):
        open_store(str(tmp_path / "file"), RUN)
    (tmp_path / "bare").mkdir()
    with pytest.raises(PathError, match="is not a store"):
        open_store(str(tmp_path / "bare"))
    (tmp_path / "bare" / "holiday.jpg").touch()
    with pytest.raises(PathError, match=r"holds other files \(holiday.jpg\)"):
        open_store(str(tmp_path / "bare"), RUN)


def test_an_unwritable_place(tmp_path):
    with pytest.raises(PathError, match="cannot write"):
        open_store("/proc/mmref.store", RUN)


def test_a_killed_creation_is_taken_up_again(tmp_path):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "lock").touch()
    (tmp_path / "s" / "store.sqlite").touch()
    with pytest.raises(PathError, match="empty store"):
        open_store(str(tmp_path / "s"))
    with LocalStore(str(tmp_path / "s"), RUN) as store:
        store.apply(Changes(records(vectors(2))))
        assert len(store) == 2


def test_a_full_disk_leaves_the_store_as_it_was(folder):
    with LocalStore(str(folder), RUN) as store:
        (pages,) = store.database.db.execute("PRAGMA page_count").fetchone()
        store.database.db.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StoreError, match="disk full"):
            store.apply(Changes(records(vectors(2000, seed=1), start=50)))
    with open_store(str(folder)) as store:
        check(store, vectors(50))
        assert store.verify() == []


def test_a_cache_that_cannot_be_written_is_said(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    shutil.rmtree(next(folder.glob("cache-*")))
    monkeypatch.setattr(cache, "atomic_folder", full)
    with LocalStore(str(folder), RUN) as store:
        with pytest.raises(StoreError, match=r"all in .*No space left.*run the same command"):
            store.finish()
        check(store, vectors(50))


def test_a_reader_without_room_for_an_index_is_told(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    shutil.rmtree(next(folder.glob("cache-*")))
    monkeypatch.setattr(cache.tempfile, "TemporaryDirectory", full)
    with open_store(str(folder)) as store, pytest.raises(StoreError, match="set TMPDIR"):
        store.candidates(vectors(1)[0], 3)


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_store_on_a_read_only_folder_can_be_searched(folder):  # pragma: no cover
    folder.chmod(0o555)
    try:
        with open_store(str(folder)) as store:
            check(store, vectors(50))
    finally:
        folder.chmod(0o755)


def test_older_databases_are_brought_up_to_date_step_by_step(folder, monkeypatch):
    steps = [
        *schema.MIGRATIONS,
        ("ALTER TABLE items ADD COLUMN grade INTEGER NOT NULL DEFAULT 5",),
        ("CREATE TABLE extra (x)", "INSERT INTO extra SELECT count(*) FROM items"),
    ]
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    with open_store(str(folder)) as store:
        assert asked(store, "SELECT x FROM extra") == [(50,)]
        assert asked(store, "SELECT DISTINCT grade FROM items") == [(5,)]
        check(store, vectors(50))
    monkeypatch.setattr(schema, "MIGRATIONS", steps[:-1])
    with pytest.raises(StoreError, match="newer mmref"):
        open_store(str(folder))


V1 = """
CREATE TABLE vectors_old AS SELECT * FROM vectors_1;
DROP TRIGGER items_more; DROP TRIGGER items_less; DROP TABLE totals; DROP TABLE vectors_1;
ALTER TABLE items ADD COLUMN vector BLOB; ALTER TABLE items ADD COLUMN profile BLOB;
UPDATE items SET (vector, profile) =
    (SELECT vector, profile FROM vectors_old o WHERE o.id = items.id);
DROP TABLE vectors_old;
DELETE FROM facts WHERE name IN ('edition', 'storage');
PRAGMA user_version = 1;
"""


@pytest.mark.parametrize("writer", [None, RUN])
def test_stores_of_the_first_version_open(folder, writer):
    shutil.rmtree(next(folder.glob("cache-*")))
    with closing(sqlite3.connect(folder / "store.sqlite")) as opened:
        opened.executescript(V1)
    with open_store(str(folder), writer) as store:
        assert (len(store), store.storage) == (50, "fp32")
        check(store, vectors(50))
        assert [p for p in store.verify() if "its profile" in p] == []
    with open_store(str(folder), RUN) as store:
        store.apply(Changes(records(vectors(3, seed=1), start=50), removed=[1]))
        assert len(store) == 52


def test_a_store_that_may_be_grouped_is_closed_to_programs_that_know_no_groups(folder):
    with closing(sqlite3.connect(folder / "store.sqlite")) as opened:
        assert opened.execute("PRAGMA user_version").fetchone() == (3,)
        opened.execute("PRAGMA user_version = 2")  # as before there were groups
    with open_store(str(folder)) as store:
        check(store, vectors(50))
    with closing(sqlite3.connect(folder / "store.sqlite")) as opened:
        assert opened.execute("PRAGMA user_version").fetchone() == (3,)


def test_a_store_on_a_read_only_disk_is_opened_as_it_is(folder, monkeypatch):
    monkeypatch.setattr(database.os, "access", lambda path, mode: False)
    before = sorted((f.name, f.stat().st_size) for f in folder.iterdir())
    with open_store(str(folder)) as store:
        check(store, vectors(50))
        assert sorted((f.name, f.stat().st_size) for f in folder.iterdir()) == before


def test_a_migration_that_fails_changes_nothing(folder, monkeypatch):
    bad = [*schema.MIGRATIONS, ("CREATE TABLE extra (x)", "INSERT INTO nowhere VALUES (1)")]
    monkeypatch.setattr(schema, "MIGRATIONS", bad)
    with pytest.raises(StoreError):
        open_store(str(folder))
    monkeypatch.undo()
    with open_store(str(folder)) as store:
        assert asked(store, "SELECT name FROM sqlite_master WHERE name = 'extra'") == []


def test_a_store_without_profiles(tmp_path):
    with LocalStore(str(tmp_path / "s"), RUN) as store:
        store.apply(Changes(records(vectors(5), profile=False)))
        assert store.candidates(vectors(1)[0], 2).profiles == {}
        with pytest.raises(ValueError, match="does not fit"):
            store.apply(Changes(records(vectors(5, seed=1), start=5)))


def test_vectors_of_a_large_store_are_read_ahead(tmp_path, monkeypatch):
    monkeypatch.setattr(base_files, "EXACT_ROWS", 900)
    monkeypatch.setattr(cache, "_WARM_AFTER", 0)
    read = threading.Event()
    ahead = cache.Cache._read_ahead

    def noted(self, file):
        ahead(self, file)
        read.set()

    monkeypatch.setattr(cache.Cache, "_read_ahead", noted)
    with LocalStore(str(tmp_path / "s"), RUN) as store:
        store.apply(Changes(records(vectors(1000))))
        store.finish()
        assert not read.is_set()
        check(store, vectors(1000))
        assert read.wait(10)
        assert store.cache._warmed is store.cache._open[0].base
