"""How a local store keeps vectors: as they are, in half precision, or in 8 bits.

=======  =====================  ======================================================
storage  bytes of d numbers     form
=======  =====================  ======================================================
fp32     4 d                    float32
fp16     2 d                    float16
int8     d + 4                  a float32 scale, then d whole numbers from -127 to 127
=======  =====================  ======================================================

The scale is such that the vector read back is a unit vector (our choice), so that scores stay
cosines.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from mmref.search.records import Vector

_SCALE_BYTES = 4


class Coding:
    """Vectors to rows of one dtype and back.

    Args:
        storage: ``fp32``, ``fp16`` or ``int8``.
        dimension: numbers in one vector, d.

    Example:
        >>> coding = Coding("int8", 2)
        >>> rows = coding.packed(np.float32([[0.6, 0.8]]))
        >>> rows.nbytes, coding.vectors(rows).round(3).tolist()
        (6, [[0.5989999771118164, 0.8009999990463257]])
    """

    def __init__(self, storage: str, dimension: int) -> None:
        self.storage = storage
        self.dimension = dimension
        self.dtype: np.dtype[Any] = np.dtype({"fp32": "<f4", "fp16": "<f2", "int8": "u1"}[storage])
        self.width = dimension + (_SCALE_BYTES if storage == "int8" else 0)

    @property
    def bytes(self) -> int:
        """Bytes of one vector."""
        return self.width * self.dtype.itemsize

    def packed(self, vectors: Vector) -> npt.NDArray[Any]:
        """Unit vectors, float32 [n, d], as stored rows [n, width]."""
        if self.storage != "int8":
            return np.ascontiguousarray(vectors, dtype=self.dtype)
        largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
        whole = np.rint(vectors * (127 / np.where(largest > 0, largest, 1)))
        length = np.linalg.norm(whole, axis=1, keepdims=True)
        scale = (np.where(length > 0, 1 / np.where(length > 0, length, 1), 0)).astype("<f4")
        numbers = whole.astype(np.int8).view(np.uint8)
        return np.concatenate([scale.view(np.uint8).reshape(-1, _SCALE_BYTES), numbers], axis=1)

    def vectors(self, packed: npt.NDArray[Any]) -> Vector:
        """Stored rows [n, width] as float32 [n, d]."""
        if self.storage != "int8":
            return np.asarray(packed, dtype=np.float32)
        scale = np.ascontiguousarray(packed[:, :_SCALE_BYTES]).view("<f4")
        numbers = packed[:, _SCALE_BYTES:].view(np.int8)
        vectors: Vector = numbers.astype(np.float32) * scale
        return vectors
