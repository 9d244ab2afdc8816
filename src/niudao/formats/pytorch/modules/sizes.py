"""Shape arithmetic: the operators that take shapes apart and put them together, on Python numbers instead of tensors."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import torch
from torch import fx

from niudao.formats.pytorch.modules.numbers import Number, Numbers

if TYPE_CHECKING:
    from niudao.formats.pytorch.modules.call import Call

_LONGEST = 64


def arithmetic(c: Call) -> Numbers | tuple[Numbers, ...] | None:
    """The node's result as numbers, where it is Shape or Size, or works on numbers; None where tensors must do it."""
    if c.op in ("Shape", "Size"):
        return _shape(c)
    rule = _RULES.get(c.op)
    if rule is None or not any(c.building.is_numbers(v) for v in c.node.inputs):
        return None
    given: list[Numbers | None] = []
    for value in c.node.inputs:
        if value is None:
            given.append(None)
        elif c.building.is_numbers(value):
            given.append(c.building.numbers(value, c))
        else:
            array = c.building.known(value)
            if array is None or array.ndim > 1 or array.size > _LONGEST:
                return None
            given.append(Numbers(tuple(array.reshape(-1).tolist()), array.ndim == 0))
    result: Numbers | tuple[Numbers, ...] | None = rule(c, *given)
    return result


def _shape(c: Call) -> Numbers | None:
    rank = c.rank(0)
    if rank is None:
        return None
    sizes = c.sizes(0)
    if c.op == "Size":
        total: Any = 1
        for size in sizes:
            total = _apply(c, operator.mul, total, size)
        return Numbers((total,), True)
    return Numbers(tuple(sizes[slice(c.attr("start", 0), c.attr("end", None))]))


def _apply(c: Call, function: Callable[..., Any], *args: Number) -> Number:
    """The number itself where all arguments are, else a call in the graph."""
    if not any(isinstance(a, fx.Node) for a in args):
        result: Number = function(*args)
        return result
    if function is operator.mul and 1 in args:
        return next((a for a in args if isinstance(a, fx.Node)), args[0])
    if function in (operator.add, operator.sub) and args[1] == 0:
        return args[0]
    return c.call(function, *args)


def _is_float(c: Call, i: int = 0) -> bool:
    value = c.node.outputs[0] if i < 0 else c.value(i)
    return value is not None and value.dtype is not None and value.dtype.is_floating_point()


def _pairwise(function: Callable[..., Any]) -> Callable[..., Numbers | None]:
    def rule(c: Call, *given: Numbers) -> Numbers | None:
        length = max(len(g.values) for g in given)
        if any(len(g.values) not in (1, length) for g in given):
            return None
        rows = [[g.values[k if len(g.values) > 1 else 0] for g in given] for k in range(length)]
        out = []
        for row in rows:
            total = row[0]
            for other in row[1:]:
                total = _apply(c, function, total, other)
            out.append(total)
        return Numbers(tuple(out), all(g.scalar for g in given))

    return rule


def _divide(c: Call, a: Numbers, b: Numbers) -> Numbers | None:
    if _is_float(c):
        return _pairwise(operator.truediv)(c, a, b)
    if any(isinstance(n, fx.Node) or n <= 0 for n in b.values):  # // rounds down, ONNX towards zero: the same for sizes
        return None
    if any(not isinstance(n, fx.Node) and n < 0 for n in a.values):
        return None
    return _pairwise(operator.floordiv)(c, a, b)


def _modulo(c: Call, a: Numbers, b: Numbers) -> Numbers | None:
    if _is_float(c) or c.attr("fmod", 0) or any(isinstance(n, fx.Node) or n <= 0 for n in b.values):
        return None
    return _pairwise(operator.mod)(c, a, b)


def _gather(c: Call, data: Numbers, indices: Numbers) -> Numbers | None:
    if data.scalar or any(isinstance(i, fx.Node) for i in indices.values):
        return None
    return Numbers(tuple(data.values[int(i)] for i in indices.values), indices.scalar)


def _concat(c: Call, *given: Numbers) -> Numbers | None:
    return Numbers(tuple(n for g in given for n in g.values))


def _slice(
    c: Call, data: Numbers, starts: Numbers, ends: Numbers, axes: Numbers | None = None, steps: Numbers | None = None
) -> Numbers | None:
    bounds = [starts, ends, steps or Numbers((1,))]
    if any(len(b.values) != 1 or isinstance(b.values[0], fx.Node) for b in bounds):
        return None
    start, end, step = (int(b.values[0]) for b in bounds)
    low = -len(data.values) - 1
    return Numbers(data.values[slice(start, None if step < 0 and end <= low else end, step)])


def _squeeze(c: Call, data: Numbers, axes: Numbers | None = None) -> Numbers | None:
    return Numbers(data.values, True) if len(data.values) == 1 else data if data.scalar else None


def _unsqueeze(c: Call, data: Numbers, axes: Numbers) -> Numbers | None:
    return Numbers(data.values) if data.scalar and len(axes.values) == 1 else None


def _reshape(c: Call, data: Numbers, shape: Numbers) -> Numbers | None:
    if len(shape.values) == 0 and len(data.values) == 1:
        return Numbers(data.values, True)
    return Numbers(data.values) if len(shape.values) == 1 else None


def _same(c: Call, data: Numbers, *_: Any) -> Numbers | None:
    return data


def _cast(c: Call, data: Numbers) -> Numbers | None:
    to = ir.DataType(c.attr("to"))
    if to == ir.DataType.BOOL or to.bitwidth < 32:
        return None
    if to.is_floating_point():
        return data if _is_float(c) else Numbers(tuple(_apply(c, float, n) for n in data.values), data.scalar)
    return Numbers(tuple(_apply(c, int, n) for n in data.values), data.scalar) if _is_float(c) else data


def _each(function: Callable[..., Any]) -> Callable[..., Numbers | None]:
    def rule(c: Call, data: Numbers) -> Numbers | None:
        values: list[Number] = [_apply(c, function, n) for n in data.values]
        return Numbers(tuple(_apply(c, float, n) for n in values) if _is_float(c) else tuple(values), data.scalar)

    return rule


def _product(c: Call, data: Numbers, axes: Numbers | None = None) -> Numbers | None:
    total: Number = 1
    for n in data.values:
        total = _apply(c, operator.mul, total, n)
    return Numbers((total,), not c.attr("keepdims", 1))


def _split(c: Call, data: Numbers, lengths: Numbers | None = None) -> tuple[Numbers, ...] | None:
    count = len(c.node.outputs)
    if lengths is None:
        size = math.ceil(len(data.values) / count)
        return tuple(Numbers(data.values[i * size : (i + 1) * size]) for i in range(count))
    if any(isinstance(n, fx.Node) for n in lengths.values):
        return None
    parts, at = [], 0
    for n in lengths.values:
        parts.append(Numbers(data.values[at : at + int(n)]))
        at += int(n)
    return tuple(parts)


def _equal(c: Call, a: Numbers, b: Numbers) -> Numbers | None:
    length = max(len(a.values), len(b.values))
    out: list[Number] = []
    for k in range(length):
        p, q = (g.values[k if len(g.values) > 1 else 0] for g in (a, b))
        if isinstance(p, fx.Node) or isinstance(q, fx.Node):
            number = q if isinstance(p, fx.Node) else p
            if isinstance(number, fx.Node) or number >= 0:
                return None
            out.append(False)  # no size is negative
        else:
            out.append(p == q)
    return Numbers(tuple(out), a.scalar and b.scalar)


def _where(c: Call, condition: Numbers, a: Numbers, b: Numbers) -> Numbers | None:
    if any(isinstance(n, fx.Node) for n in condition.values):
        return None
    length = max(len(g.values) for g in (condition, a, b))
    pick = [[g.values[k if len(g.values) > 1 else 0] for g in (condition, a, b)] for k in range(length)]
    return Numbers(tuple(y if test else n for test, y, n in pick), condition.scalar and a.scalar and b.scalar)


_RULES: dict[str, Callable[..., Any]] = {
    "Add": _pairwise(operator.add),
    "Sub": _pairwise(operator.sub),
    "Mul": _pairwise(operator.mul),
    "Min": _pairwise(torch.sym_min),
    "Max": _pairwise(torch.sym_max),
    "Div": _divide,
    "Mod": _modulo,
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Identity": _same,
    "Cast": _cast,
    "Floor": _each(math.floor),
    "Ceil": _each(math.ceil),
    "ReduceProd": _product,
    "Split": _split,
    "Equal": _equal,
    "Where": _where,
}
