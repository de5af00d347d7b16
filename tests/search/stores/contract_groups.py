"""What every store must do with groups; a part of the contract."""

import json

import numpy as np
import pytest

from mmref.errors import StoreError, UsageError
from mmref.search.filters import Filter
from mmref.search.groups import grouping as rules
from mmref.search.groups.grouping import Grouping, Regrouping
from mmref.search.groups.regroup import group_store
from mmref.search.groups.sharing import shared_profiles, shared_vectors
from mmref.search.records import Changes, Encoded, Place, Record
from mmref.search.stores.base import open_store
from mmref.search.stores.exchange import export_store, import_store

from .contract_items import NEXT, RUN, check, fill, place, record, unit

BY_CAMERA = Grouping("camera", share=0.6)


def require_shared(view, own, by=lambda item: item.place.metadata.get("camera"), share=0.6):
    """Every vector and profile is made of those of the item's group, ``own`` being by number."""
    items = list(view.items())
    groups = {}
    for item in items:
        key = by(item)
        groups.setdefault(("alone", item.id) if key is None else key, []).append(item)
    for members in groups.values():
        ids = [item.id for item in members]
        encoded = np.stack([own[item.place.metadata["n"]] for item in members])
        np.testing.assert_allclose(view.own(ids)[0], encoded, atol=1e-6)
        np.testing.assert_allclose(view.vectors(ids), shared_vectors(encoded, share), atol=1e-6)
        wanted = shared_profiles(view.own(ids)[1], share, view_form(view))
        for name, values in view.profiles(ids).items():
            np.testing.assert_array_equal(values, wanted[name])
    return groups


def view_form(view):
    return "posterior" if "values" in view.profiles([next(view.items()).id]) else "whitened"


class GroupContract:
    """Tests of groups on the Protocol ``VectorStore``."""

    def test_groups_share_vectors_and_profiles(self, uri):
        fill(uri)
        found = group_store(uri, BY_CAMERA)
        assert (found.shared, found.images) == ([15, 15, 15], 60)
        with open_store(uri) as store:
            with store.view() as view:
                groups = require_shared(view, unit(60))
                check(view)
                check(view, where=Filter.parse("camera = 'c1' or n < 4"))
                assert view.grouping == BY_CAMERA
                first = groups["c1"][0]
                assert view.groups([first.id, groups[("alone", 4)][0].id]) == {first.id: '"c1"'}
            assert store.info()["groups"] == json.loads(json.dumps(store.info()["groups"]))
            expected = {"by": "camera", "share": 0.6, "groups": 3, "grouped": 45, "without": 15}
            assert expected.items() <= store.info()["groups"].items()
            assert store.verify() == []

    def test_groups_follow_changes(self, uri):
        ids = fill(uri)
        group_store(uri, BY_CAMERA)
        own = dict(enumerate(unit(60))) | dict(enumerate(unit(3, 5), 60))
        moved = Place("/q/6.png", 1, 2, {"n": 6, "camera": "c1"}, "/q")  # was c3
        left = Place(place(8).path, 1, 2, {"n": 8}, "/p")  # was c1
        own[5] = unit(1, 6)[0]
        with open_store(uri, RUN) as store, open_store(uri) as reader:
            with reader.view() as view:
                store.apply(
                    Changes(
                        [record(60, own[60]), record(61, own[61]), record(5, own[5])],
                        [(ids[place(6).path], moved), (ids[place(8).path], left)],
                        [ids[place(9).path], ids[place(10).path]],
                    )
                )
                require_shared(view, dict(enumerate(unit(60))))  # begun before the change
            with reader.view() as view:
                require_shared(view, own)
                check(view)
            assert store.verify() == []
            store.apply(Changes([record(62, own[62])], removed=[ids[place(6).path]]))
            store.finish()
            require_shared(store, own)
            store.compact()
            assert store.verify() == []
        with open_store(uri) as store:
            require_shared(store, own)
            check(store)

    def test_a_group_that_is_too_large_shares_nothing(self, uri, monkeypatch):
        from mmref.search.stores import local_groups, milvus_groups, milvus_migration

        for module in (rules, local_groups, milvus_groups, milvus_migration):
            monkeypatch.setattr(module, "MOST_IMAGES", 15)
        fill(uri)
        group_store(uri, BY_CAMERA)
        own = unit(61)
        own[:60] = unit(60)
        with open_store(uri, RUN) as store:
            require_shared(store, own)
            store.apply(Changes([record(60, own[60])]))  # the sixteenth of c1
            require_shared(store, own, alone_by_camera("c1"))
            assert store.info()["groups"]["too_large"] == 1
            store.apply(Changes(removed=[store.find(place(0).path).id]))
            require_shared(store, own)

    def test_an_image_that_comes_into_a_group_that_is_too_large_stands_alone(
        self, uri, monkeypatch
    ):
        from mmref.search.stores import local_groups, milvus_groups, milvus_migration

        for module in (rules, local_groups, milvus_groups, milvus_migration):
            monkeypatch.setattr(module, "MOST_IMAGES", 15)
        ids = fill(uri)
        group_store(uri, BY_CAMERA)
        own = unit(62)
        own[:60] = unit(60)
        with open_store(uri, RUN) as store:
            store.apply(Changes([record(60, own[60])]))  # the sixteenth of c1
            moved = Place(place(6).path, 1, 2, {"n": 6, "camera": "c1"}, "/p")  # was c3
            store.apply(Changes(placed=[(ids[place(6).path], moved)]))
            require_shared(store, own, alone_by_camera("c1"))
            assert store.verify() == []
            back = Place(place(6).path, 1, 3, {"n": 6, "camera": "c3"}, "/p")
            store.apply(Changes(placed=[(ids[place(6).path], back)]))
            require_shared(store, own, alone_by_camera("c1"))
            assert store.verify() == []

    def test_clusters_stay_until_they_are_sought_again(self, uri):
        made = unit(12)
        near = made + 0.1 * unit(12, 1)
        made = np.concatenate([made, near / np.linalg.norm(near, axis=1, keepdims=True)])
        ids = []
        with open_store(uri, RUN) as store:
            store.apply(Changes([record(n, made[n]) for n in range(24)]))
            ids = [item.id for item in store.items()]
        found = group_store(uri, Grouping("clusters", 1.0, 0.9))
        assert found.shared == [2] * 12
        with open_store(uri, RUN) as store:
            np.testing.assert_allclose(store.vectors(ids[:12]), store.vectors(ids[12:]), atol=1e-6)
            before = store.vectors(ids[3:4])
            store.apply(
                Changes(
                    [
                        record(30, made[0]),
                        Record(place(14), "f" * 32, made[1], record(14, None).profile),
                    ],
                    [(ids[3], Place("/q/x.png", 1, 1, {"n": 3}, "/q"))],
                )
            )
            facts = store.info()["groups"]
            assert (facts["groups"], facts["grouped"], facts["since"]) == (11, 22, 2)
            np.testing.assert_array_equal(store.vectors(ids[3:4]), before)
            np.testing.assert_allclose(store.vectors([ids[2], ids[14]]), made[[2, 1]], atol=1e-6)
            assert store.verify() == []

    def test_grouped_again_otherwise_or_not_at_all(self, uri):
        fill(uri)
        group_store(uri, BY_CAMERA)
        group_store(uri, Grouping("folder", 0.25))
        with open_store(uri) as store:
            require_shared(store, unit(60), lambda item: item.place.path[:4], 0.25)
            assert store.info()["groups"]["groups"] == 5
        group_store(uri, None)
        with open_store(uri) as store:
            ids = [store.find(place(n).path).id for n in range(60)]
            np.testing.assert_allclose(store.vectors(ids), unit(60), atol=1e-6)
            assert store.grouping is store.info()["groups"] is None
            assert store.groups(ids) == {}
            assert store.verify() == []
        with pytest.raises(UsageError, match="is not grouped"):
            group_store(uri, None)
        with pytest.raises(
            UsageError, match="no image has a column 'objekt': there are camera, clusters"
        ):
            group_store(uri, Grouping("objekt"))

    def test_regrouping_that_was_left_begins_anew(self, uri):
        fill(uri)
        with open_store(uri, RUN) as store:
            migration = store.migration(RUN, "fp32", Regrouping(Grouping("n"), {1: "1"}))
            migration.write(encoded_of(store, list(migration.pending())[:40]))
            check(store)
            store.apply(Changes(removed=[store.find(place(3).path).id]))
        group_store(uri, BY_CAMERA)
        with open_store(uri) as store:
            require_shared(store, unit(60))
            assert store.verify() == []

    def test_a_migration_keeps_groups(self, uri):
        ids = fill(uri)
        group_store(uri, BY_CAMERA)
        made = unit(100, 8, NEXT.dimension)

        def encoded(items):
            dense = [unit(1, item.id, 3)[0] for item in items]
            numbers = [item.place.metadata["n"] for item in items]
            return [
                Encoded(item.id, item.digest, made[n], {"dense": profile})
                for item, n, profile in zip(items, numbers, dense, strict=True)
            ]

        with open_store(uri, RUN) as store:
            migration = store.migration(NEXT, "fp32")
            migration.write(encoded(list(migration.pending())[:30]))
            with pytest.raises(StoreError, match="complete that first"):
                store.migration(RUN, "fp32", Regrouping(None, {}))
            moved = Place("/q/6.png", 1, 2, {"n": 6, "camera": "c1"}, "/q")
            store.apply(Changes([], [(ids[place(6).path], moved)], [ids[place(1).path]]))
        with open_store(uri, RUN) as store:
            migration = store.migration(NEXT, "fp32")
            migration.write(encoded(list(migration.pending())))
            migration.finish()
            require_shared(store, made)
            assert store.grouping == BY_CAMERA
            assert store.verify() == []
            check(store)

    @pytest.mark.parametrize("storage", ["fp16", "int8"])
    def test_groups_in_smaller_storage(self, uri, storage):
        with open_store(uri, RUN, storage=storage) as store:
            store.apply(Changes([record(n, vector) for n, vector in enumerate(unit(60))]))
            ids = [item.id for item in store.items()]
            own = store.vectors(ids)
        group_store(uri, BY_CAMERA)
        with open_store(uri, RUN) as store:
            np.testing.assert_array_equal(store.own(ids)[0], own)
            store.apply(Changes([record(60, unit(1, 3)[0])]))
            check(store)
            assert store.verify() == []
        group_store(uri, None)
        with open_store(uri) as store:
            np.testing.assert_array_equal(store.vectors(ids), own)

    @pytest.mark.parametrize("by", ["camera", "clusters"])
    def test_export_and_import_keep_groups(self, uri, tmp_path, by):
        fill(uri)
        group_store(uri, Grouping(by, 0.6, 0.3 if by == "clusters" else None))
        with open_store(uri) as store:
            export_store(store, tmp_path / "out")
            np.testing.assert_allclose(
                np.load(tmp_path / "out" / "vectors.npy"), unit(60), atol=1e-6
            )
            import_store(tmp_path / "out", str(tmp_path / "again"))
            with open_store(str(tmp_path / "again")) as other:
                mine, theirs = ([item.id for item in one.items()] for one in (store, other))
                assert other.grouping == store.grouping
                np.testing.assert_allclose(store.vectors(mine), other.vectors(theirs), atol=1e-6)
                assert sorted(other.groups(theirs).values()) == sorted(store.groups(mine).values())
                assert other.verify() == []


def alone_by_camera(large):
    """Groups by camera, of which one is too large."""

    def key(item):
        camera = item.place.metadata.get("camera")
        return None if camera == large else camera

    return key


def encoded_of(store, items):
    vectors, profiles = store.own([item.id for item in items])
    return [
        Encoded(item.id, item.digest, vectors[row], {k: v[row] for k, v in profiles.items()})
        for row, item in enumerate(items)
    ]
