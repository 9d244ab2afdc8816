"""Pooling that torch has not, or counts otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from niudao.formats.pytorch.modules.functions.windows import pad_windows


def max_pool_with_indices(
    x: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    before: Sequence[int],
    after: Sequence[int],
    ceil_mode: bool,
    column_major: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest element of every window, and its place in the whole tensor.

    Args:
        column_major: Within a plane, the first axis runs fastest.
    """
    rank, sizes = len(kernel), x.shape[2:]
    padded = pad_windows(x, kernel, stride, dilation, before, after, ceil_mode, -math.inf)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    values, places = pool(padded, list(kernel), list(stride), 0, list(dilation), return_indices=True)
    axes: list[torch.Tensor] = []
    for axis in reversed(range(rank)):
        size = padded.shape[axis + 2]
        axes.insert(0, places % size - before[axis])
        places = places // size
    index, step = torch.zeros_like(places), 1
    for axis in range(rank) if column_major else reversed(range(rank)):
        index = index + axes[axis] * step
        step = step * sizes[axis]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(x.shape[0], x.shape[1], *[1] * rank)
    return values, index + planes * step


def max_unpool(x: torch.Tensor, places: torch.Tensor, shape: Sequence[int], wanted: Sequence[int] | None = None) -> torch.Tensor:
    """A tensor of zeros with every element of `x` at its place in the whole; grown with zeros, or cut, to the wanted shape."""
    flat = torch.zeros(math.prod(shape), dtype=x.dtype, device=x.device)
    whole = flat.scatter(0, places.reshape(-1), x.reshape(-1)).reshape(list(shape))
    if wanted is None:
        return whole
    return F.pad(whole, [p for axis in reversed(range(len(shape))) for p in (0, wanted[axis] - shape[axis])])


def root(total: torch.Tensor, p: float) -> torch.Tensor:
    """The p-th root of sums of powers; its slope is 0 at 0, where the true one is infinite."""
    some = total > 0
    return torch.where(some, total, torch.ones_like(total)).pow(1 / p) * some


def global_lp_pool(x: torch.Tensor, p: float) -> torch.Tensor:
    """The p-norm of every plane."""
    return root(x.abs().pow(p).sum(list(range(2, x.dim())), keepdim=True), p)
