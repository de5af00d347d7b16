"""Position embeddings of the image's patches, resized to another grid than they were trained on."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def resize_positions(
    positions: Tensor, old: tuple[int, int], new: tuple[int, int], extra: int = 0
) -> Tensor:
    """Bicubic with antialiasing from one grid to another (our choice, as the field's code does).

    Args:
        positions: ``extra`` embeddings without a place (CLIP's class token), kept as they are,
            then one a patch, row by row, Tensor[extra + old_h * old_w, d].
        old: rows and columns of the grid.
        new: those wanted.
        extra: 1 for CLIP, 0 for SigLIP.

    Returns:
        Tensor[extra + new_h * new_w, d].

    Raises:
        ValueError: the number of embeddings is another.

    Example:
        >>> resize_positions(torch.ones(1 + 2 * 2, 3), (2, 2), (4, 1), extra=1).shape
        torch.Size([5, 3])
    """
    if len(positions) != extra + old[0] * old[1]:
        raise ValueError(f"{len(positions)} positions are no {extra} + {old[0]} x {old[1]}")
    if old == new:
        return positions.clone()
    grid = positions[extra:].reshape(1, *old, -1).permute(0, 3, 1, 2).float()
    resized = F.interpolate(grid, size=new, mode="bicubic", antialias=True, align_corners=False)
    flat = resized.permute(0, 2, 3, 1).reshape(new[0] * new[1], -1).to(positions.dtype)
    return torch.cat([positions[:extra], flat])


class PatchEmbeddings(nn.Module):
    """The vision tower's first layer for pixels of one size, square or not.

    It stands in for that of transformers, whose parameters it takes over under the same names;
    only the grid of positions is another.

    Args:
        made: the layer of transformers (``CLIPVisionEmbeddings``, ``SiglipVisionEmbeddings``).
        size: height and width of the pixels, multiples of the patch.
    """

    class_embedding: nn.Parameter | None

    def __init__(self, made: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        kept = cast(nn.Conv2d, made.get_submodule("patch_embedding"))
        embedding = cast(nn.Embedding, made.get_submodule("position_embedding"))
        patch = kept.kernel_size[0]
        self.class_embedding = getattr(made, "class_embedding", None)
        extra = 0 if self.class_embedding is None else 1
        side = round((embedding.num_embeddings - extra) ** 0.5)
        grid = (size[0] // patch, size[1] // patch)
        self.patch_embedding = kept
        with torch.no_grad():
            resized = resize_positions(embedding.weight, (side, side), grid, extra)
        self.position_embedding = nn.Embedding(len(resized), resized.shape[1], _weight=resized)

    def forward(self, pixel_values: Tensor, **_: object) -> Tensor:
        """Scaled pixels [n, 3, h, w] -> embeddings of the patches, the class token first."""
        patches = self.patch_embedding(pixel_values).flatten(2).transpose(1, 2)
        if self.class_embedding is not None:
            first = self.class_embedding.expand(len(patches), 1, -1).to(patches.dtype)
            patches = torch.cat([first, patches], dim=1)
        embedded: Tensor = patches + self.position_embedding.weight
        return embedded
