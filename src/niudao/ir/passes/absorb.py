"""Transposes that end in a flattening, or begin behind an unflattening: the weights on the other side take the order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.ir import card
from niudao.ir.operators import attribute, describe, is_weight
from niudao.ir.passes.edit import Edit, sole_user

Perm = tuple[int, ...]


def absorb(edit: Edit) -> bool:
    """Absorb Transposes before Reshape and Flatten: into the next layer's rows, or into nothing where only axes of size 1 move;
    and those after a Reshape into the columns of the layer before."""
    changed = False
    for node in list(edit.graph):
        if node.graph is not edit.graph or node.domain != "":
            continue
        if node.op_type in ("Reshape", "Flatten"):
            changed |= _before(edit, node)
        elif node.op_type == "Transpose":
            changed |= _after(edit, node)
        elif node.op_type == "Shape":
            changed |= _shape(edit, node)
    return changed


def _transpose(value: ir.Value | None) -> tuple[ir.Node, Perm] | None:
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "Transpose" or node.domain != "" or node.inputs[0] is None:
        return None
    perm = attribute(node, "perm")
    return (node, tuple(perm)) if perm is not None else None


def _before(edit: Edit, node: ir.Node) -> bool:
    found = _transpose(node.inputs[0])
    if found is None:
        return False
    before, p = found
    source, middle, out = before.inputs[0], node.inputs[0], node.outputs[0]
    if source is None or middle is None or middle.shape is None or out.shape is None or source.shape is None:
        return False
    order = [a for a in p if source.shape[a] != 1]
    target = _target(out, middle)
    if order == sorted(order):
        if target is None:
            return False
        _rewire(edit, node, source, target)
        return True
    inner = middle.shape[1:]
    if p[0] != 0 or len(out.shape) != 2 or not all(isinstance(d, int) for d in inner) or out.shape[0] != middle.shape[0]:
        return False
    sizes = [int(d) for d in inner]  # type: ignore[arg-type]
    if out.shape[1] != int(np.prod(sizes)) or target is None:
        return False
    users = _matrices(out, sizes)
    if users is None:
        return False
    for layer, vectors in users:
        for owner, i in vectors:
            owner.replace_input_with(i, _reordered(edit, owner.inputs[i], sizes, p, "vector"))
        side = "columns" if layer.op_type == "Gemm" and attribute(layer, "transB", 0) else "rows"
        layer.replace_input_with(1, _reordered(edit, layer.inputs[1], sizes, p, side))
    _rewire(edit, node, source, target)
    return True


def _target(out: ir.Value, middle: ir.Value) -> list[int] | None:
    """A constant Reshape target for this result that does not depend on the input's axes."""
    if out.shape is None:
        return None
    free = [d for d in out.shape if not isinstance(d, int)]
    if len(free) > 1 or 0 in list(out.shape):
        return None
    return [d if isinstance(d, int) else -1 for d in out.shape]


def _rewire(edit: Edit, node: ir.Node, source: ir.Value, target: Sequence[int]) -> None:
    """Let a Reshape or Flatten take `source` instead of its transposed form."""
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    out = node.outputs[0]
    perm = attribute(before, "perm") if before is not None else None
    if node.op_type == "Flatten" and attribute(node, "axis", 1) == 1 and perm is not None and perm[0] == 0:
        node.replace_input_with(0, source)
    elif node.op_type == "Reshape":
        node.replace_input_with(0, source)
        node.replace_input_with(1, edit.const(list(target)))
        node.attributes.pop("allowzero", None)
    else:
        new = edit.node("Reshape", [source, edit.const(list(target))], before=node, like=node)
        new.shape = out.shape
        edit.replace(out, new)
        edit.drop(node)
    if before is not None:
        edit.drop(before)


Owner = tuple[ir.Node, int]


def _matrices(out: ir.Value, sizes: Sequence[int]) -> list[tuple[ir.Node, list[Owner]]] | None:
    """The layers that a flattened value ends in, through elementwise operators, with the vectors met on the way; else None."""
    found: list[tuple[ir.Node, list[Owner]]] = []
    if out.is_graph_output() or not out.uses():
        return None
    total = int(np.prod(list(sizes)))
    for use in list(out.uses()):
        value, node, place = out, use.node, use.idx
        vectors: list[Owner] = []
        for _ in range(8):
            if node.domain != "" or node.graph is not out.producer().graph:  # type: ignore[union-attr]
                return None
            if node.op_type in ("Gemm", "MatMul"):
                w = node.inputs[1]
                bad = node.op_type == "Gemm" and attribute(node, "transA", 0)
                if place != 0 or bad or w is None or not is_weight(w) or w.shape is None or len(w.shape) != 2 or w is value:
                    return None
                found.append((node, vectors))
                break
            step = _passable(node, value, total)
            follower = sole_user(node.outputs[0])
            if step is None or follower is None:
                return None
            vectors += step
            value, node = node.outputs[0], follower
            place = next(i for i, v in enumerate(node.inputs) if v is value)
        else:
            return None
    return found


def _passable(node: ir.Node, value: ir.Value, total: int) -> list[Owner] | None:
    """The vectors (one number per column) of an operator that treats columns one by one; None for other operators."""
    if node.op_type == "BatchNormalization":
        return [(node, i) for i in range(1, 5)] if node.inputs[0] is value else None
    if describe(node).kind != "elementwise" or (len(node.outputs) > 1 and any(v.uses() for v in node.outputs[1:])):
        return None
    vectors = []
    for i, other in enumerate(node.inputs):
        if other is None or other is value:
            continue
        if not is_weight(other) or other.const_value is None:
            return None
        if other.const_value.size == 1:
            continue
        if other.const_value.size != total or other.shape is None or len(other.shape) > 2 or other.shape[-1] != total:
            return None
        vectors.append((node, i))
    return vectors


def _reordered(edit: Edit, value: ir.Value | None, sizes: Sequence[int], p: Perm, side: str) -> ir.Value:
    """A weight whose rows (columns, elements) follow the source's order of axes instead of the transposed one's."""
    assert value is not None and value.const_value is not None
    tensor = value.const_value
    shape = tuple(int(d) for d in tensor.shape)  # type: ignore[arg-type]
    inner = [q - 1 for q in p[1:]]
    back = card.invert(inner)

    def load() -> np.ndarray[Any, Any]:
        held = np.asarray(tensor.numpy())
        k = len(sizes)
        if side == "rows":
            return held.reshape(*sizes, shape[1]).transpose(*back, k).reshape(shape)
        if side == "columns":
            return held.reshape(shape[0], *sizes).transpose(0, *[b + 1 for b in back]).reshape(shape)
        return held.reshape(*sizes).transpose(back).reshape(shape)

    return edit.lazy(load, shape, tensor.dtype, value.name or "weight")


def _after(edit: Edit, node: ir.Node) -> bool:
    """Gemm -> elementwise -> Reshape -> Transpose: the columns of the Gemm take the order."""
    p = attribute(node, "perm")
    middle = node.inputs[0]
    reshape = middle.producer() if middle is not None else None
    if p is None or reshape is None or reshape.op_type != "Reshape" or reshape.domain != "" or reshape.graph is not edit.graph:
        return False
    flat, out = reshape.inputs[0], node.outputs[0]
    if flat is None or flat.shape is None or middle is None or middle.shape is None or out.shape is None:
        return False
    target = _target(out, middle)
    order = [a for a in p if middle.shape[a] != 1]
    if order == sorted(order) and target is not None and sole_user(middle) is node:
        new = edit.node("Reshape", [flat, edit.const(target)], before=node, like=reshape)
        new.shape = out.shape
        if not edit.replace(out, new):
            edit.drop(new.producer())  # type: ignore[arg-type]
            return False
        edit.drop(node)
        return True
    if p[0] != 0 or len(flat.shape) != 2 or target is None or sole_user(middle) is not node or flat.shape[0] != middle.shape[0]:
        return False
    sizes = list(middle.shape[1:])
    if not all(isinstance(d, int) for d in sizes):
        return False
    total = int(np.prod([int(d) for d in sizes]))  # type: ignore[arg-type]
    owners: list[Owner] = []
    value: ir.Value = flat
    for _ in range(8):
        made = value.producer()
        if made is None or made.graph is not edit.graph or made.domain != "" or len(list(value.uses())) != 1 or value.is_graph_output():
            return False
        if made.op_type in ("Gemm", "MatMul"):
            break
        data = next((v for v in made.inputs if v is not None and not is_weight(v)), None)
        step = _passable(made, data, total) if data is not None else None
        if step is None or data is None:
            return False
        owners += step
        value = data
    else:
        return False
    w = made.inputs[1]
    if not is_weight(w) or w is None or w.shape is None or len(w.shape) != 2:
        return False
    bias = made.inputs[2] if len(made.inputs) > 2 else None
    if bias is not None:
        if not is_weight(bias) or bias.const_value is None or bias.const_value.size not in (1, total):
            return False
        if bias.const_value.size == total:
            owners.append((made, 2))
    side = "rows" if made.op_type == "Gemm" and attribute(made, "transB", 0) else "columns"
    plain = [int(d) for d in sizes]  # type: ignore[arg-type]
    forward = _inverse_order(plain, tuple(p))
    for owner, i in owners:
        owner.replace_input_with(i, _picked(edit, owner.inputs[i], forward, "vector"))
    made.replace_input_with(1, _picked(edit, w, forward, side))
    new = edit.node("Reshape", [flat, edit.const(target)], before=node, like=reshape)
    new.shape = out.shape
    edit.replace(out, new)
    edit.drop(node)
    return True


def _inverse_order(sizes: list[int], p: Perm) -> np.ndarray[Any, Any]:
    """Which old column each new column is."""
    return np.arange(int(np.prod(sizes))).reshape(sizes).transpose([q - 1 for q in p[1:]]).reshape(-1)


def _picked(edit: Edit, value: ir.Value | None, order: np.ndarray[Any, Any], side: str) -> ir.Value:
    assert value is not None and value.const_value is not None
    tensor = value.const_value
    shape = tuple(int(d) for d in tensor.shape)  # type: ignore[arg-type]

    def load() -> np.ndarray[Any, Any]:
        held = np.asarray(tensor.numpy())
        return held[order] if side == "rows" else held[..., order]

    return edit.lazy(load, shape, tensor.dtype, value.name or "weight")


def _shape(edit: Edit, node: ir.Node) -> bool:
    """The shape of a transposed value is the reordered shape."""
    found = _transpose(node.inputs[0])
    if found is None or attribute(node, "end") is not None or attribute(node, "start", 0):
        return False
    before, p = found
    own = edit.node("Shape", [before.inputs[0]], before=node, like=node)
    new = edit.node("Gather", [own, edit.const(list(p))], before=node, like=node, axis=0)
    if not edit.replace(node.outputs[0], new):
        return False
    edit.drop(node)
    edit.drop(before)
    return True
