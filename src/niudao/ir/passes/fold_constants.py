"""Compute once what does not depend on the network's inputs: constants, and shapes that the graph works out at run time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.errors import RunError
from niudao.ir.budget import BUDGET
from niudao.ir.operators import attribute, describe, is_weight
from niudao.ir.passes import PASSES, Result
from niudao.ir.passes.edit import Edit, graphs, lazy_tensor
from niudao.ir.passes.evaluate import evaluate
from niudao.ir.passes.infer_shapes import infer_shapes, known_elements
from niudao.ir.passes.remove_dead import remove_dead
from niudao.ir.validate import subgraphs


@PASSES.register("fold_constants")
def fold_constants(model: ir.Model) -> Result:
    """Replace nodes by their values where all inputs are known, and computed Reshape targets by constants.

    Requires: types and shapes on every value.
    Ensures: no node of known inputs is left, except random ones, quantisation of weights, float16 weights behind their
        Cast, nodes with bodies, and what would grow the file.
    """
    changes: list[str] = []
    folded = sum(_fold(Edit(graph, model)) for graph in graphs(model))
    targets = _fix_targets(model)
    if folded:
        changes.append(f"folded {folded} nodes of known inputs")
    if targets:
        changes.append(f"made {targets} computed shapes constant")
    if changes:
        remove_dead(model)
        infer_shapes(model)
    return Result(bool(changes), tuple(changes))


def _fold(edit: Edit) -> int:
    count = 0
    for node in list(edit.graph):
        if node.domain not in ("", "ai.onnx") or describe(node).kind in ("quantize", "random") or subgraphs(node):
            continue
        if node.op_type == "Constant":
            tensor = constant_tensor(node)
            tensors = [tensor] if tensor is not None else None
        elif any(v is not None and not is_weight(v) for v in node.inputs) or not any(v is not None for v in node.inputs):
            continue
        else:
            tensors = _value(node)
        if tensors is None or any(v.is_graph_output() for v in node.outputs):
            continue
        for value, tensor in zip(node.outputs, tensors, strict=True):
            if value.name:
                name, value.name = value.name, edit.unique(f"{value.name}_was")
                new = edit.weight(tensor, name if name not in edit.graph.initializers else edit.unique(name))
                _rename(edit, new, name)
                value.replace_all_uses_with(new)
        edit.drop(node)
        count += 1
    return count


def _rename(edit: Edit, value: ir.Value, name: str) -> None:
    """Give a constant the name of the value it replaces."""
    if name and value.name != name and name not in edit.graph.initializers and value.const_value is not None:
        edit.graph.initializers.pop(value.name or "", None)
        value.name = name
        value.const_value.name = name
        edit.graph.register_initializer(value)


def constant_tensor(node: ir.Node) -> ir.TensorProtocol | None:
    """What a Constant node holds."""
    for key, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64), ("value_ints", np.int64)):
        if key in node.attributes:
            return ir.tensor(np.asarray(node.attributes[key].value, dtype=dtype))
    return node.attributes["value"].as_tensor() if "value" in node.attributes else None


def _value(node: ir.Node) -> list[ir.TensorProtocol] | None:
    sizes = [v.const_value.size for v in node.inputs if v is not None and v.const_value is not None]
    out = node.outputs[0]
    source = node.inputs[0]
    if node.op_type == "Cast" and source is not None and source.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        return None  # half-precision weights stay half as large
    mover = move(node)
    if mover is not None and source is not None and source.const_value is not None and source.const_value.size > BUDGET.fold_growth:
        if out.dtype is None or out.shape is None or not all(isinstance(d, int) for d in out.shape):
            return None
        tensor = source.const_value
        return [lazy_tensor(lambda: mover(np.asarray(tensor.numpy())), out.shape.numpy(), out.dtype)]
    total = 0
    for value in node.outputs:
        if value.shape is None or not all(isinstance(d, int) for d in value.shape):
            if (
                node.op_type not in ("ConstantOfShape", "Range", "NonZero", "Reshape", "Expand")
                or max(sizes, default=0) > BUDGET.fold_growth
            ):
                return None
            if node.op_type in ("ConstantOfShape", "Expand", "Range"):
                return None
            continue
        count = 1
        for d in value.shape.numpy():
            count *= int(d)
        total += count
    if total > BUDGET.fold_elements or max(sizes, default=0) > BUDGET.fold_elements or (total > BUDGET.fold_growth and total > sum(sizes)):
        return None
    try:
        return [ir.tensor(np.asarray(a, order="C")) for a in evaluate(node)]
    except RunError:
        return None


def move(node: ir.Node) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]] | None:
    """What a node that only moves or casts elements does to its first input's array, if it is such a node."""
    out = node.outputs[0]
    shape = tuple(int(d) for d in out.shape.numpy()) if out.shape is not None and all(isinstance(d, int) for d in out.shape) else None
    if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity") and shape is not None:
        return lambda a: a.reshape(shape)
    if node.op_type == "Transpose":
        perm = attribute(node, "perm")
        return lambda a: a.transpose(perm)
    if node.op_type == "Cast" and out.dtype is not None and out.dtype.bitwidth >= 8 and out.dtype != ir.DataType.STRING:
        dtype = out.dtype.numpy()
        return lambda a: a.astype(dtype)
    return None


def _fix_targets(model: ir.Model) -> int:
    """Reshape targets in which one dimension is free become constants with -1 there (0 where it is the input's own)."""
    known = known_elements(model)
    edit = Edit(model.graph, model)
    count = 0
    for node in list(model.graph):
        if node.op_type != "Reshape" or node.domain != "" or node.inputs[1] is None or node.inputs[1].const_value is not None:
            continue
        target, data = node.inputs[1], node.inputs[0]
        if target.name not in known or attribute(node, "allowzero", 0):
            continue
        result: list[int] = []
        own = [d if isinstance(d, int) else d.value for d in data.shape] if data is not None and data.shape is not None else []
        elements = known[target.name][0]
        free = sum(1 for e in elements if not isinstance(e, int)) + elements.count(-1)
        for i, e in enumerate(elements):
            if isinstance(e, int):
                result.append(e)
            else:
                result.append(0 if free > 1 and isinstance(e, str) and i < len(own) and own[i] == e else -1)
        if result.count(-1) > 1:
            continue
        node.replace_input_with(1, edit.const(result))
        count += 1
    for node in list(model.graph):  # other small integer tensors that turned out to be known
        for i, value in enumerate(node.inputs):
            if value is None or value.const_value is not None or value.name not in known or value.producer() is None:
                continue
            elements, shape = known[value.name]
            if (
                value.dtype in (ir.DataType.INT64, ir.DataType.INT32)
                and all(isinstance(e, int) for e in elements)
                and not value.is_graph_output()
            ):
                held = np.asarray(elements, dtype=value.dtype.numpy()).reshape(shape)
                node.replace_input_with(i, edit.const(held, held.dtype))
                count += 1
    return count
