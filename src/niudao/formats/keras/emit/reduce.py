"""Means, sums and extremes over axes: global pooling, over a rearrangement where the axes are not the spatial ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.emit.activation import merge, scale
from niudao.formats.keras.emit.attributes import attr
from niudao.formats.keras.emit.graph import Arg, Net, Tensor, refuse
from niudao.formats.keras.emit.pool import flattened, overall
from niudao.formats.keras.emit.table import emits


@emits("ReduceMean", "ReduceMax", "ReduceSum", "ReduceMin", "ReduceSumSquare", "ReduceL2")
def reduce(net: Net, node: ir.Node) -> None:
    """GlobalAveragePooling or GlobalMaxPooling, with what is left to do around it."""
    x = net.get(node.inputs[0])
    rank = len(x.axes)
    given = net.constant(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if len(node.inputs) > 1 and node.inputs[1] is not None and given is None:
        refuse("its axes are computed")
    listed = attr(node, "axes") if given is None else [int(a) for a in given.reshape(-1)]
    if not listed:
        if attr(node, "noop_with_empty_axes", 0):
            net.put(node.outputs[0], x)
            return
        listed = list(range(rank))
    over = sorted({int(a) % rank for a in listed})
    if any(x.axes[a] == 0 for a in over):
        refuse("it runs along the batch", "axes", "keep the batch on axis 0")
    keep = bool(attr(node, "keepdims", 1))
    op = node.op_type.removeprefix("Reduce")
    if op in ("SumSquare", "L2"):
        x = merge(net, "Multiply", [x, x], "_square")
    if op == "Min":
        x = scale(net, x, -1, 0, "_minus")
    y, count = pooled_over(net, node, x, over, "Max" if op in ("Max", "Min") else "Average", keep)
    if op == "Min":
        y = scale(net, y, -1, 0, "_back")
    if op in ("Sum", "SumSquare", "L2"):
        if count is None:
            refuse("it sums over a free size", rewrite="give the input sizes")
        y = scale(net, y, float(count), 0, "_sum")
    if op == "L2":
        y = net.operation("keras.src.ops.numpy", "Sqrt", "sqrt", [y], (Arg(0),), shape=y.shape, axes=y.axes)
    if not keep:
        y = replace(y, axes=tuple(a for i, a in enumerate(y.axes) if i not in over))
    net.put(node.outputs[0], y)


def pooled_over(net: Net, node: ir.Node, x: Tensor, over: list[int], kind: str, keep: bool) -> tuple[Tensor, int | None]:
    """The pooled tensor with the axes of size 1 still noted, and how many elements each mean was of."""
    rank = len(x.axes)
    real = [a for a in over if x.axes[a] is not None]
    sizes = [x.shape[x.axes[a] or 0] for a in real]
    count = None if any(s is None for s in sizes) else int(np.prod([s or 1 for s in sizes]))
    if over == list(range(2, rank)) and 3 <= rank <= 5 and len(real) == len(over):
        return overall(net, node, net.channels_last(x), kind, keep=keep and not flattened(node.outputs[0])), count
    rest = [i for _, i in sorted((a, i) for i, a in enumerate(x.axes) if a) if i not in real]
    kept = [x.shape[x.axes[i] or 0] for i in rest]
    if count is None or any(s is None for s in kept):
        refuse("a size is free", rewrite="give the input sizes")
    if not real:
        return x, 1
    y = net.arrange(x, [0, *real, *rest])
    width = int(np.prod([s or 1 for s in kept]))
    if len(y.shape) != 3 or y.shape[1] != count:
        y = net.reshaped(y, [count, width], (0, 1, 2))
    y = net.layer(f"Global{kind}Pooling1D", y, {"data_format": "channels_last", "keepdims": False}, shape=(None, width), axes=(0, 1))
    axes: list[int | None] = [None] * rank
    axes[0] = 0
    for k, i in enumerate(rest):
        axes[i] = k + 1
    if len(rest) == 1:
        return replace(y, axes=tuple(axes)), count
    return net.reshaped(y, kept or [1], axes), count
