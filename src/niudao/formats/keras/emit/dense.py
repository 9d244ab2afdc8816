"""Matrix products: Dense where one factor is constant, Dot or `keras.ops.matmul` where both are computed."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.emit.attributes import attr
from niudao.formats.keras.emit.graph import Arg, Array, Net, Tensor, Weight, refuse
from niudao.formats.keras.emit.table import emits


def rows(x: Tensor) -> Array | None:
    """For each row of Keras's kernel the row of ours, where the axis was flattened in Keras's order."""
    if x.scramble is None:
        return None
    dims, perm = x.scramble
    place = np.arange(int(np.prod(dims))).reshape(dims).transpose(perm).reshape(-1)  # ours[j] = keras[place[j]]
    back = np.empty_like(place)
    back[place] = np.arange(place.size)
    return back


def dense(net: Net, x: Tensor, weight: ir.Value, transposed: bool, factor: float, biases: list[Weight]) -> Tensor:
    """A Dense layer on the last axis of ours."""
    shape = net.shape_of(weight)
    if len(shape) != 2:
        refuse("its matrix has more axes than two")
    size, units = (shape[1], shape[0]) if transposed else shape
    order = rows(x)

    def kernel(a: Array) -> Array:
        a = a.T if transposed else a
        a = a if factor == 1 else a * np.float32(factor)
        return a if order is None else a[order]

    if x.shape[-1] != size or len(x.shape) < 2:
        refuse("its input has another size than its matrix")
    config = {"units": units, "activation": "linear", "use_bias": bool(biases)}
    kept = Weight("kernel", "vars/0", (size, units), net.loader(weight, kernel))
    return net.layer("Dense", x, config, shape=(*x.shape[:-1], units), axes=x.axes, weights=[kept, *biases])


@emits("Gemm")
def gemm(net: Net, node: ir.Node) -> None:
    """Dense."""
    weight, extra = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if attr(node, "transA", 0):
        refuse("it turns the batch to the last axis", "transA")
    if weight is None or not net.is_constant(weight):
        refuse("its matrix is computed", "B")
    x = net.raw(node.inputs[0])
    if x.axes[-1] != len(x.shape) - 1:
        x = net.last_axis(net.get(node.inputs[0]), 1)
    transposed = bool(attr(node, "transB", 0))
    units = net.shape_of(weight)[0 if transposed else 1]
    biases: list[Weight] = []
    if extra is not None:
        if not net.is_constant(extra):
            refuse("its bias is computed", "C")
        shape, beta = net.shape_of(extra), float(attr(node, "beta", 1.0))
        if len(shape) > 1 and shape[0] != 1:
            refuse("its bias differs along the batch", "C")
        load = net.loader(extra, lambda a: np.broadcast_to(a.reshape(-1) * np.float32(beta), (units,)))
        biases = [Weight("bias", "vars/1", (units,), load)]
    net.put(node.outputs[0], dense(net, x, weight, transposed, float(attr(node, "alpha", 1.0)), biases))


@emits("MatMul")
def matmul(net: Net, node: ir.Node) -> None:
    """Dense; its bias, an Add that follows with nobody else listening, is taken in later."""
    left, right = node.inputs[0], node.inputs[1]
    if right is not None and net.is_constant(right) and net.has(left):
        x = net.raw(left)
        shape = net.shape_of(right)
        if len(shape) == 2 and len(x.axes) >= 2:
            if x.axes[-1] is None or x.axes[-1] != len(x.shape) - 1:
                x = net.last_axis(net.get(left), len(x.axes) - 1)
            net.put(node.outputs[0], dense(net, x, right, False, 1.0, []))
            return
        refuse("its constant is no matrix")
    if net.is_constant(left):
        refuse("its left factor is constant", rewrite="turn the product round")
    a, b = net.natural(net.get(left)), net.natural(net.get(right))
    out = net.dims(node.outputs[0])
    axes = tuple(range(len(out)))
    if len(a.shape) == len(b.shape) == 3:
        y = net.layer("Dot", [a, b], {"axes": [2, 1], "normalize": False}, shape=out, axes=axes)
    elif len(a.shape) == len(b.shape) and len(a.shape) > 3:
        y = net.operation("keras.src.ops.numpy", "Matmul", "matmul", [a, b], (Arg(0), Arg(1)), shape=(None, *out[1:]), axes=axes)
    else:
        refuse("it multiplies samples with one another")
    net.put(node.outputs[0], y)
