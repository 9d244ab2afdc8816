"""Recurrent operators with the batch first: only the first axis of a blob may be free, and ONNX's usual layout has time there."""

from __future__ import annotations

import onnx_ir as ir

from niudao.ir.passes.transposes import transposes

_LAYOUT = ("LSTM", "GRU", "RNN")


def batch_first(model: ir.Model) -> ir.Model:
    """The model with every recurrent operator whose batch is free in ONNX's layout 1; the model itself where there is none.

    The Transposes that this needs meet those that frameworks write around such operators, and both go.
    """
    if not any(_free(n) for n in model.graph):
        return model
    model = model.clone()
    for node in [n for n in model.graph if _free(n)]:
        _turn(model.graph, node)
    transposes(model)
    return model


def _free(node: ir.Node) -> bool:
    """Whether its batch is free and its second axis."""
    held = node.attributes.get("layout")
    if node.op_type not in _LAYOUT or node.domain not in ("", "ai.onnx") or (held is not None and held.as_int()):
        return False
    if any(v is not None and v.is_graph_output() for v in node.outputs):
        return False
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    return shape is not None and len(shape) == 3 and not isinstance(shape[1], int) and isinstance(shape[0], int)


def _transpose(graph: ir.Graph, at: ir.Node, value: ir.Value, perm: tuple[int, ...], before: bool) -> ir.Value:
    node = ir.node("Transpose", [value], {"perm": list(perm)}, name=f"{at.name}_order_{value.name}")
    node.metadata_props.update({k: v for k, v in at.metadata_props.items() if k.startswith("niudao.layer")})
    made = node.outputs[0]
    made.name = f"{value.name}_order"
    if value.dtype is not None:
        made.dtype = value.dtype
    if value.shape is not None:
        made.shape = ir.Shape([value.shape[i] for i in perm])
    if before:
        graph.insert_before(at, node)
    else:
        graph.insert_after(at, node)
    return made


def _turn(graph: ir.Graph, node: ir.Node) -> None:
    node.attributes["layout"] = ir.AttrInt64("layout", 1)
    for i in (0, 5, 6):
        value = node.inputs[i] if len(node.inputs) > i else None
        if value is not None:
            node.replace_input_with(i, _transpose(graph, node, value, (1, 0, 2), True))
    for i, value in enumerate(node.outputs):
        if value is None or not value.uses():
            continue
        natural = value.shape
        perm, back = ((2, 0, 1, 3), (1, 2, 0, 3)) if i == 0 else ((1, 0, 2), (1, 0, 2))
        users = list(value.uses())
        if natural is not None:
            value.shape = ir.Shape([natural[k] for k in perm])
        turned = _transpose(graph, node, value, back, False)
        turned.shape = natural
        for use in users:
            use.node.replace_input_with(use.idx, turned)
