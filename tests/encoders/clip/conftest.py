import pytest

from .made import checkpoint


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """A checkpoint's folder of each family: ``folders["clip"]``; read only."""
    root = tmp_path_factory.mktemp("checkpoints")
    return {family: checkpoint(root / family, family) for family in ("clip", "siglip", "siglip2")}
