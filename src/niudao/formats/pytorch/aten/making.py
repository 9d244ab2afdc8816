"""Tensors made from nothing: filled ones, ranges. Small ones of known shape are constants."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.pytorch.aten import promotion
from niudao.formats.pytorch.aten.lowering import Lowering, Tensor
from niudao.formats.pytorch.aten.shape import expand
from niudao.formats.pytorch.aten.sizes import Number, Sym
from niudao.formats.pytorch.aten.table import aten

_SMALL = 1 << 12
"""Elements above which a filled tensor is not stored but made when the network runs."""


def filled(c: Lowering, dims: Sequence[Number], value: Tensor, dtype: ir.DataType) -> ir.Value:
    """A tensor of this shape, filled with a number or with a tensor of one element."""
    if isinstance(value, (ir.Value, Sym)):
        return expand(c, c.tensor(value, dtype), dims)
    if all(isinstance(d, int) for d in dims):
        count = int(np.prod(np.asarray(dims, object), initial=1))
        if count <= _SMALL:
            return c.const(np.broadcast_to(np.asarray(value), tuple(int(d) for d in dims if isinstance(d, int))), dtype)
    element = np.asarray([value]).astype(dtype.numpy())
    return c.shaped(c.op("ConstantOfShape", c.vector(dims), value=element), list(dims))


def _dtype(given: str | None, value: Tensor = 0.0, like: ir.DataType | None = None) -> ir.DataType:
    if given is not None:
        return promotion.named(given)
    if like is not None:
        return like
    if isinstance(value, ir.Value):
        return value.dtype or ir.DataType.FLOAT
    return ir.DataType.BOOL if isinstance(value, bool) else ir.DataType.INT64 if isinstance(value, (int, Sym)) else ir.DataType.FLOAT


@aten("aten.zeros", "aten.empty")
def zeros(
    c: Lowering,
    size: Sequence[Number],
    dtype: str | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> ir.Value:
    return filled(c, size, 0, _dtype(dtype))


@aten("aten.ones")
def ones(
    c: Lowering, size: Sequence[Number], dtype: str | None = None, layout: Any = None, device: Any = None, pin_memory: Any = None
) -> ir.Value:
    return filled(c, size, 1, _dtype(dtype))


@aten("aten.full")
def full(
    c: Lowering,
    size: Sequence[Number],
    fill_value: Tensor,
    dtype: str | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> ir.Value:
    return filled(c, size, fill_value, _dtype(dtype, fill_value))


@aten("aten.zeros_like", "aten.empty_like")
def zeros_like(
    c: Lowering,
    self: ir.Value,
    dtype: str | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> ir.Value:
    return filled(c, c.shape(self), 0, _dtype(dtype, like=c.dtype(self)))


@aten("aten.ones_like")
def ones_like(
    c: Lowering,
    self: ir.Value,
    dtype: str | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> ir.Value:
    return filled(c, c.shape(self), 1, _dtype(dtype, like=c.dtype(self)))


@aten("aten.full_like")
def full_like(
    c: Lowering,
    self: ir.Value,
    fill_value: Tensor,
    dtype: str | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    memory_format: Any = None,
) -> ir.Value:
    return filled(c, c.shape(self), fill_value, _dtype(dtype, like=c.dtype(self)))


@aten("aten.new_zeros", "aten.new_empty")
def new_zeros(
    c: Lowering,
    self: ir.Value,
    size: Sequence[Number],
    dtype: str | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> ir.Value:
    return filled(c, size, 0, _dtype(dtype, like=c.dtype(self)))


@aten("aten.new_ones")
def new_ones(
    c: Lowering,
    self: ir.Value,
    size: Sequence[Number],
    dtype: str | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> ir.Value:
    return filled(c, size, 1, _dtype(dtype, like=c.dtype(self)))


@aten("aten.new_full")
def new_full(
    c: Lowering,
    self: ir.Value,
    size: Sequence[Number],
    fill_value: Tensor,
    dtype: str | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> ir.Value:
    return filled(c, size, fill_value, _dtype(dtype, like=c.dtype(self)))


@aten("aten.fill")
def fill(c: Lowering, self: ir.Value, value: Tensor) -> ir.Value:
    return filled(c, c.shape(self), value, c.dtype(self))


@aten("aten.zero")
def zero(c: Lowering, self: ir.Value) -> ir.Value:
    return filled(c, c.shape(self), 0, c.dtype(self))


@aten("aten.copy")
def copy(c: Lowering, self: ir.Value, src: Tensor, non_blocking: bool = False) -> ir.Value:
    return expand(c, c.tensor(src, self), c.shape(self))


def _range(c: Lowering, start: Any, end: Any, step: Any, dtype: str | None) -> ir.Value:
    numbers = [start, end, step]
    whole = all(isinstance(n, (int, Sym)) for n in numbers)
    wanted = promotion.named(dtype) if dtype else ir.DataType.INT64 if whole else ir.DataType.FLOAT
    if not any(isinstance(n, (Sym, ir.Value)) for n in numbers):
        count = max(0, int(np.ceil((end - start) / step)))
        if count > _SMALL * 16:
            c.refuse(f"a range of {count:,} numbers", "end")
        kind = np.int64 if whole else np.float64
        return c.const((start + step * np.arange(count)).astype(kind), wanted)
    if any(isinstance(n, float) for n in numbers):
        c.refuse("a range of fractions whose length is free")
    y = c.op("Range", *(n if isinstance(n, ir.Value) else c.scalar(n) for n in numbers))
    if step == 1 and not isinstance(end, ir.Value) and not isinstance(start, ir.Value):
        c.shaped(y, [end - start])
    return c.cast(y, wanted)


@aten("aten.arange")
def arange(c: Lowering, end: Any, dtype: str | None = None, layout: Any = None, device: Any = None, pin_memory: Any = None) -> ir.Value:
    return _range(c, 0, end, 1, dtype)


@aten("aten.arange.start")
def arange_start(
    c: Lowering, start: Any, end: Any, dtype: str | None = None, layout: Any = None, device: Any = None, pin_memory: Any = None
) -> ir.Value:
    return _range(c, start, end, 1, dtype)


@aten("aten.arange.start_step")
def arange_step(
    c: Lowering,
    start: Any,
    end: Any,
    step: Any = 1,
    dtype: str | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> ir.Value:
    return _range(c, start, end, step, dtype)


@aten("aten.linspace")
def linspace(
    c: Lowering,
    start: float,
    end: float,
    steps: int,
    dtype: str | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
) -> ir.Value:
    n = c.whole(steps, "steps")
    array = np.linspace(c.number(start, "start"), c.number(end, "end"), min(n, 1 << 20))
    return c.const(array.astype(np.float32), promotion.named(dtype) if dtype else None)


@aten("aten.eye", "aten.eye.m")
def eye(
    c: Lowering, n: int, m: Any = None, dtype: str | None = None, layout: Any = None, device: Any = None, pin_memory: Any = None
) -> ir.Value:
    rows = c.whole(n, "n")
    columns = c.whole(m, "m") if m is not None else rows
    if rows * columns > 1 << 24:
        c.refuse(f"a unit matrix of {rows} x {columns}", "n")
    return c.const(np.eye(rows, columns), _dtype(dtype))


@aten("aten.rand", "aten.randn", "aten.randint", "aten.rand_like", "aten.randn_like", "aten.randperm", "aten.bernoulli", "aten.multinomial",
      "aten.normal", "aten.uniform", "aten.normal_functional", "aten.randint_like")  # fmt: skip
def random(c: Lowering, *args: Any, **kwargs: Any) -> ir.Value:
    c.refuse("it draws random numbers")
