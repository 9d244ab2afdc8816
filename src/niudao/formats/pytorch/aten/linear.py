"""Products of matrices.

Source: aten/src/ATen/native/LinearAlgebra.cpp, Linear.cpp.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from niudao.formats.pytorch.aten.lowering import Lowering
from niudao.formats.pytorch.aten.table import aten
from niudao.ir.operators import attribute


@aten("aten.linear")
def linear(c: Lowering, input: ir.Value, weight: ir.Value, bias: ir.Value | None = None) -> ir.Value:
    if c.rank(weight) == 1:
        y = c.op("MatMul", input, weight)
    elif c.rank(input) == 2:
        return c.op("Gemm", input, weight, bias, transB=1)
    else:
        y = c.op("MatMul", input, c.op("Transpose", weight, perm=[1, 0]))
    return y if bias is None else c.op("Add", y, bias)


def _straight(c: Lowering, x: ir.Value) -> tuple[ir.Value, int]:
    """A matrix without the transposition that made it, and whether there was one."""
    node = x.producer()
    if node is not None and node.op_type == "Transpose" and attribute(node, "perm") == [1, 0] and node.inputs[0] is not None:
        return node.inputs[0], 1
    return x, 0


@aten("aten.addmm")
def addmm(c: Lowering, self: ir.Value, mat1: ir.Value, mat2: ir.Value, beta: Any = 1, alpha: Any = 1) -> ir.Value:
    b, a = float(c.number(beta, "beta")), float(c.number(alpha, "alpha"))
    right, transposed = _straight(c, mat2)
    settings = {k: v for k, v in (("alpha", a), ("beta", b)) if v != 1}
    if transposed:
        settings["transB"] = 1
    return c.op("Gemm", mat1, right, self if b else None, **settings)


@aten("aten.mm")
def mm(c: Lowering, self: ir.Value, mat2: ir.Value) -> ir.Value:
    right, transposed = _straight(c, mat2)
    return c.op("Gemm", self, right, transB=1) if transposed else c.op("MatMul", self, mat2)


@aten("aten.matmul", "aten.bmm", "aten.mv", "aten.dot", "aten.inner")
def matmul(c: Lowering, self: ir.Value, *others: ir.Value, **named: ir.Value) -> ir.Value:
    (other,) = (*others, *named.values())
    if c.call.target.startswith("aten.inner") and c.rank(other) > 1:
        c.refuse("an inner product of tensors of several axes")
    return c.op("MatMul", self, other)


def _sum(c: Lowering, x: ir.Value, beta: Any, y: ir.Value, alpha: Any) -> ir.Value:
    b, a = c.number(beta, "beta"), c.number(alpha, "alpha")
    y = y if a == 1 else c.op("Mul", y, c.const(a, y))
    if b == 0:
        return y
    return c.op("Add", x if b == 1 else c.op("Mul", x, c.const(b, x)), y)


@aten("aten.baddbmm")
def baddbmm(c: Lowering, self: ir.Value, batch1: ir.Value, batch2: ir.Value, beta: Any = 1, alpha: Any = 1) -> ir.Value:
    return _sum(c, self, beta, c.op("MatMul", batch1, batch2), alpha)


@aten("aten.addbmm")
def addbmm(c: Lowering, self: ir.Value, batch1: ir.Value, batch2: ir.Value, beta: Any = 1, alpha: Any = 1) -> ir.Value:
    return _sum(c, self, beta, c.op("ReduceSum", c.op("MatMul", batch1, batch2), c.const([0]), keepdims=0), alpha)


@aten("aten.addmv")
def addmv(c: Lowering, self: ir.Value, mat: ir.Value, vec: ir.Value, beta: Any = 1, alpha: Any = 1) -> ir.Value:
    return _sum(c, self, beta, c.op("MatMul", mat, vec), alpha)


@aten("aten.outer", "aten.ger")
def outer(c: Lowering, self: ir.Value, vec2: ir.Value) -> ir.Value:
    a, b = c.promoted(self, vec2)
    return c.op("Mul", c.op("Unsqueeze", a, c.const([1])), b)


@aten("aten.bilinear")
def bilinear(c: Lowering, input1: ir.Value, input2: ir.Value, weight: ir.Value, bias: ir.Value | None = None) -> ir.Value:
    """y[o] = x1 W[o] x2: x1 as a row before each of the `out` matrices, then a product with x2 summed."""
    rows = c.op("Unsqueeze", input1, c.const([-2, -3]))  # (..., 1, 1, in1)
    made = c.op("Squeeze", c.op("MatMul", rows, weight), c.const([-2]))  # (..., out, in2)
    y = c.op("Squeeze", c.op("MatMul", made, c.op("Unsqueeze", input2, c.const([-1]))), c.const([-1]))
    return y if bias is None else c.op("Add", y, bias)


@aten("aten.vdot")
def vdot(c: Lowering, self: ir.Value, other: ir.Value) -> ir.Value:
    return c.op("MatMul", self, other)


@aten("aten._trilinear")
def trilinear(
    c: Lowering,
    i1: ir.Value,
    i2: ir.Value,
    i3: ir.Value,
    expand1: Sequence[int],
    expand2: Sequence[int],
    expand3: Sequence[int],
    sumdim: Sequence[int],
    unroll_dim: int = 1,
) -> ir.Value:
    """What a bilinear layer is taken apart into: the product of three tensors with new axes, summed over some."""
    a, b, d = (c.op("Unsqueeze", v, c.const(list(e))) if e else v for v, e in ((i1, expand1), (i2, expand2), (i3, expand3)))
    return c.op("ReduceSum", c.op("Mul", c.op("Mul", a, b), d), c.const(list(sumdim)), keepdims=0)
