"""What a Milvus store does beyond the contract, on Milvus Lite and on a server."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mmref.errors import MissingExtraError, StoreError
from mmref.search.filters import Filter, columns_of
from mmref.search.records import Changes, Place, Record
from mmref.search.stores import milvus, milvus_connection, milvus_lock, milvus_rows
from mmref.search.stores.base import open_store
from mmref.search.stores.milvus_address import MilvusAddress
from mmref.search.stores.milvus_connection import Connection
from mmref.search.stores.milvus_lock import WRITER

from .contract_items import RUN, fill, place, record, records, unit

NAMES = ["a b.png", 'it\'s "c".png', "back\\slash.png", "new\nline.png", "🙂é.png", "100%_.png"]
QUERIES = [
    "note = 'it''s \"so\" \\ '",
    "note ~ 'SO\"'",
    "note ~ 'x' or n < 2",
    "not (note ~ 'so' and n > 0)",
    "name = '🙂é.png'",
    '"the key" = 1',
    "n = 9007199254740993",
    "n in (0, 1.0, '2', 4.5)",
    "date = 2001-09",
]


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    monkeypatch.setattr(milvus, "GRACE", 0.0)


@pytest.fixture(params=["lite", "collection"])
def uri(request):
    """Milvus Lite, and a server."""
    return request.getfixturevalue(request.param)


def odd_records():
    notes = ['it\'s "so" \\ ', "x", "", "new\nline", "🙂", 'SO"WHAT']
    numbers = [0, 1, 9007199254740993, 4.5, True, "2"]
    return [
        Record(
            Place(f"/p/{name}", 5, 10**18, {"note": note, "n": number, "the key": 1}, "/p"),
            f"{row:032x}",
            unit(6)[row],
            record(row, None).profile,
        )
        for row, (name, note, number) in enumerate(zip(NAMES, notes, numbers, strict=True))
    ]


def test_odd_names_and_texts_and_the_same_answers_as_a_local_store(uri, tmp_path):
    with open_store(uri, RUN) as store, open_store(str(tmp_path / "local"), RUN) as local:
        for one in (store, local):
            one.apply(Changes(odd_records()))
            one.apply(Changes(records(np.repeat(unit(10), 3, axis=0), start=6)))
        for name in NAMES:
            assert store.find(f"/p/{name}") == local.find(f"/p/{name}") is not None
        assert list(store.items()) == list(local.items())
        for text in [*QUERIES, None]:
            where = None if text is None else Filter.parse(text)
            for query in unit(3, seed=5):
                mine, theirs = (one.candidates(query, 5, where) for one in (store, local))
                assert mine.ids.tolist() == theirs.ids.tolist()
                np.testing.assert_array_equal(mine.scores, theirs.scores)
                for key, values in theirs.profiles.items():
                    np.testing.assert_array_equal(mine.profiles[key], values)
            if where is not None:
                wanted = {i.id for i in store.items() if where.matches(columns_of(i.place))}
                assert set(store.candidates(unit(1)[0], 99, where).ids.tolist()) == wanted
        assert store.verify() == []


def test_long_lists_are_read_one_after_another(lite, monkeypatch):
    fill(lite)
    with open_store(lite) as store:
        query = unit(1, seed=3)[0]
        quick = store.candidates(query, 30)
        monkeypatch.setattr("mmref.search.stores.milvus_view.MOST_ROWS", 20)
        slow = store.candidates(query, 30)
    assert slow.ids.tolist() == quick.ids.tolist()
    np.testing.assert_array_equal(slow.scores, quick.scores)


def test_what_a_broken_transaction_left_is_not_seen_and_cleared_away(uri, monkeypatch):
    ids = fill(uri)
    change = Changes(
        records(unit(3, 5), start=59), [(ids[place(1).path], place(1001))], [ids[place(2).path]]
    )
    with open_store(uri, RUN) as store:
        with monkeypatch.context() as patch:
            patch.setattr(store, "commit", lambda head: (_ for _ in ()).throw(StoreError("down")))
            with pytest.raises(StoreError, match="down"):
                store.apply(change)
        assert len(store.verify()) == 1  # it says so
        assert store.find(place(2).path).id == ids[place(2).path]
    with open_store(uri) as reader:
        before = list(reader.items())
        assert {item.place.path: item.id for item in before} == ids
    with open_store(uri, RUN) as store:
        assert store.info()["rows"] == 60
        assert store.verify() == []
        assert list(store.items()) == before
        store.apply(change)
        assert len(store) == 61
        assert store.verify() == []


def test_compact_deletes_what_was_removed(uri):
    ids = fill(uri)
    with open_store(uri, RUN) as store:
        store.apply(Changes(removed=sorted(ids.values())[:40]))
        assert store.info()["rows"] == 60
        stream = store.items()
        next(stream)
        store.compact()
        assert store.info()["rows"] == len(store) == 20
        assert store.verify() == []


def test_damage_is_found_and_mended(uri):
    ids = fill(uri)
    with open_store(uri, RUN) as store:
        collection, _ = store.newest()
        first, second, third = list(ids.values())[:3]
        rows = {
            row["id"]: row for row in store._view().rows_of([first, second, third], milvus_rows.ALL)
        }
        rows[first]["vector"] = [2.0] + [0.0] * 15
        rows[second]["columns"] = {"n_n": -5}
        rows[third] |= {"pk": rows[third]["pk"] + 1}
        time = store.connection.upsert(collection, list(rows.values()))
        store.commit(store.newest()[1].written_at(time))
        found = store.verify()
        assert [line.partition(": ")[2] for line in found] == [
            "its vector has the length 2, not 1",
            "filters see other columns than it has",
            "it is there twice",
        ]
        store.verify(repair=True)
        assert store.verify() == []
        assert len(store) == 58


def test_a_collection_of_another_program_is_left_alone(lite):
    connection = Connection(MilvusAddress.parse(lite))
    from mmref.search.stores.milvus_rows import schema

    connection.create("flags", schema(4, ""), {"index_type": "FLAT", "metric_type": "IP"}, {})
    connection.close()
    for run in (None, RUN):
        with pytest.raises(StoreError, match="another program"):
            open_store(lite, run)


def test_metadata_that_is_too_long_is_refused_and_nothing_written(lite):
    long = Record(Place("/p/a", 1, 1, {"note": "x" * 70_000}, "s"), "d", unit(1)[0], {})
    with open_store(lite, RUN) as store:
        with pytest.raises(StoreError, match="/p/a: its metadata has more than"):
            store.apply(Changes([long]))
        assert len(store) == store.info()["rows"] == 0


# ---------------------------------------------------------------------- errors


def test_a_server_that_is_down(monkeypatch):
    pytest.importorskip("pymilvus")
    monkeypatch.setattr(milvus_connection, "REACH", 0.5)
    with pytest.raises(StoreError) as caught:
        open_store("milvus://ann:secret@127.0.0.1:1/flags")
    assert str(caught.value) == (
        "milvus://ann:***@127.0.0.1:1/flags: no Milvus server answers at http://127.0.0.1:1: "
        "start it, or check host and port"
    )


def test_the_extra_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymilvus", None)
    milvus_connection.pymilvus.cache_clear()
    with pytest.raises(MissingExtraError, match=r"pip install 'mmref\[milvus\]'"):
        open_store("milvus://host/flags")


class _Busy:
    """A client whose server holds calls back at first."""

    def __init__(self, error, times):
        self.error, self.times, self.calls = error, times, 0

    def upsert(self, *_, **__):
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "done"


def test_calls_are_tried_again_after_pauses_that_grow(monkeypatch):
    exceptions = pytest.importorskip("pymilvus.exceptions")
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    connection = Connection.__new__(Connection)
    connection.address = MilvusAddress.parse("milvus://ann:secret@h/c")
    connection.name = connection.address.shown
    connection._failures = (exceptions.MilvusException,)
    connection._client = _Busy(exceptions.MilvusException(8, "rate limit"), 3)
    assert connection.call("upsert") == "done"
    assert pauses == [0.1, 0.2, 0.4]
    connection._client = _Busy(exceptions.MilvusException(1100, "bad password secret"), 9)
    with pytest.raises(StoreError, match="denies access") as caught:
        connection.call("upsert")
    assert connection._client.calls == 1
    assert "secret" not in str(caught.value)
    connection._client = _Busy(exceptions.MilvusException(5, "field of ann:secret\n is odd"), 9)
    with pytest.raises(StoreError) as caught:
        connection.call("upsert")
    assert str(caught.value) == "milvus://ann:***@h/c: Milvus says: field of *** is odd"


# ---------------------------------------------------------------------- one writer


def put_writer(uri, **facts):
    with open_store(uri) as store:
        collection, _ = store.newest()
        text = json.dumps({"name": "other", "beat": time.time(), "machine": "far"} | facts)
        store.connection.set_property(collection, WRITER, text)


def test_a_writer_elsewhere_counts_until_its_lease_is_over(lite):
    fill(lite)
    put_writer(lite)
    with pytest.raises(StoreError, match="another command"):
        open_store(lite, RUN)
    put_writer(lite, beat=time.time() - milvus_lock.LEASE - 1)
    open_store(lite, RUN).close()


def test_a_writer_of_this_machine_that_is_gone_is_void_at_once(lite):
    fill(lite)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    put_writer(lite, machine=milvus_lock._machine(), pid=gone.pid)
    open_store(lite, RUN).close()


def test_a_writer_that_was_taken_over_writes_no_more(lite):
    fill(lite)
    with open_store(lite, RUN) as store:
        put_writer(lite)
        with pytest.raises(StoreError, match="taken over"):
            store.apply(Changes(records(unit(1), 60)))
        assert len(store) == 60
    with pytest.raises(StoreError, match="another command"):  # it left the other's right alone
        open_store(lite, RUN)


# ---------------------------------------------------------------------- kill -9

CHILD = """
import sys
sys.path.insert(0, sys.argv[3])
from fakes import ColourModel
from mmref.search.ingest.index import index_images
def progress(seen, total, report):
    print("at", seen, flush=True)
index_images(ColourModel(pause=0.05), [sys.argv[1]], sys.argv[2], batch_size=4, progress=progress)
"""


@pytest.mark.slow
def test_a_killed_index_goes_on_and_comes_out_the_same(collection, tmp_path):
    from mmref.search.ingest.index import index_images

    from ..fakes import ColourModel, contents, pictures

    pictures(tmp_path / "pics", 40)
    command = [sys.executable, "-c", CHILD, str(tmp_path / "pics"), collection]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    folder = str(Path(__file__).parent.parent)
    with subprocess.Popen([*command, folder], stdout=subprocess.PIPE, env=environment) as child:
        while int(child.stdout.readline().removeprefix(b"at")) < 12:
            pass
        time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
    with open_store(collection) as store:
        assert 12 <= len(store) < 40
        assert store.verify() == []
    report = index_images(ColourModel(), [tmp_path / "pics"], collection)
    assert report.added + report.unchanged == 40
    index_images(ColourModel(), [tmp_path / "pics"], tmp_path / "whole")
    with open_store(collection) as store, open_store(str(tmp_path / "whole")) as whole:
        assert store.verify(content=True) == []
        assert contents(store) == contents(whole)
