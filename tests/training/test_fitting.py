import json
from dataclasses import replace

import pytest
from PIL import Image

from mmref.config import Settings
from mmref.errors import PathError
from mmref.training.fitting import (
    CLIP_DEFAULTS,
    fitting_settings,
    median_shape,
    size_for_shape,
)

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


def person(dataset):
    return replace(dataset, protocol="person")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A configuration will do: nothing else is read."""
    folder = tmp_path_factory.mktemp("checkpoint")
    config = {"model_type": "clip", "vision_config": {"image_size": 240, "patch_size": 16}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


class TestClip:
    def asked(self, checkpoint, **values):
        given = {"encoder.kind": "clip", "encoder.checkpoint": str(checkpoint), **values}
        return Settings().with_values(given), given

    def test_the_methods_defaults_are_taken_and_told(self, tmp_path, checkpoint):
        dataset = load_set(tmp_path, pixels=True, objects=4)
        settings, notes = fitting_settings(dataset, *self.asked(checkpoint))
        training, references = settings.training, settings.references
        assert (training.learning_rate, training.deep_learning_rate) == (1e-5, 5e-5)
        assert references.learning_rate == 1e-3
        assert (training.epochs, training.batch_size) == (60, 64)
        assert training.warmup * training.epochs == pytest.approx(5)
        assert (settings.loss.temperature, references.temperature) == (0.02, 0.05)
        assert (training.augmentation, training.flip) == ("crop", True)
        assert references.caption_epochs == 0
        assert (references.reconstruction_weight, references.decoder_epochs) == (0, 3)
        assert (settings.encoder.image_height, settings.encoder.image_width) == (240, 240)
        assert len(notes) == 1
        assert "training.epochs 60" in notes[0]
        assert "encoder.image_height 240" in notes[0]

    def test_persons_are_tall(self, tmp_path, checkpoint):
        dataset = person(load_set(tmp_path, pixels=True, objects=4))
        settings, _ = fitting_settings(dataset, *self.asked(checkpoint))
        assert (settings.encoder.image_height, settings.encoder.image_width) == (384, 128)

    def test_sizes_fit_the_patch(self, tmp_path):
        config = {"model_type": "siglip", "vision_config": {"image_size": 384, "patch_size": 14}}
        (tmp_path / "config.json").write_text(json.dumps(config))
        dataset = person(load_set(tmp_path / "data", pixels=True, objects=4))
        settings, _ = fitting_settings(dataset, *self.asked(tmp_path))
        assert (settings.encoder.image_height, settings.encoder.image_width) == (378, 126)

    def test_what_is_given_stands(self, tmp_path, checkpoint):
        dataset = load_set(tmp_path, pixels=True, objects=4)
        tree = Settings().model_dump()
        plain = {}
        for name in CLIP_DEFAULTS:
            section, key = name.split(".")
            plain[name] = tree[section][key]
        before, given = self.asked(checkpoint, **plain, **{"encoder.image_width": 64})
        settings, notes = fitting_settings(dataset, before, given)
        assert settings == before
        assert notes == [
            "references.caption_epochs counts for nothing: a pre-trained text tower does not "
            "learn from captions alone"
        ]
        given["references.caption_epochs"] = 0
        assert fitting_settings(dataset, Settings().with_values(given), given)[1] == []

    def test_a_wrong_checkpoint_is_said_at_once(self, tmp_path):
        dataset = load_set(tmp_path / "data", pixels=True, objects=4)
        with pytest.raises(PathError, match="no checkpoint at"):
            fitting_settings(dataset, *self.asked(tmp_path / "none"))
