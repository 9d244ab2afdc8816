"""Activations.

Source: aten/src/ATen/native/Activation.cpp.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from niudao.formats.pytorch.aten.lowering import Lowering
from niudao.formats.pytorch.aten.table import aten, split

_SAME = {
    "aten.sigmoid": "Sigmoid",
    "aten.tanh": "Tanh",
    "aten.hardswish": "HardSwish",
    "aten.mish": "Mish",
}


@aten(*_SAME)
def plain(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op(_SAME[split(c.call.target)[0].rstrip("_")], *c.promoted(self, least=ir.DataType.FLOAT))


@aten("aten.relu")
def relu(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("Relu", self) if c.is_float(self) else c.op("Max", self, c.const(0, self))


@aten("aten.silu")
def silu(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("Mul", self, c.op("Sigmoid", self))


@aten("aten.relu6")
def relu6(c: Lowering, self: ir.Value) -> ir.Value:
    return hardtanh(c, self, 0.0, 6.0)


@aten("aten.hardtanh")
def hardtanh(c: Lowering, self: ir.Value, min_val: Any = -1, max_val: Any = 1) -> ir.Value:
    return c.op("Clip", self, c.const(c.number(min_val, "min_val"), self), c.const(c.number(max_val, "max_val"), self))


@aten("aten.leaky_relu")
def leaky_relu(c: Lowering, self: ir.Value, negative_slope: Any = 0.01) -> ir.Value:
    return c.op("LeakyRelu", self, alpha=float(c.number(negative_slope, "negative_slope")))


@aten("aten.rrelu")
def rrelu(c: Lowering, self: ir.Value, lower: Any = 0.125, upper: Any = 1 / 3, training: bool = False, generator: Any = None) -> ir.Value:
    if training:
        c.refuse("it draws random slopes while it trains", "training")
    return c.op("LeakyRelu", self, alpha=(c.number(lower, "lower") + c.number(upper, "upper")) / 2)


@aten("aten.rrelu_with_noise", "aten.rrelu_with_noise_functional")
def rrelu_with_noise(
    c: Lowering, self: ir.Value, noise: Any, lower: Any = 0.125, upper: Any = 1 / 3, training: bool = False, generator: Any = None
) -> Any:
    y = rrelu(c, self, lower, upper, training)
    return (y, None) if "functional" in c.call.target else y


@aten("aten.prelu", "aten._prelu_kernel")
def prelu(c: Lowering, self: ir.Value, weight: ir.Value) -> ir.Value:
    """One slope, or one for each channel of axis 1."""
    rank = c.rank(self)
    slopes = c.fixed(weight, 0) if c.rank(weight) == 1 else 1
    if c.rank(weight) == 1 and slopes != 1 and rank > 2:
        weight = c.rearranged(weight, [slopes, *[1] * (rank - 2)])
    return c.op("PRelu", self, weight)


@aten("aten.elu")
def elu(c: Lowering, self: ir.Value, alpha: Any = 1, scale: Any = 1, input_scale: Any = 1) -> ir.Value:
    a, s, i = c.number(alpha, "alpha"), c.number(scale, "scale"), c.number(input_scale, "input_scale")
    if i == 1:
        y = c.op("Elu", self, alpha=float(a))
        return y if s == 1 else c.op("Mul", y, c.const(s, self))
    low = c.op("Mul", c.op("Sub", c.op("Exp", c.op("Mul", self, c.const(i, self))), c.const(1, self)), c.const(a, self))
    y = c.op("Where", c.op("Greater", self, c.const(0, self)), self, low)
    return y if s == 1 else c.op("Mul", y, c.const(s, self))


@aten("aten.celu")
def celu(c: Lowering, self: ir.Value, alpha: Any = 1.0) -> ir.Value:
    a = float(c.number(alpha, "alpha"))
    if c.dtype(self) == ir.DataType.FLOAT:
        return c.op("Celu", self, alpha=a)
    return elu(c, self, a, 1, 1 / a)


@aten("aten.selu")
def selu(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("Selu", self)


@aten("aten.gelu")
def gelu(c: Lowering, self: ir.Value, approximate: str = "none") -> ir.Value:
    if approximate not in ("none", "tanh"):
        c.refuse(f"approximate={approximate!r}", "approximate")
    return c.op("Gelu", self, approximate=approximate)


@aten("aten.hardsigmoid")
def hardsigmoid(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("HardSigmoid", self, alpha=1 / 6, beta=0.5)


@aten("aten.softplus")
def softplus(c: Lowering, self: ir.Value, beta: Any = 1, threshold: Any = 20) -> ir.Value:
    """log(1 + exp(beta x)) / beta, and x itself where beta x is above the threshold."""
    b, limit = float(c.number(beta, "beta")), float(c.number(threshold, "threshold"))
    scaled = self if b == 1 else c.op("Mul", self, c.const(b, self))
    y = c.op("Softplus", scaled)
    y = y if b == 1 else c.op("Div", y, c.const(b, self))
    if limit >= 20:  # float32 cannot tell the difference
        return y
    return c.op("Where", c.op("Greater", scaled, c.const(limit, self)), self, y)


@aten("aten.log_sigmoid")
def log_sigmoid(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("Neg", c.op("Softplus", c.op("Neg", self)))


@aten("aten.log_sigmoid_forward")
def log_sigmoid_forward(c: Lowering, self: ir.Value) -> Any:
    return log_sigmoid(c, self), None


@aten("aten.softshrink")
def softshrink(c: Lowering, self: ir.Value, lambd: Any = 0.5) -> ir.Value:
    value = float(c.number(lambd, "lambd"))
    return c.op("Shrink", self, bias=value, lambd=value)


@aten("aten.hardshrink")
def hardshrink(c: Lowering, self: ir.Value, lambd: Any = 0.5) -> ir.Value:
    return c.op("Shrink", self, bias=0.0, lambd=float(c.number(lambd, "lambd")))


@aten("aten.threshold")
def threshold(c: Lowering, self: ir.Value, threshold: Any, value: Any) -> ir.Value:
    """x where it is above the threshold, else a value."""
    limit, other = c.number(threshold, "threshold"), c.number(value, "value")
    if other == 0 and limit >= 0 and c.is_float(self):
        return c.op("Relu", self) if limit == 0 else c.op("ThresholdedRelu", self, alpha=float(limit))
    return c.op("Where", c.op("Greater", self, c.const(limit, self)), self, c.const(other, self))


@aten("aten.glu")
def glu(c: Lowering, self: ir.Value, dim: Any = -1) -> ir.Value:
    a, b = c.ops("Split", self, outputs=2, axis=c.axis(self, dim), num_outputs=2)
    return c.op("Mul", a, c.op("Sigmoid", b))


@aten("aten.logit")
def logit(c: Lowering, self: ir.Value, eps: Any = None) -> ir.Value:
    x = c.promoted(self, least=ir.DataType.FLOAT)[0]
    if eps is not None:
        low = c.number(eps, "eps")
        x = c.op("Clip", x, c.const(low, x), c.const(1 - low, x))
    return c.op("Log", c.op("Div", x, c.op("Sub", c.const(1, x), x)))
