"""Reductions that torch does not have, or has only for one axis, for floats, or for tensors with elements."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def reduce_max(x: Tensor, axes: Sequence[int], keepdim: bool) -> Tensor:
    """Largest element over axes; of nothing it is minus infinity or the smallest number of its type."""
    if x.numel() == 0 and any(x.shape[a] == 0 for a in axes):
        low = False if x.dtype == torch.bool else -torch.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        return torch.full_like(x.sum(axes, keepdim), low, dtype=x.dtype)
    return x.amax(axes, keepdim)


def reduce_min(x: Tensor, axes: Sequence[int], keepdim: bool) -> Tensor:
    """Smallest element over axes; of nothing it is infinity or the largest number of its type."""
    if x.numel() == 0 and any(x.shape[a] == 0 for a in axes):
        high = True if x.dtype == torch.bool else torch.inf if x.is_floating_point() else torch.iinfo(x.dtype).max
        return torch.full_like(x.sum(axes, keepdim), high, dtype=x.dtype)
    return x.amin(axes, keepdim)


def reduce_prod(x: Tensor, axes: Sequence[int], keepdim: bool) -> Tensor:
    """Product over axes."""
    for axis in sorted((a % x.dim() for a in axes), reverse=True):
        x = x.prod(axis, keepdim, dtype=x.dtype)
    return x


def reduce_mean(x: Tensor, axes: Sequence[int], keepdim: bool) -> Tensor:
    """Mean of integers over axes, cut towards zero."""
    total = x.sum(axes, keepdim)
    count = 1
    for axis in axes:
        count = count * x.shape[axis]
    return torch.div(total, count, rounding_mode="trunc").to(x.dtype)


def reduce_norm(x: Tensor, axes: Sequence[int], keepdim: bool) -> Tensor:
    """Euclidean norm of integers over axes, cut towards zero."""
    return x.double().square().sum(axes, keepdim).sqrt().to(x.dtype)


def reduce_l1(x: Tensor, axes: Sequence[int], keepdim: bool) -> Tensor:
    """Sum of absolute values over axes, in the type of `x`."""
    return x.abs().sum(axes, keepdim, dtype=x.dtype)


def reduce_l2(x: Tensor, axes: Sequence[int], keepdim: bool) -> Tensor:
    """Euclidean norm over axes."""
    return torch.linalg.vector_norm(x, 2, axes, keepdim)


def reduce_sum_square(x: Tensor, axes: Sequence[int], keepdim: bool) -> Tensor:
    """Sum of squares over axes, in the type of `x`."""
    return x.square().sum(axes, keepdim, dtype=x.dtype)


def reduce_log_sum(x: Tensor, axes: Sequence[int], keepdim: bool) -> Tensor:
    """Logarithm of the sum over axes."""
    return x.sum(axes, keepdim).log()


def last_argmax(x: Tensor, axis: int, keepdim: bool) -> Tensor:
    """Where the largest element along an axis stands; of equal ones the last."""
    return x.shape[axis] - 1 - x.flip(axis).argmax(axis, keepdim)


def last_argmin(x: Tensor, axis: int, keepdim: bool) -> Tensor:
    """Where the smallest element along an axis stands; of equal ones the last."""
    return x.shape[axis] - 1 - x.flip(axis).argmin(axis, keepdim)


def hardmax(x: Tensor, axis: int) -> Tensor:
    """One at the first of the largest elements along an axis, zero elsewhere."""
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)


def running(x: Tensor, axis: int, product: bool, exclusive: bool, reverse: bool) -> Tensor:
    """Running sum or product along an axis; `exclusive` leaves each element itself out, `reverse` starts at the end."""
    x = x.flip(axis) if reverse else x
    y = x.cumprod(axis, dtype=x.dtype) if product else x.cumsum(axis, dtype=x.dtype)
    if exclusive:
        start = torch.full_like(y.narrow(axis, 0, 1), 1 if product else 0)
        y = torch.cat([start, y.narrow(axis, 0, x.shape[axis] - 1)], axis)
    return y.flip(axis) if reverse else y
