"""Arithmetic of two tensors, or of a tensor and a number.

Whole numbers are divided in float32. `remainder` has the divisor's sign, `fmod` the dividend's.

Source: aten/src/ATen/native/BinaryOps.cpp.
"""

from __future__ import annotations

from math import pi
from typing import Any

import onnx_ir as ir

from niudao.formats.pytorch.aten.lowering import Lowering, Tensor
from niudao.formats.pytorch.aten.table import aten

FLOAT, BOOL = ir.DataType.FLOAT, ir.DataType.BOOL


def any_tensor(*values: Any) -> bool:
    return any(isinstance(v, ir.Value) for v in values)


def _scaled(c: Lowering, other: Any, alpha: Any) -> Any:
    if alpha == 1:
        return other
    if not isinstance(other, ir.Value):
        return other * alpha
    x = c.promoted(other, alpha)
    return c.op("Mul", *x)


@aten("aten.add")
def add(c: Lowering, self: Any, other: Any, alpha: Any = 1) -> Any:
    if not any_tensor(self, other):
        return self + other * alpha
    a, b = c.promoted(self, _scaled(c, other, alpha))
    return c.op("Or" if a.dtype == BOOL else "Add", a, b)


@aten("aten.sub", "aten.subtract")
def sub(c: Lowering, self: Any, other: Any, alpha: Any = 1) -> Any:
    if not any_tensor(self, other):
        return self - other * alpha
    return c.op("Sub", *c.promoted(self, _scaled(c, other, alpha)))


@aten("aten.rsub")
def rsub(c: Lowering, self: Any, other: Any, alpha: Any = 1) -> Any:
    return sub(c, other, self, alpha)


@aten("aten.mul", "aten.multiply")
def mul(c: Lowering, self: Any, other: Any) -> Any:
    if not any_tensor(self, other):
        return self * other
    a, b = c.promoted(self, other)
    return c.op("And" if a.dtype == BOOL else "Mul", a, b)


@aten("aten.div", "aten.true_divide", "aten.divide")
def div(c: Lowering, self: Any, other: Any, rounding_mode: str | None = None) -> Any:
    if not any_tensor(self, other):
        return self / other
    if rounding_mode is None:
        return c.op("Div", *c.promoted(self, other, least=FLOAT))
    a, b = c.promoted(self, other)
    if rounding_mode == "floor":
        return _floored(c, a, b)
    if rounding_mode != "trunc":
        c.refuse(f"rounding_mode={rounding_mode!r}", "rounding_mode")
    y = c.op("Div", a, b)
    return truncated(c, y) if c.is_float(y) else y


@aten("aten.floor_divide")
def floor_divide(c: Lowering, self: Any, other: Any) -> Any:
    if not any_tensor(self, other):
        return self // other
    return _floored(c, *c.promoted(self, other))


def _floored(c: Lowering, a: ir.Value, b: ir.Value) -> ir.Value:
    if c.is_float(a):
        return c.op("Floor", c.op("Div", a, b))
    return c.op("Div", c.op("Sub", a, c.op("Mod", a, b)), b)


def truncated(c: Lowering, x: ir.Value) -> ir.Value:
    return c.op("Mul", c.op("Sign", x), c.op("Floor", c.op("Abs", x)))


@aten("aten.remainder")
def remainder(c: Lowering, self: Any, other: Any) -> Any:
    if not any_tensor(self, other):
        return self % other
    a, b = c.promoted(self, other)
    if not c.is_float(a):
        return c.op("Mod", a, b)
    rest, zero = c.op("Mod", a, b, fmod=1), c.const(0, a)
    wrong = c.op("Less", c.op("Mul", c.op("Sign", rest), c.op("Sign", b)), zero)
    return c.op("Where", wrong, c.op("Add", rest, b), rest)


@aten("aten.fmod")
def fmod(c: Lowering, self: Tensor, other: Tensor) -> ir.Value:
    return c.op("Mod", *c.promoted(self, other), fmod=1)


@aten("aten.pow")
def power(c: Lowering, self: Any, exponent: Any) -> Any:
    if not any_tensor(self, exponent):
        return self**exponent
    a, b = c.promoted(self, exponent)
    if isinstance(exponent, (int, float)) and c.is_float(a) and exponent in (0.5, -1, 1):
        return a if exponent == 1 else c.op("Sqrt" if exponent == 0.5 else "Reciprocal", a)
    return c.op("Pow", a, b)


@aten("aten.maximum", "aten.minimum", "aten.max.other", "aten.min.other", "aten.fmax", "aten.fmin")
def extreme(c: Lowering, self: Tensor, other: Tensor) -> ir.Value:
    a, b = c.promoted(self, other)
    return c.op("Max" if "max" in c.call.target else "Min", a, b)


@aten("aten.clamp", "aten.clip")
def clamp(c: Lowering, self: ir.Value, min: Tensor | None = None, max: Tensor | None = None) -> ir.Value:
    """The upper limit wins where the limits cross, as in ONNX."""
    held = [v for v in (self, min, max) if v is not None]
    if any_tensor(min, max):
        parts = iter(c.promoted(*held))
        y = next(parts)
        y = y if min is None else c.op("Max", y, next(parts))
        return y if max is None else c.op("Min", y, next(parts))
    x = c.promoted(*held)[0]
    low, high = (None if v is None else c.tensor(v, x) for v in (min, max))
    return c.op("Clip", x, low, high)


@aten("aten.clamp_min", "aten.clamp_max")
def clamp_one(c: Lowering, self: ir.Value, *limits: Tensor, **named: Tensor) -> ir.Value:
    (limit,) = (*limits, *named.values())
    return clamp(c, self, limit) if "clamp_min" in c.call.target else clamp(c, self, None, limit)


@aten("aten.lerp")
def lerp(c: Lowering, self: ir.Value, end: ir.Value, weight: Tensor) -> ir.Value:
    a, b, w = c.promoted(self, end, weight)
    return c.op("Add", a, c.op("Mul", w, c.op("Sub", b, a)))


@aten("aten.addcmul", "aten.addcdiv")
def addc(c: Lowering, self: ir.Value, tensor1: ir.Value, tensor2: ir.Value, value: Any = 1) -> ir.Value:
    least = FLOAT if "div" in c.call.target else None
    a, b, d = c.promoted(self, tensor1, tensor2, least=least)
    y = c.op("Div" if least is not None else "Mul", b, d)
    factor = c.number(value, "value")
    return c.op("Add", a, y if factor == 1 else c.op("Mul", y, c.const(factor, y)))


@aten("aten.atan2", "aten.arctan2")
def atan2(c: Lowering, self: ir.Value, other: ir.Value) -> ir.Value:
    """atan(y / x), turned by pi where x is negative; pi / 2 with y's sign where x is 0."""
    y, x = c.promoted(self, other, least=FLOAT)
    zero = c.const(0, x)
    flat = c.op("Atan", c.op("Div", y, x))
    turn = c.op("Where", c.op("Less", y, zero), c.const(-pi, x), c.const(pi, x))
    straight = c.op("Mul", c.op("Sign", y), c.const(pi / 2, x))
    turned = c.op("Where", c.op("Less", x, zero), c.op("Add", flat, turn), flat)
    return c.op("Where", c.op("Equal", x, zero), straight, turned)


@aten("aten.hypot")
def hypot(c: Lowering, self: ir.Value, other: ir.Value) -> ir.Value:
    a, b = c.promoted(self, other)
    return c.op("Sqrt", c.op("Add", c.op("Mul", a, a), c.op("Mul", b, b)))


@aten("aten.xlogy", "aten.special_xlogy")
def xlogy(c: Lowering, self: Tensor, other: Tensor) -> ir.Value:
    a, b = c.promoted(self, other, least=FLOAT)
    zero = c.const(0, a)
    return c.op("Where", c.op("Equal", a, zero), zero, c.op("Mul", a, c.op("Log", b)))
