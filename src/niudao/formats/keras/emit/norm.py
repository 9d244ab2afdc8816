"""Normalisations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.emit.attributes import attr, axis_of
from niudao.formats.keras.emit.graph import Arg, Array, Net, Tensor, Weight, refuse
from niudao.formats.keras.emit.table import emits

_EPSILON = 1e-3


def vector(net: Net, value: ir.Value | None, name: str, slot: int, count: int, change: Callable[[Array], Array] | None = None) -> Weight:
    """One number per channel, from a constant."""
    if value is None or not net.is_constant(value):
        refuse(f"its {name} is computed, not stored")
    if int(np.prod(net.shape_of(value))) != count:
        refuse(f"its {name} does not hold one number per channel")
    return Weight(name, f"vars/{slot}", (count,), net.loader(value, change or (lambda a: a.reshape(-1))))


@emits("BatchNormalization")
def batch_normalization(net: Net, node: ir.Node) -> None:
    """BatchNormalization at inference."""
    if attr(node, "training_mode", 0):
        refuse("it normalises with the statistics of the batch", "training_mode", "switch the network to inference")
    t = net.get(node.inputs[0])
    x = net.last_axis(t, 1)
    count = x.shape[-1]
    if count is None:
        refuse("its number of channels is free")
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    weights = [vector(net, node.inputs[1 + i], n, i, count) for i, n in enumerate(names)]
    config = {
        "axis": -1,
        "momentum": float(attr(node, "momentum", 0.9)),
        "epsilon": float(attr(node, "epsilon", 1e-5)),
        "center": True,
        "scale": True,
    }
    net.put(node.outputs[0], net.layer("BatchNormalization", x, config, shape=x.shape, axes=x.axes, weights=weights))


def affine(net: Net, x: Tensor, gamma: Array | None, beta: Array | None, suffix: str = "") -> Tensor:
    """x * gamma + beta along the last axis: a frozen BatchNormalization of mean 0 and variance 1 - epsilon."""
    count = len(gamma) if gamma is not None else len(beta) if beta is not None else 0
    arrays: list[tuple[str, Array]] = []
    if gamma is not None:
        arrays.append(("gamma", gamma))
    if beta is not None:
        arrays.append(("beta", beta))
    arrays += [("moving_mean", np.zeros(count, np.float32)), ("moving_variance", np.full(count, 1 - _EPSILON, np.float32))]
    weights = [Weight(n, f"vars/{i}", (count,), _hold(a)) for i, (n, a) in enumerate(arrays)]
    config = {"axis": -1, "momentum": 0.99, "epsilon": _EPSILON, "center": beta is not None, "scale": gamma is not None, "trainable": False}
    return net.layer("BatchNormalization", x, config, shape=x.shape, axes=x.axes, weights=weights, suffix=suffix)


def _hold(array: Array) -> Callable[[], Array]:
    return lambda: np.ascontiguousarray(array, np.float32)


@emits("InstanceNormalization", "GroupNormalization")
def group_normalization(net: Net, node: ir.Node) -> None:
    """GroupNormalization; with as many groups as channels it is instance normalisation."""
    x = net.channels_last(net.get(node.inputs[0]))
    count = x.shape[-1]
    if count is None:
        refuse("its number of channels is free")
    if len(x.shape) < 3:
        refuse("it has no spatial axes")
    groups = count if node.op_type == "InstanceNormalization" else int(attr(node, "num_groups"))
    config = {"groups": groups, "axis": -1, "epsilon": float(attr(node, "epsilon", 1e-5)), "center": True, "scale": True}
    weights = [vector(net, node.inputs[1], "gamma", 0, count), vector(net, node.inputs[2], "beta", 1, count)]
    net.put(node.outputs[0], net.layer("GroupNormalization", x, config, shape=x.shape, axes=x.axes, weights=weights))


@emits("LayerNormalization")
def layer_normalization(net: Net, node: ir.Node) -> None:
    """LayerNormalization over the trailing axes."""
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        refuse("its mean or deviation is used")
    x = net.get(node.inputs[0])
    rank = len(x.axes)
    axis = axis_of(node, rank)
    if axis == 0:
        refuse("it runs along the batch", "axis")
    over = list(range(axis, rank))
    x = net.last_axis(x, axis) if len(over) == 1 else net.natural(x)
    places = [a for a in (x.axes[i] for i in over) if a is not None]
    shape = tuple(d for d in (x.shape[p] for p in places) if d is not None)
    if len(shape) != len(over):
        refuse("a size it normalises over is free")
    weights = []
    for k, (value, name) in enumerate(zip(node.inputs[1:3], ("gamma", "beta"), strict=False)):
        if value is None:
            continue
        if not net.is_constant(value):
            refuse(f"its {name} is computed, not stored")
        weights.append(Weight(name, f"vars/{k}", shape, net.loader(value, lambda a: np.broadcast_to(a, shape))))
    if not weights or weights[0].name != "gamma":
        refuse("it has no scale")
    config = {
        "axis": -1 if len(places) == 1 else places,
        "epsilon": float(attr(node, "epsilon", 1e-5)),
        "center": len(weights) == 2,
        "scale": True,
    }
    net.put(node.outputs[0], net.layer("LayerNormalization", x, config, shape=x.shape, axes=x.axes, weights=weights))


@emits("LpNormalization")
def unit_normalization(net: Net, node: ir.Node) -> None:
    """UnitNormalization for the Euclidean norm."""
    x = net.get(node.inputs[0])
    place = x.axes[axis_of(node, len(x.axes))]
    if attr(node, "p", 2) != 2 or not place:
        refuse("Keras normalises by the Euclidean norm, and not along the batch", "p")
    net.put(node.outputs[0], net.like(x, "UnitNormalization", {"axis": place}))


@emits("LRN")
def local_response(net: Net, node: ir.Node) -> None:
    """x * (k + a * sum of squares over neighbouring channels) ** -beta, the sum as a 1x1 convolution of ones near the diagonal."""
    x = net.channels_last(net.get(node.inputs[0]))
    count = x.shape[-1]
    if len(x.shape) != 4 or count is None:
        refuse("it is no picture of known channels")
    if not net.operations:
        refuse("no layer raises to a power", rewrite="write a .keras archive, or replace LRN by BatchNormalization")
    size = int(attr(node, "size"))
    alpha, beta, k = float(attr(node, "alpha", 1e-4)), float(attr(node, "beta", 0.75)), float(attr(node, "bias", 1.0))
    place = np.arange(count)
    apart = place[:, None] - place[None, :]  # input channel minus output channel
    band = ((apart >= -((size - 1) // 2)) & (apart <= size // 2)).astype(np.float32) * np.float32(alpha / size)
    net.note("LRN written as square, 1x1 convolution over neighbouring channels, power")
    square = net.layer("Multiply", [x, x], {}, shape=x.shape, axes=x.axes, suffix="_square")
    config = {
        "filters": count,
        "kernel_size": [1, 1],
        "strides": [1, 1],
        "padding": "valid",
        "data_format": "channels_last",
        "dilation_rate": [1, 1],
        "activation": "linear",
        "use_bias": True,
        "groups": 1,
        "trainable": False,
    }
    weights = [
        Weight("kernel", "vars/0", (1, 1, count, count), _hold(band.reshape(1, 1, count, count))),
        Weight("bias", "vars/1", (count,), _hold(np.full(count, k, np.float32))),
    ]
    total = net.layer("Conv2D", square, config, shape=x.shape, axes=x.axes, weights=weights, suffix="_sum")
    power = net.operation("keras.src.ops.numpy", "Power", "power", [total], (Arg(0), -beta), shape=x.shape, axes=x.axes, suffix="_power")
    net.put(node.outputs[0], net.layer("Multiply", [x, power], {}, shape=x.shape, axes=x.axes))
