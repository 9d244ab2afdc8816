"""How a rule says what it found, and the small questions that rules ask of a chain of nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any, Protocol

import onnx_ir as ir

from niudao.ir.operators import attribute, dims, is_weight
from niudao.ir.passes.edit import Array, array


class Maker(Protocol):
    """What a match builds its operator with: in the network itself, or in the small model that proves it."""

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """A node with one output."""
        ...

    def const(self, value: Any) -> ir.Value:
        """A small constant of 64-bit integers."""
        ...

    def weight(self, value: Array, name: str) -> ir.Value:
        """A new weight; `name` says what it is in the layer ("scale")."""
        ...


@dataclass(frozen=True)
class Match:
    """A chain of nodes that computes one operator.

    Attributes:
        op: The operator, as people are told.
        inputs: Values and weights at which the chain begins.
        output: The value at which it ends, which the operator takes over.
        emit: Builds the operator from the inputs and returns its output.
    """

    op: str
    inputs: tuple[ir.Value | None, ...]
    output: ir.Value
    emit: Callable[[Maker], ir.Value]


Rule = Callable[[ir.Node], Match | None]
"""Given the node that ends (or marks) a chain, what the chain is; constant time, for every node of a graph is asked."""

Rules = Mapping[str, Sequence[Rule]]
"""Operator of that node -> rules, in the order in which they are tried."""


def one(op: str, inputs: tuple[ir.Value | None, ...], last: ir.Node, **attributes: Any) -> Match:
    """The usual match: one operator on the inputs as they are."""
    return Match(op, inputs, last.outputs[0], lambda make: make.op(op, *inputs, **attributes))


def single(value: ir.Value | None) -> float | None:
    """The number that a constant of one element holds."""
    held = array(value, 1)
    return float(held.reshape(-1)[0]) if held is not None and held.size == 1 and held.dtype.kind in "fiu" else None


def near(value: float | None, want: float) -> bool:
    """Whether a constant is a number, up to the rounding of float32."""
    return value is not None and isclose(value, want, rel_tol=1e-5, abs_tol=1e-7)


def made_by(value: ir.Value | None, *ops: str) -> ir.Node | None:
    """The node that makes a value, if it is one of these operators."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.domain == "" and node.op_type in ops else None


def user(value: ir.Value | None, *ops: str) -> ir.Node | None:
    """The only node that uses a value, once, if it is one of these operators."""
    if value is None or value.is_graph_output():
        return None
    uses = list(value.uses())
    node = uses[0].node if len(uses) == 1 else None
    return node if node is not None and node.domain == "" and node.op_type in ops else None


def split(node: ir.Node) -> tuple[ir.Value, float] | None:
    """Variable and number of an operator that takes one of each, in either order."""
    for a, b in ((0, 1), (1, 0)):
        number = single(node.inputs[b])
        x = node.inputs[a]
        if number is not None and x is not None and not is_weight(x):
            return x, number
    return None


def sides(node: ir.Node) -> tuple[tuple[ir.Value | None, ir.Value | None], ...]:
    """Both orders of the two operands of an operator for which the order does not matter."""
    a, b = node.inputs[0], node.inputs[1]
    return (a, b), (b, a)


def factors(value: ir.Value | None) -> tuple[list[ir.Value], float]:
    """A product taken apart: the variables and the number in front."""
    stack: list[ir.Value | None] = [value]
    found: list[ir.Value] = []
    number = 1.0
    while stack:
        current = stack.pop()
        node = made_by(current, "Mul", "Div")
        constant = single(current)
        if constant is not None:
            number *= constant
        elif node is not None and node.op_type == "Mul" and len(found) + len(stack) < 6:
            stack += list(node.inputs)
        elif node is not None and node.op_type == "Div" and single(node.inputs[1]):
            number /= single(node.inputs[1]) or 1.0
            stack.append(node.inputs[0])
        elif current is not None:
            found.append(current)
    return found, number


def square_of(value: ir.Value | None) -> ir.Value | None:
    """x, where a value is x * x or x to the power of 2."""
    node = made_by(value, "Mul", "Pow")
    if node is None:
        return None
    fine = node.inputs[0] is node.inputs[1] if node.op_type == "Mul" else near(single(node.inputs[1]), 2.0)
    return node.inputs[0] if fine else None


def axes_of(node: ir.Node) -> list[int] | None:
    """The axes that a reduction takes, counted from the front and sorted; None where they are not known."""
    x = node.inputs[0]
    if x is None or x.shape is None:
        return None
    rank = len(x.shape)
    held = array(node.inputs[1], 64) if len(node.inputs) > 1 and node.inputs[1] is not None else None
    if held is None:
        known = len(node.inputs) < 2 or node.inputs[1] is None
        return list(range(rank)) if known and not attribute(node, "noop_with_empty_axes", 0) else None
    if held.size == 0:
        return None if attribute(node, "noop_with_empty_axes", 0) else list(range(rank))
    return sorted({int(a) % rank for a in held.reshape(-1)}) if rank else None


def same_dims(a: ir.Value | None, b: ir.Value | None) -> bool:
    """Whether two values surely have one shape; free axes count by their names."""
    if a is None or b is None or a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return False
    return all(
        x == y if isinstance(x, int) or isinstance(y, int) else x.value is not None and x.value == y.value
        for x, y in zip(a.shape, b.shape, strict=True)
    )


def floats(value: ir.Value | None) -> bool:
    """Whether a value is of 32- or 64-bit floats, for which proofs hold to 1e-5."""
    return value is not None and value.dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE)


def channels_of(value: ir.Value | None) -> int | None:
    """Number of channels (axis 1), where it is known."""
    shape = dims(value)
    return shape[1] if shape is not None and len(shape) > 1 else None
