"""Arithmetic of two or more values: merging layers, Rescaling for a number, a frozen BatchNormalization for an array."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.emit.activation import clip, merge, relu, scale
from niudao.formats.keras.emit.graph import Arg, Array, Dim, Net, Tensor, refuse
from niudao.formats.keras.emit.norm import affine
from niudao.formats.keras.emit.recurrent import sizes
from niudao.formats.keras.emit.table import emits

_MERGE = {"Add": "Add", "Sum": "Add", "Mul": "Multiply", "Sub": "Subtract", "Max": "Maximum", "Min": "Minimum", "Mean": "Average"}


@emits("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean")
def arithmetic(net: Net, node: ir.Node) -> None:
    """One layer, whichever fits what the inputs are."""
    values = [v for v in node.inputs if v is not None]
    if len(values) == 1:
        net.put(node.outputs[0], net.raw(values[0]))
        return
    if any(net.is_constant(v) for v in values):
        if len(values) != 2:
            refuse("a constant among several inputs", rewrite="add it in a node of its own")
        right = net.is_constant(values[1])
        array = net.constant(values[1] if right else values[0])
        assert array is not None
        x = values[0] if right else values[1]
        net.put(node.outputs[0], with_constant(net, node, x, array, right))
        return
    for k, v in enumerate(values if len(values) == 2 else ()):  # zeros for the size of the batch, as an initial state
        other = values[1 - k]
        if not net.has(v) and net.has(other) and net.is_zero(v) and sizes(net, v)[1:] == net.dims(other)[1:]:
            net.put(node.outputs[0], with_constant(net, node, other, np.zeros((), np.float32), right=k == 1))
            return
    tensors = [net.raw(v) for v in values]
    first = tensors[0]
    together = all(t.scramble == first.scramble and t.axes == first.axes and t.shape == first.shape for t in tensors)
    if not together:
        tensors = net.common([net.get(v) for v in values])
    out = shape_of(net, node, tensors[0])
    axes = tensors[0].axes
    if node.op_type == "Div":
        y = net.operation("keras.src.ops.numpy", "Divide", "divide", tensors, (Arg(0), Arg(1)), shape=out, axes=axes)
    else:
        y = net.layer(_MERGE[node.op_type], tensors, {}, shape=out, axes=axes)
    positive = node.op_type != "Sub" and (
        all(t.nonnegative for t in tensors) or (node.op_type == "Max" and any(t.nonnegative for t in tensors))
    )
    net.put(node.outputs[0], replace(y, scramble=first.scramble if together else None, nonnegative=positive))


def shape_of(net: Net, node: ir.Node, t: Tensor) -> list[Dim]:
    """Shape in Keras of a node's output that lies as `t` does."""
    dims = net.dims(node.outputs[0])
    shape = list(t.shape)
    for i, a in enumerate(t.axes):
        if a is not None and a > 0:
            shape[a] = dims[i]
    return shape


def with_constant(net: Net, node: ir.Node, value: ir.Value, array: Array, right: bool) -> Tensor:
    """x op c, or c op x where not `right`."""
    op = node.op_type
    x = net.raw(value)
    rank = len(x.axes)
    if value.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16):
        refuse("it computes with whole numbers", rewrite="cast to float first")
    if array.ndim > rank or (array.ndim == rank and rank and array.shape[0] != 1):
        refuse("its constant differs along the batch or has more axes than its input")
    if not np.isfinite(array).all():
        refuse("its constant holds values that are not finite")
    if array.size == 1 and op != "Mean":
        c = float(array.reshape(-1)[0])
        return with_number(net, op, x, c, right)
    x = net.get(value)
    full = array.reshape((1,) * (rank - array.ndim) + array.shape).astype(np.float32)
    dims = net.dims(value)
    if any(c != 1 and d is not None and d == 1 for c, d in zip(full.shape, dims, strict=True)):
        refuse("its constant is larger than its input", rewrite="repeat the input first")
    if op == "Div" and right:
        if (full == 0).any():
            refuse("its divisor holds zeros")
        full, op = (1.0 / full.astype(np.float64)).astype(np.float32), "Mul"
    if op in ("Max", "Min"):
        if np.abs(full).max() > 1e4:
            refuse("bounds so far from zero cannot be shifted exactly")
        net.note("the extreme with an array written as a shifted relu")
        sign = 1 if op == "Max" else -1
        y = x if sign == 1 else scale(net, x, -1, 0, "_minus")
        y = relu(net, plus(net, y, -sign * full, dims), None, "_relu")
        y = plus(net, y, sign * full, dims)
        return y if sign == 1 else scale(net, y, -1, 0)
    if op not in ("Add", "Sub", "Mul", "Sum"):
        refuse(f"no layer takes the {op} with an array", rewrite="use one number, or split it by channels")
    minus = op == "Sub" and not right
    if op == "Sub":
        full, op = (full, "Add") if minus else (-full, "Add")
    if minus:
        x = scale(net, x, -1, 0, "_minus")
    return by_array(net, x, full, dims, "Mul" if op == "Mul" else "Add")


def plus(net: Net, x: Tensor, full: Array, dims: tuple[Dim, ...]) -> Tensor:
    """x + array."""
    return by_array(net, x, full.astype(np.float32), dims, "Add")


def by_array(net: Net, x: Tensor, full: Array, dims: tuple[Dim, ...], op: str) -> Tensor:
    """x + array or x * array: along one axis where the array has no more."""
    wide = [i for i, c in enumerate(full.shape) if c != 1]
    place = x.axes[wide[0]] if len(wide) == 1 else None
    if place is not None and (place == len(x.shape) - 1 or any(d is None for d in dims[1:])):
        x = net.last_axis(x, wide[0])
        row = full.reshape(-1)
        return affine(net, x, row if op == "Mul" else None, row if op != "Mul" else None)
    return everywhere(net, x, full, dims, op)


def everywhere(net: Net, x: Tensor, full: Array, dims: tuple[Dim, ...], op: str) -> Tensor:
    """A number of its own for every element: flattened, a frozen BatchNormalization of that many channels, and back."""
    if any(d is None for d in dims[1:]):
        refuse("its constant has more axes than one and a size is free", rewrite="give the input sizes")
    net.note("a constant array applied through a flattened frozen BatchNormalization")
    size = [1, *(int(d or 1) for d in dims[1:])]
    order = [i for _, i in sorted((a, i) for i, a in enumerate(x.axes) if a is not None)]
    rest = [i for i in range(len(size)) if i not in order]
    row = np.broadcast_to(full, size).transpose(*order, *rest).reshape(-1)
    shape, axes = x.shape, x.axes
    flat = net.reshaped(x, (len(row),), (0, 1)) if len(shape) != 2 else replace(x, axes=(0, 1))
    y = affine(net, flat, row if op == "Mul" else None, row if op != "Mul" else None)
    if len(shape) == 2:
        return replace(y, axes=axes)
    return net.reshaped(y, shape[1:], axes)


def with_number(net: Net, op: str, x: Tensor, c: float, right: bool) -> Tensor:
    """x op c for one number."""
    if op in ("Add", "Sum"):
        return x if c == 0 else replace(scale(net, x, 1, c), nonnegative=x.nonnegative and c >= 0)
    if op == "Sub":
        return scale(net, x, 1, -c) if right else scale(net, x, -1, c)
    if op == "Mul":
        return replace(scale(net, x, c, 0), nonnegative=x.nonnegative and c >= 0)
    if op == "Div" and right:
        if c == 0:
            refuse("it divides by zero")
        return replace(scale(net, x, 1 / c, 0), nonnegative=x.nonnegative and c > 0)
    if op == "Div":
        y = net.operation("keras.src.ops.numpy", "Divide", "divide", [x], (c, Arg(0)), shape=x.shape, axes=x.axes)
        return replace(y, scramble=x.scramble)
    if op == "Max":
        return relu(net, x) if c == 0 else clip(net, x, c, None)
    return clip(net, x, None, c)


@emits("Pow")
def power(net: Net, node: ir.Node) -> None:
    """Small whole exponents as products; others only where `keras.ops` may be used."""
    array = net.constant(node.inputs[1])
    if array is None or array.size != 1:
        refuse("its exponent is no single number")
    c = float(array.reshape(-1)[0])
    x = net.raw(node.inputs[0])
    if c == 1:
        net.put(node.outputs[0], x)
    elif c == 2:
        net.put(node.outputs[0], replace(merge(net, "Multiply", [x, x]), nonnegative=True))
    elif c == 3:
        net.put(node.outputs[0], merge(net, "Multiply", [x, x, x]))
    else:
        y = net.operation("keras.src.ops.numpy", "Power", "power", [x], (Arg(0), c), shape=x.shape, axes=x.axes)
        net.put(node.outputs[0], replace(y, scramble=x.scramble))
