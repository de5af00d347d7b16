import pytest
import torch

from mmref.encoders.build import new_encoder, tokeniser_for

from .made import CAPTIONS, LENGTH, inputs, made, settings


def learnt_from(images: torch.Tensor):
    tokeniser = tokeniser_for(list(CAPTIONS))
    ids = tokeniser.ids(CAPTIONS)
    encoder = new_encoder(settings("features"), tokeniser, ids, images)
    encoder.start(ids, torch.arange(6), images, seed=0)
    return encoder.eval()


class TestDescribe:
    def test_standardised_to_unit_length(self) -> None:
        images = inputs("features", 6) * 3 + 5
        encoder = learnt_from(images)
        found = encoder.describe(images)
        expected = (images - images.mean(dim=0)) / images.std(dim=0, correction=0)
        expected = expected / expected.norm(dim=1, keepdim=True)
        assert torch.allclose(found, expected, atol=1e-5)

    @pytest.mark.parametrize("constant", [0.0, 2.0, -1e4, 1e-3])
    def test_a_column_constant_in_training_says_nothing(self, constant: float) -> None:
        images = inputs("features", 6)
        images[:, 3] = constant
        encoder = learnt_from(images)
        moved = images.clone()
        moved[:, 3] = constant + 1000
        assert torch.equal(encoder.describe(images)[:, 3], torch.zeros(6))
        assert torch.equal(encoder.encode_image(moved), encoder.encode_image(images))
        assert torch.isfinite(encoder.encode_image(moved)).all()

    def test_only_constant_columns_stay_finite(self) -> None:
        encoder = learnt_from(torch.ones(6, LENGTH))
        vectors = encoder.encode_image(inputs("features", 4))
        assert torch.isfinite(vectors).all()

    @pytest.mark.parametrize(
        "scale",
        [
            1e4,
            1e-3,
            1e-7,
        ],
    )
    def test_the_unit_of_the_features_does_not_matter(self, scale: float) -> None:
        images = inputs("features", 6)
        plain, scaled = learnt_from(images), learnt_from(images * scale)
        found = scaled.describe(images * scale)
        assert torch.allclose(found, plain.describe(images), atol=1e-4)

    def test_statistics_are_stored_with_the_weights(self) -> None:
        assert {"mean", "deviation"} <= set(made("features").state_dict())

    def test_whole_numbers_are_taken(self) -> None:
        encoder = made("features")
        whole = torch.arange(2 * LENGTH).reshape(2, LENGTH)
        assert torch.equal(encoder.encode_image(whole), encoder.encode_image(whole.float()))


def test_vectors_of_their_length() -> None:
    encoder = made("features")
    assert encoder.feature_length == LENGTH
    assert encoder.image_size is None
    assert encoder.architecture()["descriptor_length"] == LENGTH
