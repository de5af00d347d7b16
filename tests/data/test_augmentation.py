import pytest
import torch

from mmref.data.augmentation import GREY, augment, crop_and_erase, mentions_side


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 6, height: int = 24, width: int = 16) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, height, width), generator=chance(9)).to(torch.uint8)


class TestMentionsSide:
    @pytest.mark.parametrize(
        "caption",
        ["a bag on the left", "RIGHT arm up", "left-hand side", "bright bag, right shoe", "Left."],
    )
    def test_says_so(self, caption: str) -> None:
        assert mentions_side(caption)

    @pytest.mark.parametrize("caption", ["", "a bright bag", "brightly lit", "a red hat"])
    def test_does_not(self, caption: str) -> None:
        assert not mentions_side(caption)

    @pytest.mark.parametrize("caption", ["an upright piano", "copyright sign", "a cleft rock"])
    def test_within_another_word_it_is_no_side(self, caption: str) -> None:
        assert not mentions_side(caption)


class TestAugment:
    @pytest.mark.parametrize("size", [(24, 16), (16, 64), (7, 5), (1, 1)])
    def test_shape_range_and_input(self, size: tuple[int, int]) -> None:
        pixels = pictures(5, *size)
        before = pixels.clone()
        for seed in range(10):
            out = augment(pixels, chance(seed), mirrored=torch.ones(5, dtype=torch.bool))
            assert out.shape == pixels.shape
            assert out.dtype == torch.float32
            assert out.min() >= 0
            assert out.max() <= 255
        assert torch.equal(pixels, before)

    def test_the_generator_decides(self) -> None:
        pixels = pictures()
        first, again, other = (augment(pixels, chance(seed)) for seed in (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)

    def test_global_chance_is_not_touched(self) -> None:
        torch.manual_seed(3)
        expected = torch.rand(1)
        torch.manual_seed(3)
        augment(pictures(), chance())
        assert torch.equal(torch.rand(1), expected)

    def test_each_image_on_its_own(self) -> None:
        same = pictures(1).expand(6, -1, -1, -1)
        out = augment(same, chance())
        assert all(not torch.equal(out[0], out[k]) for k in range(1, 6))

    def test_images_still_look_like_themselves(self) -> None:
        """A smooth picture stays nearer to itself than to its mirror image."""
        ramp = torch.linspace(0, 255, 32).expand(40, 3, 32, 32).to(torch.uint8)
        out = augment(ramp, chance())
        itself = (out - ramp).abs().mean(dim=(1, 2, 3))
        mirror = (out - ramp.flip(3)).abs().mean(dim=(1, 2, 3))
        assert itself.max() < 60
        assert (itself < mirror).all()
        assert itself.min() > 0.5  # and something was done to each

    def test_half_of_the_images_that_may_be_are_mirrored(self) -> None:
        ramp = torch.linspace(0, 255, 32).expand(400, 3, 32, 32).to(torch.uint8)
        may = torch.arange(400) % 2 == 0
        out = augment(ramp, chance(), mirrored=may)
        # The mean slope from left to right; erasing moves it, but not to the other sign.
        flipped = out[..., 16:].mean(dim=(1, 2, 3)) < out[..., :16].mean(dim=(1, 2, 3))
        assert flipped[~may].sum() == 0
        assert 70 < flipped[may].sum() < 130
        assert not (augment(ramp, chance())[..., 31] < 100).all(dim=(1, 2)).any()

    def test_pictures_grow_and_shrink_in_proportion(self) -> None:
        """The slope of a ramp, down and across, tells the zoom; a patch hits less than half."""
        steps = torch.arange(40.0)
        ramp = (50 + 1.5 * (steps[:, None] + steps)).expand(200, 3, 40, 40)
        middle = augment(ramp, chance())[:, 0, 8:32, 8:32]
        down, across = (middle.diff(dim=k).flatten(1).median(dim=1).values for k in (1, 2))
        ratio = across / down
        assert ((ratio > 0.94) & (ratio < 1.06)).all()
        assert ratio.std() > 0.01
        zoom = down / 1.5  # times the gain of the colours, 0.72 to 1.32
        assert zoom.min() > 0.85 * 0.72 - 0.02
        assert zoom.max() < 1.15 * 1.32 + 0.02
        assert zoom.std() > 0.05

    def test_half_of_the_images_lose_a_coloured_patch(self) -> None:
        black = torch.zeros(400, 3, 30, 20, dtype=torch.uint8)
        out = augment(black, chance())
        ground = out.flatten(2).median(dim=2).values[..., None, None]
        changed = (out - ground).abs().amax(dim=1) > 1
        lost = changed.any(dim=(1, 2))
        assert 160 < lost.sum() < 240
        share = changed[lost].float().mean(dim=(1, 2))
        assert share.max() <= 0.25
        colours = out.amax(dim=(2, 3))[lost]
        assert colours.std(dim=0).min() > 30
        for patch in changed[lost][:20]:  # one rectangle
            rows, columns = patch.any(dim=1), patch.any(dim=0)
            assert patch.sum() == rows.sum() * columns.sum()


class TestCropAndErase:
    def test_size_type_and_input(self) -> None:
        for size in [(24, 16), (64, 16), (7, 5), (1, 1)]:
            pixels = pictures(5, *size)
            before = pixels.clone()
            for seed in range(10):
                out = crop_and_erase(pixels, chance(seed), mirrored=torch.ones(5, dtype=torch.bool))
                assert out.shape == pixels.shape
                assert out.dtype == torch.uint8
            assert torch.equal(pixels, before)

    def test_it_is_a_function_of_the_chance(self) -> None:
        pixels = pictures(8)
        assert torch.equal(crop_and_erase(pixels, chance(1)), crop_and_erase(pixels, chance(1)))
        assert not torch.equal(crop_and_erase(pixels, chance(1)), crop_and_erase(pixels, chance(2)))

    def test_only_those_that_may_are_mirrored_and_half_of_them(self) -> None:
        ramp = torch.arange(1, 101, dtype=torch.uint8).expand(400, 3, 60, 100).contiguous()
        may = torch.arange(400) % 2 == 0
        out = crop_and_erase(ramp, chance(3), mirrored=may)
        # Between the padding and the erased patch a row rises, or falls where it was mirrored.
        steps = out[:, 0, 30].int().diff(dim=1)
        falling = (steps == -1).sum(dim=1) > (steps == 1).sum(dim=1)
        assert not falling[~may].any()
        assert 0.4 < falling[may].float().mean() < 0.6
        none = crop_and_erase(ramp, chance(3))[:, 0, 30].int().diff(dim=1)
        assert ((none == 1).sum(dim=1) >= (none == -1).sum(dim=1)).all()

    def test_a_patch_of_the_stated_area_is_erased_in_half_of_them(self) -> None:
        white = torch.full((600, 3, 80, 80), 255, dtype=torch.uint8)
        out = crop_and_erase(white, chance(4))
        grey = (out == torch.tensor(GREY, dtype=torch.uint8)[:, None, None]).all(dim=1)
        areas = grey.float().mean(dim=(1, 2))
        erased = areas > 0
        assert 0.43 < erased.float().mean() < 0.57
        assert areas[erased].min() > 0.015
        assert 0.3 < areas[erased].max() < 0.42
        assert 0.15 < areas[erased].mean() < 0.25

    def test_images_are_moved_by_up_to_ten(self) -> None:
        white = torch.full((400, 3, 50, 50), 255, dtype=torch.uint8)
        black = (crop_and_erase(white, chance(5))[:, 0] == 0).float()
        rows = black.amin(dim=2).sum(dim=1)  # rows that are padding all along
        assert rows.max() == 10
        assert rows.min() == 0
        columns = black.amin(dim=1).sum(dim=1)
        assert columns.max() == 10


@pytest.mark.parametrize("change", [augment, crop_and_erase])
@pytest.mark.parametrize("rows", [slice(0, 4), slice(4, 6), slice(2, 3)])
def test_a_share_of_a_batch_becomes_what_it_would_in_the_whole(change, rows: slice) -> None:
    pixels, may = pictures(), torch.tensor([True, False] * 3)
    whole = change(pixels, chance(), mirrored=may)
    part = change(pixels[rows], chance(), mirrored=may[rows], among=(6, rows))
    assert torch.allclose(part.float(), whole[rows].float(), atol=1e-3)
