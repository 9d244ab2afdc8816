"""Take out nodes that change nothing, where shapes and constants prove it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir

from niudao.ir.operators import attribute
from niudao.ir.passes import PASSES, Result
from niudao.ir.passes.edit import Edit, array, graphs


@PASSES.register("remove_identity")
def remove_identity(model: ir.Model) -> Result:
    """Take out whatever gives back its input in inference, Dropout as well; see `remove_idle`."""
    return remove_idle(model, dropout=True)


def remove_idle(model: ir.Model, *, dropout: bool) -> Result:
    """Take out Identity and every Cast, Reshape, Transpose, Pad, Slice ... that gives back its input.

    Args:
        model: The model, changed in place.
        dropout: Take out Dropout as well; it means nothing at inference, but who trains the network again wants it.

    Requires: types and shapes on every value.
    Ensures: graph inputs and outputs keep their names; an Identity between an input or a weight and an output stays.
    """
    removed: Counter[str] = Counter()
    for graph in graphs(model):
        edit = Edit(graph, model)
        for node in list(graph):
            source = node.inputs[0] if node.inputs else None
            if source is None or node.domain not in ("", "ai.onnx") or any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
                continue
            if node.op_type == "Reshape":
                _merge_reshapes(node)
                source = node.inputs[0]
            kept = _same(node) if dropout or node.op_type != "Dropout" else None
            if kept is not None and edit.replace(node.outputs[0], kept):
                edit.drop(node)
                removed[node.op_type] += 1
    changes = tuple(f"removed {n} {op} that changed nothing" for op, n in sorted(removed.items()))
    return Result(bool(changes), changes)


def same_shape(a: ir.Value | None, b: ir.Value | None) -> bool:
    """Whether two values that hold equally many elements surely have one shape; one free axis in the same place is enough."""
    if a is None or b is None or a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return False
    open_axes = 0
    for x, y in zip(a.shape, b.shape, strict=True):
        if isinstance(x, int) and isinstance(y, int):
            if x != y:
                return False
        elif isinstance(x, int) or isinstance(y, int):
            return False
        elif x.value is None or x.value != y.value:
            open_axes += 1
    return open_axes <= 1 and (open_axes == 0 or all(d != 0 for d in a.shape))


def _equal_shape(a: ir.Value, b: ir.Value) -> bool:
    """Whether two values surely have one shape, however many elements they hold."""
    if a.shape is None or b.shape is None or len(a.shape) != len(b.shape):
        return False
    return all(
        (isinstance(x, int) and x == y)
        or (not isinstance(x, int) and not isinstance(y, int) and x.value is not None and x.value == y.value)
        for x, y in zip(a.shape, b.shape, strict=True)
    )


def _same(node: ir.Node) -> ir.Value | None:
    """The input that the node gives back, or None."""
    op, source, out = node.op_type, node.inputs[0], node.outputs[0]
    if source is None:
        return None
    if op == "Identity":
        return source
    if op == "Dropout":
        training = node.inputs[2] if len(node.inputs) > 2 else None
        mode = array(training)
        return source if training is None or (mode is not None and not mode.any()) else None
    if op == "Cast":
        return source if source.dtype is not None and source.dtype == out.dtype else None
    if op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return source if same_shape(source, out) else None
    if op == "Transpose":
        perm = attribute(node, "perm")
        return source if perm is not None and list(perm) == list(range(len(perm))) else None
    if op == "Pad":
        pads = array(node.inputs[1])
        return source if pads is not None and not pads.any() else None
    if op == "Slice":
        return source if _whole_slice(node) else None
    if op == "Expand":
        return source if _equal_shape(source, out) else None
    if op in ("Concat", "Sum", "Max", "Min", "Mean"):
        return source if len(node.inputs) == 1 else None
    if op == "Clip":
        return source if not any(v is not None for v in node.inputs[1:]) else None
    if op in ("Add", "Sub", "Mul", "Div"):
        return _neutral(node)
    return None


def _whole_slice(node: ir.Node) -> bool:
    source, out = node.inputs[0], node.outputs[0]
    steps = array(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else np.ones(1)
    starts, ends = array(node.inputs[1]), array(node.inputs[2])
    if source is None or steps is None or starts is None or ends is None or (steps != 1).any():
        return False
    return _equal_shape(source, out) or bool((starts == 0).all() and (ends >= np.iinfo(np.int32).max).all())


def _neutral(node: ir.Node) -> ir.Value | None:
    """x + 0, x - 0, x * 1, x / 1, and the first two the other way round, where broadcasting adds nothing."""
    out = node.outputs[0]
    neutral = 0 if node.op_type in ("Add", "Sub") else 1
    pairs = [(0, 1), (1, 0)] if node.op_type in ("Add", "Mul") else [(0, 1)]
    for keep, other in pairs:
        kept, held = node.inputs[keep], array(node.inputs[other], 4096)
        if kept is not None and held is not None and held.dtype.kind in "fiu" and (held == neutral).all() and _equal_shape(kept, out):
            return kept
    return None


def _merge_reshapes(node: ir.Node) -> None:
    """Of two Reshapes in a row only the second counts, unless it copies dimensions of the first one's result."""
    source = node.inputs[0]
    before = source.producer() if source is not None else None
    target = array(node.inputs[1])
    if before is None or before.domain != "" or target is None or attribute(node, "allowzero", 0):
        return
    first = before.inputs[0] if before.inputs else None
    if before.op_type not in ("Reshape", "Flatten", "Squeeze", "Unsqueeze") or first is None or before.graph is not node.graph:
        return
    for i in np.flatnonzero(target == 0).tolist():  # a copied dimension must be the same in both
        a = first.shape[i] if first.shape is not None and i < len(first.shape) else None
        b = source.shape[i] if source is not None and source.shape is not None and i < len(source.shape) else None
        equal = (isinstance(a, int) and a == b) or (
            isinstance(a, ir.SymbolicDim) and isinstance(b, ir.SymbolicDim) and a.value is not None and a.value == b.value
        )
        if not equal:
            return
    node.replace_input_with(0, first)
