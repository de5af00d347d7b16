"""A change-over of a grouped store that was left half way, and what changed before the next."""

import numpy as np
import pytest

from mmref.search.groups.regroup import group_store
from mmref.search.records import Changes, Encoded, Place
from mmref.search.stores import milvus
from mmref.search.stores.base import open_store
from mmref.search.stores.cache import Cache
from mmref.search.stores.milvus_migration import MilvusMigration

from .contract_groups import BY_CAMERA, require_shared
from .contract_items import NEXT, RUN, check, fill, place, unit


class KilledError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("kind", ["local", "lite"])
def test_vectors_that_were_shared_already_are_made_again(kind, request, tmp_path, monkeypatch):
    monkeypatch.setattr(milvus, "GRACE", 0.0)
    uri = str(tmp_path / "s") if kind == "local" else request.getfixturevalue("lite")
    ids = fill(uri)
    group_store(uri, BY_CAMERA)
    made = unit(60, 8, NEXT.dimension)

    def killed(*_, **__):
        raise KilledError

    with open_store(uri, RUN) as store:
        migration = store.migration(NEXT)
        items = list(migration.pending())
        dense = {"dense": np.float32([1, 0, 0])}
        migration.write(
            [Encoded(i.id, i.digest, made[i.place.metadata["n"]], dense) for i in items]
        )
        with monkeypatch.context() as patched:  # what follows when the groups' vectors are made
            if kind == "local":
                patched.setattr(Cache, "write", killed)
            else:
                patched.setattr(MilvusMigration, "_time", killed)
            with pytest.raises(KilledError):
                migration.finish()
    with open_store(uri, RUN) as store:
        assert store.verify() == []
        check(store)
        left = Place(place(8).path, 1, 2, {"n": 8}, "/p")
        moved = Place("/q/6.png", 1, 2, {"n": 6, "camera": "c1"}, "/q")
        store.apply(
            Changes(
                [],
                [(ids[place(8).path], left), (ids[place(6).path], moved)],
                [ids[place(1).path]],
            )
        )
        migration = store.migration(NEXT)
        assert list(migration.pending()) == []
        migration.finish()
        require_shared(store, made)
        assert store.verify() == []
        check(store)
