"""Pooling. Keras pads as TensorFlow's SAME or not at all; everything else is rewritten exactly or refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir

from niudao.formats.keras.emit.attributes import attr
from niudao.formats.keras.emit.conv import cropped, is_same, padded, same_pads, subsampled, wanted_pads
from niudao.formats.keras.emit.cut import by_matrix, piece, selection
from niudao.formats.keras.emit.elementwise import everywhere
from niudao.formats.keras.emit.graph import Array, Dim, Net, Tensor, Weight, refuse
from niudao.formats.keras.emit.table import emits
from niudao.ir import IR_VERSION, OPSET


def pooled(net: Net, x: Tensor, kind: str, size: Sequence[int], strides: Sequence[int], padding: str) -> Tensor:
    """One pooling layer on a channels-last tensor."""
    rank = len(size)
    spatial = [
        None if n is None else (-(-n // s) if padding == "same" else (n - k) // s + 1)
        for n, k, s in zip(x.shape[1:-1], size, strides, strict=True)
    ]
    config = {"pool_size": list(size), "strides": list(strides), "padding": padding, "data_format": "channels_last"}
    return net.layer(f"{kind}Pooling{rank}D", x, config, shape=(None, *spatial, x.shape[-1]), axes=x.axes, nonnegative=x.nonnegative)


@emits("MaxPool", "AveragePool")
def pool(net: Net, node: ir.Node) -> None:
    """MaxPooling and AveragePooling."""
    if len(node.outputs) > 1 and node.outputs[1].uses():
        refuse("its indices are used")
    x = net.channels_last(net.get(node.inputs[0]))
    size = [int(k) for k in attr(node, "kernel_shape")]
    rank = len(size)
    if not 1 <= rank <= 3:
        refuse(f"it has {rank} spatial axes", rewrite="Keras pools 1 to 3")
    strides = list(attr(node, "strides", [1] * rank))
    dilations = list(attr(node, "dilations", [1] * rank))
    kind = "Max" if node.op_type == "MaxPool" else "Average"
    dilations = [d if k > 1 else 1 for d, k in zip(dilations, size, strict=True)]
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilations, strict=True)]
    if any(d != 1 for d in dilations) and attr(node, "auto_pad", "NOTSET").startswith("SAME"):
        # ONNX Runtime pads as if there were no dilation, the specification says otherwise: nobody knows what was meant
        refuse("it is dilated and pads by itself, which runtimes compute differently", "auto_pad", rewrite="say the pads as numbers")
    pads = wanted_pads(node, x.shape[1:-1], reach, strides)
    if any(d != 1 for d in dilations):
        y = (
            taps(net, x, size, strides, dilations, pads, net.dims(node.outputs[0]))
            if kind == "Max"
            else averaged(net, node, x, size, strides, dilations, pads)
        )
    else:
        y = window(net, node, x, kind, size, strides, pads)
    net.put(node.outputs[0], y)


def window(net: Net, node: ir.Node, x: Tensor, kind: str, size: list[int], strides: list[int], pads: list[tuple[int, int]]) -> Tensor:
    """The pooling of those windows, by whichever layers compute it exactly."""
    sizes, rank = x.shape[1:-1], len(size)
    out = net.dims(node.outputs[0])[2:]
    # how far the last window really reaches beyond the axis: rounding up reaches further than the pads say, rounding down less
    known = all(n is not None and o is not None for n, o in zip(sizes, out, strict=True))
    counted = kind == "Average" and bool(attr(node, "count_include_pad", 0)) and any(p != (0, 0) for p in pads)
    ceil = bool(attr(node, "ceil_mode", 0)) and attr(node, "auto_pad", "NOTSET") == "NOTSET"
    reach = [
        ((o - 1) * s + k - n - a) if n is not None and o is not None else b
        for n, o, s, k, (a, b) in zip(sizes, out, strides, size, pads, strict=True)
    ]
    if ceil and not known:
        refuse("its rounding depends on a size that is free", "ceil_mode", "give the input sizes")
    over = any(r > b for r, (_, b) in zip(reach, pads, strict=True))
    if all(a == 0 for a, _ in pads) and all(r <= 0 for r in reach) and known:
        return pooled(net, x, kind, size, strides, "valid")
    if not known and all(p == (0, 0) for p in pads):
        return pooled(net, x, kind, size, strides, "valid")
    if counted:
        if over:
            return averaged(net, node, x, size, strides, [1] * rank, pads)
        return pooled(net, padded(net, x, pads), kind, size, strides, "valid")
    if known:
        same = is_same([(a, max(r, 0)) for (a, _), r in zip(pads, reach, strict=True)], sizes, size, strides)
        same = same and all(o == -(-(n or 0) // s) for n, o, s in zip(sizes, out, strides, strict=True))
    else:
        same = is_same(pads, sizes, size, strides)
    if same and kind == "Average" and net.portable and not even_pads(sizes, size, strides):
        return averaged(net, node, x, size, strides, [1] * rank, pads)
    if same:
        return pooled(net, x, kind, size, strides, "same")
    if kind == "Max" and x.nonnegative:
        grown = [(a, max(r, 0)) for (a, _), r in zip(pads, reach, strict=True)] if known else pads
        return pooled(net, padded(net, x, grown), kind, size, strides, "valid")
    y = None if kind == "Average" and any(k % 2 == 0 for k in size) else sliding(net, x, kind, size, strides, pads, list(out), rank)
    if y is not None:
        return y
    if kind == "Max":
        return taps(net, x, size, strides, [1] * rank, pads, net.dims(node.outputs[0]))
    return averaged(net, node, x, size, strides, [1] * rank, pads)


def even_pads(sizes: Sequence[Dim], size: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether SAME pads both sides alike: Keras 3 on torch repeats the edge instead of leaving it out where they differ."""
    found = [same_pads(n, k, s) for n, k, s in zip(sizes, size, strides, strict=True)]
    return all(p is not None and p[0] == p[1] for p in found)


def sliding(
    net: Net, x: Tensor, kind: str, size: list[int], strides: list[int], pads: list[tuple[int, int]], out: Sequence[int | None], rank: int
) -> Tensor | None:
    """Pool around every element with "same", cut the start, keep every s-th: exact, since SAME never counts its padding.

    None where the padding is too deep.
    """
    cut = []
    for n, k, s, (a, _), o in zip(x.shape[1:-1], size, strides, pads, out, strict=True):
        before = same_pads(n, k, 1)
        if before is None or n is None or o is None or a > before[0] or before[0] - a + (o - 1) * s >= n:
            return None
        cut.append((before[0] - a, n - 1 - (before[0] - a + (o - 1) * s)))
    net.note("padding unlike TensorFlow's: pooled around every element, then every s-th kept")
    y = pooled(net, x, kind, size, [1] * rank, "same")
    return subsampled(net, cropped(net, y, cut), strides)


def taps(
    net: Net, x: Tensor, size: list[int], strides: list[int], dilations: list[int], pads: list[tuple[int, int]], out: Sequence[Dim]
) -> Tensor:
    """A maximum, axis by axis, over shifted copies of the tensor; where one would lie outside, a neighbour of its window stands in."""
    net.note("pooling written as the maximum over shifted pieces")
    for axis, (k, s, d, (a, _)) in enumerate(zip(size, strides, dilations, pads, strict=True), start=2):
        length, new = x.shape[axis - 1], out[axis]
        if length is None or new is None:
            refuse("its padding depends on a size that is free", "pads", "give the input sizes")
        rows = np.arange(new)[:, None] * s + np.arange(k)[None, :] * d - a
        inside = (rows >= 0) & (rows < length)
        if not inside.any(axis=1).all():
            refuse("a window lies in the padding alone", "pads")
        first = rows[np.arange(new), inside.argmax(axis=1)]
        rows = np.where(inside, rows, first[:, None])
        pieces = []
        for i in range(k):
            row = [int(r) for r in rows[:, i]]
            if row == list(range(row[0], row[0] + (new - 1) * s + 1, s)):
                pieces.append(piece(net, x, axis, row[0], row[-1] + 1, s))
            else:
                pieces.append(by_matrix(net, x, axis, selection(length, row), "_pick"))
        pieces = [net.channels_last(p) for p in pieces]
        y = pieces[0]
        if len(pieces) > 1:
            y = net.layer("Maximum", pieces, {}, shape=y.shape, axes=y.axes)
        x = replace(y, nonnegative=x.nonnegative)
    return x


def averaged(
    net: Net, node: ir.Node, x: Tensor, size: list[int], strides: list[int], dilations: list[int], pads: list[tuple[int, int]]
) -> Tensor:
    """A mean as a depthwise convolution of ones, then one factor per place: what the operator makes of ones says which."""
    rank, channels = len(size), x.shape[-1]
    out = net.dims(node.outputs[0])[2:]
    if rank > 2 or channels is None or any(n is None for n in (*x.shape[1:-1], *out)):
        refuse('its padding fits neither "same" nor zeros, and a size is free', "pads", "give the input sizes")
    lengths = [n or 0 for n in x.shape[1:-1]]
    reach = [(k - 1) * d + 1 for k, d in zip(size, dilations, strict=True)]
    grown = [(a, (o - 1) * s + k - n - a) for n, o, s, k, (a, _) in zip(lengths, [o or 0 for o in out], strides, reach, pads, strict=True)]
    count = np.ones([1] * rank)
    for i, (n, k, s, d, (a, _)) in enumerate(zip(lengths, size, strides, dilations, pads, strict=True)):
        rows = np.arange(out[i] or 0)[:, None] * s + np.arange(k)[None, :] * d - a
        held = ((rows >= 0) & (rows < n)).sum(1)
        count = count * held.reshape([-1 if j == i else 1 for j in range(rank)])
    if (count == 0).any():
        refuse("a window lies in the padding alone", "pads")
    factor = ones_through(node, lengths) / count
    net.note("mean pooling written as a depthwise convolution of ones with a factor per place")
    even = float(factor.reshape(-1)[0])
    same = bool(np.allclose(factor, even, rtol=1e-6))
    kernel = np.full((*size, channels, 1), even if same else 1.0, np.float32)
    config = {
        "depth_multiplier": 1,
        "kernel_size": size,
        "strides": [1] * rank,
        "padding": "valid",
        "data_format": "channels_last",
        "dilation_rate": dilations,
        "activation": "linear",
        "use_bias": False,
        "trainable": False,
    }
    x = padded(net, x, grown)
    shape = (None, *((n or 0) - k + 1 for n, k in zip(x.shape[1:-1], reach, strict=True)), channels)
    weight = Weight("depthwise_kernel", "vars/0", kernel.shape, lambda: kernel)
    y = subsampled(net, net.layer(f"DepthwiseConv{rank}D", x, config, shape=shape, axes=x.axes, weights=[weight]), strides)
    if same:
        return y
    return everywhere(net, y, factor.reshape(1, 1, *factor.shape).astype(np.float32), net.dims(node.outputs[0]), "Mul")


def ones_through(node: ir.Node, lengths: list[int]) -> Array:
    """What a pooling operator makes of ones."""
    import onnxruntime as ort

    proto = ir.to_proto(node)
    del proto.input[:], proto.output[:]
    proto.input.append("x")
    proto.output.append("y")
    graph = onnx.helper.make_graph(
        [proto], "ones", [onnx.helper.make_tensor_value_info("x", 1, [1, 1, *lengths])], [onnx.helper.make_tensor_value_info("y", 1, None)]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    made = session.run(None, {"x": np.ones((1, 1, *lengths), np.float32)})[0]
    means: Array = np.asarray(made, np.float64)[0, 0]
    return means


@emits("GlobalAveragePool", "GlobalMaxPool")
def global_pool(net: Net, node: ir.Node) -> None:
    """GlobalAveragePooling and GlobalMaxPooling; the axes of size 1 exist in Keras only if somebody needs them."""
    x = net.channels_last(net.get(node.inputs[0]))
    kind = "Average" if node.op_type == "GlobalAveragePool" else "Max"
    net.put(node.outputs[0], overall(net, node, x, kind, keep=not flattened(node.outputs[0])))


def flattened(value: ir.Value) -> bool:
    """Whether everybody who takes the value drops its axes of size 1 at once."""
    users = [n for n, _ in value.uses()]
    return bool(users) and not value.is_graph_output() and all(n.op_type in ("Flatten", "Reshape", "Squeeze") for n in users)


def overall(net: Net, node: ir.Node, x: Tensor, kind: str, keep: bool) -> Tensor:
    """The global pooling layer of a channels-last tensor."""
    rank = len(x.shape) - 2
    if not 1 <= rank <= 3:
        refuse(f"it has {rank} spatial axes", rewrite="Keras pools 1 to 3")
    channels = x.shape[-1]
    config = {"data_format": "channels_last", "keepdims": keep}
    if keep:
        shape: tuple[int | None, ...] = (None, *([1] * rank), channels)
        axes: tuple[int | None, ...] = x.axes
    else:
        shape, axes = (None, channels), (0, 1, *([None] * rank))
    return net.layer(f"Global{kind}Pooling{rank}D", x, config, shape=shape, axes=axes, nonnegative=x.nonnegative)
