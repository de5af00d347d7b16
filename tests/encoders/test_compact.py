import pytest
import torch

from mmref.encoders.build import new_encoder, tokeniser_for
from mmref.encoders.compact import SlotNet, even_light, layout_cells

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


class TestSlotNet:
    def net(self, size: tuple[int, int] = (32, 32), dropout: float = 0.0) -> SlotNet:
        torch.manual_seed(0)
        return SlotNet(size, 8, 5, slots=6, dropout=dropout)

    @pytest.mark.parametrize("size", [(16, 16), (128, 48), (20, 70), (33, 17)])
    def test_any_size_is_taken(self, size: tuple[int, int]) -> None:
        net = self.net(size).eval()
        assert net(torch.randn(2, 3, *size)).shape == (2, 5)

    def test_where_a_detail_sits_matters(self) -> None:
        """Once slots look at places, the same detail elsewhere is seen by another slot."""
        net = self.net((64, 64))  # in training: batch statistics
        with torch.no_grad():
            net.place.copy_(8 * torch.randn(net.place.shape))
        pictures = torch.full((3, 3, 64, 64), -1.0)
        for picture, begin in zip(pictures, (16, 40, 40), strict=True):
            picture[:, begin : begin + 8, begin : begin + 8] = 1.0
        found = net(pictures)
        assert (found[0] - found[1]).abs().max() > 0.01
        assert (found[1] - found[2]).abs().max() < 1e-5

    def test_what_a_slot_sees_is_near_to_where_it_looks(self) -> None:
        """With looks held fast on the upper left, nothing beyond its surroundings counts."""
        net = self.net((64, 64)).eval()
        with torch.no_grad():
            for layer in (net.where[-1].weight, net.where[-1].bias):
                layer.zero_()
            net.place.fill_(-1e4)
            net.place[:, :, 2, 2] = 1e4
        picture = torch.randn(1, 3, 64, 64)
        far, near = picture.clone(), picture.clone()
        far[..., 40:, 40:] = 3.0
        near[..., 8:12, 8:12] = 3.0
        assert torch.allclose(net(picture), net(far), atol=1e-6)
        assert (net(picture) - net(near)).abs().max() > 1e-4

    @pytest.mark.parametrize(
        ("distance", "where", "what"), [(2, True, True), (14, True, False), (60, False, False)]
    )
    def test_where_is_decided_from_further_away_than_what(
        self, distance: int, where: bool, what: bool
    ) -> None:
        """A change beside the cell at row and column 20 of 32 by 32, of four pixels each."""
        net = self.net((128, 128)).eval()
        found: dict[str, list[torch.Tensor]] = {"where": [], "what": []}
        for name, seen in found.items():
            net.get_submodule(name).register_forward_hook(
                lambda _, __, out, seen=seen: seen.append(out[0, :, 20, 20])
            )
        picture = torch.randn(1, 3, 128, 128)
        changed = picture.clone()
        changed[..., 82, 82 - distance] += 5.0
        net(picture), net(changed)
        for name, moved in (("where", where), ("what", what)):
            before, after = found[name]
            assert ((before - after).abs().max() > 1e-5) == moved, name

    def test_slots_are_dropped_in_training_alone(self) -> None:
        net, x = self.net(dropout=0.5), torch.randn(4, 3, 32, 32)
        assert not torch.equal(net(x), net(x))
        net.eval()
        assert torch.equal(net(x), net(x))

    def test_it_learns_through_all_its_stages(self) -> None:
        net = self.net()
        net(torch.randn(4, 3, 32, 32)).square().sum().backward()
        still = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum()]
        assert still == []


class TestEvenLight:
    def test_a_cast_and_dusk_go(self) -> None:
        x = torch.rand(3, 3, 8, 8)
        cast = 0.4 * x + torch.tensor([0.1, -0.2, 0.3])[None, :, None, None]
        assert torch.allclose(even_light(cast), even_light(x), atol=1e-5)

    def test_each_picture_on_its_own(self) -> None:
        x = torch.rand(3, 3, 8, 8)
        assert torch.allclose(even_light(x)[1:2], even_light(x[1:2]), atol=1e-6)

    def test_an_even_picture_stays_finite(self) -> None:
        assert even_light(torch.full((1, 3, 8, 8), 0.7)).abs().max() < 1e-5


def test_pixels_of_its_size() -> None:
    encoder = made("compact")
    assert encoder.image_size == SIZE
    assert encoder.feature_length is None
