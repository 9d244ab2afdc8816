"""Take Transposes out of a network: cancel pairs, let them pass through other operators until they meet, absorb the rest.

Graphs that come from channels-last frameworks wrap every convolution in two Transposes. Here each one is pushed down the
graph while that costs nothing, or pulled up where it then meets another one; constants are reordered once and for all.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.ir import card
from niudao.ir.operators import attribute, is_weight
from niudao.ir.passes import PASSES, Result
from niudao.ir.passes.absorb import absorb
from niudao.ir.passes.edit import Edit, array, carry, graphs, lazy_tensor
from niudao.ir.passes.remove_dead import remove_dead
from niudao.ir.passes.through import Data, Fresh, Moved, Perm, Plan, plan, rank

_ROUNDS = 40


@PASSES.register("transposes")
def transposes(model: ir.Model) -> Result:
    """Take out every Transpose that can be.

    Requires: types and shapes on every value, small constants folded.
    Ensures: never more Transposes than before among the main graph's nodes; a network whose layout is the same at every
        convolution keeps none between its layers. Graph inputs and outputs keep names, shapes and layouts.
    """
    before = _total(model)
    if before == 0:
        return Result(False)
    best, eager = _trial(model, False), False
    if best > 0:
        rest = _trial(model, True)
        best, eager = (rest, True) if rest < best else (best, False)
    if best > before:
        return Result(False)
    changed = _run(model, eager)
    return Result(changed, (f"{before} Transposes became {_total(model)}",) if changed else ())


def _total(model: ir.Model) -> int:
    return sum(count(g) for g in graphs(model))


def _trial(model: ir.Model, eager: bool) -> int:
    """How many Transposes a run would leave, found on a clone, which shares the weights."""
    clone = model.clone()
    _run(clone, eager)
    return _total(clone)


def _run(model: ir.Model, eager: bool) -> bool:
    """Push and pull until nothing moves. An eager run lets one Transpose before a Split become several behind it."""
    changed = False
    for graph in graphs(model):
        edit = Edit(graph, model)
        for _ in range(_ROUNDS):
            step = _simplify(edit) | _sink(edit, eager) | absorb(edit)
            step |= _simplify(edit) | _hoist(edit)
            changed |= step
            if not step:
                break
    remove_dead(model)
    return changed


def count(graph: ir.Graph) -> int:
    """How many Transposes a graph holds."""
    return sum(1 for node in graph if node.op_type == "Transpose" and node.domain == "")


def perm_of(value: ir.Value | None) -> Perm | None:
    """The permutation of the Transpose that makes a value, or None."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "Transpose" or node.domain != "":
        return None
    perm = attribute(node, "perm")
    r = rank(value)
    return tuple(perm) if perm is not None else tuple(range(r))[::-1] if r is not None else None


def _source(value: ir.Value) -> ir.Value:
    node = value.producer()
    assert node is not None and node.inputs[0] is not None
    return node.inputs[0]


def _simplify(edit: Edit) -> bool:
    """Identities, pairs, twins and transposed constants."""
    changed = False
    twins: dict[tuple[int, Perm], ir.Value] = {}
    for node in list(edit.graph):
        if node.graph is not edit.graph or node.op_type != "Transpose" or node.domain != "" or node.inputs[0] is None:
            continue
        out, source = node.outputs[0], node.inputs[0]
        p = perm_of(out)
        if p is None:
            continue
        if not out.uses() and not out.is_graph_output():
            edit.drop(node)
            continue
        inner = perm_of(source)
        if inner is not None and len(inner) == len(p) and source.producer().graph is edit.graph:  # type: ignore[union-attr]
            p = tuple(inner[i] for i in p)
            before, source = source, _source(source)
            node.replace_input_with(0, source)
            node.attributes["perm"] = ir.AttrInt64s("perm", list(p))
            edit.drop(before.producer())  # type: ignore[arg-type]
            changed = True
        if p == tuple(range(len(p))):
            if edit.replace(out, source):
                edit.drop(node)
                changed = True
            continue
        if is_weight(source) and not out.is_graph_output() and out.shape is not None:
            edit.replace(out, transposed(edit, source, len(p), p))
            edit.drop(node)
            changed = True
            continue
        twin = twins.get((id(source), p))
        if twin is None or twin.producer() is None or twin.producer().graph is not edit.graph:  # type: ignore[union-attr]
            twins[(id(source), p)] = twin = out
        if twin is not out and not out.is_graph_output():
            edit.replace(out, twin)
            edit.drop(node)
            changed = True
    return changed


def transposed(edit: Edit, value: ir.Value, full: int, axes: Perm) -> ir.Value:
    """A constant with ones put before its shape up to the rank `full`, then transposed; big ones when somebody asks."""
    tensor = value.const_value
    assert tensor is not None
    shape = tuple(int(d) for d in tensor.shape)  # type: ignore[arg-type]
    shape = (1,) * (full - len(shape)) + shape
    new = tuple(shape[a] for a in axes)

    def load() -> np.ndarray[Any, Any]:
        return np.asarray(tensor.numpy()).reshape(shape).transpose(axes)

    name = value.name or "const"
    if tensor.size <= 4096:
        return edit.weight(ir.Tensor(np.asarray(load(), order="C"), dtype=tensor.dtype), name)
    return edit.weight(lazy_tensor(load, new, tensor.dtype), name)


def _price(value: ir.Value, p: Perm) -> int:
    """Transposes more, if an operand must come without the Transpose `p`."""
    own = perm_of(value)
    if own is None:
        return 0 if _only_units_move(value, card.invert(p)) and _is_reshape(value) else 1
    return -1 if own == p else 0


def _is_reshape(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and node.domain == "" and node.op_type == "Reshape" and len(list(value.uses())) == 1


def _only_units_move(value: ir.Value, p: Perm) -> bool:
    """Whether a Transpose of this value moves axes of size 1 only, so that its elements stay in order."""
    if value.shape is None or len(value.shape) != len(p):
        return False
    order = [a for a in p if value.shape[a] != 1]
    return order == sorted(order)


def _gain(node: ir.Node, found: Plan, perm: Perm) -> int:
    """Transposes fewer, if the plan is followed. Outputs that somebody transposes back count as gained."""
    total = 0
    seen: set[int] = set()
    for item, value in zip(found.inputs, node.inputs, strict=False):
        if isinstance(item, Data) and value is not None and id(value) not in seen:
            seen.add(id(value))
            total -= _price(value, perm)
    for value, p in zip(node.outputs, found.outputs, strict=True):
        if p == tuple(range(len(p))) or not (value.uses() or value.is_graph_output()):
            continue
        back = card.invert(p)
        undone = [perm_of(u.node.outputs[0]) == back and u.node.op_type == "Transpose" for u in value.uses()]
        if undone and any(undone):
            total += 1
        if not undone or not all(undone) or value.is_graph_output():
            total -= 1
    return total


def _sink(edit: Edit, eager: bool) -> bool:
    """Push Transposes down through operators where that costs no new one."""
    changed = False
    for node in list(edit.graph):
        if node.graph is not edit.graph or node.op_type == "Transpose":
            continue
        for p in dict.fromkeys(perm_of(v) for v in node.inputs):
            if p is not None and _try(edit, node, p, least=1 - len(node.outputs) if eager else 0):
                changed = True
                break
    return changed


def _hoist(edit: Edit) -> bool:
    """Pull a Transpose up through the operator before it, where it then meets others and at least one vanishes."""
    changed = False
    for node in reversed(list(edit.graph)):
        if node.graph is not edit.graph or node.op_type != "Transpose" or node.domain != "" or node.inputs[0] is None:
            continue
        before, p = node.inputs[0].producer(), perm_of(node.outputs[0])
        if before is not None and before.graph is edit.graph and before.op_type != "Transpose" and p is not None:
            found = _input_perm(before, card.invert(p))
            changed |= found is not None and _try(edit, before, found, least=1)
    return changed


def _input_perm(node: ir.Node, p: Perm) -> Perm | None:
    """The permutation of the inputs whose passing gives `p` at the output, where both have one rank."""
    return p if any(rank(v) == len(p) for v in node.inputs) else None


def _try(edit: Edit, node: ir.Node, p: Perm, least: int) -> bool:
    found = plan(node, p)
    if found is None or _gain(node, found, p) < least:
        return False
    _follow(edit, node, found, p)
    return True


def _follow(edit: Edit, node: ir.Node, found: Plan, p: Perm) -> None:
    """Put the planned operator in the old one's place."""
    inputs: list[ir.Value | None] = []
    for item in found.inputs:
        if isinstance(item, Data):
            inputs.append(_untransposed(edit, node, item.value, p))
        elif isinstance(item, Moved):
            inputs.append(transposed(edit, item.value, item.rank, item.axes))
        elif isinstance(item, Fresh):
            inputs.append(edit.const(item.content, item.content.dtype))
        else:
            inputs.append(item)
    attributes: dict[str, Any] = {k: v for k, v in node.attributes.items() if k not in found.attributes} | found.attributes
    values = edit.nodes(node.op_type, inputs, before=node, like=node, outputs=len(node.outputs), **attributes)
    made = values[0].producer()
    if made is not None:
        made.name, node.name = node.name, made.name
        carry(node, made)
    for old, new, q in zip(node.outputs, values, found.outputs, strict=True):
        if q == tuple(range(len(q))):
            _keep_shape(old, new)
            edit.replace(old, new)
        elif old.uses() or old.is_graph_output():
            back = edit.node("Transpose", [new], before=node, like=node, name=f"{node.name}_transpose", perm=list(q))
            _keep_shape(old, back)
            if not old.is_graph_output() and old.name and not new.is_graph_output():
                new.name, old.name = old.name, edit.unique(f"{old.name}_was")
                back.name = edit.unique(f"{new.name}_transposed")
            edit.replace(old, back)
    edit.drop(node)


def _keep_shape(old: ir.Value, new: ir.Value) -> None:
    """What was known of a shape stays known."""
    if old.shape is not None and (new.shape is None or len(new.shape) != len(old.shape) or new.shape.has_unknown_dim()):
        new.shape = ir.Shape(list(old.shape))


def _untransposed(edit: Edit, node: ir.Node, value: ir.Value, p: Perm) -> ir.Value:
    """`a` for the value T(a); whatever it takes."""
    own = perm_of(value)
    if own == p:
        return _source(value)
    back = card.invert(p)
    if own is None and _is_reshape(value) and _only_units_move(value, back):
        again = reshaped(edit, node, value, back)
        if again is not None:
            return again
    return edit.node("Transpose", [value], before=node, like=node, name=f"{node.name}_transpose", perm=list(back))


def reshaped(edit: Edit, node: ir.Node, value: ir.Value, p: Perm) -> ir.Value | None:
    """A Transpose that moves axes of size 1 only, as a Reshape of what `value` was reshaped from."""
    made = value.producer()
    target = array(made.inputs[1], 64) if made is not None else None
    if made is None or value.shape is None or made.inputs[0] is None:
        return None
    sizes = [value.shape[a] for a in p]
    free = [i for i, d in enumerate(sizes) if not isinstance(d, int)]
    if len(free) > 1 or target is None:
        return None
    new = [d if isinstance(d, int) else -1 for d in sizes]
    if any(d == 0 for d in new):
        return None
    out = edit.node("Reshape", [made.inputs[0], edit.const(new)], before=node, like=made)
    out.shape = ir.Shape(sizes)
    return out
