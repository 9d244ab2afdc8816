"""Reductions along axes, softmax, cumulative sums."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from niudao.formats.pytorch.aten import promotion
from niudao.formats.pytorch.aten.lowering import Lowering
from niudao.formats.pytorch.aten.sizes import Sym, product
from niudao.formats.pytorch.aten.table import aten

Dims = int | Sequence[int] | None
FLOAT, INT64, BOOL = ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.BOOL


def reduced(c: Lowering, op_type: str, x: ir.Value, dim: Dims, keepdim: bool) -> ir.Value:
    """One of ONNX's reductions; along all axes where `dim` is None or empty."""
    if c.rank(x) == 0:
        axes: list[int] = []
    else:
        axes = c.axes(x, dim)
    if not axes:
        return c.op("Abs", x) if op_type in ("ReduceL1", "ReduceL2") else x
    return c.op(op_type, x, c.const(axes), keepdims=int(keepdim))


def _typed(c: Lowering, x: ir.Value, dtype: str | None, whole: bool = True) -> ir.Value:
    """Before summing: the type that was asked for, int64 for whole numbers."""
    if dtype is not None:
        return c.cast(x, dtype)
    return x if c.is_float(x) or not whole else c.cast(x, INT64)


@aten("aten.sum")
def sum_all(c: Lowering, self: ir.Value, dtype: str | None = None) -> ir.Value:
    return reduced(c, "ReduceSum", _typed(c, self, dtype), None, keepdim=False)


@aten("aten.sum.dim_IntList")
def sum_(c: Lowering, self: ir.Value, dim: Dims, keepdim: bool = False, dtype: str | None = None) -> ir.Value:
    return reduced(c, "ReduceSum", _typed(c, self, dtype), dim, keepdim)


@aten("aten.mean")
def mean_all(c: Lowering, self: ir.Value, dtype: str | None = None) -> ir.Value:
    return reduced(c, "ReduceMean", _typed(c, self, dtype, whole=False), None, keepdim=False)


@aten("aten.mean.dim")
def mean(c: Lowering, self: ir.Value, dim: Dims, keepdim: bool = False, dtype: str | None = None) -> ir.Value:
    return reduced(c, "ReduceMean", _typed(c, self, dtype, whole=False), dim, keepdim)


def _extreme(c: Lowering, x: ir.Value, dim: Dims, keepdim: bool, largest: bool) -> ir.Value:
    op_type = "ReduceMax" if largest else "ReduceMin"
    if c.dtype(x) == BOOL:
        return c.cast(reduced(c, op_type, c.cast(x, ir.DataType.INT32), dim, keepdim), BOOL)
    return reduced(c, op_type, x, dim, keepdim)


@aten("aten.amax")
def amax(c: Lowering, self: ir.Value, dim: Dims = (), keepdim: bool = False) -> ir.Value:
    return _extreme(c, self, dim, keepdim, largest=True)


@aten("aten.amin")
def amin(c: Lowering, self: ir.Value, dim: Dims = (), keepdim: bool = False) -> ir.Value:
    return _extreme(c, self, dim, keepdim, largest=False)


@aten("aten.aminmax")
def aminmax(c: Lowering, self: ir.Value, dim: int | None = None, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    return _extreme(c, self, dim, keepdim, largest=False), _extreme(c, self, dim, keepdim, largest=True)


@aten("aten.max")
def max_all(c: Lowering, self: ir.Value) -> ir.Value:
    return _extreme(c, self, None, keepdim=False, largest=True)


@aten("aten.min")
def min_all(c: Lowering, self: ir.Value) -> ir.Value:
    return _extreme(c, self, None, keepdim=False, largest=False)


@aten("aten.max.dim")
def max_dim(c: Lowering, self: ir.Value, dim: int, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    return _extreme(c, self, dim, keepdim, largest=True), argmax(c, self, dim, keepdim)


@aten("aten.min.dim")
def min_dim(c: Lowering, self: ir.Value, dim: int, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    return _extreme(c, self, dim, keepdim, largest=False), argmin(c, self, dim, keepdim)


def _place(c: Lowering, op_type: str, x: ir.Value, dim: int | None, keepdim: bool) -> ir.Value:
    x = c.cast(x, ir.DataType.INT32) if c.dtype(x) == BOOL else x
    if c.rank(x) == 0:
        return c.const(0)
    if dim is not None:
        return c.op(op_type, x, axis=c.axis(x, dim), keepdims=int(keepdim))
    found = c.op(op_type, c.reshape(x, [-1]), axis=0, keepdims=0)
    return c.reshape(found, [1] * c.rank(x)) if keepdim else found


@aten("aten.argmax")
def argmax(c: Lowering, self: ir.Value, dim: int | None = None, keepdim: bool = False) -> ir.Value:
    return _place(c, "ArgMax", self, dim, keepdim)


@aten("aten.argmin")
def argmin(c: Lowering, self: ir.Value, dim: int | None = None, keepdim: bool = False) -> ir.Value:
    return _place(c, "ArgMin", self, dim, keepdim)


def _variance(c: Lowering, x: ir.Value, dim: Dims, correction: float | None, keepdim: bool) -> tuple[ir.Value, ir.Value]:
    """Variance and mean; `correction` is what is taken off the number of elements."""
    off = 1 if correction is None else correction
    axes = c.axes(x, dim)
    centre = c.op("ReduceMean", x, c.const(axes), keepdims=1)
    distance = c.op("Sub", x, centre)
    square = c.op("Mul", distance, distance)
    count = product(c.size(x, a) for a in axes)
    if off == 0:
        spread = c.op("ReduceMean", square, c.const(axes), keepdims=int(keepdim))
    else:
        total = c.op("ReduceSum", square, c.const(axes), keepdims=int(keepdim))
        if isinstance(count, Sym):
            divisor = c.op("Sub", c.scalar(count, c.dtype(x)), c.const(off, x))
            divisor = c.op("Max", divisor, c.const(0.0, x))
        else:
            divisor = c.const(max(count - off, 0), x)
        spread = c.op("Div", total, divisor)
    return spread, centre if keepdim else c.op("Squeeze", centre, c.const(axes))


def _correction(unbiased: bool) -> int:
    return 1 if unbiased else 0


@aten("aten.var.correction")
def var(c: Lowering, self: ir.Value, dim: Dims = None, correction: float | None = None, keepdim: bool = False) -> ir.Value:
    return _variance(c, self, dim, correction, keepdim)[0]


@aten("aten.var.dim")
def var_dim(c: Lowering, self: ir.Value, dim: Dims, unbiased: bool = True, keepdim: bool = False) -> ir.Value:
    return _variance(c, self, dim, _correction(unbiased), keepdim)[0]


@aten("aten.var")
def var_all(c: Lowering, self: ir.Value, unbiased: bool = True) -> ir.Value:
    return _variance(c, self, None, _correction(unbiased), keepdim=False)[0]


@aten("aten.std.correction")
def std(c: Lowering, self: ir.Value, dim: Dims = None, correction: float | None = None, keepdim: bool = False) -> ir.Value:
    return c.op("Sqrt", _variance(c, self, dim, correction, keepdim)[0])


@aten("aten.std.dim")
def std_dim(c: Lowering, self: ir.Value, dim: Dims, unbiased: bool = True, keepdim: bool = False) -> ir.Value:
    return c.op("Sqrt", _variance(c, self, dim, _correction(unbiased), keepdim)[0])


@aten("aten.std")
def std_all(c: Lowering, self: ir.Value, unbiased: bool = True) -> ir.Value:
    return c.op("Sqrt", _variance(c, self, None, _correction(unbiased), keepdim=False)[0])


@aten("aten.var_mean.correction")
def var_mean(
    c: Lowering, self: ir.Value, dim: Dims = None, correction: float | None = None, keepdim: bool = False
) -> tuple[ir.Value, ir.Value]:
    return _variance(c, self, dim, correction, keepdim)


@aten("aten.var_mean.dim")
def var_mean_dim(c: Lowering, self: ir.Value, dim: Dims, unbiased: bool = True, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    return _variance(c, self, dim, _correction(unbiased), keepdim)


@aten("aten.var_mean")
def var_mean_all(c: Lowering, self: ir.Value, unbiased: bool = True) -> tuple[ir.Value, ir.Value]:
    return _variance(c, self, None, _correction(unbiased), keepdim=False)


@aten("aten.std_mean.correction")
def std_mean(
    c: Lowering, self: ir.Value, dim: Dims = None, correction: float | None = None, keepdim: bool = False
) -> tuple[ir.Value, ir.Value]:
    spread, centre = _variance(c, self, dim, correction, keepdim)
    return c.op("Sqrt", spread), centre


@aten("aten.std_mean.dim")
def std_mean_dim(c: Lowering, self: ir.Value, dim: Dims, unbiased: bool = True, keepdim: bool = False) -> tuple[ir.Value, ir.Value]:
    spread, centre = _variance(c, self, dim, _correction(unbiased), keepdim)
    return c.op("Sqrt", spread), centre


@aten("aten.prod")
def prod_all(c: Lowering, self: ir.Value, dtype: str | None = None) -> ir.Value:
    return reduced(c, "ReduceProd", _typed(c, self, dtype), None, keepdim=False)


@aten("aten.prod.dim_int")
def prod(c: Lowering, self: ir.Value, dim: int, keepdim: bool = False, dtype: str | None = None) -> ir.Value:
    return reduced(c, "ReduceProd", _typed(c, self, dtype), dim, keepdim)


@aten("aten.cumsum")
def cumsum(c: Lowering, self: ir.Value, dim: int, dtype: str | None = None) -> ir.Value:
    x = _typed(c, self, dtype)
    return c.op("CumSum", x, c.const(c.axis(x, dim))) if c.rank(x) else x


@aten("aten.logsumexp")
def logsumexp(c: Lowering, self: ir.Value, dim: Dims, keepdim: bool = False) -> ir.Value:
    return reduced(c, "ReduceLogSumExp", self, dim, keepdim)


@aten("aten.any.dim", "aten.any.dims", "aten.any")
def any_(c: Lowering, self: ir.Value, dim: Dims = None, keepdim: bool = False) -> ir.Value:
    return _extreme(c, c.cast(self, BOOL), dim, keepdim, largest=True)


@aten("aten.all.dim", "aten.all.dims", "aten.all")
def all_(c: Lowering, self: ir.Value, dim: Dims = None, keepdim: bool = False) -> ir.Value:
    return _extreme(c, c.cast(self, BOOL), dim, keepdim, largest=False)


@aten("aten.count_nonzero", "aten.count_nonzero.dim_IntList")
def count_nonzero(c: Lowering, self: ir.Value, dim: Dims = None) -> ir.Value:
    return reduced(c, "ReduceSum", c.cast(c.cast(self, BOOL), INT64), dim, keepdim=False)


def norm_of(c: Lowering, x: ir.Value, p: float, dim: Dims, keepdim: bool) -> ir.Value:
    """The p-norm along axes."""
    if p == 2:
        return reduced(c, "ReduceL2", x, dim, keepdim)
    if p == 1:
        return reduced(c, "ReduceL1", x, dim, keepdim)
    if math.isinf(p):
        return reduced(c, "ReduceMax" if p > 0 else "ReduceMin", c.op("Abs", x), dim, keepdim)
    if p == 0:
        return reduced(c, "ReduceSum", c.cast(c.cast(x, BOOL), c.dtype(x)), dim, keepdim)
    powers = c.op("Pow", c.op("Abs", x), c.const(p, x))
    return c.op("Pow", reduced(c, "ReduceSum", powers, dim, keepdim), c.const(1 / p, x))


@aten("aten.linalg_vector_norm")
def vector_norm(c: Lowering, self: ir.Value, ord: float = 2, dim: Dims = None, keepdim: bool = False, dtype: str | None = None) -> ir.Value:
    return norm_of(c, _typed(c, self, dtype, whole=False), c.number(ord, "ord"), dim, keepdim)


@aten("aten.norm.ScalarOpt_dim", "aten.norm.Scalar", "aten.norm.ScalarOpt_dim_dtype", "aten.norm")
def norm(c: Lowering, self: ir.Value, p: float | None = 2, dim: Dims = None, keepdim: bool = False, dtype: str | None = None) -> ir.Value:
    return norm_of(c, _typed(c, self, dtype, whole=False), 2 if p is None else c.number(p, "p"), dim, keepdim)


@aten("aten.norm.ScalarOpt_dtype")
def norm_typed(c: Lowering, self: ir.Value, p: float | None, dtype: str) -> ir.Value:
    return norm_of(c, c.cast(self, dtype), 2 if p is None else c.number(p, "p"), None, keepdim=False)


@aten("aten.frobenius_norm.dim", "aten.frobenius_norm")
def frobenius_norm(c: Lowering, self: ir.Value, dim: Dims = None, keepdim: bool = False) -> ir.Value:
    return reduced(c, "ReduceL2", self, dim, keepdim)


def _softmaxed(c: Lowering, op_type: str, x: ir.Value, dim: int, dtype: Any) -> ir.Value:
    x = c.cast(x, dtype) if isinstance(dtype, str) else x
    if c.rank(x) == 0:
        return c.const(1.0 if op_type == "Softmax" else 0.0, x)
    if promotion.category(c.dtype(x)) != 2:
        x = c.cast(x, FLOAT)
    return c.op(op_type, x, axis=c.axis(x, dim))


@aten("aten.softmax.int", "aten.softmax", "aten.special_softmax", "aten._safe_softmax")
def softmax(c: Lowering, self: ir.Value, dim: int, dtype: str | None = None) -> ir.Value:
    return _softmaxed(c, "Softmax", self, dim, dtype)


@aten("aten._softmax")
def softmax_core(c: Lowering, self: ir.Value, dim: int, half_to_float: bool = False) -> ir.Value:
    return _softmaxed(c, "Softmax", self, dim, "float32" if half_to_float else None)


@aten("aten.log_softmax.int", "aten.log_softmax", "aten.special_log_softmax")
def log_softmax(c: Lowering, self: ir.Value, dim: int, dtype: str | None = None) -> ir.Value:
    return _softmaxed(c, "LogSoftmax", self, dim, dtype)


@aten("aten._log_softmax")
def log_softmax_core(c: Lowering, self: ir.Value, dim: int, half_to_float: bool = False) -> ir.Value:
    return _softmaxed(c, "LogSoftmax", self, dim, "float32" if half_to_float else None)
