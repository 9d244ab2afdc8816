"""Activations that exporters spelt out: clamps, HardSigmoid, HardSwish, GELU, Softplus, Mish, Softsign, ThresholdedRelu.

SiLU is not among them: x * sigmoid(x) is how it stands in memory, since ONNX Runtime has no kernel for Swish.
"""

from __future__ import annotations

from math import inf, pi, sqrt

import numpy as np
import onnx_ir as ir

from niudao.ir.operators import attribute
from niudao.ir.passes.chain import Maker, Match, Rules, factors, floats, made_by, near, one, same_dims, sides, single, split

_CERTAIN = 14.0
"""From here on log(1 + exp(x)) and x differ by less than float32 can tell."""


def _bounds(value: ir.Value | None) -> tuple[ir.Value, float, float] | None:
    """x, low, high where one node clamps x between constants, either of which may be infinite."""
    node = made_by(value, "Clip", "Relu", "Max", "Min")
    if node is None or node.inputs[0] is None or not floats(value):
        return None
    if node.op_type == "Relu":
        return node.inputs[0], 0.0, inf
    if node.op_type in ("Max", "Min"):
        parts = split(node) if len(node.inputs) == 2 else None
        if parts is None or not same_dims(parts[0], value):
            return None
        return (parts[0], parts[1], inf) if node.op_type == "Max" else (parts[0], -inf, parts[1])
    limits = []
    for place, free in ((1, -inf), (2, inf)):
        given = node.inputs[place] if len(node.inputs) > place else None
        limit = single(given) if given is not None else free
        if limit is None:
            return None
        limits.append(limit)
    return node.inputs[0], limits[0], limits[1]


def _clamped(value: ir.Value | None) -> tuple[ir.Value, float, float] | None:
    """As `_bounds`, with two clamps in a row taken as one."""
    outer = _bounds(value)
    inner = _bounds(outer[0]) if outer is not None else None
    if outer is None or inner is None or max(inner[1], outer[1]) > min(inner[2], outer[2]):
        return outer
    if outer[1] > inner[2] or outer[2] < inner[1]:
        return outer
    return inner[0], max(inner[1], outer[1]), min(inner[2], outer[2])


def _clip(node: ir.Node) -> Match | None:
    """Max and Min by constants, and clamps of clamps, are one Clip, or Relu where only 0 bounds it."""
    found = _clamped(node.outputs[0])
    if found is None or found[1] > found[2]:
        return None
    x, low, high = found
    if low == 0 and high == inf:
        return one("Relu", (x,), node) if node.op_type != "Relu" else None
    if (node.op_type == "Clip" and node.inputs[0] is x) or (low == -inf and high == inf) or node.op_type == "Relu":
        return None
    dtype = x.dtype.numpy() if x.dtype is not None else np.dtype(np.float32)

    def emit(make: Maker) -> ir.Value:
        limits = [make.weight(np.asarray(v, dtype), n) if abs(v) != inf else None for v, n in ((low, "min"), (high, "max"))]
        return make.op("Clip", x, *limits)

    return Match("Clip", (x,), node.outputs[0], emit)


def _scaled(node: ir.Node | None) -> tuple[ir.Value, float] | None:
    """x, s where a Mul or Div computes s * x."""
    parts = split(node) if node is not None else None
    if node is None or parts is None or (node.op_type == "Div" and (node.inputs[0] is not parts[0] or parts[1] == 0)):
        return None
    return parts[0], 1 / parts[1] if node.op_type == "Div" else parts[1]


def _hard_sigmoid_of(value: ir.Value | None) -> tuple[ir.Value, float, float] | None:
    """x, alpha, beta where value = clip(alpha * x + beta, 0, 1) in any of its spellings."""
    node = made_by(value, "HardSigmoid")
    if node is not None and node.inputs[0] is not None:
        return node.inputs[0], float(attribute(node, "alpha")), float(attribute(node, "beta"))
    outer = _scaled(made_by(value, "Div", "Mul"))
    scale = 1.0
    if outer is not None:
        value, scale = outer
    clip = _clamped(value)
    if clip is None or not near(clip[1], 0.0) or not near(clip[2] * scale, 1.0):
        return None
    x: ir.Value | None = clip[0]
    alpha, beta = scale, 0.0
    add = made_by(x, "Add")
    parts = split(add) if add is not None else None
    if parts is not None:
        x, beta = parts[0], parts[1] * scale
    inner = _scaled(made_by(x, "Mul", "Div")) if scale == 1.0 else None
    if inner is not None:
        x, alpha = inner
    return (x, alpha, beta) if x is not None and beta else None


def _hard_sigmoid(node: ir.Node) -> Match | None:
    found = _hard_sigmoid_of(node.outputs[0])
    return one("HardSigmoid", (found[0],), node, alpha=found[1], beta=found[2]) if found is not None else None


def _hard_swish(node: ir.Node) -> Match | None:
    """x * hard_sigmoid(x, 1/6, 1/2)."""
    for x, gate in sides(node):
        found = _hard_sigmoid_of(gate)
        if found is not None and found[0] is x and near(found[1], 1 / 6) and near(found[2], 0.5):
            return one("HardSwish", (x,), node)
    return None


def _hard_swish_late(node: ir.Node) -> Match | None:
    """x * clip(x + 3, 0, 6), divided by 6 at the end."""
    outer = _scaled(node)
    product = made_by(outer[0], "Mul") if outer is not None and near(outer[1], 1 / 6) else None
    for x, gate in sides(product) if product is not None else ():
        clip = _clamped(gate)
        add = made_by(clip[0], "Add") if clip is not None else None
        inner = split(add) if add is not None else None
        if clip is not None and inner is not None and inner[0] is x and near(inner[1], 3) and near(clip[1], 0) and near(clip[2], 6):
            return one("HardSwish", (x,), node)
    return None


def _gelu(node: ir.Node) -> Match | None:
    """0.5 * x * (1 + erf(x / sqrt 2)), and its tanh form, whatever the order of the factors."""
    parts, number = factors(node.outputs[0])
    if len(parts) != 2 or not near(number, 0.5):
        return None
    for x, other in (parts, parts[::-1]):
        add = made_by(other, "Add")
        sum_ = split(add) if add is not None else None
        curve = made_by(sum_[0], "Erf", "Tanh") if sum_ is not None and near(sum_[1], 1.0) else None
        if curve is None:
            continue
        inner, scale = factors(curve.inputs[0])
        if curve.op_type == "Erf" and inner == [x] and near(scale, 1 / sqrt(2)):
            return one("Gelu", (x,), node)
        if curve.op_type == "Tanh" and _is_cubic(inner, scale, x):
            return one("Gelu", (x,), node, approximate="tanh")
    return None


def _is_cubic(inner: list[ir.Value], scale: float, x: ir.Value) -> bool:
    """sqrt(2 / pi) * (x + 0.044715 x^3), or the same with x taken out: sqrt(2 / pi) * x * (1 + 0.044715 x^2)."""
    if not near(scale, sqrt(2 / pi)) or len(inner) not in (1, 2):
        return False
    if len(inner) == 2:
        rest = inner[1] if inner[0] is x else inner[0]
        add = made_by(rest, "Add") if x in inner else None
        parts = split(add) if add is not None else None
        return parts is not None and near(parts[1], 1.0) and _power(parts[0], x, 2)
    add = made_by(inner[0], "Add")
    return add is not None and any(a is x and _power(b, x, 3) for a, b in sides(add))


def _power(value: ir.Value | None, x: ir.Value, exponent: int) -> bool:
    """Whether a value is 0.044715 x^exponent."""
    parts, number = factors(value)
    total = 0.0
    for factor in parts:
        power = made_by(factor, "Pow")
        if factor is x:
            total += 1
        elif power is not None and power.inputs[0] is x:
            total += single(power.inputs[1]) or 0.0
        else:
            return False
    return near(number, 0.044715) and total == exponent


def _softplus(node: ir.Node) -> Match | None:
    """log(1 + exp(x))."""
    add = made_by(node.inputs[0], "Add")
    parts = split(add) if add is not None else None
    exp = made_by(parts[0], "Exp") if parts is not None and near(parts[1], 1.0) else None
    return one("Softplus", (exp.inputs[0],), node) if exp is not None else None


def _softplus_guarded(node: ir.Node) -> Match | None:
    """Torch's where(beta x > threshold, x, softplus(beta x) / beta), with a threshold beyond which both are one number."""
    greater, x, curve = made_by(node.inputs[0], "Greater"), node.inputs[1], node.inputs[2]
    threshold = single(greater.inputs[1]) if greater is not None else None
    outer = _scaled(made_by(curve, "Div", "Mul"))
    soft = made_by(outer[0] if outer is not None else curve, "Softplus")
    if greater is None or soft is None or threshold is None or threshold < _CERTAIN or x is None:
        return None
    inner = soft.inputs[0]
    before = _scaled(made_by(inner, "Mul", "Div"))
    beta = before[1] if before is not None and before[0] is x else 1.0
    if greater.inputs[0] is not inner or not near((outer[1] if outer is not None else 1.0) * beta, 1.0):
        return None
    if beta == 1.0:
        return one("Softplus", (x,), node) if inner is x else None
    return Match("Softplus", (x,), node.outputs[0], lambda make: _sharp(make, x, beta))


def _sharp(make: Maker, x: ir.Value, beta: float) -> ir.Value:
    number = make.weight(np.asarray(beta, x.dtype.numpy() if x.dtype is not None else np.float32), "beta")
    return make.op("Div", make.op("Softplus", make.op("Mul", x, number)), number)


def _mish(node: ir.Node) -> Match | None:
    """x * tanh(softplus(x))."""
    for x, gate in sides(node):
        tanh = made_by(gate, "Tanh")
        soft = made_by(tanh.inputs[0], "Softplus") if tanh is not None else None
        if soft is not None and soft.inputs[0] is x:
            return one("Mish", (x,), node)
    return None


def _softsign(node: ir.Node) -> Match | None:
    """x / (1 + |x|)."""
    x, add = node.inputs[0], made_by(node.inputs[1], "Add")
    parts = split(add) if add is not None else None
    size = made_by(parts[0], "Abs") if parts is not None and parts[1] == 1.0 else None
    return one("Softsign", (x,), node) if size is not None and size.inputs[0] is x else None


def _thresholded(node: ir.Node) -> Match | None:
    """where(x <= t, 0, x), and where(x > t, x, 0)."""
    question, yes, no = made_by(node.inputs[0], "LessOrEqual", "Greater"), node.inputs[1], node.inputs[2]
    if question is None:
        return None
    x, other = (no, yes) if question.op_type == "LessOrEqual" else (yes, no)
    limit = single(question.inputs[1])
    if limit is None or question.inputs[0] is not x or single(other) != 0.0 or not floats(x) or not same_dims(x, node.outputs[0]):
        return None
    return one("ThresholdedRelu", (x,), node, alpha=limit)


RULES: Rules = {
    "Clip": (_hard_sigmoid, _clip),
    "Max": (_hard_sigmoid, _clip),
    "Min": (_hard_sigmoid, _clip),
    "Div": (_hard_swish_late, _hard_sigmoid, _softsign),
    "Mul": (_hard_swish, _hard_swish_late, _gelu, _mish, _hard_sigmoid),
    "Log": (_softplus,),
    "Where": (_softplus_guarded, _thresholded),
}
