"""Shapes that a graph computes although they are known: constants again, with 0 and -1 where the batch is free.

Torch writes view(n, -1), interpolate(size=...), expand_as and squeeze as chains of Shape, Gather, Slice and Concat, and as If.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx_ir as ir

from niudao.ir.operators import attribute, dims, is_weight
from niudao.ir.passes import PASSES, Result
from niudao.ir.passes.chain import Match, Rules, made_by, one, same_dims, user
from niudao.ir.passes.edit import Edit, array, carry, graphs
from niudao.ir.passes.fold_constants import fold_constants
from niudao.ir.passes.infer_shapes import Elements, infer_shapes, known_elements
from niudao.ir.passes.proving import Tally, apply
from niudao.ir.passes.remove_dead import remove_dead
from niudao.ir.passes.remove_identity import remove_idle

Known = dict[str, tuple[Elements, tuple[int, ...]]]

_ROUNDS = 4
"""A branch that is taken makes shapes known which decide about other branches; more rounds than this no exporter needs."""


@PASSES.register("raise_shapes")
def raise_shapes(model: ir.Model) -> Result:
    """Make computed shapes constant: targets of Reshape, Expand and Resize, branches of If, CastLike; deal channels as DepthToSpace.

    Requires: a sorted graph whose inputs have types.
    Ensures: results are the same; a Reshape that keeps the batch and joins the rest is a Flatten.
    """
    tally = Tally()
    return sweep(model, tally) + tally.result()


def sweep(model: ir.Model, tally: Tally) -> Result:
    """`raise_shapes` with what is proven told to a tally."""
    if not all(_told(v) for node in model.graph for v in node.outputs):
        infer_shapes(model)  # asked only where something is missing: it is the slow part on a graph with nothing to raise
    total = Result(False)
    for _ in range(_ROUNDS):
        done = _casts(model) + _branches(model)
        if done.modified:
            infer_shapes(model)
        folded = fold_constants(model)
        done = done + folded
        if apply(model, _rules(known_elements(model)), tally):
            infer_shapes(model)
            done = done + Result(True)
        done = done + remove_idle(model, dropout=False)
        total = total + done
        if not done.modified:
            break
    dead = remove_dead(model)
    return Result(total.modified or dead.modified, tuple(dict.fromkeys(total.changes)))


def _told(value: ir.Value) -> bool:
    """Whether a value has a type, and a shape whose free axes have names."""
    return value.dtype is not None and value.shape is not None and all(isinstance(d, int) or d.value is not None for d in value.shape)


def _casts(model: ir.Model) -> Result:
    """CastLike and Cast of constants are constants of the type they ask for; CastLike of other values is Cast."""
    count = 0
    for graph in graphs(model):
        edit: Edit | None = None
        for node in list(graph):
            like = node.inputs[1] if len(node.inputs) > 1 else None
            if node.op_type != "CastLike" or node.domain != "" or like is None or like.dtype is None or node.inputs[0] is None:
                continue
            edit = edit or Edit(graph, model)
            held = array(node.inputs[0], 1 << 16)
            plain = held is not None and like.dtype.bitwidth >= 8 and like.dtype != ir.DataType.STRING
            if held is not None and plain and not node.outputs[0].is_graph_output():
                new = edit.const(held.astype(like.dtype.numpy()), like.dtype.numpy())
            else:
                new = edit.node("Cast", [node.inputs[0]], before=node, like=node, to=int(like.dtype))
            if edit.replace(node.outputs[0], new):
                edit.drop(node)
                count += 1
    return Result(count > 0, (f"made {count} CastLike plain",) if count else ())


def _branches(model: ir.Model) -> Result:
    """If whose condition is known: the nodes of the branch that is taken, in its place."""
    count = 0
    for graph in list(graphs(model)):
        edit: Edit | None = None
        outside: set[str | None] = set()
        for node in list(graph):
            held = array(node.inputs[0], 1) if node.op_type == "If" and node.domain == "" and node.inputs else None
            if held is None or held.size != 1:
                continue
            if edit is None:
                edit = Edit(graph, model)
                outside = {v.name for n in graph for v in n.outputs} | {n.name for n in graph} | {v.name for v in graph.inputs}
                outside |= set(graph.initializers)
            _take(edit, outside, node, node.attributes["then_branch" if held.reshape(-1)[0] else "else_branch"].as_graph())
            count += 1
    return Result(count > 0, (f"took {count} branches that are known",) if count else ())


def _take(edit: Edit, outside: set[str | None], node: ir.Node, branch: ir.Graph) -> None:
    """Move a branch's nodes before its If, under names that are not `outside` already, and let their results take over."""

    def free(name: str | None) -> str:
        new = edit.unique(name or "branch") if name in outside else name or ""
        outside.add(new)
        return new

    results = list(branch.outputs)
    branch.outputs.clear()
    for name, value in list(branch.initializers.items()):
        del branch.initializers[name]
        value.name = free(name)
        edit.graph.register_initializer(value)
    inner = list(branch)
    branch.remove(inner)
    for moved in inner:
        carry(node, moved)
        moved.name = free(moved.name)
        for value in moved.outputs:
            value.name = free(value.name)
    edit.graph.insert_before(node, inner)
    for old, new in zip(node.outputs, results, strict=True):
        if not edit.replace(old, new):
            edit.replace(old, edit.node("Identity", [new], before=node, like=node))
    for held in node.attributes.values():  # what the other branch took from outside is not needed for it any more
        held.as_graph().outputs.clear()
        for unused in held.as_graph().all_nodes():
            for i in range(len(unused.inputs)):
                unused.replace_input_with(i, None)
    edit.drop(node)


def _rules(known: Known) -> Rules:
    """Rules that know what the integer tensors of this graph hold."""

    def asked(rule: Callable[[ir.Node, Elements], Match | None], place: int) -> Callable[[ir.Node], Match | None]:
        def ask(node: ir.Node) -> Match | None:
            value = node.inputs[place] if len(node.inputs) > place else None
            if value is None:
                return None
            held = array(value, 64)
            if held is not None:
                return rule(node, [int(v) for v in held.reshape(-1)]) if held.dtype.kind == "i" else None
            elements = known.get(value.name or "")
            return rule(node, elements[0]) if elements is not None else None

        return ask

    binary = {op: (_without_expand,) for op in ("Add", "Sub", "Mul", "Div")}
    return {
        "Reshape": (_deal, asked(_reshape, 1)),
        "Expand": (asked(_expand, 1),),
        "Resize": (asked(_resize, 3),),
        "SequenceAt": (_piece,),
        **binary,
    }


def _names(value: ir.Value | None) -> Elements | None:
    """Sizes of a value's axes: numbers, and names of the free ones."""
    if value is None or value.shape is None:
        return None
    return [d if isinstance(d, int) else d.value for d in value.shape]


def _reshape(node: ir.Node, target: Elements) -> Match | None:
    """Flatten where the batch stays and all the rest is joined; else a constant target with 0 for the batch and -1 for what is free."""
    x, before, after = node.inputs[0], _names(node.inputs[0]), _names(node.outputs[0])
    if x is None or not before or not after or len(after) != len(target) or (attribute(node, "allowzero", 0) and 0 in target):
        return None
    if 0 in (d for d in before if isinstance(d, int)):
        return None
    keeps = after[0] is not None and after[0] == before[0]
    if keeps and len(after) == 2 and len(before) > 2:
        return one("Flatten", (x,), node, axis=1)
    wanted = [0 if keeps and i == 0 else d if isinstance(d, int) else -1 for i, d in enumerate(after)]
    if wanted.count(-1) > 1 or (wanted == target and is_weight(node.inputs[1])):
        return None
    if is_weight(node.inputs[1]) and not attribute(node, "allowzero", 0) and not keeps and -1 in target:
        return None
    return Match("Reshape", (x,), node.outputs[0], lambda make: make.op("Reshape", x, make.const(wanted)))


def _expand(node: ir.Node, target: Elements) -> Match | None:
    """A constant target, with 1 for every axis that stays as it is."""
    x, before = node.inputs[0], _names(node.inputs[0])
    if x is None or before is None or is_weight(node.inputs[1]) or len(target) < len(before):
        return None
    own: Elements = [None] * (len(target) - len(before)) + before
    wanted = [1 if t == 1 or (t is not None and t == o) else t for t, o in zip(target, own, strict=True)]
    sizes = [w for w in wanted if isinstance(w, int)]
    if len(sizes) != len(wanted):
        return None
    return Match("Expand", (x,), node.outputs[0], lambda make: make.op("Expand", x, make.const(sizes)))


def _without_expand(node: ir.Node) -> Match | None:
    """Arithmetic broadcasts by itself: an Expand before it that only makes its operands alike says nothing."""
    for place in (0, 1):
        expand, other = made_by(node.inputs[place], "Expand"), node.inputs[1 - place]
        small = expand.inputs[0] if expand is not None else None
        if expand is None or small is None or other is None or user(expand.outputs[0], node.op_type) is not node:
            continue
        if same_dims(other, node.outputs[0]) and len(dims(small) or ()) <= len(dims(other) or ()) and not is_weight(small):
            inputs = (small, other) if place == 0 else (other, small)
            return replace(one(node.op_type, inputs, node), op=f"{node.op_type} without Expand")
    return None


def _resize(node: ir.Node, sizes: Elements) -> Match | None:
    """Computed sizes: scales where they say the sizes exactly, else constant sizes of the axes that change."""
    x, before = node.inputs[0], _names(node.inputs[0])
    if x is None or before is None or len(before) < 3 or attribute(node, "axes") or len(sizes) != len(before) or is_weight(node.inputs[3]):
        return None
    if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch" or sizes[:2] != before[:2] or None in before[:2]:
        return None
    if attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return None
    new, old = sizes[2:], before[2:]
    if not all(isinstance(d, int) for d in new):
        return None
    rest = {k: a.value for k, a in node.attributes.items()}
    scales = [Fraction(int(n), o) for n, o in zip(new, old, strict=True) if isinstance(o, int) and o > 0 and n is not None]
    if len(scales) == len(new) and all(s.denominator & (s.denominator - 1) == 0 for s in scales):
        factors = np.asarray([1.0, 1.0, *(float(s) for s in scales)], dtype=np.float32)
        return Match("Resize", (x,), node.outputs[0], lambda make: make.op("Resize", x, None, make.weight(factors, "scales"), **rest))
    axes = list(range(2, len(before)))
    return Match("Resize", (x,), node.outputs[0], lambda make: make.op("Resize", x, None, None, make.const(new), **rest, axes=axes))


def _piece(node: ir.Node) -> Match | None:
    """One piece of SplitToSequence, at a known place: a Slice."""
    parts = made_by(node.inputs[0], "SplitToSequence")
    x = parts.inputs[0] if parts is not None else None
    place = array(node.inputs[1], 1)
    sizes = array(parts.inputs[1], 1024) if parts is not None and len(parts.inputs) > 1 else None
    shape = dims(x)
    if parts is None or x is None or shape is None or place is None or sizes is None or not attribute(parts, "keepdims", 1):
        return None
    axis = int(attribute(parts, "axis", 0)) % len(shape)
    whole = shape[axis]
    if whole is None or (sizes.ndim == 0 and int(sizes) < 1):
        return None
    ends = np.cumsum(sizes) if sizes.ndim else np.minimum(np.arange(int(sizes), whole + int(sizes), int(sizes)), whole)
    index = int(place.reshape(-1)[0])
    if not -len(ends) <= index < len(ends):
        return None
    index %= len(ends)
    start, end = int(ends[index - 1]) if index else 0, int(ends[index])
    return Match("Slice", (x,), node.outputs[0], lambda make: make.op("Slice", x, *(make.const([v]) for v in (start, end, axis))))


def _deal(node: ir.Node) -> Match | None:
    """Reshape, Transpose, Reshape that deal channels out as pixels, or pixels as channels."""
    swap = made_by(node.inputs[0], "Transpose")
    first = made_by(swap.inputs[0], "Reshape") if swap is not None else None
    x = first.inputs[0] if first is not None else None
    if swap is None or first is None or x is None:
        return None
    before, middle, after = dims(x), dims(first.outputs[0]), dims(node.outputs[0])
    if before is None or middle is None or after is None or len(before) != 4 or len(middle) != 6 or len(after) != 4:
        return None
    if any(d is None for d in (*before[1:], *middle[1:], *after[1:])) or before[0] != after[0] or middle[0] != before[0]:
        return None
    c, h, w = (int(d or 0) for d in before[1:])
    block = {(0, 1, 4, 2, 5, 3): middle[2], (0, 3, 4, 1, 5, 2): middle[1], (0, 3, 5, 1, 2, 4): middle[3]}.get(
        tuple(attribute(swap, "perm") or ())
    )
    if block is None or block < 2:
        return None
    few, more = c // (block * block), c * block * block
    for op, mode, split_axes, result in (
        ("DepthToSpace", "CRD", [few, block, block, h, w], [few, h * block, w * block]),
        ("DepthToSpace", "DCR", [block, block, few, h, w], [few, h * block, w * block]),
        ("SpaceToDepth", None, [c, h // block, block, w // block, block], [more, h // block, w // block]),
    ):
        if middle[1:] == split_axes and after[1:] == result and (mode == "CRD") == (attribute(swap, "perm")[1] == 1):
            return one(op, (x,), node, blocksize=block, mode=mode)
    return None
