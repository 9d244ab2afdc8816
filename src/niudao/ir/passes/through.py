"""How a Transpose passes through an operator: op(T(a), T(b)) = T(op'(a, b)), one rule per family.

A permutation `p` is ONNX's: axis j of T(a) is axis p[j] of a.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.ir import card
from niudao.ir.operators import attribute, describe, dims, is_weight
from niudao.ir.passes.edit import array

Perm = tuple[int, ...]
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Data:
    """An input that must come without the Transpose."""

    value: ir.Value


@dataclass(frozen=True)
class Moved:
    """A constant that must be reordered: `axes` is what its array is transposed by after ones were put before its shape."""

    value: ir.Value
    rank: int
    axes: Perm


@dataclass(frozen=True)
class Fresh:
    """A small new constant."""

    content: Array


@dataclass(frozen=True)
class Plan:
    """The operator on untransposed data.

    Attributes:
        inputs: One entry per input; a plain value or None is taken as it is.
        outputs: The permutation that each output then needs.
        attributes: Attributes that change.
    """

    inputs: tuple[Data | Moved | Fresh | ir.Value | None, ...]
    outputs: tuple[Perm, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


def plan(node: ir.Node, p: Perm) -> Plan | None:
    """How `node` reads if its data inputs come without the Transpose `p`; None where it cannot."""
    if node.domain != "":
        return None
    rule = _RULES.get(node.op_type)
    if rule is None:
        family = describe(node)
        rule = {"free": _free, "axis": _along_axis, "axes": _reduce}.get(family.transposes)
    return rule(node, p) if rule is not None else None


def rank(value: ir.Value | None) -> int | None:
    return len(value.shape) if value is not None and value.shape is not None else None


def _operands(values: Sequence[ir.Value | None], p: Perm) -> tuple[Any, ...] | None:
    """Broadcast operands: data of full rank, constants, single numbers."""
    found: list[Data | Moved | ir.Value | None] = []
    for value in values:
        if value is None:
            found.append(None)
        elif rank(value) is None or len(value.shape or ()) > len(p):
            return None
        elif is_weight(value):
            single = value.const_value is not None and value.const_value.size == 1
            found.append(value if single else Moved(value, len(p), card.invert(p)))
        elif rank(value) == len(p):
            found.append(Data(value))
        elif rank(value) == 0:
            found.append(value)
        else:
            return None
    return tuple(found) if any(isinstance(f, Data) for f in found) else None


def _free(node: ir.Node, p: Perm) -> Plan | None:
    if node.op_type in ("Clip", "Dropout", "Cast"):
        source = node.inputs[0]
        if source is None or rank(source) != len(p):
            return None
        return Plan((Data(source), *node.inputs[1:]), (p,) * len(node.outputs))
    inputs = _operands(node.inputs, p)
    return Plan(inputs, (p,) * len(node.outputs)) if inputs is not None else None


def _axis(node: ir.Node, p: Perm, default: int) -> int:
    axis = int(attribute(node, "axis", default))
    return p[axis + len(p) if axis < 0 else axis]


def _without(p: Perm, gone: set[int]) -> Perm:
    """The permutation that remains once axes (of the untransposed value) are gone."""
    left = [q for q in p if q not in gone]
    order = sorted(left)
    return tuple(order.index(q) for q in left)


def _along_axis(node: ir.Node, p: Perm) -> Plan | None:
    op = node.op_type
    if op == "Concat":
        inputs = tuple(
            None if v is None else Moved(v, len(p), card.invert(p)) if is_weight(v) and rank(v) == len(p) else Data(v) for v in node.inputs
        )
        if any(rank(v) != len(p) for v in node.inputs) or not any(isinstance(i, Data) for i in inputs):
            return None
        return Plan(inputs, (p,), {"axis": _axis(node, p, 0)})
    source = node.inputs[0]
    if source is None or rank(source) != len(p) or op == "CumSum":
        return None
    default = -1 if op in ("Softmax", "LogSoftmax", "Hardmax") else 0
    axis = _axis(node, p, default)
    if op in ("ArgMax", "ArgMin") and not attribute(node, "keepdims", 1):
        return Plan((Data(source),), (_without(p, {axis}),), {"axis": axis})
    return Plan((Data(source), *node.inputs[1:]), (p,) * len(node.outputs), {"axis": axis})


def _constant_axes(node: ir.Node, i: int, count: int | None = None) -> list[int] | None:
    """Axes from the i-th input; 0, 1, ... where it is left out and `count` says how many."""
    value = node.inputs[i] if len(node.inputs) > i else None
    if value is None:
        return list(range(count)) if count is not None else None
    held = array(value, 64)
    return [int(a) for a in held.reshape(-1)] if held is not None else None


def _reduce(node: ir.Node, p: Perm) -> Plan | None:
    source = node.inputs[0]
    if source is None or rank(source) != len(p):
        return None
    axes = _constant_axes(node, 1, 0)
    if axes is None:
        return None
    if not axes and attribute(node, "noop_with_empty_axes", 0):
        return Plan((Data(source), *node.inputs[1:]), (p,))
    moved = sorted(p[a + len(p) if a < 0 else a] for a in (axes or range(len(p))))
    out = p if attribute(node, "keepdims", 1) else _without(p, set(moved))
    return Plan((Data(source), Fresh(np.asarray(moved, dtype=np.int64))), (out,))


def _pad(node: ir.Node, p: Perm) -> Plan | None:
    source, pads = node.inputs[0], array(node.inputs[1], 64)
    if source is None or rank(source) != len(p) or pads is None:
        return None
    axes = _constant_axes(node, 3, len(p))
    if axes is None or len(pads) != 2 * len(axes):
        return None
    new = np.zeros(2 * len(p), dtype=np.int64)
    for k, a in enumerate(axes):
        j = p[a + len(p) if a < 0 else a]
        new[j], new[j + len(p)] = pads[k], pads[k + len(axes)]
    fill = node.inputs[2] if len(node.inputs) > 2 else None
    return Plan((Data(source), Fresh(new), *([fill] if fill is not None else [])), (p,))


def _slice(node: ir.Node, p: Perm) -> Plan | None:
    source, starts = node.inputs[0], dims(node.inputs[1])
    if source is None or rank(source) != len(p) or not starts or starts[0] is None:
        return None
    axes = _constant_axes(node, 3, starts[0])
    if axes is None:
        return None
    moved = np.asarray([p[a + len(p) if a < 0 else a] for a in axes], dtype=np.int64)
    steps = node.inputs[4] if len(node.inputs) > 4 else None
    return Plan((Data(source), node.inputs[1], node.inputs[2], Fresh(moved), *([steps] if steps is not None else [])), (p,))


def _squeeze(node: ir.Node, p: Perm) -> Plan | None:
    source, axes = node.inputs[0], _constant_axes(node, 1)
    if source is None or rank(source) != len(p) or not axes:
        return None
    moved = sorted(p[a + len(p) if a < 0 else a] for a in axes)
    return Plan((Data(source), Fresh(np.asarray(moved, dtype=np.int64))), (_without(p, set(moved)),))


def _unsqueeze(node: ir.Node, p: Perm) -> Plan | None:
    source, axes = node.inputs[0], _constant_axes(node, 1)
    if source is None or rank(source) != len(p) or not axes:
        return None
    total = len(p) + len(axes)
    new = {a + total if a < 0 else a for a in axes}
    old = [i for i in range(total) if i not in new]
    perm = list(range(total))
    for j, place in enumerate(old):
        perm[place] = old[p[j]]
    return Plan((Data(source), node.inputs[1]), (tuple(perm),))


def _per_axis_vector(node: ir.Node, p: Perm, i: int) -> Plan | None:
    """The i-th input holds one number per axis (Expand, Tile)."""
    source, held = node.inputs[0], array(node.inputs[i], 64)
    if source is None or rank(source) != len(p) or held is None or len(held) != len(p):
        return None
    new = np.empty_like(held)
    new[list(p)] = held
    return Plan((Data(source), *node.inputs[1:i], Fresh(new)), (p,))


def _resize(node: ir.Node, p: Perm) -> Plan | None:
    source = node.inputs[0]
    if source is None or rank(source) != len(p) or attribute(node, "axes") is not None:
        return None
    if attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return None
    given = [i for i in (2, 3) if len(node.inputs) > i and node.inputs[i] is not None]
    inputs: list[Any] = [Data(source), None, *node.inputs[2:]]
    for i in given:
        held = array(node.inputs[i], 64)
        if held is None or len(held) not in (0, len(p)):
            return None
        if len(held):
            new = np.empty_like(held)
            new[list(p)] = held
            inputs[i] = Fresh(new)
            if attribute(node, "mode", "nearest") != "nearest" and not _resizes_pixels(node, held, p, i):
                return None
    return Plan(tuple(inputs), (p,))


def _resizes_pixels(node: ir.Node, held: Array, p: Perm, i: int) -> bool:
    """Whether only axes from 2 on are resized once the Transpose is gone: runtimes interpolate along no others."""
    before = dims(node.inputs[0])
    for j, number in enumerate(held.tolist()):
        untouched = number == 1.0 if i == 2 else before is not None and number == before[j]
        if not untouched and p[j] < 2:
            return False
    return True


def _gather(node: ir.Node, p: Perm) -> Plan | None:
    source, index = node.inputs[0], rank(node.inputs[1])
    if source is None or is_weight(source) or rank(source) != len(p) or index not in (0, 1):
        return None
    axis = _axis(node, p, 0)
    return Plan((Data(source), node.inputs[1]), (p if index else _without(p, {axis}),), {"axis": axis})


def _channelwise(node: ir.Node, p: Perm) -> Plan | None:
    """BatchNormalization and the like: the channels must stay on axis 1."""
    source = node.inputs[0]
    if source is None or rank(source) != len(p) or p[:2] != (0, 1):
        return None
    return Plan((Data(source), *node.inputs[1:]), (p,) * len(node.outputs))


def _quantize(node: ir.Node, p: Perm) -> Plan | None:
    source = node.inputs[0]
    if source is None or is_weight(source) or rank(source) != len(p) or attribute(node, "block_size", 0):
        return None
    per_tensor = all(v is None or rank(v) == 0 for v in node.inputs[1:])
    return Plan((Data(source), *node.inputs[1:]), (p,), {} if per_tensor else {"axis": _axis(node, p, 1)})


def _global_pool(node: ir.Node, p: Perm) -> Plan | None:
    source = node.inputs[0]
    if source is None or rank(source) != len(p) or p[:2] != (0, 1):
        return None
    return Plan((Data(source),), (p,))


_RULES: dict[str, Callable[[ir.Node, Perm], Plan | None]] = {
    "Pad": _pad,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": lambda node, p: _per_axis_vector(node, p, 1),
    "Tile": lambda node, p: _per_axis_vector(node, p, 1),
    "Resize": _resize,
    "Gather": _gather,
    "BatchNormalization": _channelwise,
    "InstanceNormalization": _channelwise,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _quantize,
}
