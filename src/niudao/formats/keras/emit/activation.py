"""Activations: element by element, so they take any order of axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.emit.attributes import attr, axis_of
from niudao.formats.keras.emit.graph import Arg, Array, Net, Tensor, Weight, refuse
from niudao.formats.keras.emit.table import emits

_FAR = 1e4
"""Shifting by more than this and back loses digits that matter."""


def scale(net: Net, x: Tensor, factor: float, offset: float, suffix: str = "") -> Tensor:
    """x * factor + offset."""
    return net.like(x, "Rescaling", {"scale": float(factor), "offset": float(offset)}, suffix=suffix)


def activation(net: Net, x: Tensor, name: str, suffix: str = "", nonnegative: bool = False) -> Tensor:
    """An Activation layer."""
    return net.like(x, "Activation", {"activation": name}, suffix=suffix, nonnegative=nonnegative)


def relu(net: Net, x: Tensor, top: float | None = None, suffix: str = "") -> Tensor:
    """max(x, 0), and no more than `top`."""
    if top is None:
        return activation(net, x, "relu", suffix, nonnegative=True)
    return net.like(x, "ReLU", {"max_value": float(top), "negative_slope": 0.0, "threshold": 0.0}, suffix=suffix, nonnegative=True)


def merge(net: Net, kind: str, tensors: list[Tensor], suffix: str = "") -> Tensor:
    """A merging layer of tensors that already agree in order and shape."""
    x = tensors[0]
    y = net.layer(kind, tensors, {}, shape=x.shape, axes=x.axes, suffix=suffix)
    return replace(y, scramble=x.scramble)


_NAMED = {
    "Sigmoid": ("sigmoid", True),
    "Tanh": ("tanh", False),
    "Softplus": ("softplus", True),
    "Softsign": ("softsign", False),
    "Exp": ("exponential", True),
    "Mish": ("mish", False),
}


@emits(*_NAMED)
def named(net: Net, node: ir.Node) -> None:
    """Those that Keras knows by a name of one meaning in every version."""
    name, nonnegative = _NAMED[node.op_type]
    net.put(node.outputs[0], activation(net, net.raw(node.inputs[0]), name, nonnegative=nonnegative))


@emits("Relu")
def _relu(net: Net, node: ir.Node) -> None:
    net.put(node.outputs[0], relu(net, net.raw(node.inputs[0])))


@emits("LeakyRelu")
def _leaky(net: Net, node: ir.Node) -> None:
    net.put(node.outputs[0], leaky(net, net.raw(node.inputs[0]), attr(node, "alpha", 0.01)))


def leaky(net: Net, x: Tensor, slope: float) -> Tensor:
    """LeakyReLU; its argument has another name in each generation, which the archive's writer settles."""
    return net.like(x, "LeakyReLU", {"negative_slope": float(slope)})


@emits("PRelu")
def _prelu(net: Net, node: ir.Node) -> None:
    value = node.inputs[1]
    if value is None or not net.is_constant(value):
        refuse("its slope is computed", "slope")
    x = net.get(node.inputs[0])
    rank = len(x.axes)
    shape = net.shape_of(value)
    if len(shape) > rank:
        refuse("its slope has more axes than its input", "slope")
    if int(np.prod(shape)) == 1:
        array = net.constant(value)
        assert array is not None
        net.put(node.outputs[0], leaky(net, x, float(array.reshape(-1)[0])))
        return
    full = (1,) * (rank - len(shape)) + tuple(shape)
    if full[0] != 1:
        refuse("its slope differs along the batch", "slope")
    order = [i for _, i in sorted((a, i) for i, a in enumerate(x.axes) if a is not None)]
    if len(order) != len(x.shape) or any(full[i] != 1 and i not in order for i in range(rank)):
        x = net.channels_last(x)
        order = [i for _, i in sorted((a, i) for i, a in enumerate(x.axes) if a is not None)]
    shared = [k for k, i in enumerate(order) if k > 0 and full[i] == 1]
    alpha = tuple(full[i] for i in order[1:])
    dropped = [i for i in range(rank) if i not in order]

    def change(a: Array) -> Array:
        return a.reshape(full).transpose(*order, *dropped).reshape(alpha)

    weight = Weight("alpha", "vars/0", alpha, net.loader(value, change))
    y = net.layer("PReLU", x, {"shared_axes": shared or None}, shape=x.shape, axes=x.axes, weights=[weight])
    net.put(node.outputs[0], y)


@emits("Elu")
def _elu(net: Net, node: ir.Node) -> None:
    alpha = attr(node, "alpha", 1.0)
    x = net.raw(node.inputs[0])
    net.put(node.outputs[0], activation(net, x, "elu") if alpha == 1 else net.like(x, "ELU", {"alpha": float(alpha)}))


@emits("Celu")
def _celu(net: Net, node: ir.Node) -> None:
    alpha = float(attr(node, "alpha", 1.0))
    x = net.raw(node.inputs[0])
    if alpha == 1:
        net.put(node.outputs[0], activation(net, x, "elu"))
        return
    net.note("celu(x) written as alpha * elu(x / alpha)")
    y = activation(net, scale(net, x, 1 / alpha, 0, "_in"), "elu")
    net.put(node.outputs[0], scale(net, y, alpha, 0, "_out"))


@emits("Selu")
def _selu(net: Net, node: ir.Node) -> None:
    alpha, gamma = attr(node, "alpha", 1.67326319217681884765625), attr(node, "gamma", 1.05070102214813232421875)
    x = net.raw(node.inputs[0])
    if abs(alpha - 1.6732632) < 1e-6 and abs(gamma - 1.050701) < 1e-6:
        net.put(node.outputs[0], activation(net, x, "selu"))
        return
    net.put(node.outputs[0], scale(net, net.like(x, "ELU", {"alpha": float(alpha)}), gamma, 0, "_scale"))


@emits("ThresholdedRelu")
def _thresholded(net: Net, node: ir.Node) -> None:
    alpha = float(attr(node, "alpha", 1.0))
    if alpha < 0:
        refuse("a threshold below zero", "alpha")
    config = {"max_value": None, "negative_slope": 0.0, "threshold": alpha}
    net.put(node.outputs[0], net.like(net.raw(node.inputs[0]), "ReLU", config, nonnegative=True))


def hard_sigmoid(net: Net, x: Tensor, alpha: float, beta: float, suffix: str = "") -> Tensor:
    """clip(alpha * x + beta, 0, 1); Keras's own word for it changed its meaning between versions 2 and 3, so it is spelt out."""
    return relu(net, scale(net, x, alpha, beta, suffix + "_line"), 1.0, suffix)


@emits("HardSigmoid")
def _hard_sigmoid(net: Net, node: ir.Node) -> None:
    net.note("hard_sigmoid spelt out, because its meaning differs between Keras 2 and 3")
    net.put(node.outputs[0], hard_sigmoid(net, net.raw(node.inputs[0]), attr(node, "alpha", 0.2), attr(node, "beta", 0.5)))


@emits("HardSwish")
def _hard_swish(net: Net, node: ir.Node) -> None:
    x = net.raw(node.inputs[0])
    net.note("hard_swish spelt out as x * relu6(x + 3) / 6")
    net.put(node.outputs[0], merge(net, "Multiply", [x, hard_sigmoid(net, x, 1 / 6, 0.5, "_gate")]))


@emits("Swish")
def _swish(net: Net, node: ir.Node) -> None:
    alpha = float(attr(node, "alpha", 1.0))
    x = net.raw(node.inputs[0])
    if alpha == 1:
        net.put(node.outputs[0], activation(net, x, "swish"))
        return
    gate = activation(net, scale(net, x, alpha, 0, "_scale"), "sigmoid", "_gate")
    net.put(node.outputs[0], merge(net, "Multiply", [x, gate]))


@emits("Gelu")
def _gelu(net: Net, node: ir.Node) -> None:
    x = net.raw(node.inputs[0])
    if attr(node, "approximate", "none") == "none":
        net.put(node.outputs[0], activation(net, x, "gelu"))
        return
    net.note("the tanh form of gelu spelt out")
    root = math.sqrt(2 / math.pi)
    square = merge(net, "Multiply", [x, x], "_square")
    inner = merge(net, "Multiply", [x, scale(net, square, root * 0.044715, root, "_line")], "_inner")
    gate = scale(net, activation(net, inner, "tanh", "_tanh"), 0.5, 0.5, "_gate")
    net.put(node.outputs[0], merge(net, "Multiply", [x, gate]))


@emits("Clip")
def _clip(net: Net, node: ir.Node) -> None:
    bounds: list[float | None] = []
    for value in (*node.inputs[1:3], None, None)[:2]:
        if value is None:
            bounds.append(None)
            continue
        array = net.constant(value)
        if array is None:
            refuse("its bounds are computed")
        bound = float(array.reshape(-1)[0])
        bounds.append(None if abs(bound) >= 3e38 else bound)
    net.put(node.outputs[0], clip(net, net.raw(node.inputs[0]), bounds[0], bounds[1]))


def clip(net: Net, x: Tensor, low: float | None, high: float | None) -> Tensor:
    """min(max(x, low), high)."""
    if low is None and high is None:
        return x
    if low == 0 and (high is None or high > 0):
        return relu(net, x, high)
    if low is not None and high is not None and high <= low:
        net.note("clip to one number written as a relu cut at 0")  # where the bounds cross, the upper one holds
        return relu(net, x, 0.0) if high == 0 else scale(net, relu(net, x, 0.0, "_zero"), 1, high)
    if any(b is not None and abs(b) > _FAR for b in (low, high)):
        refuse("bounds so far from zero cannot be shifted exactly", rewrite="clip at 0, or leave the bound out")
    net.note("clip written as a shifted relu")
    if low is None:
        assert high is not None
        y = relu(net, scale(net, x, -1, high, "_shift"), None, "_relu")
        return scale(net, y, -1, high)
    top = None if high is None else high - low
    y = relu(net, scale(net, x, 1, -low, "_shift"), top, "_relu")
    return replace(scale(net, y, 1, low), nonnegative=low >= 0)


@emits("Softmax", "LogSoftmax")
def _softmax(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    axis = axis_of(node, len(x.axes))
    place = x.axes[axis]
    log = node.op_type == "LogSoftmax"
    if place is None or place == 0:
        x = net.channels_last(x)
        place = x.axes[axis]
    if place is None or place == 0:
        refuse("it runs along the batch", "axis")
    if log:
        x = net.last_axis(x, axis)
        if not net.operations:
            refuse("no layer of Keras 2 computes it", rewrite="write a .keras archive, or end the network in Softmax")
        net.put(node.outputs[0], activation(net, x, "log_softmax"))
    elif place == len(x.shape) - 1 and len(x.shape) > 1:
        net.put(node.outputs[0], activation(net, x, "softmax", nonnegative=True))
    else:
        net.put(node.outputs[0], net.like(x, "Softmax", {"axis": place}, nonnegative=True))


_OPERATIONS = {
    "Sqrt": "Sqrt",
    "Log": "Log",
    "Sin": "Sin",
    "Cos": "Cos",
    "Tan": "Tan",
    "Floor": "Floor",
    "Ceil": "Ceil",
    "Sign": "Sign",
    "Sinh": "Sinh",
    "Cosh": "Cosh",
    "Asin": "Arcsin",
    "Acos": "Arccos",
    "Atan": "Arctan",
    "Asinh": "Arcsinh",
    "Acosh": "Arccosh",
    "Atanh": "Arctanh",
    "Reciprocal": "Reciprocal",
}


@emits(*_OPERATIONS, "Erf")
def _function(net: Net, node: ir.Node) -> None:
    x = net.raw(node.inputs[0])
    module, kind = ("keras.src.ops.math", "Erf") if node.op_type == "Erf" else ("keras.src.ops.numpy", _OPERATIONS[node.op_type])
    y = net.operation(module, kind, kind.lower(), [x], (Arg(0),), shape=x.shape, axes=x.axes)
    net.put(node.outputs[0], replace(y, scramble=x.scramble))


@emits("Abs")
def _abs(net: Net, node: ir.Node) -> None:
    x = net.raw(node.inputs[0])
    net.note("abs(x) written as max(x, -x)")
    net.put(node.outputs[0], replace(merge(net, "Maximum", [x, scale(net, x, -1, 0, "_minus")]), nonnegative=True))


@emits("Neg")
def _neg(net: Net, node: ir.Node) -> None:
    net.put(node.outputs[0], scale(net, net.raw(node.inputs[0]), -1, 0))


ELEMENTWISE: frozenset[str] = frozenset(
    {
        *_NAMED,
        *_OPERATIONS,
        "Erf",
        "Relu",
        "LeakyRelu",
        "Elu",
        "Celu",
        "Selu",
        "ThresholdedRelu",
        "HardSigmoid",
        "HardSwish",
        "Swish",
        "Gelu",
        "Clip",
        "Abs",
        "Neg",
        "Identity",
        "Dropout",
        "Cast",
    }
)
"""Operators that leave a flattened axis in whatever order it has."""

Unary = Callable[[Net, ir.Node], None]
