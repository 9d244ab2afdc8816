"""Fold what scales and shifts channels into the layer before: BatchNormalization, and Mul or Add of a number per channel."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.ir.operators import attribute, is_weight
from niudao.ir.passes import PASSES, Result
from niudao.ir.passes.edit import Edit, array, graphs, sole_user
from niudao.ir.passes.remove_dead import remove_dead

Array = np.ndarray[Any, Any]
LAYERS = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class Affine:
    """y = x * scale + shift, one pair per channel; None where it would be 1 or 0."""

    scale: Array | None
    shift: Array | None


@PASSES.register("fold_batchnorm")
def fold_batchnorm(model: ir.Model) -> Result:
    """Fold BatchNormalization into the Conv, ConvTranspose or Gemm before it.

    Requires: shapes; inference mode.
    Ensures: no BatchNormalization is left behind such a layer whose weights are constants and whose result nobody else uses.
        Big weights are computed when somebody asks for them.
    """
    return _fold(model, ("BatchNormalization",), "BatchNormalization")


@PASSES.register("fold_affine")
def fold_affine(model: ir.Model) -> Result:
    """Fold Add, Sub, Mul and Div by one number per channel into the Conv, ConvTranspose or Gemm before them.

    Requires: shapes.
    Ensures: biases that an exporter wrote as Add are biases again.
    """
    return _fold(model, ("Add", "Sub", "Mul", "Div"), "per-channel arithmetic")


def _fold(model: ir.Model, ops: tuple[str, ...], what: str) -> Result:
    folded: Counter[str] = Counter()
    for graph in graphs(model):
        edit = Edit(graph, model)
        for node in list(graph):
            while node.op_type in LAYERS and node.domain == "":
                follower = sole_user(node.outputs[0])
                if follower is None or follower.graph is not graph or follower.op_type not in ops or follower.domain != "":
                    break
                channels = _channels(node)
                affine = affine_of(follower, node.outputs[0], channels) if channels is not None else None
                if affine is None or not scale_output(edit, node, affine) or not edit.replace(follower.outputs[0], node.outputs[0]):
                    break
                node.outputs[0].shape = node.outputs[0].shape if node.outputs[0].shape is not None else follower.outputs[0].shape
                edit.drop(follower)
                folded[node.op_type] += 1
    if folded:
        remove_dead(model)
    changes = tuple(f"folded {what} into {n} {op}" for op, n in sorted(folded.items()))
    return Result(bool(changes), changes)


def _channels(node: ir.Node) -> int | None:
    w = node.inputs[1]
    if w is None or not is_weight(w) or w.shape is None or w.dtype != ir.DataType.FLOAT:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and not is_weight(node.inputs[2]):
        return None
    dims = [int(d) for d in w.shape.numpy()]
    if node.op_type == "Conv":
        return dims[0]
    if node.op_type == "ConvTranspose":
        return dims[1] * int(attribute(node, "group", 1))
    return dims[0] if attribute(node, "transB", 0) else dims[1]


def affine_of(node: ir.Node, x: ir.Value, channels: int) -> Affine | None:
    """What a node does to each channel (axis 1) of `x`, or None if it does something else. Computed in float64."""
    if node.op_type == "BatchNormalization":
        if attribute(node, "training_mode", 0) or node.inputs[0] is not x or any(v.uses() for v in node.outputs[1:]):
            return None
        parts = [array(v) for v in node.inputs[1:5]]
        if any(p is None or p.shape != (channels,) for p in parts):
            return None
        gamma, beta, mean, var = (np.asarray(p, dtype=np.float64) for p in parts)
        scale = gamma / np.sqrt(var + attribute(node, "epsilon", 1e-5))
        return Affine(scale, beta - mean * scale) if np.isfinite(scale).all() else None
    place = 0 if node.inputs[0] is x else 1
    other = node.inputs[1 - place]
    rank = len(x.shape) if x.shape is not None else None
    vector = per_channel(array(other), rank, channels) if other is not x else None
    if vector is None:
        return None
    if node.op_type == "Add":
        return Affine(None, vector)
    if node.op_type == "Mul":
        return Affine(vector, None)
    if node.op_type == "Sub":
        return Affine(None, -vector) if place == 0 else Affine(np.full(channels, -1.0), vector)
    if node.op_type == "Div" and place == 0 and vector.all():
        return Affine(1 / vector, None)
    return None


def per_channel(held: Array | None, rank: int | None, channels: int) -> Array | None:
    """A constant as one number per channel of axis 1 of a value of this rank, or None where it is something else."""
    if held is None or rank is None or rank < 2 or held.dtype.kind != "f" or held.ndim > rank:
        return None
    shape = (1,) * (rank - held.ndim) + held.shape
    if any(d != 1 for i, d in enumerate(shape) if i != 1) or shape[1] not in (1, channels):
        return None
    return np.broadcast_to(held.astype(np.float64).reshape(-1), (channels,)).copy()


def scale_output(edit: Edit, node: ir.Node, affine: Affine) -> bool:
    """Change a layer's weights so that its output is scaled and shifted per channel. Returns False where it cannot be."""
    w = node.inputs[1]
    if w is None or w.const_value is None or w.shape is None:
        return False
    beta = float(attribute(node, "beta", 1.0)) if node.op_type == "Gemm" else 1.0
    bias_value = node.inputs[2] if len(node.inputs) > 2 else None
    channels = _channels(node)
    if channels is None:
        return False
    if bias_value is None:
        bias, beta_new = np.zeros(channels), 1.0
    else:
        held = array(bias_value)
        if held is None or (held.ndim > 1 and held.shape[0] != 1):
            return False
        bias, beta_new = np.broadcast_to(held.astype(np.float64).reshape(-1) * beta, (channels,)).copy(), 1.0
    if affine.scale is not None:
        bias = bias * affine.scale
        node.replace_input_with(1, _scaled(edit, node, w, affine.scale))
    if affine.shift is not None:
        bias = bias + affine.shift
    if bias_value is not None or affine.shift is not None:
        new = edit.weight(
            ir.tensor(bias.astype(np.float32)), bias_value.name if bias_value is not None and bias_value.name else f"{node.name}_bias"
        )
        if len(node.inputs) < 3:
            node.resize_inputs(3)
        node.replace_input_with(2, new)
        if node.op_type == "Gemm":
            node.attributes["beta"] = ir.AttrFloat32("beta", beta_new)
    return True


def _scaled(edit: Edit, node: ir.Node, w: ir.Value, scale: Array) -> ir.Value:
    tensor = w.const_value
    assert tensor is not None  # the caller looked
    shape = tuple(int(d) for d in tensor.shape)  # type: ignore[arg-type]
    group = int(attribute(node, "group", 1))
    if node.op_type == "Conv":
        factor = scale.reshape(-1, *[1] * (len(shape) - 1))
    elif node.op_type == "ConvTranspose":  # input channels come group by group, each with its own output channels
        rows = np.repeat(scale.reshape(group, -1), shape[0] // group, axis=0)
        factor = rows.reshape(*rows.shape, *[1] * (len(shape) - 2))
    else:
        factor = scale.reshape(-1, 1) if attribute(node, "transB", 0) else scale.reshape(1, -1)
    factor = factor.astype(np.float32)
    return edit.lazy(lambda: np.asarray(tensor.numpy()) * factor, shape, tensor.dtype, w.name or "weight")
