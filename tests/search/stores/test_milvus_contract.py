"""The stores' contract on Milvus Lite and on a Milvus server."""

import pytest

from mmref.search.stores import milvus

from .contract import StoreContract


@pytest.fixture(autouse=True)
def no_grace(monkeypatch):
    monkeypatch.setattr(milvus, "GRACE", 0.0)


class TestMilvusLite(StoreContract):
    @pytest.fixture
    def uri(self, lite):
        return lite


class TestMilvusServer(StoreContract):
    @pytest.fixture
    def uri(self, quick_collection):
        return quick_collection
