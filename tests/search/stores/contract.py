"""What every store must do: tests that run on each kind of it.

A kind's test file has a class that inherits :class:`StoreContract` and a fixture ``uri`` that
gives the address of a store that is not there yet.
"""

import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from mmref.errors import PathError, StoreError, StoreMismatchError, UsageError
from mmref.search.filters import Filter, columns_of
from mmref.search.records import Changes, Encoded, Place, Record, RunIdentity, content_digest
from mmref.search.stores.base import open_store
from mmref.search.stores.exchange import export_store, import_store

from .contract_groups import GroupContract
from .contract_items import DIMENSION, FILTERS, NEXT, RUN, check, fill, place, record, records, unit


class StoreContract(GroupContract):
    """Tests of the Protocol ``VectorStore``."""

    @pytest.fixture
    def uri(self):
        raise NotImplementedError

    def test_what_is_written_is_read(self, uri):
        ids = fill(uri)
        made = unit(60)
        with open_store(uri) as store:
            assert (store.identity, store.storage, store.uri, len(store)) == (RUN, "fp32", uri, 60)
            assert json.loads(json.dumps(store.info()))["images"] == 60
            items = list(store.items())
            assert [item.id for item in items] == sorted(ids.values())
            assert [item.id for item in store.items(items[40].id)] == [i.id for i in items[41:]]
            by_number = sorted(items, key=lambda item: item.digest)
            assert [item.place for item in by_number] == [place(n) for n in range(60)]
            chosen = [ids[place(n).path] for n in (7, 3, 59)]
            np.testing.assert_allclose(store.vectors(chosen), made[[7, 3, 59]], atol=1e-6)
            profiles = store.profiles(chosen)
            assert profiles["indices"].tolist() == [[7, 31], [3, 31], [29, 31]]
            assert profiles["values"].dtype == np.float16
            assert [item.id for item in store.get([*chosen, 10**9])] == chosen
            found = store.find(place(7).path)
            assert found == store.find(str(found.id)) == store.get([found.id])[0]
            assert store.find("/p/none") is None
            assert store.find("/p/\udcff") is None  # a file whose name is not UTF-8
            assert store.at([place(3).path, "/p/none"]) == {place(3).path: store.get(chosen)[1]}
            assert store.find_digest(f"{7:032x}") == [found.id]
            assert store.find_digest("none") == []
            with pytest.raises(StoreError, match="no item"):
                store.vectors([10**9])

    def test_candidates_are_the_nearest_and_carry_profiles(self, uri):
        fill(uri)
        with open_store(uri) as store, store.view() as view:
            check(view)
            check(view, count=200)
            found = view.candidates(unit(60)[33], 3)
            (item,) = view.get(found.ids[:1])
            assert item.place == place(33)
            np.testing.assert_array_equal(found.profiles["indices"][0], [3, 31])
            assert found.ids.dtype == np.int64
            assert found.scores.dtype == np.float32

    def test_equal_scores_stand_by_id(self, uri):
        with open_store(uri, RUN) as store:
            store.apply(Changes(records(np.repeat(unit(2), 20, axis=0))))
            found = store.candidates(unit(1)[0], 20)
            assert found.ids.tolist() == sorted(found.ids.tolist())
            assert len(set(found.scores.tolist())) == 1

    def test_changes_are_seen_at_once(self, uri):
        ids = fill(uri)
        with open_store(uri, RUN) as writer, open_store(uri) as reader:
            before = reader.generation
            check(reader)
            fresh = unit(3, seed=5)
            moved = Place("/q/moved.png", 1, 2, {"n": -1}, "/q")
            writer.apply(
                Changes(
                    [record(60, fresh[0]), record(5, fresh[1])],
                    [(ids[place(6).path], moved)],
                    [ids[place(7).path]],
                )
            )
            assert reader.generation > before
            assert len(reader) == 60
            check(reader)
            assert reader.find(place(5).path).id == ids[place(5).path]
            np.testing.assert_allclose(reader.vectors([ids[place(5).path]])[0], fresh[1], atol=1e-6)
            assert reader.find("/q/moved.png").id == ids[place(6).path]
            assert reader.find(place(6).path) is reader.find(place(7).path) is None
            check(reader, where=Filter.parse("n = -1 or n = 7 or n = 60"))
            writer.finish()
            check(reader)
        with open_store(uri) as again:
            check(again)

    def test_a_transaction_is_whole_or_nothing(self, uri):
        ids = fill(uri)
        bad = records(unit(3, seed=1), start=60)
        bad[2] = Record(bad[2].place, "d", np.full(DIMENSION, np.nan, np.float32), bad[2].profile)
        with open_store(uri, RUN) as store:
            with pytest.raises(ValueError, match="finite"):
                store.apply(Changes(bad, removed=list(ids.values())))
            assert len(store) == 60
            check(store)

    @pytest.mark.parametrize(
        "text",
        [
            "camera = 'c1'",
            "camera != 'c1'",
            "camera is missing",
            "n < 4 or day >= 2026-01-20",
            "not (camera in ('c1', 'c2')) and size > 20",
            "folder = '/p/3'",
            "name = '00007.png'",
            "n = 'c1'",
            "absent = 1",
        ],
    )
    def test_filters_apply_before_the_cut(self, uri, text):
        ids = fill(uri)
        where = Filter.parse(text)
        passing = sum(where.matches(columns_of(place(n))) for n in range(60))
        with open_store(uri) as store:
            check(store, 5, where)
            assert len(store.candidates(unit(1)[0], 100, where).ids) == passing < len(ids)

    def test_filters_agree_with_their_reference(self, uri):
        fill(uri)
        with open_store(uri, RUN) as store:
            store.apply(Changes(records(unit(9, seed=4), start=60)))
            items = list(store.items())
            query = unit(1, seed=3)[0]

            @settings(
                max_examples=80,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            )
            @given(FILTERS)
            def agree(text):
                where = Filter.parse(text)
                wanted = {item.id for item in items if where.matches(columns_of(item.place))}
                assert set(store.candidates(query, 100, where).ids.tolist()) == wanted

            agree()

    def test_a_view_is_of_one_generation(self, uri):
        ids = fill(uri)
        query = unit(1, seed=2)[0]
        with open_store(uri, RUN) as writer, open_store(uri) as reader:
            with reader.view() as view:
                before = (view.generation, len(view), view.candidates(query, 100).ids.tolist())
                writer.apply(Changes(records(unit(4, seed=6), 60), [], [ids[place(1).path]]))
                after = (view.generation, len(view), view.candidates(query, 100).ids.tolist())
                assert after == before
                assert view.find(place(1).path) is not None
                assert view.find(place(60).path) is None
                check(view)
            with reader.view() as view:
                assert len(view) == 63
                assert view.find(place(1).path) is None

    def test_readers_see_whole_generations_while_a_writer_adds(self, uri):
        fill(uri, 50)
        made = unit(400, seed=4)
        errors, sizes = [], []
        done = threading.Event()

        def read(store):
            try:
                while not done.is_set():
                    with store.view() as view:
                        found = view.candidates(made[0], 1000)
                        items = view.get(found.ids.tolist())
                        assert len(items) == len(found.ids) == len(view)
                        sizes.append(len(items))
            except Exception as error:
                errors.append(error)

        with open_store(uri) as shared, open_store(uri) as other:
            threads = [threading.Thread(target=read, args=(s,)) for s in [shared] * 6 + [other] * 4]
            for thread in threads:
                thread.start()
            with open_store(uri, RUN) as writer:
                for start in range(0, 400, 40):
                    writer.apply(Changes(records(made[start : start + 40], 50 + start)))
                writer.finish()
            done.set()
            for thread in threads:
                thread.join()
            assert errors == []
            assert set(sizes) <= set(range(50, 451, 40))
            assert len(shared) == 450

    def test_a_reader_does_not_write(self, uri):
        fill(uri)
        with open_store(uri) as store:
            for write in (
                lambda: store.apply(Changes(removed=[1])),
                lambda: store.migration(NEXT),
                store.compact,
                lambda: store.verify(repair=True),
            ):
                with pytest.raises(StoreError, match="for reading"):
                    write()

    def test_one_writer_at_a_time(self, uri):
        fill(uri)
        with open_store(uri, RUN), pytest.raises(StoreError, match="another command"):
            open_store(uri, RUN)
        open_store(uri, RUN).close()

    def test_another_run_is_refused_and_the_repair_named(self, uri):
        fill(uri)
        with pytest.raises(StoreMismatchError, match=r"mmref index /runs/n .*--reencode"):
            open_store(uri, NEXT)
        with pytest.raises(StoreMismatchError, match="image size"):
            open_store(uri, replace(RUN, image_size=(9, 9)))

    def test_there_is_no_store_yet(self, uri):
        with pytest.raises(PathError):
            open_store(uri)

    def test_an_empty_store_answers_nothing(self, uri):
        with open_store(uri, RUN) as store:
            assert len(store.candidates(unit(1)[0], 3).ids) == 0
            store.apply(Changes(records(unit(2))))
            store.apply(Changes(removed=[item.id for item in store.items()]))
            store.finish()
            where = Filter.parse("n is missing")
            assert len(store.candidates(unit(1)[0], 3, where).ids) == len(store) == 0
            assert store.verify() == []

    @pytest.mark.parametrize(("storage", "error"), [("fp16", 1e-3), ("int8", 2e-2)])
    def test_smaller_storage(self, uri, storage, error):
        made = unit(60)
        with open_store(uri, RUN, storage=storage) as store:
            store.apply(Changes(records(made)))
            store.finish()
        with open_store(uri) as store:
            assert store.storage == store.info()["storage"] == storage
            ids = [store.find(place(n).path).id for n in range(60)]
            assert 0 < np.abs(store.vectors(ids) - made).max() < error
            check(store)
            assert store.verify() == []
        with pytest.raises(UsageError, match=f"keeps vectors as {storage}"):
            open_store(uri, RUN, storage="fp32")

    # ------------------------------------------------------------------ re-encoding

    def encoded(self, items, seed=8):
        made = unit(1000, seed, NEXT.dimension)
        return [
            Encoded(item.id, item.digest, made[item.place.size], {"dense": np.float32([1, 0, 2])})
            for item in items
        ]

    def test_a_migration_changes_over_at_one_moment(self, uri):
        ids = fill(uri)
        with open_store(uri) as reader, open_store(uri, RUN) as writer:
            migration = writer.migration(NEXT, "fp16")
            items = list(migration.pending())
            assert [item.id for item in items] == sorted(ids.values())
            migration.write(self.encoded(items[:40]))
            check(reader)
            with pytest.raises(StoreError, match="20 images"):
                migration.finish()
            assert reader.identity == RUN
            migration.write(self.encoded(items[40:]))
            with reader.view() as view:
                migration.finish()
                check(view)  # begun before the change
            assert (writer.identity, writer.storage) == (NEXT, "fp16")
            check(writer)
            with pytest.raises(StoreMismatchError, match="anew"):
                reader.candidates(unit(1)[0], 3)
            assert writer.verify() == []
        with open_store(uri, NEXT) as store:
            assert [item.id for item in store.items()] == sorted(ids.values())
            assert store.profiles([items[0].id])["dense"].tolist() == [[1, 0, 2]]
            store.apply(Changes(removed=[items[0].id]))
            check(store)

    def test_a_migration_is_taken_up_where_it_was_left(self, uri):
        ids = fill(uri)
        with open_store(uri, RUN) as store:
            migration = store.migration(NEXT)
            migration.write(self.encoded(list(migration.pending())[:30]))
        with open_store(uri, RUN) as store:  # changes in between, with the old run
            first, second = sorted(ids.values())[:2]
            changed = Record(place(0), "f" * 32, unit(1, 7)[0], record(0, None).profile)
            store.apply(Changes([changed, record(60, unit(1, 6)[0])], removed=[second]))
        with open_store(uri, RUN) as store:
            migration = store.migration(NEXT)
            pending = list(migration.pending())
            assert len(pending) == 30 + 2
            assert pending[0].id == first
            migration.write(self.encoded(pending))
            migration.finish()
            assert store.verify() == []
            assert len(store) == 60
            check(store)

    def test_a_migration_for_yet_another_run_begins_anew(self, uri):
        fill(uri)
        other = RunIdentity("third", "ef56", "compact", 8, (8, 8), None, "/runs/t")
        with open_store(uri, RUN) as store:
            migration = store.migration(NEXT)
            migration.write(self.encoded(list(migration.pending())))
            assert len(list(store.migration(other).pending())) == 60
            store.migration(other).discard()
            check(store)
            assert store.verify() == []

    # ------------------------------------------------------------------ care

    def test_verify_and_compact(self, uri):
        ids = fill(uri)
        with open_store(uri, RUN) as store:
            assert store.verify() == []
            store.apply(Changes(removed=sorted(ids.values())[::2]))
            store.compact()
            assert store.verify() == []
            assert len(store) == 30
            check(store)
            store.apply(Changes(records(unit(2, 3), 70)))
        with open_store(uri) as store:
            check(store)
            assert store.verify() == []

    def test_verify_reads_the_pictures(self, uri, tmp_path):
        for name in ("a", "b", "c"):
            (tmp_path / name).write_bytes(name.encode())
        with open_store(uri, RUN) as store:
            store.apply(
                Changes(
                    [
                        Record(
                            Place(str(tmp_path / name), 1, 1, {}, "s"),
                            content_digest(name.encode()),
                            vector,
                            record(0, vector).profile,
                        )
                        for name, vector in zip("abc", unit(3), strict=True)
                    ]
                )
            )
            assert store.verify(content=True) == []
            (tmp_path / "a").unlink()
            (tmp_path / "b").write_bytes(b"else")
            assert store.verify() == []
            gone, changed = store.verify(content=True)
            assert "cannot be read" in gone
            assert f"{tmp_path / 'b'}: the picture has changed" in changed

    def test_export_and_import_are_a_round_trip(self, uri, tmp_path):
        fill(uri)
        with open_store(uri) as store:
            assert export_store(store, tmp_path / "out") == 60
            with pytest.raises(PathError, match="exists"):
                export_store(store, tmp_path / "out")
            assert import_store(tmp_path / "out", str(tmp_path / "again")) == 60
            assert import_store(tmp_path / "out", str(tmp_path / "again")) == 60
            with open_store(str(tmp_path / "again")) as other:
                assert other.identity == store.identity
                mine, theirs = list(store.items()), list(other.items())
                assert [(i.place, i.digest) for i in mine] == [(i.place, i.digest) for i in theirs]
                one, two = ([item.id for item in items] for items in (mine, theirs))
                np.testing.assert_array_equal(store.vectors(one), other.vectors(two))
                for name, values in store.profiles(one).items():
                    np.testing.assert_array_equal(values, other.profiles(two)[name])
                assert other.verify() == []
            with open_store(str(tmp_path / "again"), RUN) as other:
                other.apply(Changes(records(unit(1, 3), 99)))
            with pytest.raises(StoreError, match="holds other images"):
                import_store(tmp_path / "out", str(tmp_path / "again"))
