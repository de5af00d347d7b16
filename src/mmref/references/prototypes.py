"""Prototypes: references that are computed from features instead of learnt.

They stand where learned references stand, in guidance and in refinement; fusion has nothing to
teach them. Two kinds, both controls for "does learning R pay?":

- ``mean``: the mean of the object's features as they are now, computed anew each epoch.
- ``ema``: a moving average over the batches, R_k <- normalise(momentum R_k + (1 - momentum)
  normalise(mean of the batch's features of object k)), for the objects of the batch alone.

Source: the usual class prototypes of metric learning and memory-based re-identification (for
instance Ge et al. NeurIPS 2020); formulas and defaults are our choices.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmref.references.bank import ReferenceBank, object_means


class PrototypeBank(ReferenceBank):
    """R as a buffer: kept with the weights and in checkpoints, never trained.

    Args:
        objects: m, the number of training objects.
        dimension: d, the features' dimension.
        momentum: what :meth:`follow` keeps; None for prototypes that a batch leaves as they are.

    Example:
        >>> bank = PrototypeBank(2, 2, momentum=0.5)
        >>> bank.start_from(torch.eye(2), torch.tensor([0, 1]))
        >>> bank.follow(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
        >>> [[round(x, 3) for x in row] for row in bank().tolist()]
        [[0.707, 0.707], [0.0, 1.0]]
        >>> list(bank.parameters())
        []
    """

    def __init__(self, objects: int, dimension: int, momentum: float | None = None) -> None:
        if momentum is not None and not 0 <= momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), not {momentum}")
        super().__init__(objects, dimension)
        start = self.weight.detach()
        del self.weight
        self.register_buffer("weight", start)
        self.momentum = momentum

    @torch.no_grad()
    def follow(self, features: Tensor, objects: Tensor) -> None:
        """Move the prototypes of a batch's objects towards their features.

        Args:
            features: L2-normalised features of both modalities, Tensor[n, d].
            objects: their objects' numbers, Tensor[n].
        """
        if self.momentum is None:
            return
        numbers, rows = np.unique(objects.cpu().numpy(), return_inverse=True)
        device = self.weight.device
        present = torch.from_numpy(numbers).to(device)
        means = object_means(features.float(), torch.from_numpy(rows).to(device), len(numbers))
        old = F.normalize(self.weight[present], dim=-1)
        self.weight[present] = F.normalize(
            self.momentum * old + (1 - self.momentum) * means, dim=-1
        )
