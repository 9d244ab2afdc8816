"""Pooling."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import nn

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.conv import spatial_rank
from niudao.formats.pytorch.modules.conv import window as window_of_conv
from niudao.formats.pytorch.modules.functions.pool import global_lp_pool, max_pool_with_indices, max_unpool
from niudao.formats.pytorch.modules.functions.windows import pad_same
from niudao.formats.pytorch.modules.layers.pool import AveragePool, AveragePoolSame, LpPool, MaxPool
from niudao.formats.pytorch.modules.table import converts

_MAX = {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}
_AVERAGE = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_GLOBAL_MAX = {1: nn.AdaptiveMaxPool1d, 2: nn.AdaptiveMaxPool2d, 3: nn.AdaptiveMaxPool3d}
_GLOBAL_AVERAGE = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}


def window(c: Call, rank: int, kernel: list[int]) -> Any:
    """As for a convolution; refuses what runtimes disagree on.

    That is automatic padding below zero, where a step passes over more than a window, or of windows with gaps, and windows of which
    not one fits.
    """
    strides, dilations, extents, before, after = window_of_conv(c, rank, kernel)
    up = bool(c.attr("ceil_mode"))  # a window that hangs over the edge is one
    for size, extent, step, left, right in zip((c.dims(0) or [])[2:], extents, strides, before or [], after or [], strict=False):
        if size is not None and size + left + right < (extent - step + 1 if up else extent):
            c.refuse(f"its window of {extent} is larger than the {size + left + right} elements that it slides over", "kernel_shape")
    if c.attr("auto_pad", "NOTSET").startswith("SAME"):
        if set(dilations) != {1}:
            c.refuse("its automatic padding of a window with gaps is not agreed upon", "auto_pad")
        for size, extent, step in zip((c.dims(0) or [])[2:], extents, strides, strict=True):
            if step > extent + 1 and (size is None or (size - 1) // step * step + extent - size < -1):
                c.refuse("its automatic padding is negative", "auto_pad")
    return strides, dilations, extents, before, after


def _even(kernel: list[int], before: list[int] | None, after: list[int] | None) -> bool:
    """Whether torch's own pools can pad so: alike on both sides, and no more than half a window."""
    return before is not None and before == after and all(0 <= p <= k // 2 for p, k in zip(before, kernel, strict=True))


def _rounds_up(c: Call, extents: list[int], strides: list[int], before: list[int], kernel: list[int]) -> bool:
    """Whether torch's pool that rounds up and pads both sides by `before` has as many windows: a maximum does not see the padding."""
    sizes, wanted = (c.dims(0) or [])[2:], [d if isinstance(d, int) else None for d in (c.node.outputs[0].shape or ())][2:]
    if not _even(kernel, before, before) or len(wanted) != len(sizes) or None in sizes or None in wanted:
        return False
    for size, want, extent, step, pad in zip(sizes, wanted, extents, strides, before, strict=True):
        windows = -(-((size or 0) + 2 * pad - extent) // step) + 1
        windows -= (windows - 1) * step >= (size or 0) + pad
        if windows != want:
            return False
    return True


@converts("MaxPool")
def max_pool(c: Call) -> Any:
    """nn.MaxPool2d and its siblings."""
    kernel = c.attr("kernel_shape")
    rank = spatial_rank(c)
    strides, dilations, extents, before, after = window(c, rank, kernel)
    ceil_mode = bool(c.attr("ceil_mode")) and c.attr("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    x: Any = c.x(0)
    floats = c.dtype(0).is_floating_point
    if not floats:
        x = c.method("to", x, torch.float64)
    if c.wants(1):
        if before is None or after is None:
            c.refuse("auto_pad with indices on open sizes", "auto_pad")
        both = c.call(max_pool_with_indices, x, kernel, strides, dilations, before, after, ceil_mode, bool(c.attr("storage_order")))
        values = c.call(operator.getitem, both, 0)
        return (values if floats else c.method("to", values, c.dtype(0))), c.call(operator.getitem, both, 1)
    if before is None or after is None:
        x = c.call(pad_same, x, extents, strides, lower=c.attr("auto_pad") == "SAME_LOWER", value=float("-inf"))
        before = after = [0] * rank
    if not _even(kernel, before, after) and _rounds_up(c, extents, strides, before, kernel):
        after, ceil_mode = before, True
    if _even(kernel, before, after):
        y = c.module(_MAX[rank](tuple(kernel), tuple(strides), tuple(before), tuple(dilations), ceil_mode=ceil_mode), x)
    else:
        y = c.module(MaxPool(tuple(kernel), tuple(strides), tuple(dilations), tuple(before), tuple(after), ceil_mode), x)
    return y if floats else c.method("to", y, c.dtype(0))


@converts("AveragePool")
def average_pool(c: Call) -> Any:
    """nn.AvgPool2d and its siblings."""
    kernel = c.attr("kernel_shape")
    rank = spatial_rank(c)
    strides, dilations, _, before, after = window(c, rank, kernel)
    ceil_mode = bool(c.attr("ceil_mode")) and c.attr("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    include = bool(c.attr("count_include_pad"))
    if before is None or after is None:
        return c.module(AveragePoolSame(tuple(kernel), tuple(strides), c.attr("auto_pad") == "SAME_LOWER", include), c.x(0))
    # torch's own over three axes has float16 only on a GPU, and refuses inputs smaller than the window, whatever their padding
    small = any(n is not None and n < k for n, k in zip((c.dims(0) or [])[2:], kernel, strict=True))
    has = rank < 3 or (c.dtype(0) != torch.float16 and not small)
    if has and _even(kernel, before, after) and set(dilations) == {1}:
        layer = _AVERAGE[rank](tuple(kernel), tuple(strides), tuple(before), ceil_mode=ceil_mode, count_include_pad=include)
        return c.module(layer, c.x(0))
    layer = AveragePool(tuple(kernel), tuple(strides), tuple(dilations), tuple(before), tuple(after), ceil_mode, include)
    return c.module(layer, c.x(0))


@converts("LpPool")
def lp_pool(c: Call) -> Any:
    kernel = c.attr("kernel_shape")
    strides, dilations, _, before, after = window(c, spatial_rank(c, most=8), kernel)
    if before is None or after is None:
        c.refuse("auto_pad on sizes that are known only while the network runs", "auto_pad")
    ceil_mode = bool(c.attr("ceil_mode")) and c.attr("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    layer = LpPool(float(c.attr("p")), tuple(kernel), tuple(strides), tuple(dilations), tuple(before), tuple(after), ceil_mode)
    return c.module(layer, c.x(0))


@converts("GlobalAveragePool")
def global_average_pool(c: Call) -> Any:
    rank = c.needs_rank(0) - 2
    if rank in _GLOBAL_AVERAGE:
        return c.module(_GLOBAL_AVERAGE[rank](1), c.x(0))
    return c.call(torch.mean, c.x(0), list(range(2, rank + 2)), True) if rank > 0 else c.x(0)


@converts("GlobalMaxPool")
def global_max_pool(c: Call) -> Any:
    rank = c.needs_rank(0) - 2
    if rank in _GLOBAL_MAX and c.dtype(0).is_floating_point:
        return c.module(_GLOBAL_MAX[rank](1), c.x(0))
    return c.call(torch.amax, c.x(0), list(range(2, rank + 2)), True) if rank > 0 else c.x(0)


@converts("GlobalLpPool")
def global_lp(c: Call) -> Any:
    return c.call(global_lp_pool, c.x(0), float(c.attr("p")))


@converts("MaxUnpool")
def unpool(c: Call) -> Any:
    """Every maximum back at its place, zeros elsewhere; a larger shape that is asked for is filled with zeros behind."""
    kernel, sizes = c.attr("kernel_shape"), c.sizes(0)
    strides, pads = c.attr("strides") or [1] * len(kernel), c.attr("pads") or [0] * (2 * len(kernel))
    shape = list(sizes[:2])
    for k, (size, extent, step) in enumerate(zip(sizes[2:], kernel, strides, strict=True)):
        grow = extent - step - pads[k] - pads[k + len(kernel)]
        whole = size * step if isinstance(size, int) else c.call(operator.mul, size, step)
        shape.append(whole + grow if isinstance(whole, int) else c.call(operator.add, whole, grow))
    return c.call(max_unpool, c.x(0), c.x(1), shape, *([c.ints(2)] if c.has(2) else []))
