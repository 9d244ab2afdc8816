"""Copies and types, dropout, Einstein sums, distances, weights that are computed from others, and what has no place here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.pytorch.aten.lowering import Array, Lowering
from niudao.formats.pytorch.aten.shape import expand
from niudao.formats.pytorch.aten.sizes import Number
from niudao.formats.pytorch.aten.table import aten


@aten("aten.clone", "aten.contiguous", "aten.detach", "aten.alias", "aten.lift_fresh", "aten.lift_fresh_copy", "aten.lift", "aten.positive",
      "aten.resolve_conj", "aten.resolve_neg", "aten.detach_copy", "aten.alias_copy", "aten.cpu", "aten.cuda", "aten.data",
      "aten.requires_grad", "aten.pin_memory", "aten.to_dense")  # fmt: skip
def same(c: Lowering, self: ir.Value, *args: Any, **kwargs: Any) -> ir.Value:
    return self


@aten("aten.to.dtype")
def to_dtype(
    c: Lowering, self: ir.Value, dtype: str | None, non_blocking: bool = False, copy: bool = False, memory_format: Any = None
) -> ir.Value:
    return c.cast(self, dtype) if dtype else self


@aten("aten.to.device", "aten.to.prim_Device")
def to_device(
    c: Lowering,
    self: ir.Value,
    device: Any = None,
    dtype: str | None = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = None,
) -> ir.Value:
    return c.cast(self, dtype) if dtype else self


@aten("aten.to.other", "aten.to.prim_other")
def to_other(
    c: Lowering, self: ir.Value, other: ir.Value, non_blocking: bool = False, copy: bool = False, memory_format: Any = None
) -> ir.Value:
    return c.cast(self, c.dtype(other))


@aten("aten.to.prim_dtype")
def to_prim_dtype(c: Lowering, self: ir.Value, dtype: str | None = None, non_blocking: bool = False, copy: bool = False) -> ir.Value:
    return c.cast(self, dtype) if dtype else self


@aten("aten.to.dtype_layout", "aten._to_copy", "aten.to")
def to_copy(
    c: Lowering,
    self: ir.Value,
    dtype: str | None = None,
    layout: Any = None,
    device: Any = None,
    pin_memory: Any = None,
    non_blocking: bool = False,
    copy: bool = False,
    memory_format: Any = None,
) -> ir.Value:
    return c.cast(self, dtype) if dtype else self


@aten("aten.type_as")
def type_as(c: Lowering, self: ir.Value, other: ir.Value) -> ir.Value:
    return c.cast(self, c.dtype(other))


def _cast(name: str, dtype: str) -> None:
    @aten(f"aten._cast_{name}")
    def cast(c: Lowering, self: ir.Value, non_blocking: bool = False) -> ir.Value:
        return c.cast(self, dtype)


for _name, _dtype in {"Float": "float32", "Double": "float64", "Half": "float16", "Int": "int32", "Long": "int64", "Byte": "uint8"}.items():
    _cast(_name, _dtype)


@aten("aten.dropout", "aten.feature_dropout", "aten.alpha_dropout", "aten.feature_alpha_dropout")
def dropout(c: Lowering, input: ir.Value, p: float, train: bool) -> ir.Value:
    """Dropout of a network at rest is a layer that does nothing; its node keeps the layer's name."""
    if train and p > 0:
        c.refuse("it drops elements at random", "train", "call eval() before the network is saved")
    return c.op("Dropout", input, c.const(float(p)))


@aten("aten.native_dropout")
def native_dropout(c: Lowering, input: ir.Value, p: float, train: bool | None) -> tuple[ir.Value, ir.Value]:
    return dropout(c, input, p, bool(train)), expand(c, c.const(True), c.shape(input))


@aten("aten.einsum")
def einsum(c: Lowering, equation: str, tensors: Sequence[ir.Value], path: Any = None) -> ir.Value:
    return c.op("Einsum", *c.promoted(*tensors), equation=equation.replace(" ", ""))


@aten("aten.meshgrid", "aten.meshgrid.indexing")
def meshgrid(c: Lowering, tensors: Sequence[ir.Value], indexing: str = "ij") -> list[ir.Value]:
    order = list(range(len(tensors)))
    if indexing == "xy" and len(tensors) > 1:
        order[:2] = [1, 0]
    sizes: list[Number] = [c.size(tensors[i], 0) if c.rank(tensors[i]) else 1 for i in order]
    found = []
    for i, x in enumerate(tensors):
        place = order.index(i)
        found.append(expand(c, c.reshape(x, [-1 if k == place else 1 for k in range(len(order))]), sizes))
    return found


@aten("aten.cdist", "aten._cdist_forward", "aten._euclidean_dist")
def cdist(c: Lowering, x1: ir.Value, x2: ir.Value, p: float = 2, compute_mode: int | None = None) -> ir.Value:
    from niudao.formats.pytorch.aten.reduce import norm_of

    a, b = c.promoted(x1, x2)
    return norm_of(c, c.op("Sub", c.op("Unsqueeze", a, c.const([-2])), c.op("Unsqueeze", b, c.const([-3]))), p, [-1], keepdim=False)


def _normed(v: Array, g: Array, dim: int) -> Array:
    axes = tuple(i for i in range(v.ndim) if i != dim)
    wide = v.astype(np.float64)
    result: Array = (wide * (g.astype(np.float64) / np.sqrt((wide**2).sum(axes, keepdims=True)))).astype(v.dtype)
    return result


@aten("aten._weight_norm")
def weight_norm(c: Lowering, v: ir.Value, g: ir.Value, dim: int = 0) -> ir.Value:
    """g v / |v|, the norm over all axes but one (-1: over all). Where both are weights, their product is one."""
    axis = c.axis(v, dim) if dim >= 0 else -1
    held, scale = v.const_value, g.const_value
    if held is not None and scale is not None and c.dtype(v) == ir.DataType.FLOAT:
        return c.b.lazy(lambda: _normed(held.numpy(), scale.numpy(), axis), tuple(held.shape.numpy()), f"{_owner(v.name or '')}weight")
    axes = [i for i in range(c.rank(v)) if i != axis]
    return c.op("Mul", v, c.op("Div", g, c.op("ReduceL2", v, c.const(axes), keepdims=1)))


def _owner(a: str) -> str:
    """ "conv." of conv.weight_v and conv.weight_g, also of conv.parametrizations.weight.original1."""
    path = a.rpartition(".")[0]
    path = path.removesuffix("parametrizations.weight").removesuffix(".")
    return f"{path}." if path else ""


@aten("aten._weight_norm_interface")
def weight_norm_interface(c: Lowering, v: ir.Value, g: ir.Value, dim: int = 0) -> tuple[ir.Value, ir.Value]:
    return weight_norm(c, v, g, dim), norm_except_dim(c, v, 2, dim)


@aten("aten.norm_except_dim")
def norm_except_dim(c: Lowering, v: ir.Value, pow: int = 2, dim: int = 0) -> ir.Value:
    from niudao.formats.pytorch.aten.reduce import norm_of

    return norm_of(c, v, pow, [i for i in range(c.rank(v)) if dim < 0 or i != c.axis(v, dim)], keepdim=dim >= 0)


@aten("aten.linalg_cross", "aten.cross")
def cross(c: Lowering, self: ir.Value, other: ir.Value, dim: int | None = -1) -> ir.Value:
    a, b = c.promoted(self, other)
    axis = c.axis(a, -1 if dim is None else dim)
    one, two = c.const([1, 2, 0]), c.const([2, 0, 1])

    def turned(x: ir.Value, order: ir.Value) -> ir.Value:
        return c.op("Gather", x, order, axis=axis)

    return c.op("Sub", c.op("Mul", turned(a, one), turned(b, two)), c.op("Mul", turned(a, two), turned(b, one)))


@aten("aten.trace")
def trace(c: Lowering, self: ir.Value) -> ir.Value:
    from niudao.formats.pytorch.aten.indexing import diagonal

    return c.op("ReduceSum", diagonal(c, self), c.const([0]), keepdims=0)


@aten("aten.diag_embed")
def diag_embed(c: Lowering, self: ir.Value, offset: int = 0, dim1: int = -2, dim2: int = -1) -> ir.Value:
    rank = c.rank(self) + 1
    if offset or (c.axis(rank, dim1), c.axis(rank, dim2)) != (rank - 2, rank - 1):
        c.refuse("a diagonal beside the main one, or other axes than the last two", "offset")
    n = c.fixed(self, -1)
    return c.op("Mul", c.op("Unsqueeze", self, c.const([rank - 1])), c.const(np.eye(n), self))


@aten("aten._assert_tensor_metadata", "aten._assert_async", "aten._assert_scalar", "aten.sym_constrain_range",
      "aten.sym_constrain_range_for_size", "aten._functional_assert_async", "aten.warn", "aten._print")  # fmt: skip
def nothing(c: Lowering, *args: Any, **kwargs: Any) -> None:
    return None


@aten("aten.complex", "aten.polar", "aten.view_as_complex", "aten.view_as_real", "aten.real", "aten.imag", "aten.conj", "aten._conj",
      "aten.angle", "aten.stft", "aten.istft", "aten.fft_fft", "aten.fft_ifft", "aten.fft_rfft", "aten.fft_irfft", "aten.fft_fft2",
      "aten.fft_ifft2", "aten.fft_rfft2", "aten.fft_irfft2", "aten.fft_fftn", "aten.fft_ifftn", "aten.fft_rfftn", "aten.fft_irfftn",
      "aten._fft_r2c", "aten._fft_c2r", "aten._fft_c2c")  # fmt: skip
def complex_numbers(c: Lowering, *args: Any, **kwargs: Any) -> ir.Value:
    c.refuse("complex numbers have no place here")


@aten("aten.quantize_per_tensor", "aten.quantize_per_channel", "aten.dequantize", "aten.quantize_per_tensor_dynamic", "aten.int_repr",
      "aten.q_scale", "aten.q_zero_point")  # fmt: skip
def quantised(c: Lowering, *args: Any, **kwargs: Any) -> ir.Value:
    c.refuse("torch's quantised tensors are not read", rewrite="save the float network")
