"""The sweep that lifts a whole model: subgraphs and functions included, one node after the other, in order."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
import onnx_ir as ir

from niudao.errors import ReadError, Refusal, Unsupported, Where
from niudao.formats.onnx.infer import infer_node
from niudao.formats.onnx.lift import Lift, next_adapter
from niudao.formats.onnx.repair import repair_node
from niudao.ir import OPSET, card
from niudao.ir.lower import Lower, lower_node
from niudao.ir.validate import subgraphs

NEWEST = 28
"""The newest opset whose meaning we know. What 28 changed are types that operators take, and SpaceToDepth, and a new SwiGLU."""


def lift_model(model: ir.Model, version: int, where: Where) -> list[str]:
    """Say every node in the words of the opset in memory, in place. Nodes know their own opset (`node.version`).

    Args:
        model: The model as its file has it.
        version: The opset that the file names for the default domain.
        where: The file.

    Returns:
        What was repaired or read in a way that the user should know.

    Raises:
        ReadError: A node lacks what its operator needs.
        Unsupported: Operators that no opset has, or whose old meaning has no words today; all of them.
    """
    lift = Lift(model, where)
    _sweep(lift, model.graph, version)
    for function in model.functions.values():
        _sweep(lift, function, function.opset_imports.get("", version))
        if "" in function.opset_imports:
            function.opset_imports[""] = OPSET
    model.opset_imports[""] = OPSET
    refused = list({(r.node, r.op, r.reason): r for r in (*lift.refusals, *_unknown(model))}.values())
    if refused:
        raise Unsupported("this reader", refused, where=where)
    return lift.notes


def _sweep(lift: Lift, graph: ir.Graph | ir.Function, version: int) -> None:
    for node in list(graph):
        _lift_node(lift, node, node.version or version)
        bodies = subgraphs(node)
        for body in bodies:
            _sweep(lift, body, version)
        if bodies:
            _types_from_bodies(node, bodies)


def _types_from_bodies(node: ir.Node, bodies: list[ir.Graph]) -> None:
    """What If, Loop and Scan give out is of the type that their bodies end with; adapters behind them want to know."""
    skipped = 1 if node.op_type == "Loop" else 0  # the condition
    for i, out in enumerate(node.outputs):
        ends = [b.outputs[i + skipped] for b in bodies if i + skipped < len(b.outputs)]
        out.type = out.type or next((e.type for e in ends if e.type is not None), None)


def _lift_node(lift: Lift, node: ir.Node, version: int) -> None:
    where = Where(file=lift.where.file, node=card.layer_of(node))
    node.version = version
    if node.domain == "ai.onnx":
        node.domain = ""
    if node.domain != "":
        return
    try:
        done, past = version, set[object]()
        while (step := next_adapter(node.op_type, version, done, past)) is not None:
            done, adapter = step
            past.add(adapter)
            adapter(lift, node)
            if node.graph is None:  # others stand in its place
                return
        repair_node(lift, node)
    except (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError) as e:
        raise ReadError(
            f"a {node.op_type} node does not have the inputs and attributes of its operator.", where=where, got=str(e)[:200]
        ) from e
    infer_node(node)
    if version > OPSET:
        reason = lower_node(Lower(lift.model, dry=True), node, OPSET)
        if reason is not None:
            lift.refuse(node, reason)
    node.version = None


def _unknown(model: ir.Model) -> Iterable[Refusal]:
    """Nodes of operators that neither ONNX nor ONNX Runtime nor the model itself defines."""
    local = {(f.domain, f.name) for f in model.functions.values()}
    graphs = [model.graph, *model.graph.subgraphs(), *(g for f in model.functions.values() for g in (f.graph, *f.subgraphs()))]
    for node in (n for graph in {id(g): g for g in graphs}.values() for n in graph):
        if (node.domain, node.op_type) in local:
            continue
        if node.domain == "":
            if not _has_schema(node.op_type):
                yield Refusal(card.layer_of(node), node.op_type, f"no operator of ONNX's opset {OPSET} has this name")
        elif (node.domain, node.op_type) not in _runtime_operators():
            yield Refusal(
                card.layer_of(node),
                f"{node.domain}.{node.op_type}",
                "an operator of a domain that is not ONNX's and that ONNX Runtime does not know",
            )


def _has_schema(op: str) -> bool:
    try:
        return not onnx.defs.get_schema(op, OPSET, "").deprecated
    except onnx.defs.SchemaError:
        return False


def _runtime_operators() -> set[tuple[str, str]]:
    """(domain, operator) of every schema in ONNX Runtime; asked only where a file goes beyond ONNX."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return {(s.domain, s.name) for s in state.get_all_operator_schema()}
