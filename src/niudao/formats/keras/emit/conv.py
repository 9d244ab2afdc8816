"""Convolutions. Keras kernels are (spatial..., in, out); transposed ones (spatial..., out, in)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.emit.attributes import attr
from niudao.formats.keras.emit.graph import Array, Dim, Net, Tensor, Weight, refuse
from niudao.formats.keras.emit.table import emits

_BIGGEST = 1 << 26


def ends(pads: Sequence[int]) -> list[tuple[int, int]]:
    """ONNX's (begin..., end...) as one pair per axis."""
    half = len(pads) // 2
    return [(int(pads[i]), int(pads[half + i])) for i in range(half)]


def same_pads(size: Dim, kernel: int, stride: int) -> tuple[int, int] | None:
    """What TensorFlow's SAME puts before and after an axis of that size; None where the size would matter and is free."""
    if size is None:
        if stride != 1:
            return None
        total = kernel - 1
    else:
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def wanted_pads(node: ir.Node, sizes: Sequence[Dim], kernel: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Padding of a convolution or pooling, auto_pad worked out."""
    auto = attr(node, "auto_pad", "NOTSET")
    if auto == "VALID":
        return [(0, 0)] * len(kernel)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        found = [same_pads(n, k, s) for n, k, s in zip(sizes, kernel, strides, strict=True)]
        if any(f is None for f in found):
            refuse("its padding depends on a size that is free", "auto_pad", "give the input sizes")
        pairs = [f for f in found if f is not None]
        return [(b, a) for a, b in pairs] if auto == "SAME_LOWER" else pairs
    return ends(attr(node, "pads", [0] * 2 * len(kernel)))


def is_same(pads: Sequence[tuple[int, int]], sizes: Sequence[Dim], kernel: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether the padding is what Keras calls "same"."""
    return any(p != (0, 0) for p in pads) and all(same_pads(n, k, s) == p for n, k, s, p in zip(sizes, kernel, strides, pads, strict=True))


def plain_pads(pads: Sequence[tuple[int, int]]) -> object:
    """Padding as people write it in Keras."""
    return list(pads[0]) if len(pads) == 1 else [list(p) for p in pads]


def padded(net: Net, x: Tensor, pads: Sequence[tuple[int, int]]) -> Tensor:
    """Zeros around (or, where negative, a piece cut off) a channels-last tensor."""
    rank = len(pads)
    if any(p < 0 for pair in pads for p in pair):
        cut = [(max(-a, 0), max(-b, 0)) for a, b in pads]
        x = cropped(net, x, cut)
        pads = [(max(a, 0), max(b, 0)) for a, b in pads]
    if not any(p for pair in pads for p in pair):
        return x
    shape = [x.shape[0], *(None if n is None else n + a + b for n, (a, b) in zip(x.shape[1:-1], pads, strict=True)), x.shape[-1]]
    return net.layer(
        f"ZeroPadding{rank}D", x, {"padding": plain_pads(pads)}, shape=shape, axes=x.axes, suffix="_pad", nonnegative=x.nonnegative
    )


def cropped(net: Net, x: Tensor, cut: Sequence[tuple[int, int]]) -> Tensor:
    """A piece of a channels-last tensor."""
    if not any(p for pair in cut for p in pair):
        return x
    shape = [x.shape[0], *(None if n is None else n - a - b for n, (a, b) in zip(x.shape[1:-1], cut, strict=True)), x.shape[-1]]
    if any(n is not None and n <= 0 for n in shape[1:]):
        refuse("nothing is left of an axis")
    return net.layer(
        f"Cropping{len(cut)}D", x, {"cropping": plain_pads(cut)}, shape=shape, axes=x.axes, suffix="_crop", nonnegative=x.nonnegative
    )


def subsampled(net: Net, x: Tensor, strides: Sequence[int], suffix: str = "_stride") -> Tensor:
    """Every s-th element of each spatial axis, as a pooling over windows of one."""
    if all(s == 1 for s in strides):
        return x
    shape = [x.shape[0], *(None if n is None else -(-n // s) for n, s in zip(x.shape[1:-1], strides, strict=True)), x.shape[-1]]
    rank = len(strides)
    config = {"pool_size": [1] * rank, "strides": list(strides), "padding": "valid"}
    return net.layer(f"MaxPooling{rank}D", x, config, shape=shape, axes=x.axes, suffix=suffix, nonnegative=x.nonnegative)


def bias(net: Net, node: ir.Node, count: int) -> list[Weight]:
    """The bias of a convolution, if it has one."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is None:
        return []
    if not net.is_constant(value):
        refuse("its bias is computed", "B")
    return [Weight("bias", "vars/1", (count,), net.loader(value, lambda a: a.reshape(-1)))]


def kernel_of(net: Net, node: ir.Node) -> tuple[int, ...]:
    """Shape of the weights, which must be constant."""
    value = node.inputs[1]
    if value is None or not net.is_constant(value):
        refuse("its kernel is computed, not stored", "W")
    return net.shape_of(value)


@emits("Conv")
def conv(net: Net, node: ir.Node) -> None:
    """Conv1D, Conv2D, Conv3D; DepthwiseConv where every channel has kernels of its own."""
    shape = kernel_of(net, node)
    x = net.channels_last(net.get(node.inputs[0]))
    rank = len(shape) - 2
    if not 1 <= rank <= 3:
        refuse(f"it has {rank} spatial axes", rewrite="Keras convolves 1 to 3")
    kernel, group = list(shape[2:]), int(attr(node, "group", 1))
    strides, dilations = list(attr(node, "strides", [1] * rank)), list(attr(node, "dilations", [1] * rank))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    sizes = x.shape[1:-1]
    pads = wanted_pads(node, sizes, reach, strides)
    out = net.dims(node.outputs[0])
    dilated = any(d != 1 for d in dilations)
    depthwise = group > 1 and shape[1] == 1 and group == x.shape[-1] and rank < 3
    apart = any(s != 1 for s in strides) and (dilated or (depthwise and len(set(strides)) > 1))
    steps = [1] * rank if apart else strides
    same = is_same(pads, sizes, reach, steps)
    if not same:
        x = padded(net, x, pads)
    pairs = zip(x.shape[1:-1], reach, steps, strict=True)
    spatial = [None if n is None else (-(-n // s) if same else (n - k) // s + 1) for n, k, s in pairs]
    biases = bias(net, node, shape[0])
    config: dict[str, Any] = {
        "kernel_size": kernel,
        "strides": steps,
        "padding": "same" if same else "valid",
        "data_format": "channels_last",
        "dilation_rate": dilations,
        "activation": "linear",
        "use_bias": bool(biases),
    }
    value = node.inputs[1]
    assert value is not None
    move = tuple(range(2, rank + 2))
    if depthwise:
        many = shape[0] // group
        kind = f"DepthwiseConv{rank}D"
        config |= {"depth_multiplier": many}
        weight = Weight(
            "depthwise_kernel",
            "vars/0",
            (*kernel, group, many),
            net.loader(value, lambda a: a.reshape(group, many, *kernel).transpose(*move, 0, 1)),
        )
    else:
        kind = f"Conv{rank}D"
        config = {"filters": shape[0]} | config | {"groups": group}
        weight = Weight("kernel", "vars/0", (*kernel, shape[1], shape[0]), net.loader(value, lambda a: a.transpose(*move, 1, 0)))
    axes = (0, rank + 1, *range(1, rank + 1))
    y = net.layer(kind, x, config, shape=(None, *spatial, shape[0]), axes=axes, weights=[weight, *biases])
    if apart:
        net.note("stride and dilation together: convolved at every place, then every s-th kept")
        y = subsampled(net, y, strides)
    net.put(node.outputs[0], replace(y, shape=(None, *out[2:], shape[0])))


@emits("ConvTranspose")
def conv_transpose(net: Net, node: ir.Node) -> None:
    """Conv1DTranspose, Conv2DTranspose, Conv3DTranspose; groups and dilation are written into the kernel as zeros."""
    shape = kernel_of(net, node)
    x = net.channels_last(net.get(node.inputs[0]))
    rank, group = len(shape) - 2, int(attr(node, "group", 1))
    if not 1 <= rank <= 3:
        refuse(f"it has {rank} spatial axes", rewrite="Keras convolves 1 to 3")
    strides, dilations = list(attr(node, "strides", [1] * rank)), list(attr(node, "dilations", [1] * rank))
    extra = list(attr(node, "output_padding", [0] * rank))
    reach = [(k - 1) * d + 1 for k, d in zip(shape[2:], dilations, strict=True)]
    out, sizes = net.dims(node.outputs[0]), x.shape[1:-1]
    channels = shape[1] * group
    begin, end = [], []
    given = ends(attr(node, "pads", [0] * 2 * rank))
    auto, fixed = attr(node, "auto_pad", "NOTSET"), attr(node, "output_shape")
    for i in range(rank):
        if auto == "NOTSET" and fixed is None:
            a, b = given[i]
        else:
            n, o = sizes[i], out[2 + i]
            if n is None or o is None:
                refuse("its padding depends on a size that is free", "auto_pad", "give the input sizes")
            total = 0 if auto == "VALID" and fixed is None else strides[i] * (n - 1) + extra[i] + reach[i] - o
            a, b = (total // 2, total - total // 2) if auto == "SAME_UPPER" else (total - total // 2, total // 2)
        begin.append(a)
        end.append(b)
    same = all(
        extra[i] + reach[i] - strides[i] == begin[i] + end[i] and begin[i] == max(reach[i] - strides[i], 0) // 2 and reach[i] >= strides[i]
        for i in range(rank)
    )
    same = same and any(a or b for a, b in zip(begin, end, strict=True))
    if int(np.prod(reach)) * channels * shape[0] > _BIGGEST and (group > 1 or reach != list(shape[2:])):
        refuse("its groups written out would be too big", "group", "split it into convolutions of one group")
    if group > 1:
        net.note("groups of a transposed convolution written as zeros in one kernel")
    if reach != list(shape[2:]):
        net.note("dilation of a transposed convolution written as zeros in its kernel")
    value = node.inputs[1]
    assert value is not None

    def kernel(a: Array) -> Array:
        full = np.zeros((*reach, channels, shape[0]), np.float32)
        per_in, per_out = shape[0] // group, shape[1]
        spots = tuple(slice(None, None, d) for d in dilations)
        for g in range(group):
            part = a[g * per_in : (g + 1) * per_in].transpose(*range(2, rank + 2), 1, 0)
            full[(*spots, slice(g * per_out, (g + 1) * per_out), slice(g * per_in, (g + 1) * per_in))] = part
        return full

    weight = Weight("kernel", "vars/0", (*reach, channels, shape[0]), net.loader(value, kernel))
    biases = bias(net, node, channels)
    config = {
        "filters": channels,
        "kernel_size": reach,
        "strides": strides,
        "padding": "same" if same else "valid",
        "data_format": "channels_last",
        "activation": "linear",
        "use_bias": bool(biases),
    }
    # what Keras makes: n*s + max(k-s, 0); its own output_padding differs between versions, so the tail is grown by zeros in the kernel
    full = [None if n is None else n * s + (0 if same else max(k - s, 0)) for n, s, k in zip(sizes, strides, reach, strict=True)]
    if not same:
        grow = [max(extra[i] - end[i] - max(strides[i] - reach[i], 0), 0) for i in range(rank)]
        if any(grow):
            net.note("output_padding written as zeros at the end of the kernel")
            reach2 = [max(k, s) + g for k, g, s in zip(reach, grow, strides, strict=True)]
            inner = kernel

            def wider(a: Array) -> Array:
                made = np.zeros((*reach2, channels, shape[0]), np.float32)
                made[tuple(slice(0, k) for k in reach)] = inner(a)
                return made

            weight = Weight("kernel", "vars/0", (*reach2, channels, shape[0]), net.loader(value, wider))
            config["kernel_size"] = reach2
            full = [None if n is None else n * s + max(k - s, 0) for n, s, k in zip(sizes, strides, reach2, strict=True)]
        sizes2 = config["kernel_size"]
        assert isinstance(sizes2, list)
        # ends of the whole product, relative to the axis: (n-1)s + k_written (or n*s where the stride is longer)
        tail = [max(sizes2[i], strides[i]) - reach[i] - extra[i] + end[i] for i in range(rank)]
    axes = (0, rank + 1, *range(1, rank + 1))
    y = net.layer(f"Conv{rank}DTranspose", x, config, shape=(None, *full, channels), axes=axes, weights=[weight, *biases])
    if not same:
        y = cropped(net, y, list(zip(begin, tail, strict=True)))
    net.put(node.outputs[0], y)
