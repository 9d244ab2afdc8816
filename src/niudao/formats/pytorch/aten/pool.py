"""Pooling over windows.

    out = floor((in + 2 pad - dilation (kernel - 1) - 1) / stride) + 1; rounded up with ceil_mode, and then one less where the last
    window would begin behind the image and its pad
    average: over the window inside the padded image; over its part inside the image without count_include_pad; or over `divisor_override`

Source: aten/src/ATen/native/Pool.h, cpu/AvgPoolKernel.cpp.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.pytorch.aten.conv import batched, unbatched
from niudao.formats.pytorch.aten.lowering import Lowering
from niudao.formats.pytorch.aten.sizes import Sym, product
from niudao.formats.pytorch.aten.table import aten, split

Windows = tuple[list[int], list[int], list[int], list[int], list[int]]
"""Kernel, stride, padding, dilation, and how far the last window reaches over the padded image, by axis."""


def _axes(c: Lowering) -> int:
    """How many axes the windows have, by the operator's name ("max_pool2d")."""
    name = split(c.call.target)[0]
    return int(name[name.index("pool") + 4])


def _windows(c: Lowering, x: ir.Value, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Windows:
    n = c.rank(x) - 2
    kernel = c.wholes(kernel_size, "kernel_size", n)
    strides = c.wholes(stride, "stride", n) if stride not in (None, []) else kernel
    pads, dilations = c.wholes(padding, "padding", n), c.wholes(dilation, "dilation", n)
    if min(*kernel, *strides, *dilations) < 1 or min(pads) < 0:
        c.refuse(f"windows of kernel {kernel}, stride {strides}, padding {pads}")
    over = [0] * n
    for i, (k, s, p, d) in enumerate(zip(kernel, strides, pads, dilations, strict=True)):
        if not ceil_mode:
            continue
        size = c.size(x, i + 2)
        if isinstance(size, Sym):
            if p == 0 and s == 1:
                continue
            c.refuse("ceil_mode over a free size", "ceil_mode", "give the input's shape")
        window = d * (k - 1) + 1
        out = -(-(size + 2 * p - window) // s) + 1
        if (out - 1) * s >= size + p:
            out -= 1
        over[i] = max((out - 1) * s + window - size - 2 * p, 0)
    return kernel, strides, pads, dilations, over


@aten(
    "aten.max_pool1d",
    "aten.max_pool2d",
    "aten.max_pool3d",
    "aten.max_pool1d_with_indices",
    "aten.max_pool2d_with_indices",
    "aten.max_pool3d_with_indices",
)
def max_pool(
    c: Lowering, self: ir.Value, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> Any:
    x, alone = batched(c, self, _axes(c))
    kernel, strides, pads, dilations, over = _windows(c, x, kernel_size, stride, padding, dilation, ceil_mode)
    indexed = "with_indices" in c.call.target
    places = indexed and c.wants(1)
    ends = [p + o for p, o in zip(pads, over, strict=True)]
    if any(e >= k for e, k in zip(ends, kernel, strict=True)):  # ONNX pads less than a kernel
        if places:
            c.refuse("places of maxima with dilated windows over the edge")
        low = c.const(-np.inf if c.is_float(x) else np.iinfo(c.dtype(x).numpy()).min, x)
        x = c.op("Pad", x, c.const([*pads, *ends]), low, c.const(list(range(2, c.rank(x)))))
        pads = ends = [0] * len(kernel)
    settings: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": [*pads, *ends]}
    if any(d != 1 for d in dilations):
        settings["dilations"] = dilations
    if not places:
        y = unbatched(c, c.op("MaxPool", x, **settings), alone)
        return (y, None) if indexed else y
    y, where = c.ops("MaxPool", x, outputs=2, **settings)
    plane = product(c.shape(x)[2:])  # ONNX counts through the whole tensor, torch through one plane
    where = c.op("Mod", where, c.scalar(plane))
    return unbatched(c, y, alone), unbatched(c, where, alone)


@aten("aten.avg_pool1d", "aten.avg_pool2d", "aten.avg_pool3d")
def avg_pool(
    c: Lowering,
    self: ir.Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> ir.Value:
    x, alone = batched(c, self, _axes(c))
    kernel, strides, pads, _, over = _windows(c, x, kernel_size, stride, padding, 1, ceil_mode)
    ends = [p + o for p, o in zip(pads, over, strict=True)]
    if divisor_override is not None:
        y = c.op("AveragePool", x, kernel_shape=kernel, strides=strides, pads=[*pads, *ends], count_include_pad=1)
        y = c.op("Mul", y, c.const(prod(kernel) / c.number(divisor_override, "divisor_override"), x))
        return unbatched(c, y, alone)
    include = count_include_pad and any(pads)
    if include and any(over):  # the pad counts, what lies behind it does not
        x = c.op("Pad", x, c.const([*pads, *pads]), None, c.const(list(range(2, c.rank(x)))))
        pads, ends, include = [0] * len(kernel), over, False
    y = c.op("AveragePool", x, kernel_shape=kernel, strides=strides, pads=[*pads, *ends], count_include_pad=int(include))
    return unbatched(c, y, alone)


@aten("aten.max_unpool2d", "aten.max_unpool3d", "aten.fractional_max_pool2d", "aten.fractional_max_pool3d")
def refused(c: Lowering, *_: Any, **__: Any) -> ir.Value:
    c.refuse("pooling by places that the network chooses has no operator in ONNX")
