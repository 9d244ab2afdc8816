"""Comparisons and logic: a truth value is a blob of zeros and ones, which Threshold makes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.activation import above
from niudao.formats.caffe.emit.arithmetic import operands
from niudao.formats.caffe.emit.broadcast import Operand, greatest, operand, product, shifted, total
from niudao.formats.caffe.emit.graph import Net, Top, refuse
from niudao.formats.caffe.emit.table import emits
from niudao.formats.caffe.emit.view import linear


def more(net: Net, x: Operand, y: Operand, suffix: str = "") -> Top:
    """x > y as 0 or 1; a difference is zero only between equal numbers."""
    if isinstance(x, Top) and not isinstance(y, Top) and y.size == 1 and y.ndim <= x.rank and np.isfinite(y).all():
        return above(net, x, float(y.reshape(-1)[0]), suffix)
    if not isinstance(x, Top) and isinstance(y, Top) and x.size == 1 and x.ndim <= y.rank and np.isfinite(x).all():
        return above(net, linear(net, y, -1, 0, "_minus"), -float(x.reshape(-1)[0]), suffix)
    return above(net, total(net, [x, y], [1, -1], "_difference"), 0, suffix)


def opposite(net: Net, x: Top, suffix: str = "") -> Top:
    """1 - x."""
    return net.power(x, scale=-1.0, shift=1.0, suffix=suffix, nonnegative=True)


@emits("Greater", "Less", "GreaterOrEqual", "LessOrEqual")
def _order(net: Net, node: ir.Node) -> None:
    x, y = operands(net, node)
    net.note("a comparison as a Threshold")
    if node.op_type in ("Less", "GreaterOrEqual"):
        x, y = y, x
    strict = node.op_type in ("Greater", "Less")
    found = more(net, x, y, "" if strict else "_strict")
    net.put(node.outputs[0], found if strict else opposite(net, found))


@emits("Equal")
def _equal(net: Net, node: ir.Node) -> None:
    x, y = operands(net, node)
    net.note("equality as a difference that is not above zero")
    size = net.unary("AbsVal", total(net, [x, y], [1, -1], "_difference"), suffix="_distance", nonnegative=True)
    net.put(node.outputs[0], opposite(net, above(net, size, 0, "_differs")))


@emits("Not")
def _not(net: Net, node: ir.Node) -> None:
    net.put(node.outputs[0], opposite(net, net.get(node.inputs[0])))


@emits("And")
def _and(net: Net, node: ir.Node) -> None:
    x, y = operands(net, node)
    net.put(node.outputs[0], product(net, x, y))


@emits("Or")
def _or(net: Net, node: ir.Node) -> None:
    x, y = operands(net, node)
    net.put(node.outputs[0], greatest(net, x, y))


@emits("Xor")
def _xor(net: Net, node: ir.Node) -> None:
    difference = total(net, operands(net, node), [1, -1], "_difference")
    net.put(node.outputs[0], net.unary("AbsVal", difference, nonnegative=True))


@emits("Where")
def _where(net: Net, node: ir.Node) -> None:
    condition, x, y = (operand(net, v) for v in node.inputs)
    if any(not isinstance(v, Top) and not np.isfinite(v).all() for v in (x, y)):
        refuse("a number it chooses is not finite, and infinity times zero is no number", rewrite="use a large finite number")
    net.note("a choice as c * x + (1 - c) * y, which is no number where the branch not taken is infinite")
    if not isinstance(condition, Top):
        net.put(node.outputs[0], _terms(net, product_of(net, x, condition, "_then"), product_of(net, y, 1 - condition, "_else")))
        return
    if not isinstance(x, Top) and not isinstance(y, Top) and x.size == y.size == 1:
        first, second = float(x.reshape(-1)[0]), float(y.reshape(-1)[0])
        if second == 0 or abs(second) / 256 < abs(first) < 256 * abs(second):  # else the sum would lose digits
            chosen = linear(net, condition, first - second, second)
            net.put(node.outputs[0], shifted(net, chosen, np.zeros((1,) * max(x.ndim, y.ndim), np.float32)))
            return
    other = opposite(net, condition, "_not")
    net.put(node.outputs[0], _terms(net, product_of(net, x, condition, "_then"), product_of(net, y, other, "_else")))


def product_of(net: Net, x: Operand, factor: Operand, suffix: str) -> Operand:
    """x * factor, also where both are constants."""
    if not isinstance(x, Top) and not isinstance(factor, Top):
        return np.asarray(x * factor, np.float32)
    return product(net, x, factor, suffix)


def _terms(net: Net, x: Operand, y: Operand) -> Top:
    zero = [not isinstance(v, Top) and v.size == 1 and not v.any() for v in (x, y)]
    if zero[0] and isinstance(y, Top) and not isinstance(x, Top) and x.ndim <= y.rank:
        return y
    return total(net, [x, y])
