"""How well a ranking finds the wrong ones: precision and recall of a list, worst first."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def detection(
    scores: npt.NDArray[np.floating[Any]], wrong: Sequence[bool] | npt.NDArray[np.bool_]
) -> dict[str, float]:
    """Figures of a ranking by score, highest first; ties count against it.

    Args:
        scores: float[n].
        wrong: which are truly wrong, bool[n].

    Returns:
        ``share`` of wrong ones; ``r_precision``, the precision (and the recall) at as many as are
        wrong; ``lift``, that over the share; ``average_precision``; ``recall_at_10_percent`` and
        ``precision_at_10_percent`` of the first tenth. In [0, 1] but for the lift; all 0 when
        none is wrong.

    Raises:
        ValueError: the lengths differ or nothing is ranked.

    Example:
        >>> found = detection(np.array([0.9, 0.8, 0.2, 0.1]), [True, False, True, False])
        >>> found["r_precision"], round(found["average_precision"], 3), found["lift"]
        (0.5, 0.833, 1.0)
    """
    truth = np.asarray(wrong, dtype=bool)
    if len(truth) != len(scores) or not len(truth):
        raise ValueError(f"{len(scores)} scores for {len(truth)} captions")
    total = int(truth.sum())
    tenth = -(-len(truth) // 10)
    if total == 0:
        names = ("share", "r_precision", "lift", "average_precision")
        return dict.fromkeys((*names, "recall_at_10_percent", "precision_at_10_percent"), 0.0)
    ordered = truth[np.lexsort((truth, -np.asarray(scores, dtype=np.float64)))]
    hits = np.cumsum(ordered)
    precision = hits / np.arange(1, len(truth) + 1)
    share = total / len(truth)
    return {
        "share": share,
        "r_precision": float(precision[total - 1]),
        "lift": float(precision[total - 1] / share),
        "average_precision": float(precision[ordered].sum() / total),
        "recall_at_10_percent": float(hits[tenth - 1] / total),
        "precision_at_10_percent": float(precision[tenth - 1]),
    }
