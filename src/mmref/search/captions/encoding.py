"""Sentences to vectors and profiles, as a store keeps them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mmref.search.records import Model, Vector

NO_WORD = "the run knows no word of this caption"
Encoding = tuple[Vector, Mapping[str, npt.NDArray[Any]]]


def encoded(model: Model, sentences: Sequence[str]) -> list[Encoding | None]:
    """Vector, float32 [d], and profile of each sentence; None where the run knows no word of it.

    Args:
        model: the run's model.
        sentences: at least one.
    """
    vectors = model.encode_text(list(sentences), batch_size=len(sentences)).float().cpu()
    usable = torch.isfinite(vectors).all(dim=1) & vectors.any(dim=1)
    profiles: dict[str, npt.NDArray[Any]] = {}
    if model.refiner is not None:
        profiles = model.refiner.profiles(torch.nan_to_num(vectors), "text").to_arrays()
    arrays = vectors.numpy().astype(np.float32)
    return [
        (arrays[row], {name: values[row] for name, values in profiles.items()}) if good else None
        for row, good in enumerate(usable.tolist())
    ]
