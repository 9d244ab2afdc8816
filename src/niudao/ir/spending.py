"""Does a network ask for more than its budget? Values, constants and loops are weighed by their shapes alone."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import onnx_ir as ir

from niudao.errors import LimitError, Where
from niudao.ir import card
from niudao.ir.budget import BUDGET, Budget

_MULTIPLY = frozenset(("MatMul", "Gemm", "Conv", "ConvTranspose"))


def check_spending(model: ir.Model, *, where: Where, budget: Budget = BUDGET) -> None:
    """Every value of the main graph, and what depends on no input, within the budget.

    Args:
        model: A model with shapes.
        where: The file, for messages.
        budget: The limits.

    Raises:
        LimitError: A value, the constants or a loop would take more.
    """
    weights = sum(_bytes(v) for v in model.graph.initializers.values())
    most = max(budget.constant_bytes, budget.constant_growth * weights)
    constant = {v for v in model.graph.initializers.values()}
    work = 0
    for node in model.graph:
        fixed = all(v is None or v in constant for v in node.inputs) and not _reaches_out(node, constant)
        for value in node.outputs:
            need = _bytes(value)
            if need > budget.value_bytes:
                raise _error(node, where, f"{value.name!r} would take {need:,} bytes.", budget.value_bytes)
            if fixed and need > most:
                raise _error(node, where, f"{value.name!r}, made of constants alone, would take {need:,} bytes.", most)
        if fixed:
            constant.update(node.outputs)
            work += _work(node)
            if work > budget.constant_work:
                got = f"at least {work:,} multiplications"
                raise _error(node, where, f"what depends on no input takes {got}.", budget.constant_work, "multiplications")
        if node.op_type == "Loop" and node.domain == "":
            _check_loop(node, fixed, where, budget)


def _error(node: ir.Node, where: Where, fault: str, most: int, unit: str = "bytes") -> LimitError:
    at = replace(where, node=card.layer_of(node))
    return LimitError(fault, where=at, expected=f"at most {most:,} {unit}", next="set NIUDAO_MAX_MEMORY" if unit == "bytes" else None)


def _bytes(value: ir.Value) -> int:
    """Bytes of a value as far as its shape is known; 0 where it is not."""
    shape = value.shape if value.shape is not None else value.const_value.shape if value.const_value is not None else None
    if shape is None or value.dtype is None:
        return 0
    return (
        prod(d if isinstance(d, int) else 1 for d in shape) * max(8, value.dtype.bitwidth if value.dtype != ir.DataType.STRING else 64) // 8
    )


def _reaches_out(node: ir.Node, constant: set[ir.Value]) -> bool:
    """Whether a body of the node takes a value from outside that is no constant."""
    graphs = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
    for graph in graphs:
        own = {*graph.inputs, *graph.initializers.values(), *(v for n in graph.all_nodes() for v in n.outputs)}
        own |= {v for inner in graph.subgraphs() for v in (*inner.inputs, *inner.initializers.values())}
        if any(v is not None and v not in own and v not in constant for n in graph.all_nodes() for v in n.inputs):
            return True
    return False


def _work(node: ir.Node) -> int:
    """Multiplications of a node whose shapes are known."""
    out = node.outputs[0].shape if node.outputs else None
    if node.op_type not in _MULTIPLY or len(node.inputs) < 2 or out is None:
        return 0
    left, right = (v.shape if v is not None else None for v in node.inputs[:2])
    if left is None or right is None:
        return 0
    shared = prod(d for d in right[1:] if isinstance(d, int)) if node.op_type.startswith("Conv") else left[-1] if len(left) else 1
    return prod(d for d in out if isinstance(d, int)) * (shared if isinstance(shared, int) else 1)


def _check_loop(node: ir.Node, fixed: bool, where: Where, budget: Budget) -> None:
    """A Loop that runs to its count, or that grows what it carries out of constants alone."""
    count = node.inputs[0] if node.inputs else None
    body = next((a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH), None)
    if body is None or not body.outputs:
        return
    turns = 0 if count is not None else budget.turns + 1  # without a count it turns until its condition ends it
    if count is not None and count.const_value is not None and count.const_value.size:
        turns = int(count.const_value.numpy().reshape(-1)[0])
    condition: ir.Value | None = body.outputs[0]
    while condition is not None and (maker := condition.producer()) is not None and maker.op_type == "Identity":
        condition = maker.inputs[0]
    endless = condition is not None and (condition in body.inputs[1:2] or condition.const_value is not None)
    if endless and turns > budget.turns:
        raise _error(node, where, "the Loop turns more often than any network needs.", budget.turns, "turns")
    steady = all(
        i.shape is not None and o.shape is not None and list(i.shape) == list(o.shape)
        for i, o in zip(node.inputs[2:], body.outputs[1:], strict=False)
        if i is not None
    )
    if fixed and not steady:
        raise LimitError("the Loop over constants alone grows what it carries.", where=replace(where, node=card.layer_of(node)))
