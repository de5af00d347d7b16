"""Random batches, and slopes of a loop by finite differences."""

import copy

import pytest
import torch
from hypothesis import strategies as st
from torch.nn import functional as F


def unit_features(chance, count, dimension, dtype=torch.float64):
    return F.normalize(torch.randn(count, dimension, generator=chance, dtype=dtype), dim=1)


@st.composite
def batches(draw):
    """Unit text and image features and objects: all of one, some shared, all different."""
    count = draw(st.integers(1, 7))
    chance = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    objects = torch.randint(draw(st.sampled_from([1, 2, 4, 50])), (count,), generator=chance)
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    texts, images = (unit_features(chance, count, 4, dtype) for _ in range(2))
    return texts, images, objects


def check_slopes(loss, loop, inputs, step=1e-5, within=2e-4):
    """The gradient of ``loss(*inputs)`` is the slope of ``loop(*nested lists)``."""
    inputs = [tensor.clone().double().requires_grad_() for tensor in inputs]
    gradients = torch.autograd.grad(loss(*inputs), inputs)
    lists = [tensor.detach().tolist() for tensor in inputs]
    for number, gradient in enumerate(gradients):
        for i, row in enumerate(lists[number]):
            for j in range(len(row)):
                values = []
                for sign in (1, -1):
                    moved = copy.deepcopy(lists)
                    moved[number][i][j] += sign * step
                    values.append(loop(*moved))
                slope = (values[0] - values[1]) / (2 * step)
                assert gradient[i, j].item() == pytest.approx(slope, rel=1e-3, abs=within)
    assert sum(gradient.abs().sum() for gradient in gradients) > 1e-3
