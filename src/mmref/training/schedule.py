"""Learning rate and loss weights over the steps of a training."""

import math


def learning_rate_factor(step: int, total: int, warmup: float) -> float:
    """Linear warm-up, then half a cosine to zero.

    Args:
        step: steps done, from 0.
        total: steps in all.
        warmup: share of them in which the rate grows.

    Returns:
        A factor in (0, 1].

    Example:
        >>> [round(learning_rate_factor(s, 10, 0.2), 2) for s in (0, 1, 2, 9)]
        [0.5, 1.0, 1.0, 0.04]
    """
    growing = max(1, round(total * warmup))
    if step < growing:
        return (step + 1) / growing
    progress = (step - growing) / max(1, total - growing)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def ramp(step: int, steps: float) -> float:
    """0 -> 1 in ``steps`` steps: the share of the guidance's weight in force.

    Example:
        >>> ramp(5, 10), ramp(20, 10), ramp(0, 0)
        (0.5, 1.0, 1.0)
    """
    return 1.0 if steps <= 0 else min(1.0, step / steps)
