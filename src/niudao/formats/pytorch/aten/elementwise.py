"""Functions of one tensor, element by element. Whole numbers become float32, as in torch.

Source: aten/src/ATen/native/UnaryOps.cpp.
"""

from __future__ import annotations

from math import pi
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.pytorch.aten.arithmetic import truncated
from niudao.formats.pytorch.aten.lowering import Lowering
from niudao.formats.pytorch.aten.table import aten, split

FLOAT = ir.DataType.FLOAT


@aten("aten.square")
def square(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("Mul", self, self)


_UNARY = {
    "aten.exp": "Exp",
    "aten.log": "Log",
    "aten.sqrt": "Sqrt",
    "aten.erf": "Erf",
    "aten.special_erf": "Erf",
    "aten.sin": "Sin",
    "aten.cos": "Cos",
    "aten.tan": "Tan",
    "aten.asin": "Asin",
    "aten.acos": "Acos",
    "aten.atan": "Atan",
    "aten.sinh": "Sinh",
    "aten.cosh": "Cosh",
    "aten.asinh": "Asinh",
    "aten.acosh": "Acosh",
    "aten.atanh": "Atanh",
    "aten.reciprocal": "Reciprocal",
    "aten.arctan": "Atan",
    "aten.arcsin": "Asin",
    "aten.arccos": "Acos",
}


@aten(*_UNARY)
def unary(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op(_UNARY[split(c.call.target)[0].rstrip("_")], *c.promoted(self, least=FLOAT))


_KEEPING = {
    "aten.abs": "Abs",
    "aten.absolute": "Abs",
    "aten.neg": "Neg",
    "aten.negative": "Neg",
    "aten.sign": "Sign",
    "aten.sgn": "Sign",
    "aten.floor": "Floor",
    "aten.ceil": "Ceil",
}


@aten(*_KEEPING)
def keeping(c: Lowering, self: Any) -> Any:
    name = _KEEPING[split(c.call.target)[0].rstrip("_")]
    if not isinstance(self, ir.Value):
        return -self if name == "Neg" else self if name in ("Floor", "Ceil") else c.refuse("a size's sign")
    if name in ("Floor", "Ceil") and not c.is_float(self):
        return self
    return c.op(name, self)


@aten("aten.rsqrt")
def rsqrt(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("Reciprocal", c.op("Sqrt", *c.promoted(self, least=FLOAT)))


@aten("aten.exp2", "aten.special_exp2")
def exp2(c: Lowering, self: ir.Value) -> ir.Value:
    x = c.promoted(self, least=FLOAT)[0]
    return c.op("Pow", c.const(2, x), x)


@aten("aten.expm1", "aten.special_expm1")
def expm1(c: Lowering, self: ir.Value) -> ir.Value:
    """exp(x) - 1 = tanh(x / 2) (exp(x) + 1), which keeps its digits near 0."""
    x = c.promoted(self, least=FLOAT)[0]
    half = c.op("Tanh", c.op("Mul", x, c.const(0.5, x)))
    return c.op("Mul", half, c.op("Add", c.op("Exp", x), c.const(1, x)))


_LOGS = {"aten.log2": np.log(2), "aten.log10": np.log(10)}


@aten(*_LOGS)
def log_of_base(c: Lowering, self: ir.Value) -> ir.Value:
    x = c.promoted(self, least=FLOAT)[0]
    return c.op("Div", c.op("Log", x), c.const(_LOGS[split(c.call.target)[0].rstrip("_")], x))


@aten("aten.log1p", "aten.special_log1p")
def log1p(c: Lowering, self: ir.Value) -> ir.Value:
    """log(1 + x) = 2 atanh(x / (2 + x)), which keeps its digits near 0."""
    x = c.promoted(self, least=FLOAT)[0]
    two = c.const(2, x)
    near = c.op("Mul", two, c.op("Atanh", c.op("Div", x, c.op("Add", x, two))))
    small = c.op("Less", c.op("Abs", x), c.const(0.5, x))
    return c.op("Where", small, near, c.op("Log", c.op("Add", x, c.const(1, x))))


@aten("aten.erfc", "aten.special_erfc")
def erfc(c: Lowering, self: ir.Value) -> ir.Value:
    x = c.promoted(self, least=FLOAT)[0]
    return c.op("Sub", c.const(1, x), c.op("Erf", x))


@aten("aten.trunc", "aten.fix")
def trunc(c: Lowering, self: ir.Value) -> ir.Value:
    return truncated(c, self) if c.is_float(self) else self


@aten("aten.frac")
def frac(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("Sub", self, truncated(c, self))


@aten("aten.round")
def rounded(c: Lowering, self: ir.Value, decimals: Any = 0) -> ir.Value:
    if not c.is_float(self):
        return self
    places = c.whole(decimals, "decimals")
    if not places:
        return c.op("Round", self)
    factor = c.const(10.0 ** abs(places), self)
    before, after = ("Mul", "Div") if places > 0 else ("Div", "Mul")
    return c.op(after, c.op("Round", c.op(before, self, factor)), factor)


@aten("aten.deg2rad")
def deg2rad(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("Mul", self, c.const(pi / 180, self))


@aten("aten.nan_to_num")
def nan_to_num(c: Lowering, self: ir.Value, nan: Any = None, posinf: Any = None, neginf: Any = None) -> ir.Value:
    limits = np.finfo(c.dtype(self).numpy())
    y = c.op("Where", c.op("IsNaN", self), c.const(0 if nan is None else c.number(nan, "nan"), self), self)
    high = c.const(limits.max if posinf is None else c.number(posinf, "posinf"), self)
    low = c.const(limits.min if neginf is None else c.number(neginf, "neginf"), self)
    y = c.op("Where", c.op("IsInf", self, detect_negative=0), high, y)
    return c.op("Where", c.op("IsInf", self, detect_positive=0), low, y)
