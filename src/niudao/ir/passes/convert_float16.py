"""Half precision: weights and inner values become float16; inputs and outputs stay as callers know them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from niudao.ir.operators import attribute
from niudao.ir.passes import PASSES, Result
from niudao.ir.passes.edit import Edit, lazy_tensor
from niudao.ir.passes.infer_shapes import infer_shapes
from niudao.ir.validate import subgraphs

_LARGEST = 65504.0
_ALONE = (
    "Resize",
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "NonMaxSuppression",
    "Range",
    "RandomNormal",
    "RandomUniform",
)
"""Operators whose float inputs must or should stay float32: scales, boxes and steps lose their meaning in half precision."""


@PASSES.register("convert_float16")
def convert_float16(model: ir.Model) -> Result:
    """Turn float32 weights and inner values of the main graph into float16. Casts stand behind inputs and before outputs.

    Weights beyond the range of float16 are clipped to its largest number, 65504; tiny ones become zero. Operators that
    need float32 (Resize, quantisation, nodes with bodies, other domains) keep it, between Casts.

    Requires: types on every value.
    Ensures: names, types and shapes of graph inputs and outputs are unchanged; weights are half as large.
    """
    graph = model.graph
    edit = Edit(graph, model)
    half: dict[int, ir.Value] = {}
    back: dict[int, ir.Value] = {}
    weights = 0
    outputs = {id(v) for v in graph.outputs}
    nodes = list(graph)

    def as_half(value: ir.Value, node: ir.Node) -> ir.Value:
        nonlocal weights
        if value.dtype != ir.DataType.FLOAT:
            return value
        if id(value) not in half:
            if value.const_value is not None and not value.is_graph_input() and value.producer() is None:
                half[id(value)] = _half_weight(edit, value)
                weights += 1
            else:
                place = nodes[0] if value.producer() is None else node
                half[id(value)] = edit.node(
                    "Cast", [value], before=place, like=node, name=f"{value.name}_half", to=int(ir.DataType.FLOAT16)
                )
        return half[id(value)]

    def as_float(value: ir.Value, node: ir.Node) -> ir.Value:
        if value.dtype != ir.DataType.FLOAT16 or value.const_value is not None:
            return value
        if id(value) not in back:
            back[id(value)] = edit.node("Cast", [value], before=node, like=node, name=f"{value.name}_float", to=int(ir.DataType.FLOAT))
        return back[id(value)]

    touched = 0
    for node in nodes:
        if node.domain != "" or node.op_type in _ALONE or subgraphs(node):
            for i, value in enumerate(node.inputs):
                if value is not None and value.dtype == ir.DataType.FLOAT16 and id(value) in _made(half):
                    node.replace_input_with(i, as_float(value, node))
            continue
        if node.op_type == "Cast" and attribute(node, "to") == int(ir.DataType.FLOAT) and id(node.outputs[0]) not in outputs:
            node.attributes["to"] = ir.AttrInt64("to", int(ir.DataType.FLOAT16))
        elif node.op_type != "Cast":
            for i, value in enumerate(node.inputs):
                if value is not None:
                    node.replace_input_with(i, as_half(value, node))
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT and node.op_type != "Cast":
                value.type = ir.TensorType(ir.DataType.FLOAT16)
                half[id(value)] = value
                touched += 1
                if id(value) in outputs:
                    _float_again(edit, value, node, nodes[-1])
            elif node.op_type == "Cast" and attribute(node, "to") == int(ir.DataType.FLOAT16):
                value.type = ir.TensorType(ir.DataType.FLOAT16)
                half[id(value)] = value
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del graph.initializers[name]
    if touched:
        infer_shapes(model)
    return Result(touched > 0, (f"made {weights} weights and {touched} values float16",) if touched else ())


def _made(half: dict[int, ir.Value]) -> set[int]:
    return {id(v) for v in half.values()}


def _half_weight(edit: Edit, value: ir.Value) -> ir.Value:
    tensor = value.const_value
    assert tensor is not None  # the caller looked
    shape = tuple(int(d) for d in tensor.shape)  # type: ignore[arg-type]
    new = lazy_tensor(lambda: np.clip(np.asarray(tensor.numpy()), -_LARGEST, _LARGEST).astype(np.float16), shape, ir.DataType.FLOAT16)
    return edit.weight(new, f"{value.name}")


def _float_again(edit: Edit, value: ir.Value, node: ir.Node, last: ir.Node) -> None:
    """A graph output keeps its name and type: a Cast makes it from the half-precision value."""
    name, props = value.name or "", dict(value.metadata_props)
    value.name = edit.unique(f"{name}_half")
    cast = ir.node("Cast", [value], attributes={"to": int(ir.DataType.FLOAT)}, name=edit.unique(f"{name}_cast"))
    out = cast.outputs[0]
    out.name, out.type, out.shape = name, ir.TensorType(ir.DataType.FLOAT), value.shape
    out.metadata_props.update(props)
    last.append(cast)
    for i, v in enumerate(edit.graph.outputs):
        if v is value:
            edit.graph.outputs[i] = out
