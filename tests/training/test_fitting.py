import pytest
from PIL import Image

from mmref.config import Settings
from mmref.training.fitting import fitting_settings, median_shape, size_for_shape

from .sets import load_set


def test_features_are_taken_where_there_are_any(tmp_path):
    settings, notes = fitting_settings(load_set(tmp_path), Settings())
    assert settings == Settings().with_values({"encoder.kind": "features"})
    assert len(notes) == 1
    assert "--encoder compact trains on pixels" in notes[0]


@pytest.mark.parametrize(
    ("size", "wanted"), [((40, 40), (64, 64)), ((80, 40), (96, 48)), ((20, 41), (48, 96))]
)
def test_pixels_get_the_shape_of_the_pictures(tmp_path, size, wanted):
    dataset = load_set(tmp_path, pixels=True, size=size, objects=4)
    settings, notes = fitting_settings(dataset, Settings())
    assert settings.encoder.kind == "compact"
    assert (settings.encoder.image_height, settings.encoder.image_width) == wanted
    assert notes[0] == "encoder: compact, for the data set has no features"
    assert notes[1].startswith(f"image size: {wanted[0]} x {wanted[1]} (height x width)")


@pytest.mark.parametrize(
    "given", [{"encoder.image_height": 32}, {"encoder.image_width": 32, "encoder.kind": "compact"}]
)
def test_what_is_given_stands(tmp_path, given):
    dataset = load_set(tmp_path, pixels=True, size=(80, 40), objects=4)
    before = Settings().with_values(given)
    settings, notes = fitting_settings(dataset, before, given)
    assert settings == before
    assert len(notes) == (0 if "encoder.kind" in given else 1)


def test_a_kind_that_is_given_is_not_chosen(tmp_path):
    dataset = load_set(tmp_path)
    settings, notes = fitting_settings(dataset, Settings(), {"encoder.kind"})
    assert settings.encoder.kind == "compact"
    assert notes == []  # no picture can be read, so no size either


def test_broken_pictures_have_no_say(tmp_path):
    dataset = load_set(tmp_path, pixels=True, size=(64, 32), objects=4)
    (tmp_path / "00_0.png").write_bytes(b"bad")
    Image.new("RGB", (500, 10)).save(tmp_path / "00_1.png")
    assert median_shape(dataset) == 2.0
    assert median_shape(dataset.select([0])) is None
    assert median_shape(dataset.select([])) is None


def test_sizes_are_of_one_area_and_a_shape_within_bounds():
    for ratio in (0.01, 0.3, 0.7, 1.0, 1.3, 2.0, 3.0, 50.0):
        height, width = size_for_shape(ratio)
        assert height % 16 == width % 16 == 0
        assert 0.75 * 64 * 64 <= height * width <= 1.25 * 64 * 64
    assert size_for_shape(2.0) == size_for_shape(0.5)[::-1]
