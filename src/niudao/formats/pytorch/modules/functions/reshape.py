"""Changes of shape whose target is known only when the network runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def reshape(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Give `x` another shape, where 0 keeps the size that the axis has and -1 takes what is left."""
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def flatten(x: Tensor, axis: int) -> Tensor:
    """Make a matrix whose rows are the axes before `axis`, whose columns are the others."""
    rows, columns = 1, 1
    for i, size in enumerate(x.shape):
        rows, columns = (rows * size, columns) if i < axis else (rows, columns * size)
    return x.reshape(rows, columns)


def squeeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Drop axes of size one."""
    return x.squeeze(tuple(axes)) if axes else x.squeeze()


def unsqueeze(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Insert axes of size one; `axes` count in the result."""
    rank = x.dim() + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


def expand(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Repeat axes of size one so that `x` and `shape` fit each other."""
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape)))


def split_evenly(x: Tensor, count: int, axis: int) -> list[Tensor]:
    """Cut an axis into `count` pieces of one size; only the last may be smaller."""
    size = x.shape[axis]
    piece = -(-size // count)
    return [x.narrow(axis, min(i * piece, size), min(piece, max(size - i * piece, 0))) for i in range(count)]


def eye_like(x: Tensor, k: int, dtype: torch.dtype) -> Tensor:
    """A matrix of the shape of `x` with ones on its k-th diagonal."""
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    columns = torch.arange(x.shape[1], device=x.device)
    return (columns - rows == k).to(dtype)


def arange(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """start, start + delta, ... up to limit, in the type of `start`."""
    count = max(int(torch.ceil((limit - start) / delta)), 0)
    return start + torch.arange(count, device=start.device, dtype=start.dtype) * delta
