"""Turn graph inputs and outputs from channels-last to channels-first; what the source took stays on record."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from niudao.ir import card
from niudao.ir.operators import attribute
from niudao.ir.passes import PASSES, Result
from niudao.ir.passes.edit import Edit

LAST = {3: (0, 2, 1), 4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}
"""Rank -> the permutation that takes channels-last to channels-first."""


@PASSES.register("layout")
def layout(model: ir.Model) -> Result:
    """Turn every image input and output that the graph itself treats as channels-last.

    An input counts as such if everybody who uses it transposes it to channels-first; an output, if a Transpose to
    channels-last makes it.

    Requires: shapes on inputs and outputs.
    Ensures: names stay; `niudao.layout` says how the source has the value. Run `transposes` afterwards.
    """
    inputs = [v.name or "" for v in model.graph.inputs if _turned_at_once(v)]
    outputs = [v.name or "" for v in model.graph.outputs if _turned_at_last(v)]
    return turn(model, {*inputs, *outputs}) if inputs or outputs else Result(False)


def _turned_at_once(value: ir.Value) -> bool:
    perm = LAST.get(len(value.shape)) if value.shape is not None else None
    users = [u.node for u in value.uses()]
    if perm is None or len(perm) == 3 or not users or value.is_graph_output() or card.get_layout(value) is not None:
        return False
    return all(n.op_type == "Transpose" and n.domain == "" and attribute(n, "perm") == list(perm) for n in users)


def _turned_at_last(value: ir.Value) -> bool:
    perm = LAST.get(len(value.shape)) if value.shape is not None else None
    node = value.producer()
    if perm is None or len(perm) == 3 or node is None or node.op_type != "Transpose" or node.domain != "":
        return False
    return attribute(node, "perm") == list(card.invert(perm)) and card.get_layout(value) is None


def turn(model: ir.Model, names: Collection[str]) -> Result:
    """Turn these graph inputs and outputs from channels-last to channels-first by a Transpose each.

    Args:
        model: The model.
        names: Names of graph inputs and outputs of rank 3 (N, W, C), 4 (N, H, W, C) or 5.

    Returns:
        What was turned. Feeds and results are transposed from now on; `layout="source"` keeps the old order.
    """
    graph = model.graph
    edit = Edit(graph, model)
    changes = []
    for value in list(graph.inputs):
        perm = LAST.get(len(value.shape)) if value.shape is not None else None
        if value.name not in names or perm is None:
            continue
        old = list(value.shape or ())
        users = list(value.uses())
        value.shape = ir.Shape([old[p] for p in perm])
        _compose_layout(value, perm)
        first = next(iter(graph), None)
        if users and first is not None:
            back = ir.node("Transpose", [value], attributes={"perm": list(card.invert(perm))}, name=edit.unique(f"{value.name}_to_last"))
            back.outputs[0].name = edit.unique(f"{value.name}_last")
            back.outputs[0].shape, back.outputs[0].type = ir.Shape(old), value.type
            first.prepend(back)
            for use in users:
                use.node.replace_input_with(use.idx, back.outputs[0])
        changes.append(f"input {value.name!r} is channels-first now")
    for i, value in enumerate(list(graph.outputs)):
        perm = LAST.get(len(value.shape)) if value.shape is not None else None
        producer = value.producer()
        if value.name not in names or perm is None or producer is None or value.is_graph_input():
            continue
        name, shape = value.name, list(value.shape or ())
        new = ir.node("Transpose", [value], attributes={"perm": list(perm)}, name=edit.unique(f"{name}_to_first"))
        out = new.outputs[0]
        out.shape, out.type = ir.Shape([shape[p] for p in perm]), value.type
        graph.append(new)
        out.metadata_props.update(value.metadata_props)
        graph.outputs[i] = out
        value.name = edit.unique(f"{name}_last")
        out.name = name
        value.metadata_props.pop(card.LAYOUT, None)
        _compose_layout(out, perm)
        changes.append(f"output {name!r} is channels-first now")
    return Result(bool(changes), tuple(changes))


def _compose_layout(value: ir.Value, perm: tuple[int, ...]) -> None:
    """The layout on record, and then `perm`."""
    own = card.get_layout(value) or tuple(range(len(perm)))
    card.set_layout(value, tuple(own[p] for p in perm))
