"""Resizing in every way that ONNX knows: one axis after the other, as indices or as a matrix of weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def resize(
    x: Tensor,
    axes: Sequence[int],
    sizes: Sequence[int] | None = None,
    scales: Sequence[float] | None = None,
    mode: str = "nearest",
    coordinates: str = "half_pixel",
    rounding: str = "round_prefer_floor",
    cubic: float = -0.75,
    exclude_outside: bool = False,
    antialias: bool = False,
    extrapolation: float = 0.0,
    roi: Sequence[float] | None = None,
    policy: str = "stretch",
) -> Tensor:
    """Resize some axes of a tensor.

    Args:
        x: Tensor of any rank.
        axes: Axes to resize.
        sizes: New size of each of `axes`; None where it follows from `scales`.
        scales: Factor of each of `axes`; None where it follows from `sizes`.
        mode: "nearest", "linear" or "cubic".
        coordinates: How a place in the result becomes one in `x`: ONNX's coordinate_transformation_mode.
        rounding: How "nearest" rounds: "round_prefer_floor", "round_prefer_ceil", "floor" or "ceil".
        cubic: The coefficient a of "cubic".
        exclude_outside: Places beyond the border have no weight in "cubic"; otherwise the border's element stands for them.
        antialias: Widen the filter where a size shrinks.
        extrapolation: What stands beyond the border for "tf_crop_and_resize".
        roi: Starts, then ends, of each of `axes` in units of its size, for "tf_crop_and_resize".
        policy: "not_larger" or "not_smaller" keep the aspect ratio within `sizes`.

    Returns:
        The resized tensor, in the type of `x`.
    """
    factors = list(scales) if scales is not None else [size / x.shape[a] for size, a in zip(sizes or [], axes, strict=True)]
    if policy != "stretch":
        factors = [min(factors) if policy == "not_larger" else max(factors)] * len(axes)
        sizes = [int(factors[0] * x.shape[axis] + 0.5) for axis in axes]
    elif sizes is None:
        sizes = [scaled(x.shape[axis], factor) for axis, factor in zip(axes, factors, strict=True)]
    if scales is not None and coordinates in ("align_corners", "tf_crop_and_resize"):
        made = [(x.shape[a], f, n) for a, f, n in zip(axes, factors, sizes, strict=True) if f % 1]
        if any(size != 1 and abs(size * factor - new) > 1e-4 for size, factor, new in made):
            raise ValueError("the factors leave part of an element over; where the corners lie then is not agreed upon")
    for i, (axis, size, factor) in enumerate(zip(axes, sizes, factors, strict=True)):
        ends = (0.0, 1.0) if roi is None else (roi[i], roi[len(axes) + i])
        if factor == 1 and ends == (0.0, 1.0) and size == x.shape[axis]:
            continue
        place = source_places(x.shape[axis], size, factor, coordinates, ends, x.device)
        if mode == "nearest":
            y = x.index_select(axis, nearest_index(place, x.shape[axis], rounding))
        else:
            weights = resize_weights(place, x.shape[axis], factor, mode, cubic, exclude_outside, antialias)
            y = torch.matmul(x.movedim(axis, -1), weights.to(x.dtype).t()).movedim(-1, axis)
        if coordinates == "tf_crop_and_resize":
            shape = [1] * x.dim()
            shape[axis] = size
            outside = ((place < 0) | (place > x.shape[axis] - 1)).reshape(shape)
            y = y.masked_fill(outside, extrapolation)
        x = y
    return x


def scaled(size: int, factor: float) -> int:
    """A size times a factor, without what is left over; a factor such as 0.7 lies a little below itself in float32, 7 / 10 is meant."""
    for below in range(1, 17):
        above = round(factor * below)
        if abs(factor * below - above) < 1e-5:
            return size * above // below
    return int(size * factor)


def source_places(size: int, new: int, factor: float, coordinates: str, ends: Sequence[float], device: torch.device) -> Tensor:
    """Where along an axis of `size` elements each of `new` elements comes from: float32 (new,)."""
    place = torch.arange(new, device=device, dtype=torch.float32)
    # a tensor as divisor: some devices multiply with the reciprocal of a number, and a rounded place could fall to its neighbour
    divisor = torch.full_like(place, factor)
    if coordinates == "asymmetric":
        return place / divisor
    if coordinates == "align_corners":
        return place * (size - 1) / torch.full_like(place, torch.sym_max(new - 1, 1))
    if coordinates == "tf_crop_and_resize":
        start, end = ends
        if new == 1:
            return torch.full_like(place, 0.5 * (start + end) * (size - 1))
        return start * (size - 1) + place * (end - start) * (size - 1) / torch.full_like(place, new - 1)
    if coordinates == "pytorch_half_pixel" and new == 1:
        return torch.zeros_like(place)
    offset = size / 2 * (1 - new / (factor * size)) if coordinates == "half_pixel_symmetric" else 0.0
    return offset + (place + 0.5) / divisor - 0.5


def nearest_index(place: Tensor, size: int, rounding: str) -> Tensor:
    """The element nearest to each place: int64."""
    if rounding == "floor":
        index = place.floor()
    elif rounding == "ceil":
        index = place.ceil()
    elif rounding == "round_prefer_ceil":
        index = (place + 0.5).floor()
    else:
        index = (place - 0.5).ceil()
    return index.long().clamp(0, size - 1)


def resize_weights(place: Tensor, size: int, factor: float, mode: str, cubic: float, exclude_outside: bool, antialias: bool) -> Tensor:
    """The matrix (new, size) whose product with an axis interpolates it at `place`."""
    stretch = min(factor, 1.0) if antialias else 1.0
    reach = 2 if mode == "cubic" else 1
    first = math.floor(-reach / stretch) + 1
    taps = torch.arange(first, math.ceil(reach / stretch) + 1, device=place.device)
    index = place.floor().long().unsqueeze(1) + taps
    distance = ((index - place.unsqueeze(1)) * stretch).abs()
    if mode == "cubic":
        near = ((cubic + 2) * distance - (cubic + 3)) * distance * distance + 1
        far = ((cubic * distance - 5 * cubic) * distance + 8 * cubic) * distance - 4 * cubic
        weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
    else:
        weights = (1 - distance).clamp(min=0)
    if exclude_outside:
        weights = weights.masked_fill((index < 0) | (index >= size), 0)
    weights = weights / weights.sum(1, keepdim=True)
    matrix = torch.zeros(place.shape[0], size, device=place.device, dtype=place.dtype)
    return matrix.scatter_add(1, index.clamp(0, size - 1), weights)
