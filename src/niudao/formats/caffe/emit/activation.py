"""Activations: element by element, each as Caffe's layer of that name or as the steps it is made of."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.broadcast import operand, product, total
from niudao.formats.caffe.emit.graph import Net, Top, refuse
from niudao.formats.caffe.emit.table import emits
from niudao.formats.caffe.emit.view import affine, linear, reshaped
from niudao.ir.operators import attribute

NEAR = 256.0
"""b - relu(b - x) stays within an ulp or two of what matters only while b is not far from zero."""

_NAMED = {"Sigmoid": ("Sigmoid", True), "Tanh": ("TanH", False), "Abs": ("AbsVal", True), "Softplus": ("BNLL", True)}


@emits(*_NAMED)
def named(net: Net, node: ir.Node) -> None:
    """Those that are one layer without settings."""
    type, nonnegative = _NAMED[node.op_type]
    net.put(node.outputs[0], net.unary(type, net.get(node.inputs[0]), nonnegative=nonnegative))


@emits("Relu")
def _relu(net: Net, node: ir.Node) -> None:
    net.put(node.outputs[0], net.relu(net.get(node.inputs[0])))


@emits("LeakyRelu")
def _leaky(net: Net, node: ir.Node) -> None:
    net.put(node.outputs[0], net.relu(net.get(node.inputs[0]), float(attribute(node, "alpha", 0.01))))


@emits("PRelu")
def _prelu(net: Net, node: ir.Node) -> None:
    value, x = node.inputs[1], net.get(node.inputs[0])
    if value is not None and net.is_constant(value):
        shape = net.shape_of(value)
        full = (1,) * (x.rank - len(shape)) + tuple(shape)
        size = math.prod(shape)
        channels = len(full) == x.rank >= 2 and full[1] == size == x.shape[1]
        if (size == 1 and len(full) == x.rank and 2 <= x.rank <= 4) or channels:
            shared = size == 1 and x.shape[1] != 1
            params = {"prelu_param": {"channel_shared": True} if shared else {}}
            weight = net.weight(value, () if shared else (size,))
            flat = x if x.rank <= 4 else reshaped(net, x, (*x.shape[:2], math.prod(d or 1 for d in x.shape[2:])))
            net.put(node.outputs[0], reshaped(net, net.layer("PReLU", flat, params, shape=flat.shape, weights=[weight]), x.shape))
            return
        if size == 1 and len(full) == x.rank:
            net.put(node.outputs[0], net.relu(x, float(np.asarray(net.constant(value)).reshape(-1)[0])))
            return
    net.note("PRelu as relu(x) - slope * relu(-x)")
    below = product(net, net.relu(linear(net, x, -1, 0, "_minus"), suffix="_below"), operand(net, value), "_slope")
    net.put(node.outputs[0], total(net, [net.relu(x, suffix="_above"), below], [1, -1]))


@emits("Elu")
def _elu(net: Net, node: ir.Node) -> None:
    net.put(node.outputs[0], elu(net, net.get(node.inputs[0]), float(attribute(node, "alpha", 1.0))))


def elu(net: Net, x: Top, alpha: float, suffix: str = "") -> Top:
    """x, or alpha * (e^x - 1) below zero."""
    return net.unary("ELU", x, {"elu_param": {"alpha": alpha} if alpha != 1 else {}}, suffix=suffix)


@emits("Celu")
def _celu(net: Net, node: ir.Node) -> None:
    alpha = float(attribute(node, "alpha", 1.0))
    if alpha <= 0:
        refuse("its alpha is not above zero", "alpha")
    x = linear(net, net.get(node.inputs[0]), 1 / alpha, 0, "_inner")
    net.put(node.outputs[0], linear(net, elu(net, x, 1.0, "_elu" if alpha != 1 else ""), alpha, 0))


@emits("Selu")
def _selu(net: Net, node: ir.Node) -> None:
    alpha, gamma = float(attribute(node, "alpha")), float(attribute(node, "gamma"))
    net.put(node.outputs[0], linear(net, elu(net, net.get(node.inputs[0]), alpha, "_elu"), gamma, 0))


@emits("Exp")
def _exp(net: Net, node: ir.Node) -> None:
    x, scale, shift = affine(net, net.get(node.inputs[0]))
    params = {k: v for k, v, d in (("scale", scale, 1.0), ("shift", shift, 0.0)) if v != d}
    net.put(node.outputs[0], net.unary("Exp", x, {"exp_param": params}, nonnegative=True))


@emits("Log")
def _log(net: Net, node: ir.Node) -> None:
    x, scale, shift = affine(net, net.get(node.inputs[0]))
    params = {k: v for k, v, d in (("scale", scale, 1.0), ("shift", shift, 0.0)) if v != d}
    net.put(node.outputs[0], net.unary("Log", x, {"log_param": params}))


@emits("Sqrt", "Reciprocal")
def _power(net: Net, node: ir.Node) -> None:
    net.put(node.outputs[0], raised(net, net.get(node.inputs[0]), 0.5 if node.op_type == "Sqrt" else -1.0))


def raised(net: Net, x: Top, power: float, suffix: str = "") -> Top:
    """x ** power, in one layer with the step before it."""
    source, scale, shift = affine(net, x)
    even = power in (2.0, 0.5, 0.0, 4.0)
    return net.power(source, scale=scale, shift=shift, power=power, suffix=suffix, nonnegative=even or x.nonnegative)


@emits("Neg")
def _neg(net: Net, node: ir.Node) -> None:
    net.put(node.outputs[0], linear(net, net.get(node.inputs[0]), -1, 0))


@emits("Softsign")
def _softsign(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    factor = net.power(net.unary("AbsVal", x, suffix="_abs", nonnegative=True), shift=1.0, power=-1.0, suffix="_factor")
    net.put(node.outputs[0], net.eltwise("PROD", [x, factor]))


def least(net: Net, x: Top, low: float, suffix: str = "") -> Top:
    """max(x, low)."""
    if low == 0 or (low < 0 and x.nonnegative):
        return x if x.nonnegative else net.relu(x, suffix=suffix)
    floor = net.power(x, scale=0.0, shift=low, suffix="_low", nonnegative=low >= 0)
    return _with(net.eltwise("MAX", [x, floor], suffix=suffix), low >= 0)


def most(net: Net, x: Top, high: float, suffix: str = "") -> Top:
    """min(x, high)."""
    if abs(high) <= NEAR:
        over = net.relu(linear(net, x, -1, high, "_under"), suffix="_room")
        return _with(net.power(over, scale=-1.0, shift=high, suffix=suffix), x.nonnegative and high >= 0)
    bounded = least(net, linear(net, x, -1, 0, "_minus"), -high, "_max")
    return net.power(bounded, scale=-1.0, suffix=suffix)


def _with(x: Top, nonnegative: bool) -> Top:
    return Top(x.layer, x.index, x.shape, x.pads, nonnegative)


def clip(net: Net, x: Top, low: float, high: float, suffix: str = "") -> Top:
    """min(max(x, low), high)."""
    if math.isnan(low) or math.isnan(high):
        refuse("a bound of it is not a number")
    if low >= high and math.isfinite(high):
        return net.power(x, scale=0.0, shift=high, suffix=suffix, nonnegative=high >= 0)
    bounded = abs(low) < 3.4e38, abs(high) < 3.4e38
    if not any(bounded):
        return x
    if (low, high) == (0, 6) and net.knows("ReLU6"):
        return _with(net.unary("ReLU6", x, suffix=suffix), True)
    if all(bounded) and net.knows("Clip"):
        return _with(net.unary("Clip", x, {"clip_param": {"min": low, "max": high}}, suffix=suffix), low >= 0)
    if bounded[1]:
        net.note("an upper bound b as b - relu(b - x)" if abs(high) <= NEAR else "an upper bound as a maximum of the negated blob")
    if bounded[0]:
        x = least(net, x, low, suffix if not bounded[1] else "_relu" if low == 0 else "_max")
    return most(net, x, high, suffix) if bounded[1] else x


@emits("Clip")
def _clip(net: Net, node: ir.Node) -> None:
    bounds: list[float] = []
    for i, default in ((1, -math.inf), (2, math.inf)):
        value = node.inputs[i] if len(node.inputs) > i else None
        if value is not None and not net.is_constant(value):
            refuse("a bound of it is computed", "min" if i == 1 else "max")
        array = net.constant(value)
        bounds.append(default if array is None else float(array.reshape(-1)[0]))
    net.put(node.outputs[0], clip(net, net.get(node.inputs[0]), bounds[0], bounds[1]))


@emits("HardSigmoid")
def _hard_sigmoid(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    net.put(node.outputs[0], clip(net, linear(net, x, float(attribute(node, "alpha")), float(attribute(node, "beta")), "_inner"), 0.0, 1.0))


@emits("HardSwish")
def _hard_swish(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    gate = clip(net, linear(net, x, 1 / 6, 0.5, "_inner"), 0.0, 1.0, "_gate")
    net.put(node.outputs[0], net.eltwise("PROD", [x, gate]))


@emits("Swish")
def _swish(net: Net, node: ir.Node) -> None:
    net.put(node.outputs[0], swish(net, net.get(node.inputs[0]), float(attribute(node, "alpha", 1.0))))


def swish(net: Net, x: Top, beta: float) -> Top:
    """x * sigmoid(beta * x)."""
    if net.knows("Swish"):
        return net.unary("Swish", x, {"swish_param": {"beta": beta} if beta != 1 else {}})
    gate = net.unary("Sigmoid", linear(net, x, beta, 0, "_inner"), suffix="_gate")
    return net.eltwise("PROD", [x, gate])


@emits("Mish")
def _mish(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    net.put(node.outputs[0], net.eltwise("PROD", [x, net.unary("TanH", net.unary("BNLL", x, suffix="_softplus"), suffix="_gate")]))


@emits("Gelu")
def _gelu(net: Net, node: ir.Node) -> None:
    if attribute(node, "approximate", "none") != "tanh":
        refuse("it needs the error function, which no Caffe layer has", "approximate", "use the tanh form of GELU")
    x = net.get(node.inputs[0])
    factor = math.sqrt(2 / math.pi)
    inner = net.eltwise("SUM", [x, net.power(x, power=3.0, suffix="_cube")], [factor, factor * 0.044715], "_inner")
    gate = net.power(net.unary("TanH", inner, suffix="_tanh"), scale=0.5, shift=0.5, suffix="_gate")
    net.note("GELU in its tanh form")
    net.put(node.outputs[0], net.eltwise("PROD", [x, gate]))


def above(net: Net, x: Top, limit: float, suffix: str) -> Top:
    """1 where x > limit, else 0."""
    return net.unary("Threshold", x, {"threshold_param": {"threshold": limit} if limit else {}}, suffix=suffix, nonnegative=True)


@emits("ThresholdedRelu")
def _thresholded(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    net.note("x where x > t as x * (x > t), which is no number where x is infinite")
    net.put(node.outputs[0], net.eltwise("PROD", [x, above(net, x, float(attribute(node, "alpha")), "_above")]))


@emits("Shrink")
def _shrink(net: Net, node: ir.Node) -> None:
    x, limit, bias = net.get(node.inputs[0]), float(attribute(node, "lambd")), float(attribute(node, "bias"))
    minus = linear(net, x, -1, 0, "_minus")
    high = net.eltwise("PROD", [linear(net, x, 1, -bias, "_less"), above(net, x, limit, "_above")], suffix="_high")
    if limit < 0:  # both branches may hold then, and ONNX asks for x < -lambd first
        rest = net.power(above(net, minus, limit, "_below"), scale=-1.0, shift=1.0, suffix="_rest")
        high = net.eltwise("PROD", [high, rest], suffix="_other")
    low = net.eltwise("PROD", [linear(net, x, 1, bias, "_more"), above(net, minus, limit, "_below")], suffix="_low")
    net.note("the two branches as products with truth values, which are no numbers where x is infinite")
    net.put(node.outputs[0], net.eltwise("SUM", [high, low]))


@emits("Sign")
def _sign(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    signs = [above(net, x, 0, "_above"), above(net, linear(net, x, -1, 0, "_minus"), 0, "_below")]
    net.put(node.outputs[0], net.eltwise("SUM", signs, [1, -1]))


@emits("Cosh", "Atanh")
def _hyperbolic(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    if node.op_type == "Cosh":
        parts = [
            net.unary("Exp", x, {"exp_param": {"scale": s} if s != 1 else {}}, suffix=n) for s, n in ((1.0, "_exp"), (-1.0, "_inverse"))
        ]
        net.put(node.outputs[0], net.eltwise("SUM", parts, [0.5, 0.5]))
        return
    parts = [net.unary("Log", x, {"log_param": {"scale": s, "shift": 1.0}}, suffix=n) for s, n in ((1.0, "_plus"), (-1.0, "_minus"))]
    net.put(node.outputs[0], net.eltwise("SUM", parts, [0.5, -0.5]))


@emits("Erf")
def _erf(net: Net, node: ir.Node) -> None:
    refuse("no Caffe layer has the error function", rewrite="use the tanh form of GELU")


@emits("Identity", "Dropout")
def _same(net: Net, node: ir.Node) -> None:
    net.put(node.outputs[0], net.raw(node.inputs[0]))
