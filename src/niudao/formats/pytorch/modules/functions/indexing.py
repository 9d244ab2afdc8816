"""Taking elements out of tensors and putting them in, with indices counted from the end where they are negative."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def slice_axes(x: Tensor, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]) -> Tensor:
    """Cut axes as Python slices do; a negative step goes backwards."""
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        if step > 0:
            x = x[(slice(None),) * (axis % x.dim()) + (slice(start, end, step),)]
        else:
            taken = range(*slice(start, end if end >= -size else None, step).indices(size))
            low, high = (taken[-1], taken[0] + 1) if len(taken) else (0, 0)
            x = x[(slice(None),) * (axis % x.dim()) + (slice(low, high, -step),)].flip(axis)
    return x


def take(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Elements along one axis; the axes of `indices` stand in its place."""
    axis = axis % x.dim()
    flat = torch.where(indices < 0, indices + x.shape[axis], indices).flatten()
    return x.index_select(axis, flat).reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


def take_along(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """One element of `x` for each of `indices`, which say where along `axis`."""
    indices = indices.long()
    return torch.gather(x, axis, torch.where(indices < 0, indices + x.shape[axis], indices))


def take_points(x: Tensor, indices: Tensor, batch_dims: int) -> Tensor:
    """Slices of `x` at points: the last axis of `indices` holds coordinates behind the first `batch_dims` axes, which the two share."""
    depth = indices.shape[-1]
    batch = x.shape[:batch_dims]
    points = indices.reshape(-1, *indices.shape[batch_dims:])
    x = x.reshape(-1, *x.shape[batch_dims:])
    which = torch.arange(x.shape[0], device=x.device).reshape(-1, *[1] * (points.dim() - 2))
    taken = x[(which, *(points[..., i] for i in range(depth)))]
    return taken.reshape(batch + indices.shape[batch_dims:-1] + x.shape[1 + depth :])


def put_along(x: Tensor, indices: Tensor, updates: Tensor, axis: int, reduction: str) -> Tensor:
    """A copy of `x` with `updates` at `indices` along `axis`: put there, or joined to what is there by "add", "mul", "max" or "min"."""
    indices = indices.long()
    indices = torch.where(indices < 0, indices + x.shape[axis], indices)
    if reduction == "none":
        return x.scatter(axis, indices, updates)
    how = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[reduction]
    return x.scatter_reduce(axis, indices, updates, how, include_self=True)


def put_points(x: Tensor, indices: Tensor, updates: Tensor, reduction: str) -> Tensor:
    """A copy of `x` with slices at points put or joined as in `put_along`; the last axis of `indices` holds the coordinates."""
    depth = indices.shape[-1]
    row = torch.zeros(indices.shape[:-1], dtype=torch.long, device=x.device)
    for i in range(depth):
        row = row * x.shape[i] + torch.where(indices[..., i] < 0, indices[..., i] + x.shape[i], indices[..., i])
    length = 1
    for size in x.shape[depth:]:
        length = length * size
    row = row.reshape(-1, 1).expand(-1, length)
    return put_along(x.reshape(-1, length), row, updates.reshape(-1, length), 0, reduction).reshape(x.shape)


def put_cache(cache: Tensor, update: Tensor, start: Tensor | None, axis: int, circular: bool) -> Tensor:
    """A copy of `cache` (batch, ...) with `update` written along `axis` from each batch's own start on."""
    axis = axis % cache.dim()
    batch, size, length = cache.shape[0], cache.shape[axis], update.shape[axis]
    first = torch.zeros(batch, dtype=torch.long, device=cache.device) if start is None else start.long()
    places = first.unsqueeze(1) + torch.arange(length, device=cache.device)
    places = places % size if circular else places
    shape = [1] * cache.dim()
    shape[0], shape[axis] = batch, length
    return cache.scatter(axis, places.reshape(shape).expand_as(update), update)


def one_hot(indices: Tensor, depth: int, values: Tensor, axis: int) -> Tensor:
    """`values[1]` where a new axis counts the index, `values[0]` elsewhere; indices out of range mark nothing."""
    indices = indices.long()
    indices = torch.where(indices < 0, indices + depth, indices)
    axis = axis % (indices.dim() + 1)
    count = torch.arange(depth, device=indices.device).reshape(-1, *[1] * (indices.dim() - axis))
    return torch.where(indices.unsqueeze(axis) == count, values[1], values[0])


def compress(x: Tensor, condition: Tensor, axis: int | None) -> Tensor:
    """What stands along `axis` (None: in the flattened tensor) where a condition, perhaps a shorter one, holds."""
    chosen = condition.nonzero().flatten()
    return x.flatten()[chosen] if axis is None else x.index_select(axis, chosen)


def reverse_sequences(x: Tensor, lengths: Tensor, batch_axis: int, time_axis: int) -> Tensor:
    """Turn round the first `lengths[i]` steps of the i-th sequence of a batch."""
    shape = [1] * x.dim()
    shape[time_axis] = x.shape[time_axis]
    time = torch.arange(x.shape[time_axis], device=x.device).reshape(shape)
    shape = [1] * x.dim()
    shape[batch_axis] = x.shape[batch_axis]
    lengths = lengths.reshape(shape)
    return torch.gather(x, time_axis, torch.where(time < lengths, lengths - 1 - time, time).expand_as(x))


def top_k(x: Tensor, k: int, axis: int, largest: bool) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) elements along an axis in their order, and where they stand; of equal ones the first."""
    values, indices = torch.sort(x, dim=axis, descending=largest, stable=True)
    return values.narrow(axis, 0, k), indices.narrow(axis, 0, k)


def unique(x: Tensor, axis: int | None, ascending: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The different slices along an axis (None: elements), where each stands first, which of them each one is, how often each is there."""
    if axis is None:
        x, axis = x.flatten(), 0
    values, inverse, counts = torch.unique(x, sorted=True, return_inverse=True, return_counts=True, dim=axis)
    size = x.shape[axis]
    first = torch.full((counts.shape[0],), size, dtype=torch.long, device=x.device)
    first = first.scatter_reduce(0, inverse, torch.arange(size, device=x.device), "amin")
    if not ascending:
        order = torch.argsort(first)
        values, first, counts = values.index_select(axis, order), first[order], counts[order]
        inverse = torch.argsort(order)[inverse]
    return values, first, inverse, counts
