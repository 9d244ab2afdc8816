"""Questions and choices: only `keras.ops` has them, so only .keras archives hold them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.emit.attributes import attr, axis_of
from niudao.formats.keras.emit.elementwise import shape_of
from niudao.formats.keras.emit.graph import Arg, Array, Dim, Net, Tensor, refuse
from niudao.formats.keras.emit.table import emits

_LITERAL = 4096
"""The largest constant array that is written into a configuration."""

_NUMPY = "keras.src.ops.numpy"
_QUESTIONS = {
    "Greater": "Greater",
    "Less": "Less",
    "GreaterOrEqual": "GreaterEqual",
    "LessOrEqual": "LessEqual",
    "Equal": "Equal",
    "And": "LogicalAnd",
    "Or": "LogicalOr",
    "Xor": "LogicalXor",
    "Not": "LogicalNot",
    "Where": "Where",
}


@emits(*_QUESTIONS)
def question(net: Net, node: ir.Node) -> None:
    """`keras.ops.greater` and its kind."""
    kind = _QUESTIONS[node.op_type]
    values = [v for v in node.inputs if v is not None]
    tensors = [net.get(v) for v in values if net.has(v)]
    if not tensors:
        refuse("all its inputs are constants")
    tensors = net.common(tensors)
    args: list[Any] = []
    count = 0
    for value in values:
        if net.has(value):
            args.append(Arg(count))
            count += 1
            continue
        array = net.constant(value)
        if array is None:
            refuse("one of its inputs is computed in a way that Keras cannot")
        args.append(array.reshape(-1)[0].item() if array.size == 1 else _literal(array, tensors[0], net.dims(node.outputs[0])))
    snake = {"GreaterEqual": "greater_equal", "LessEqual": "less_equal"}.get(kind, kind.lower().replace("logical", "logical_"))
    dtype = "float32" if kind == "Where" else "bool"
    first = tensors[0]
    y = net.operation(_NUMPY, kind, snake, tensors, args, shape=shape_of(net, node, first), axes=first.axes, dtype=dtype)
    net.put(node.outputs[0], y)


def _literal(array: Array, like: Tensor, dims: tuple[Dim, ...]) -> dict[str, Any]:
    """A small constant array among the arguments, its axes as those of the tensor beside it."""
    rank = len(like.axes)
    if array.ndim > rank or array.size > _LITERAL:
        refuse("one of its inputs is a large constant array", rewrite="use one number")
    full = array.reshape((1,) * (rank - array.ndim) + array.shape)
    order = [i for _, i in sorted((a, i) for i, a in enumerate(like.axes) if a is not None)]
    if full.shape[0] != 1 or len(order) != len(like.shape) or any(full.shape[i] not in (1, dims[i]) for i in range(rank)):
        refuse("one of its inputs differs along the batch")
    if any(full.shape[i] != 1 for i in range(rank) if i not in order):
        refuse("one of its inputs is larger than the others")
    full = full.transpose(*order, *(i for i in range(rank) if i not in order)).reshape([full.shape[i] for i in order])
    dtype = "bool" if full.dtype == np.bool_ else "float32" if full.dtype.kind == "f" else "int32"
    return {"class_name": "__numpy__", "config": {"value": full.tolist(), "dtype": dtype}}


@emits("ArgMax", "ArgMin")
def arg_extreme(net: Net, node: ir.Node) -> None:
    """`keras.ops.argmax`; the axis is dropped, and noted as one of size 1."""
    if attr(node, "select_last_index", 0):
        refuse("it takes the last of equals", "select_last_index")
    x: Tensor = net.get(node.inputs[0])
    axis = axis_of(node, len(x.axes), 0)
    place = x.axes[axis]
    if not place:
        refuse("it runs along the batch", "axis")
    kind = "Argmax" if node.op_type == "ArgMax" else "Argmin"
    shape = [d for i, d in enumerate(x.shape) if i != place]
    axes = [None if i == axis else a if a is None or a < place else a - 1 for i, a in enumerate(x.axes)]
    if not attr(node, "keepdims", 1):
        del axes[axis]
    config = {"axis": place, "keepdims": False}
    y = net.operation(_NUMPY, kind, kind.lower(), [x], (Arg(0),), shape=shape, axes=axes, config=config, dtype="int32")
    net.put(node.outputs[0], y)
