"""Comparisons, and logic element by element."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

from niudao.formats.pytorch.aten.arithmetic import any_tensor
from niudao.formats.pytorch.aten.lowering import Lowering, Tensor
from niudao.formats.pytorch.aten.table import aten, split

BOOL = ir.DataType.BOOL


_COMPARE = {"eq": "Equal", "ne": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}
_WORDS = {"eq": "eq", "not_equal": "ne", "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge"}


@aten(*(f"aten.{n}" for n in (*_COMPARE, *_WORDS)))
def compare(c: Lowering, self: Any, other: Any) -> Any:
    name = split(c.call.target)[0].removeprefix("aten.").rstrip("_")
    name = _WORDS.get(name, name)
    if not any_tensor(self, other):
        return getattr(self, f"__{name}__")(other)
    y = c.op(_COMPARE[name], *c.promoted(self, other))
    return c.op("Not", y) if name == "ne" else y


_LOGIC = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}


@aten(*(f"aten.{n}" for n in _LOGIC))
def logic(c: Lowering, self: Tensor, other: Tensor) -> ir.Value:
    name = split(c.call.target)[0].removeprefix("aten.").rstrip("_")
    return c.op(_LOGIC[name], *(c.tensor(v, BOOL) for v in (self, other)))


@aten("aten.logical_not")
def logical_not(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("Not", c.cast(self, BOOL))


_BITS = {"bitwise_and": "And", "bitwise_or": "Or", "bitwise_xor": "Xor", "__and__": "And", "__or__": "Or", "__xor__": "Xor"}


@aten(*(f"aten.{n}" for n in _BITS))
def bitwise(c: Lowering, self: Tensor, other: Tensor) -> ir.Value:
    name = split(c.call.target)[0].removeprefix("aten.")
    name = name if name in _BITS else name.rstrip("_")
    a, b = c.promoted(self, other)
    return c.op(_BITS[name] if a.dtype == BOOL else f"Bitwise{_BITS[name]}", a, b)


@aten("aten.bitwise_not")
def bitwise_not(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("Not" if self.dtype == BOOL else "BitwiseNot", self)


@aten("aten.isnan")
def isnan(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("IsNaN", self)


@aten("aten.isinf")
def isinf(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("IsInf", self)


@aten("aten.isfinite")
def isfinite(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("Not", c.op("Or", c.op("IsNaN", self), c.op("IsInf", self)))
