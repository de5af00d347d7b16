"""The decoded pixels of a large set, once for all processes of a machine."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from mmref.data.dataset import RetrievalDataset
from mmref.data.images import (
    MEMORY_LIMIT,
    PixelCache,
    Progress,
    SkippedImage,
    load_pixels,
    pixel_file,
)
from mmref.processes.group import Group


def load_together(
    dataset: RetrievalDataset,
    size: tuple[int, int],
    group: Group,
    *,
    max_bad_share: float = 0.1,
    memory_limit: int = MEMORY_LIMIT,
    progress: Progress | None = None,
) -> PixelCache:
    """As :func:`~mmref.data.images.load_pixels`, by several processes that want the same pixels.

    Above the limit one process of each machine decodes into a file without a name, which the others
    map too: however they end, nothing is left of it. Of small sets each process has its own.

    Args:
        dataset: rows with image files.
        size: (h, w).
        group: the processes; all of them call this.
        max_bad_share: as in ``load_pixels``.
        memory_limit: bytes of pixels that the processes of a machine keep in memory, together.
        progress: as in ``load_pixels``.

    Raises:
        DataError: as in ``load_pixels``.
    """
    shape = (len(dataset), 3, *size)
    need = int(np.prod(shape, dtype=np.int64))
    local = group.here.local_count
    own: dict[str, Any] = {"max_bad_share": max_bad_share, "progress": progress}
    shared = local > 1 and need * local > memory_limit and not dataset.features_only
    if not shared or not Path("/proc/self/fd").is_dir():
        return load_pixels(dataset, size, memory_limit=memory_limit // local, **own)
    if group.here.local_rank == 0:
        with pixel_file(need) as file:
            room = np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
            cache = load_pixels(dataset, size, into=room, **own)
            facts = {
                "file": f"/proc/{os.getpid()}/fd/{file.fileno()}",
                "rows": cache.rows.tolist(),
                "skipped": [list(one) for one in cache.skipped],
            }
            group.first(lambda: facts, each_machine=True)
            group.meet()
        return cache
    found = group.first(dict, each_machine=True)
    rows = np.asarray(found["rows"], dtype=np.int64)
    try:
        # "c": never written to, but torch has no tensors that cannot be.
        pixels = np.memmap(found["file"], dtype=np.uint8, mode="c", shape=shape)[: len(rows)]
        skipped = [SkippedImage(*one) for one in found["skipped"]]
        cache = PixelCache(pixels, rows, skipped)
    except OSError:  # processes that cannot see one another's files
        cache = load_pixels(dataset, size, memory_limit=memory_limit // local, **own)
    group.meet()
    return cache
