import pytest
import torch

from mmref.encoders.build import new_encoder, tokeniser_for
from mmref.encoders.compact import ConvNet, layout_cells

from .made import CAPTIONS, SIZE, inputs, made, settings


class TestLayout:
    def test_mean_colour_of_each_cell(self) -> None:
        encoder = made("compact")
        rows, columns = encoder.cells
        assert (rows, columns) == (4, 2)
        images = torch.zeros(1, 3, *SIZE, dtype=torch.uint8)
        images[0, 1, :8, 8:] = 255  # the green of the upper right cell
        expected = torch.full((3, rows, columns), -1.0)
        expected[1, 0, 1] = 1.0
        assert torch.allclose(encoder.layout(images)[0], expected.flatten())

    @pytest.mark.parametrize(
        ("size", "cells"), [((64, 64), 96), ((128, 48), 96), ((32, 96), 4), ((16, 16), 1024)]
    )
    def test_cells_fit_the_picture(self, size: tuple[int, int], cells: int) -> None:
        rows, columns = layout_cells(size, cells)
        assert 1 <= rows <= size[0]
        assert 1 <= columns <= size[1]
        assert rows * columns <= 1.3 * cells


class TestDescribe:
    def test_standardised_to_unit_length(self) -> None:
        images = inputs("compact")
        encoder = made("compact")
        layouts = encoder.layout(images)
        expected = (layouts - layouts.mean(dim=0)) / layouts.std(dim=0, correction=0).clamp(0.02)
        expected = expected / expected.norm(dim=1, keepdim=True)
        assert torch.allclose(encoder.describe(images), expected, atol=1e-5)

    def test_a_cell_that_never_varies_does_not_blow_up(self) -> None:
        images = inputs("compact")
        images[:, :, :8] = 128
        tokeniser = tokeniser_for(list(CAPTIONS))
        encoder = new_encoder(settings("compact"), tokeniser, tokeniser.ids(CAPTIONS), images)
        changed = images.clone()
        changed[:, :, :8] = 129  # one step of 255, in the cells that never varied
        before, after = (encoder.eval().describe(x) for x in (images, changed))
        assert (before * after).sum(dim=1).min() > 0.5
        assert torch.isfinite(after).all()

    def test_one_training_image_alone(self) -> None:
        images = inputs("compact", 1)
        tokeniser = tokeniser_for(["a red hat"])
        ids = tokeniser.ids(["a red hat"])
        encoder = new_encoder(settings("compact"), tokeniser, ids, images)
        encoder.start(ids, torch.zeros(1, dtype=torch.long), images, seed=0)
        vectors = encoder.eval().encode_image(inputs("compact", 3, seed=1))
        assert torch.isfinite(vectors).all()

    def test_float_pixels_are_the_same_pixels(self) -> None:
        encoder, images = made("compact"), inputs("compact")
        assert torch.equal(encoder.encode_image(images), encoder.encode_image(images.float()))


class TestConvNet:
    @pytest.mark.parametrize("size", [(16, 16), (128, 48), (20, 70)])
    def test_any_size_is_taken(self, size: tuple[int, int]) -> None:
        net = ConvNet(size, 8, 5, 0.0).eval()
        assert net(torch.randn(2, 3, *size)).shape == (2, 5)

    def test_where_a_detail_sits_matters(self) -> None:
        """Far from all borders, where a convolution alone could not tell two places apart."""
        torch.manual_seed(0)
        net = ConvNet((256, 256), 8, 5, 0.0)  # in training: batch statistics
        pictures = torch.full((3, 3, 256, 256), -1.0)
        for picture, begin in zip(pictures, (80, 160, 160), strict=True):
            picture[:, begin : begin + 16, begin : begin + 16] = 1.0
        found = net(pictures)
        assert (found[0] - found[1]).abs().max() > 0.01
        assert (found[1] - found[2]).abs().max() < 1e-5

    def test_it_learns_through_all_its_stages(self) -> None:
        net = ConvNet((32, 32), 8, 5, 0.0)
        net(torch.randn(4, 3, 32, 32)).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_pixels_of_its_size() -> None:
    encoder = made("compact")
    assert encoder.image_size == SIZE
    assert encoder.feature_length is None
