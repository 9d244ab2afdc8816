"""Gemm and MatMul: InnerProduct where the right side is known, a 1x1 convolution where the left one is, sums of products where neither is.

Source: BVLC Caffe, inner_product_layer.cpp.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.broadcast import MOST, operand, repeated, total
from niudao.formats.caffe.emit.cut import tiled
from niudao.formats.caffe.emit.graph import Array, Net, Top, Weight, constant, refuse
from niudao.formats.caffe.emit.order import permuted
from niudao.formats.caffe.emit.reduce import reduced
from niudao.formats.caffe.emit.table import emits
from niudao.formats.caffe.emit.view import linear, reshaped
from niudao.ir.operators import attribute

_PIECES = 128


@emits("Gemm")
def _gemm(net: Net, node: ir.Node) -> None:
    a, b, c = node.inputs[0], node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    alpha, beta = float(attribute(node, "alpha", 1.0)), float(attribute(node, "beta", 1.0))
    turned, flipped = bool(attribute(node, "transA", 0)), bool(attribute(node, "transB", 0))
    if a is None or b is None:
        refuse("an input is missing")
    if net.is_constant(a):  # (A B)^T = B^T A^T
        rows = net.shape_of(a)[1 if turned else 0]
        y = net.get(b)
        y = y if flipped else permuted(net, y, (1, 0))
        y = permuted(net, inner(net, y, a, rows, transposed=turned, factor=alpha, suffix="_product"), (1, 0))
    else:
        x = net.get(a)
        x = permuted(net, x, (1, 0)) if turned else x
        if net.is_constant(b):
            columns = net.shape_of(b)[0 if flipped else 1]
            bias = _bias(net, c, columns, beta)
            y = inner(net, x, b, columns, transposed=not flipped, factor=alpha, bias=bias)
            c = None if bias is not None else c
        else:
            other = net.get(b)
            y = multiplied(net, x, permuted(net, other, (1, 0)) if flipped else other)
            y = linear(net, reshaped(net, y, y.shape[1:]), alpha, 0, "_alpha")
    if c is not None and beta != 0:
        term = operand(net, c)
        if beta != 1:
            term = linear(net, term, beta, 0, "_beta") if isinstance(term, Top) else term * np.float32(beta)
        y = total(net, [y, term], suffix="_bias")
    net.put(node.outputs[0], y)


def _bias(net: Net, value: ir.Value | None, outputs: int, factor: float) -> Weight | None:
    """A constant that is the same for every row."""
    if value is None or not net.is_constant(value) or factor == 0:
        return None
    shape = net.shape_of(value)
    if prod(shape) not in (1, outputs) or (shape and shape[-1] != prod(shape)):
        return None
    return net.weight(value, (outputs,), lambda a: np.broadcast_to((a * np.float32(factor) if factor != 1 else a).reshape(-1), (outputs,)))


def inner(
    net: Net,
    x: Top,
    matrix: ir.Value,
    outputs: int,
    *,
    transposed: bool,
    factor: float = 1.0,
    bias: Weight | None = None,
    suffix: str = "",
) -> Top:
    """x W^T over the last axis.

    Args:
        net: The network.
        x: The blob.
        matrix: The constant, W, or its transpose.
        outputs: How many numbers the last axis has then.
        transposed: Whether the constant is (in, out), the transpose of what Caffe holds.
        factor: What W is multiplied by.
        bias: (outputs,), added.
        suffix: Of the layer.
    """
    inputs = x.shape[-1]
    if inputs is None:
        refuse("it multiplies along the free batch", rewrite="fix the batch (--batch)")

    def change(a: Array) -> Array:
        held = a.reshape(inputs, outputs).T if transposed else a
        return held * np.float32(factor) if factor != 1 else held

    weight = net.weight(matrix, (outputs, inputs), change)
    return _product(net, x, [weight] if bias is None else [weight, bias], suffix)


def _product(net: Net, x: Top, weights: list[Weight], suffix: str = "") -> Top:
    params = {"num_output": weights[0].shape[0], "bias_term": len(weights) > 1, "axis": x.rank - 1}
    said = {k: v for k, v in params.items() if (k, v) not in (("bias_term", True), ("axis", 1))}
    return net.layer(
        "InnerProduct", x, {"inner_product_param": said}, shape=(*x.shape[:-1], weights[0].shape[0]), weights=weights, suffix=suffix
    )


@emits("MatMul")
def _matmul(net: Net, node: ir.Node) -> None:
    a, b = node.inputs
    target = net.dims(node.outputs[0])
    if a is None or b is None:
        refuse("an input is missing")
    if not target:
        refuse("it gives a single number without axes, and a blob has one at least")
    if net.is_constant(b):
        y = _by_right(net, net.get(a), b)
    elif net.is_constant(a):
        y = _by_left(net, a, net.get(b))
    else:
        x, other = net.get(a), net.get(b)
        x = reshaped(net, x, (1, *x.shape)) if x.rank == 1 and x.shape[0] is not None else x
        other = reshaped(net, other, (*other.shape, 1)) if other.rank == 1 else other
        y = multiplied(net, x, other)
    net.put(node.outputs[0], reshaped(net, y, target))


def _by_right(net: Net, x: Top, value: ir.Value) -> Top:
    """x times a known matrix, or a stack of them."""
    shape = net.shape_of(value)
    if len(shape) == 1:
        return inner(net, x, value, 1, transposed=True)
    if prod(shape[:-2]) == 1:
        rank = max(x.rank, len(shape))
        y = inner(net, x, value, shape[-1], transposed=True)
        return reshaped(net, y, (1,) * (rank - x.rank) + y.shape) if rank > x.rank else y
    held = np.asarray(net.constant(value), np.float32)
    axes = [i - len(shape) for i, d in enumerate(shape[:-2]) if d != 1]
    if len(axes) > 1:
        refuse("its constant differs along several axes", rewrite="join them into one")
    axis, count = x.rank + axes[0], shape[axes[0]]
    if axis < 0 or x.shape[axis] is None or count > _PIECES:
        refuse(f"its constant is a stack of {count} matrices")
    stack = held.reshape(count, *shape[-2:])
    net.note("a stack of matrices as one InnerProduct each")
    one = x.shape[axis] == 1
    parts = [x] * count if one else net.slices(x, axis, range(1, count), "_slice")
    made = [_product(net, t, [constant(np.ascontiguousarray(m.T))], f"_{i}") for i, (t, m) in enumerate(zip(parts, stack, strict=True))]
    return net.concat(made, axis, "_concat")


def _by_left(net: Net, value: ir.Value, x: Top) -> Top:
    """A known matrix times x: a convolution with a kernel of one over the axis before the last."""
    shape = net.shape_of(value)
    if prod(shape[:-2]) != 1:
        refuse("its left side is a stack of constant matrices")
    rows, inputs = (1, shape[0]) if len(shape) == 1 else shape[-2:]
    if x.rank == 1:
        y = _product(net, x, [net.weight(value, (rows, inputs))])
        return y
    axis = x.rank - 2
    if x.shape[axis] is None:
        refuse("it multiplies along the free batch", rewrite="fix the batch (--batch)")
    if axis == 0:
        x, axis = reshaped(net, x, (1, *x.shape)), 1
    net.note("a constant matrix on the left as a convolution with a kernel of one")
    params = {"num_output": rows, "bias_term": False, "kernel_size": [1]}
    if axis != 1:
        params["axis"] = axis
    made = (*x.shape[:axis], rows, x.shape[-1])
    return net.layer("Convolution", x, {"convolution_param": params}, shape=made, weights=[net.weight(value, (rows, inputs, 1))])


def multiplied(net: Net, a: Top, b: Top) -> Top:
    """The matrix product of two blobs: b repeated for every row of a, times a, and summed up."""
    rank = max(a.rank, b.rank, 3)
    if (a.rank < rank and a.shape[0] is None) or (b.rank < rank and b.shape[0] is None):
        refuse("the free batch meets another axis", rewrite="fix the batch (--batch)")
    a, b = (reshaped(net, t, (1,) * (rank - t.rank) + t.shape) for t in (a, b))
    if a.shape[:-2] != b.shape[:-2]:
        a, b = repeated(net, a, (*b.shape[:-2], 1, 1)), repeated(net, b, (*a.shape[:-2], 1, 1))
    *lead, rows, inner_size = a.shape
    columns = b.shape[-1]
    if rows is None or inner_size is None or columns is None or b.shape[-2] != inner_size:
        refuse("it multiplies along the free batch", rewrite="fix the batch (--batch)")
    size = prod(d or 1 for d in lead) * rows * inner_size * columns
    if size > MOST:
        refuse(f"neither side is constant, and Caffe would have to hold its {size} products at once")
    net.note("a product of two computed matrices as the sum of all products")
    wide = tiled(net, reshaped(net, b, (*lead, 1, inner_size, columns)), len(lead), rows, "_tile")
    terms = net.broadcast("Scale", wide, a, 0, "_products")
    y = reduced(net, terms, [len(lead) + 1], "SUM")
    return reshaped(net, replace(y, nonnegative=a.nonnegative and b.nonnegative), (*lead, rows, columns))
