"""Layers that work on each number alone, Softmax, and layers that only pass on what they get.

Sources: BVLC Caffe's relu, prelu, elu, power, exp, log, threshold, clip, bnll, swish and softmax layers.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.layers import Call, reads


@reads("ReLU")
def relu(call: Call, x: ir.Value) -> ir.Value:
    """max(x, 0) + negative_slope * min(x, 0)."""
    slope = float(call.param("relu_param").get("negative_slope"))
    return call.b.op("Relu", x) if slope == 0 else call.b.op("LeakyRelu", x, alpha=slope)


@reads("ReLU6")
def relu6(call: Call, x: ir.Value) -> ir.Value:
    """min(max(x, 0), 6) + negative_slope * min(x, 0)."""
    slope = float(call.param("relu6_param").get("negative_slope"))
    if slope < 0:
        raise call.refuse("a negative slope below 0 is unknown", attribute="negative_slope")
    if slope:
        return call.b.op("Min", call.b.op("LeakyRelu", x, alpha=slope), call.b.const(6.0))
    return call.b.op("Clip", x, call.b.const(0.0), call.b.const(6.0))


@reads("PReLU")
def prelu(call: Call, x: ir.Value) -> ir.Value:
    """max(x, 0) + slope * min(x, 0), with one slope for each channel or one for all."""
    if call.rank(x) < 2:
        raise call.bad("input", "at least 2 axes", f"{call.rank(x)} axes")
    call.expect(1)
    sizes = call.sizes(x)
    if call.param("prelu_param").get("channel_shared"):
        shape: tuple[int, ...] = (1,)
    else:
        shape = (sizes[0], *(1 for _ in sizes[1:]))
    return call.b.op("PRelu", x, call.weight(0, shape, "slope", fill=0.25))


@reads("ELU")
def elu(call: Call, x: ir.Value) -> ir.Value:
    """x where x > 0, else alpha * (e^x - 1)."""
    return call.b.op("Elu", x, alpha=float(call.param("elu_param").get("alpha")))


@reads("Sigmoid")
def sigmoid(call: Call, x: ir.Value) -> ir.Value:
    """1 / (1 + e^-x)."""
    return call.b.op("Sigmoid", x)


@reads("TanH")
def tanh(call: Call, x: ir.Value) -> ir.Value:
    """tanh(x)."""
    return call.b.op("Tanh", x)


@reads("AbsVal")
def absolute(call: Call, x: ir.Value) -> ir.Value:
    """|x|."""
    return call.b.op("Abs", x)


@reads("BNLL", "Softplus")
def bnll(call: Call, x: ir.Value) -> ir.Value:
    """log(1 + e^x)."""
    return call.b.op("Softplus", x)


@reads("Swish")
def swish(call: Call, x: ir.Value) -> ir.Value:
    """x * sigmoid(beta * x)."""
    beta = float(call.param("swish_param").get("beta"))
    inner = x if beta == 1 else call.b.op("Mul", x, call.b.const(beta))
    return call.b.op("Mul", x, call.b.op("Sigmoid", inner))


@reads("HardSwish", "HSwish", "Hswish")
def hard_swish(call: Call, x: ir.Value) -> ir.Value:
    """x * min(max(x + 3, 0), 6) / 6."""
    return call.b.op("HardSwish", x)


@reads("Mish")
def mish(call: Call, x: ir.Value) -> ir.Value:
    """x * tanh(log(1 + e^x))."""
    return call.b.op("Mish", x)


@reads("Power")
def power(call: Call, x: ir.Value) -> ir.Value:
    """(shift + scale * x) ^ power; the same number everywhere where power or scale is 0."""
    part = call.param("power_param")
    exponent, scale, shift = (float(part.get(k)) for k in ("power", "scale", "shift"))
    if exponent * scale == 0:
        with np.errstate(all="ignore"):
            value = 1.0 if exponent == 0 else float(np.power(np.float32(shift), np.float32(exponent)))
        return _everywhere(call, x, value)
    if scale != 1:
        x = call.b.op("Mul", x, call.b.const(scale))
    if shift != 0:
        x = call.b.op("Add", x, call.b.const(shift))
    return x if exponent == 1 else call.b.op("Pow", x, call.b.const(exponent))


def _everywhere(call: Call, x: ir.Value, value: float) -> ir.Value:
    """One number in the shape of x, whatever x holds: clipped between the number and itself."""
    if math.isnan(value):
        return call.b.op("Mul", x, call.b.const(value))
    return call.b.op("Clip", x, call.b.const(value), call.b.const(value))


@reads("Exp")
def exp(call: Call, x: ir.Value) -> ir.Value:
    """base ^ (shift + scale * x), as base^shift * e^(log(base) * scale * x); base -1 stands for e."""
    part = call.param("exp_param")
    base, scale, shift = (np.float32(part.get(k)) for k in ("base", "scale", "shift"))
    if base != -1 and not 0 < base < np.inf:
        raise call.bad("base", "-1 or a number above 0", base)
    with np.errstate(all="ignore"):
        inner = float(scale if base == -1 else np.log(base) * scale)
        outer = float(np.exp(shift) if base == -1 else np.power(base, shift))
    y = call.b.op("Exp", x if inner == 1 else call.b.op("Mul", x, call.b.const(inner)))
    return y if outer == 1 else call.b.op("Mul", y, call.b.const(outer))


@reads("Log")
def log(call: Call, x: ir.Value) -> ir.Value:
    """log(shift + scale * x) / log(base); base -1 stands for e."""
    part = call.param("log_param")
    base, scale, shift = (float(part.get(k)) for k in ("base", "scale", "shift"))
    if base != -1 and (not 0 < base < math.inf or base == 1):
        raise call.bad("base", "-1 or a number above 0 other than 1", base)
    if scale != 1:
        x = call.b.op("Mul", x, call.b.const(scale))
    if shift != 0:
        x = call.b.op("Add", x, call.b.const(shift))
    y = call.b.op("Log", x)
    return y if base == -1 else call.b.op("Mul", y, call.b.const(1 / math.log(base)))


@reads("Threshold")
def threshold(call: Call, x: ir.Value) -> ir.Value:
    """1 where x > threshold, else 0."""
    limit = call.b.const(float(call.param("threshold_param").get("threshold")))
    return call.b.op("Cast", call.b.op("Greater", x, limit), to=int(ir.DataType.FLOAT))


@reads("Clip")
def clip(call: Call, x: ir.Value) -> ir.Value:
    """max(min, min(x, max))."""
    part = call.param("clip_param")
    if not part.has("min") or not part.has("max"):
        raise call.bad("clip_param", "min and max", "nothing for one of them")
    low, high = float(part.get("min")), float(part.get("max"))
    return call.b.op("Clip", x, call.b.const(low), call.b.const(max(low, high)))


@reads("Softmax")
def softmax(call: Call, x: ir.Value) -> ir.Value:
    """e^x / sum(e^x) along one axis, the channels by default."""
    axis = call.axis(int(call.param("softmax_param").get("axis")), call.rank(x))
    return call.b.op("Softmax", x, axis=axis)


@reads("Dropout")
def dropout(call: Call, x: ir.Value) -> ir.Value:
    """Nothing at inference: training scales."""
    return x


@reads("Split")
def split(call: Call, x: ir.Value) -> tuple[ir.Value, ...]:
    """The input for every top."""
    return (x,) * len(call.layer.tops)


@reads("Silence")
def silence(call: Call, *values: ir.Value) -> tuple[ir.Value, ...]:
    """Takes values so that they are no outputs."""
    return ()
