import pytest

from mmref.search.stores import base_files

from .contract import StoreContract


class TestLocal(StoreContract):
    @pytest.fixture
    def uri(self, tmp_path):
        return str(tmp_path / "store")


class TestLocalWithCodes(StoreContract):
    """The same with an index over codes from the first row on."""

    @pytest.fixture
    def uri(self, tmp_path, monkeypatch):
        monkeypatch.setattr(base_files, "EXACT_ROWS", 40)
        return str(tmp_path / "store")
