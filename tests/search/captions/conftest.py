import pytest

from ..fakes import ColourModel


@pytest.fixture
def model():
    return ColourModel()
