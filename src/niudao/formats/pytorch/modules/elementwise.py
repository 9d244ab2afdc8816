"""Arithmetic, comparison and logic, element by element; ONNX broadcasts as torch does."""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.functions.elementwise import detect_inf
from niudao.formats.pytorch.modules.table import converts

_UNARY: dict[str, Callable[..., Any]] = {
    "Abs": torch.abs,
    "Neg": operator.neg,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Tan": torch.tan,
    "Asin": torch.asin,
    "Acos": torch.acos,
    "Atan": torch.atan,
    "Sinh": torch.sinh,
    "Cosh": torch.cosh,
    "Asinh": torch.asinh,
    "Acosh": torch.acosh,
    "Atanh": torch.atanh,
    "Erf": torch.erf,
    "IsNaN": torch.isnan,
    "Not": torch.logical_not,
    "BitwiseNot": torch.bitwise_not,
}

_BINARY: dict[str, Callable[..., Any]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Greater": operator.gt,
    "GreaterOrEqual": operator.ge,
    "Less": operator.lt,
    "LessOrEqual": operator.le,
    "Equal": operator.eq,
}

_TENSORS: dict[str, Callable[..., Any]] = {
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
    "BitwiseAnd": torch.bitwise_and,
    "BitwiseOr": torch.bitwise_or,
    "BitwiseXor": torch.bitwise_xor,
}


def operands(c: Call) -> tuple[Any, Any]:
    """Both inputs, at most one of them a Python number."""
    right = c.operand(1)
    return (c.x(0) if isinstance(right, (int, float)) or right is not c.x(1) else c.operand(0)), right


@converts(*_UNARY)
def unary(c: Call) -> Any:
    return c.call(_UNARY[c.op], c.x(0))


@converts(*_BINARY)
def binary(c: Call) -> Any:
    left, right = operands(c)
    return c.call(_BINARY[c.op], left, right)


@converts(*_TENSORS)
def tensors(c: Call) -> Any:
    return c.call(_TENSORS[c.op], c.x(0), c.x(1))


@converts("Div")
def divide(c: Call) -> Any:
    """Integers are cut off towards zero."""
    left, right = operands(c)
    if c.dtype(0).is_floating_point:
        return c.call(operator.truediv, left, right)
    return c.call(torch.div, left, right, rounding_mode="trunc")


@converts("Mod")
def modulo(c: Call) -> Any:
    """The sign of the divisor, or with `fmod` that of the dividend."""
    return c.call(torch.fmod if c.attr("fmod") else torch.remainder, c.x(0), c.x(1))


@converts("Pow")
def power(c: Call) -> Any:
    """The result has the base's type, whatever the exponent's is."""
    exponent = c.known(1)
    base, to = c.dtype(0), c.x(1)
    if exponent is not None and exponent.size == 1 and exponent.ndim <= (c.rank(0) or 0):
        number = c.number(1)
        if base.is_floating_point and float(number).is_integer() and abs(number) < 1 << 24:
            number = int(number)
        if base.is_floating_point or isinstance(number, int):
            return c.call(operator.pow, c.x(0), number)
    raised = c.call(torch.pow, c.x(0), to)
    return raised if torch.promote_types(base, c.dtype(1)) == base else c.method("to", raised, base)


@converts("Max", "Min", "Sum", "Mean")
def several(c: Call) -> Any:
    """Of any number of inputs."""
    xs = c.xs()
    function = {"Max": torch.maximum, "Min": torch.minimum}.get(c.op, operator.add)
    total = reduce(lambda a, b: c.call(function, a, b), xs)
    return c.call(operator.truediv, total, len(xs)) if c.op == "Mean" and len(xs) > 1 else total


@converts("Where")
def where(c: Call) -> Any:
    return c.call(torch.where, c.x(0), c.x(1), c.x(2))


@converts("IsInf")
def is_inf(c: Call) -> Any:
    positive, negative = bool(c.attr("detect_positive")), bool(c.attr("detect_negative"))
    if positive and negative:
        return c.call(torch.isinf, c.x(0))
    return c.call(detect_inf, c.x(0), positive, negative)


@converts("BitShift")
def bit_shift(c: Call) -> Any:
    return c.call(torch.bitwise_left_shift if c.attr("direction") == "LEFT" else torch.bitwise_right_shift, c.x(0), c.x(1))
