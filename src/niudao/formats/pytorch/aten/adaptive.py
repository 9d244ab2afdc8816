"""Adaptive pooling: the window of output i begins at floor(i in / out) and ends at ceil((i + 1) in / out).

Windows of one size are an ordinary pooling. Others are exact too: averages as products with constant matrices, maxima piece by piece.

Source: aten/src/ATen/native/AdaptivePooling.h.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.pytorch.aten.conv import batched, unbatched
from niudao.formats.pytorch.aten.lowering import Lowering
from niudao.formats.pytorch.aten.sizes import Number, Sym, product
from niudao.formats.pytorch.aten.table import aten, split

PIECES = 256
"""Windows of different sizes along one axis of an adaptive maximum: each is three nodes."""


def _sizes(c: Lowering, x: ir.Value, output_size: Any, n: int) -> list[Number]:
    """Size of the result along each axis."""
    given = list(output_size) if isinstance(output_size, (list, tuple)) else [output_size]
    if len(given) == 1:
        given *= n
    return [c.size(x, i + 2) if g is None else g for i, g in enumerate(given)]


def _kernel(c: Lowering, x: ir.Value, out: list[Number]) -> list[int] | None:
    """The one size of the windows along each axis, where they have one."""
    kernel = []
    for i, o in enumerate(out):
        size = c.size(x, i + 2)
        if size == o:
            kernel.append(1)
        elif isinstance(size, int) and isinstance(o, int) and o > 0 and size % o == 0:
            kernel.append(size // o)
        else:
            return None
    return kernel


def _window(i: int, size: int, out: int) -> tuple[int, int]:
    return i * size // out, -(-(i + 1) * size // out)


def _axes(c: Lowering) -> int:
    name = split(c.call.target)[0]
    return int(name[name.index("pool") + 4])


@aten("aten.adaptive_avg_pool1d", "aten.adaptive_avg_pool2d", "aten.adaptive_avg_pool3d")
@aten("aten._adaptive_avg_pool2d", "aten._adaptive_avg_pool3d")
def average(c: Lowering, self: ir.Value, output_size: Any) -> ir.Value:
    n = _axes(c)
    x, alone = batched(c, self, n)
    return unbatched(c, average_to(c, x, _sizes(c, x, output_size, n)), alone)


def average_to(c: Lowering, x: ir.Value, out: list[Number]) -> ir.Value:
    """Average a batch of images to these sizes; `interpolate(mode="area")` is that too."""
    n = len(out)
    if all(o == 1 for o in out):
        return c.op("GlobalAveragePool", x)
    kernel = _kernel(c, x, out)
    if kernel is not None:
        return x if kernel == [1] * n else c.op("AveragePool", x, kernel_shape=kernel, strides=kernel)
    for i in range(n):
        size, wanted = c.size(x, i + 2), out[i]
        if size == wanted:
            continue
        if wanted == 1:
            x = c.op("ReduceMean", x, c.const([i + 2]), keepdims=1)
        elif isinstance(size, Sym) or isinstance(wanted, Sym):
            c.refuse("adaptive pooling of a free size", "output_size", "give the input's shape")
        else:
            x = _average_axis(c, x, i + 2, size, wanted)
    return x


def _average_axis(c: Lowering, x: ir.Value, axis: int, size: int, out: int) -> ir.Value:
    if not 0 < out * size <= 1 << 24:
        c.refuse(f"adaptive pooling from {size} to {out}", "output_size")
    matrix = np.zeros((out, size))
    for i in range(out):
        start, end = _window(i, size, out)
        matrix[i, start:end] = 1 / (end - start)
    rank = c.rank(x)
    if axis == rank - 1:
        return c.op("MatMul", x, c.const(matrix.T, x))
    if axis == rank - 2:
        return c.op("MatMul", c.const(matrix, x), x)
    dims = c.shape(x)
    flat = c.reshape(x, [*dims[: axis + 1], product(dims[axis + 1 :])])
    return c.reshape(c.op("MatMul", c.const(matrix, x), flat), [*dims[:axis], out, *dims[axis + 1 :]])


@aten("aten.adaptive_max_pool1d", "aten.adaptive_max_pool2d", "aten.adaptive_max_pool3d")
def maximum(c: Lowering, self: ir.Value, output_size: Any) -> Any:
    n = _axes(c)
    x, alone = batched(c, self, n)
    out = _sizes(c, x, output_size, n)
    kernel, places = _kernel(c, x, out), c.wants(1)
    if all(o == 1 for o in out) and not places:
        return unbatched(c, c.op("GlobalMaxPool", x), alone), None
    if kernel is not None:
        if not places:
            return unbatched(c, x if kernel == [1] * n else c.op("MaxPool", x, kernel_shape=kernel, strides=kernel), alone), None
        y, where = c.ops("MaxPool", x, outputs=2, kernel_shape=kernel, strides=kernel)
        where = c.op("Mod", where, c.scalar(product(c.shape(x)[2:])))
        return unbatched(c, y, alone), unbatched(c, where, alone)
    if places:
        c.refuse("places of maxima of windows of different sizes", "output_size")
    for i in range(n):
        size, wanted = c.size(x, i + 2), out[i]
        if size == wanted:
            continue
        if wanted == 1:
            x = c.op("ReduceMax", x, c.const([i + 2]), keepdims=1)
        elif isinstance(size, Sym) or isinstance(wanted, Sym):
            c.refuse("adaptive pooling of a free size", "output_size", "give the input's shape")
        else:
            x = _maximum_axis(c, x, i + 2, size, wanted)
    return unbatched(c, x, alone), None


def _maximum_axis(c: Lowering, x: ir.Value, axis: int, size: int, out: int) -> ir.Value:
    if not 0 < out <= PIECES:
        c.refuse(f"an adaptive maximum of {out} windows of different sizes", "output_size")
    pieces = []
    for i in range(out):
        start, end = _window(i, size, out)
        piece = c.op("Slice", x, c.const([start]), c.const([end]), c.const([axis]))
        pieces.append(c.op("ReduceMax", piece, c.const([axis]), keepdims=1))
    return c.op("Concat", *pieces, axis=axis)
