"""The vector and the profile that an image of a group is found by (our choice).

With x_i the vectors of the group's n images, as they were encoded, and g the share::

    shared_i = normalised((1 - g) x_i + g mean_j x_j)

The mean is not made a unit vector: where the images agree it is long and counts in full, where
they do not it is short, and a wrong group does less harm. Profiles are mixed in the same way, so
that no model is needed: ``posterior`` mixes the posteriors and keeps the largest again, ``hubs``
the densities, all others their vectors, which are then unit vectors again.
"""

import numpy as np
import numpy.typing as npt

from mmref.search.records import Arrays, Vector

Floats = npt.NDArray[np.float64]


def shared_vectors(own: Vector, share: float) -> Vector:
    """The vectors that the images of one group are found by.

    Args:
        own: unit vectors as they were encoded, float32 [n, d].
        share: g in [0, 1].

    Returns:
        Unit vectors, float32 [n, d]; ``own`` itself for one image.

    Example:
        >>> shared_vectors(np.float32([[1, 0], [0, 1]]), 1.0).round(2).tolist()
        [[0.7099999785423279, 0.7099999785423279], [0.7099999785423279, 0.7099999785423279]]
    """
    return own if len(own) == 1 else _units(_mixed(own.astype(np.float64), share), own)


def shared_profiles(own: Arrays, share: float, form: str) -> Arrays:
    """The profiles of one group's images.

    Args:
        own: profiles as they were encoded, arrays [n, ...] by name.
        share: g in [0, 1].
        form: of the refinement (:mod:`mmref.references.refinement`).

    Example:
        >>> own = {"indices": np.int32([[4], [1]]), "values": np.float16([[1], [0.5]])}
        >>> found = shared_profiles(own, 1.0, "posterior")
        >>> found["indices"].tolist(), found["values"].round(2).tolist()
        ([[4], [4]], [[0.7099609375], [0.7099609375]])
    """
    if not own or len(next(iter(own.values()))) == 1:
        return own
    if "indices" in own:
        return _posteriors(own["indices"], own["values"], share)
    dense = own["dense"]
    mixed = _mixed(dense.astype(np.float64), share)
    return {"dense": mixed.astype(dense.dtype) if form == "hubs" else _units(mixed, dense)}


def _mixed(own: Floats, share: float) -> Floats:
    mixed: Floats = (1 - share) * own + share * own.mean(axis=0)
    return mixed


def _units(mixed: Floats, own: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Rows of length 1; where opposite images leave nothing, what was encoded."""
    length = np.linalg.norm(mixed, axis=1, keepdims=True)
    made = (mixed / np.where(length > 1e-9, length, 1)).astype(np.float32)
    return np.where(length > 1e-9, made, own)


def _posteriors(
    indices: npt.NDArray[np.int32], values: npt.NDArray[np.float16], share: float
) -> Arrays:
    """Square roots of posteriors mixed as posteriors, the largest kept, falling."""
    count, kept = indices.shape
    known, columns = np.unique(indices, return_inverse=True)
    spread = np.zeros((count, len(known)))
    spread[np.arange(count)[:, None], columns.reshape(count, kept)] = values.astype(np.float64) ** 2
    mixed = _mixed(spread, share)
    best = np.argsort(-mixed, axis=1, kind="stable")[:, :kept]
    return {
        "indices": known[best].astype(indices.dtype),
        "values": np.sqrt(np.take_along_axis(mixed, best, axis=1)).astype(values.dtype),
    }
