import pytest
import torch
from torch.nn import functional as F

from mmref.encoders.clip.positions import resize_positions


def grid(rows, columns, extra=0, width=3, seed=0):
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(extra + rows * columns, width, generator=chance)


def test_the_same_grid_is_a_copy():
    positions = grid(4, 4, 1)
    found = resize_positions(positions, (4, 4), (4, 4), 1)
    assert torch.equal(found, positions)
    assert found.data_ptr() != positions.data_ptr()


@pytest.mark.parametrize("extra", [0, 1])
def test_the_class_token_stays_and_the_rest_is_bicubic_with_antialiasing(extra):
    positions = grid(14, 14, extra)
    found = resize_positions(positions, (14, 14), (24, 8), extra)
    assert found.shape == (extra + 24 * 8, 3)
    assert torch.equal(found[:extra], positions[:extra])
    image = positions[extra:].T.reshape(1, 3, 14, 14)
    wanted = F.interpolate(image, (24, 8), mode="bicubic", antialias=True, align_corners=False)
    assert torch.allclose(found[extra:], wanted.reshape(3, -1).T, atol=1e-6)
    plain = F.interpolate(image, (24, 8), mode="bicubic", align_corners=False)
    assert not torch.allclose(found[extra:], plain.reshape(3, -1).T, atol=1e-2)


def test_rows_stay_rows():
    """A grid that depends on the row alone does so afterwards."""
    positions = torch.arange(4.0).repeat_interleave(4).unsqueeze(1)
    found = resize_positions(positions, (4, 4), (8, 2)).reshape(8, 2)
    assert torch.allclose(found[:, 0], found[:, 1], atol=1e-6)
    assert (found[1:, 0] > found[:-1, 0]).all()


def test_another_count_is_refused():
    with pytest.raises(ValueError, match="17 positions are no 0"):
        resize_positions(grid(4, 4, 1), (4, 4), (8, 2))
