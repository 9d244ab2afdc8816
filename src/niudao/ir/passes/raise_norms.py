"""Normalisations by the statistics of the input itself, spelt out: layer, instance and group normalisation.

    (x - mean) / sqrt(variance + epsilon), then times a scale and plus a bias, either of which may be missing

Which it is follows from the axes of the mean and from the shape of the scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from niudao.ir.operators import attribute, dims, is_weight
from niudao.ir.passes.chain import Maker, Match, Rules, axes_of, channels_of, floats, made_by, near, sides, single, split, square_of, user
from niudao.ir.passes.edit import Array, array
from niudao.ir.passes.fold_batchnorm import per_channel

_SHAPED = ("Reshape", "Squeeze", "Unsqueeze", "Flatten")


@dataclass(frozen=True)
class _Affine:
    """Scale and bias after a normalisation, and the value they end in."""

    scale: ir.Value | None
    bias: ir.Value | None
    output: ir.Value

    def inputs(self) -> tuple[ir.Value, ...]:
        return tuple(v for v in (self.scale, self.bias) if v is not None)


def _affine(value: ir.Value) -> _Affine:
    """The Mul and Add by weights that follow a value and are all that uses it."""
    scale = bias = None
    for op in ("Mul", "Add"):
        node = user(value, op)
        if node is None:
            continue
        other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
        out = node.outputs[0]
        if not is_weight(other) or dims(out) != dims(value):
            break
        scale, bias = (other, bias) if op == "Mul" else (scale, other)
        value = out
    return _Affine(scale, bias, value)


def _mean(value: ir.Value | None) -> tuple[ir.Value, list[int]] | None:
    """x and axes where a value is the mean of x over them, the axes kept, by ReduceMean or what comes to the same."""
    node = made_by(value, *_SHAPED)
    if node is not None:
        value = node.inputs[0]
    mean = made_by(value, "ReduceMean")
    axes = axes_of(mean) if mean is not None else None
    if mean is None or axes is None or mean.inputs[0] is None:
        return None
    kept = bool(attribute(mean, "keepdims", 1))
    if node is None:
        return (mean.inputs[0], axes) if kept else None
    full, x = dims(node.outputs[0]), dims(mean.inputs[0])
    if full is None or x is None or full != [1 if i in axes else d for i, d in enumerate(x)]:
        return None
    return mean.inputs[0], axes


def _centred(value: ir.Value | None) -> tuple[ir.Value, list[int]] | None:
    """x and axes where a value is x - mean(x)."""
    node = made_by(value, "Sub")
    mean = _mean(node.inputs[1]) if node is not None else None
    return mean if node is not None and mean is not None and mean[0] is node.inputs[0] else None


def _variance(value: ir.Value | None) -> tuple[ir.Value, list[int], float] | None:
    """x, axes and epsilon where a value is variance(x) + epsilon."""
    add = made_by(value, "Add")
    parts = split(add) if add is not None else None
    mean = _mean(parts[0]) if parts is not None else None
    centred = _centred(square_of(mean[0])) if mean is not None else None
    if parts is None or mean is None or centred is None or centred[1] != mean[1]:
        return None
    return centred[0], centred[1], parts[1]


def _deviation(value: ir.Value | None) -> tuple[ir.Value, list[int], float] | None:
    """x, axes and epsilon where a value is sqrt(variance(x) + epsilon)."""
    root = made_by(value, "Sqrt", "Pow")
    if root is None or (root.op_type == "Pow" and not near(single(root.inputs[1]), 0.5)):
        return None
    return _variance(root.inputs[0])


def _inverse(value: ir.Value | None) -> tuple[ir.Value, list[int], float] | None:
    """x, axes and epsilon where a value is 1 / sqrt(variance(x) + epsilon)."""
    node = made_by(value, "Reciprocal", "Div", "Pow")
    if node is None:
        return None
    if node.op_type == "Reciprocal":
        return _deviation(node.inputs[0])
    if node.op_type == "Div":
        return _deviation(node.inputs[1]) if near(single(node.inputs[0]), 1.0) else None
    return _variance(node.inputs[0]) if near(single(node.inputs[1]), -0.5) else None


def _normalized(node: ir.Node) -> tuple[ir.Value, list[int], float] | None:
    """x, axes and epsilon where a node computes (x - mean) / sqrt(variance + epsilon)."""
    if node.op_type == "Div":
        pairs = [(_centred(node.inputs[0]), _deviation(node.inputs[1]))]
    else:
        pairs = [(_centred(a), _inverse(b)) for a, b in sides(node) if made_by(a, "Sub") is not None]
    for centred, spread in pairs:
        if centred is not None and spread is not None and centred[0] is spread[0] and centred[1] == spread[1]:
            return spread
    return None


def _norm(node: ir.Node) -> Match | None:
    """The normalisation that a Div or Mul ends, with the scale and bias behind it."""
    found = _normalized(node)
    if found is None or not floats(found[0]) or found[0].shape is None:
        return None
    x, axes, epsilon = found
    rank = len(found[0].shape)
    affine = _affine(node.outputs[0])
    tail = axes == list(range(axes[0], rank)) if axes else False
    if tail and axes[0] == 2 and (rank > 3 or affine.scale is not None or affine.bias is not None):
        match = _instance(x, affine, epsilon, rank)
        if match is not None:
            return match
    if tail and axes[0] == 1 and rank > 2 and (affine.scale is not None or affine.bias is not None):
        match = _group(x, 1, affine, epsilon, np.ones(1), np.zeros(1))
        if match is not None:
            return match
    if tail:
        return _layer(x, axes[0], affine, epsilon)
    if axes == [1] and rank == 4:
        return _layer_of_channels(x, affine, epsilon)
    return None


def _instance(x: ir.Value, affine: _Affine, epsilon: float, rank: int) -> Match | None:
    channels = channels_of(x)
    weights = _channel_weights(affine, rank, channels, x)
    if weights is None:
        return None
    scale, bias = weights

    def emit(make: Maker) -> ir.Value:
        return make.op("InstanceNormalization", x, make.weight(scale, "scale"), make.weight(bias, "bias"), epsilon=epsilon)

    return Match("InstanceNormalization", (x, *affine.inputs()), affine.output, emit)


def _channel_weights(affine: _Affine, rank: int, channels: int | None, x: ir.Value) -> tuple[Array, Array] | None:
    """Scale and bias as one number for each channel."""
    if channels is None:
        return None
    dtype = x.dtype.numpy() if x.dtype is not None else np.dtype(np.float32)
    scale = per_channel(array(affine.scale), rank, channels) if affine.scale is not None else np.ones(channels)
    bias = per_channel(array(affine.bias), rank, channels) if affine.bias is not None else np.zeros(channels)
    return (scale.astype(dtype), bias.astype(dtype)) if scale is not None and bias is not None else None


def _layer(x: ir.Value, axis: int, affine: _Affine, epsilon: float) -> Match | None:
    shape = (dims(x) or [])[axis:]
    rank = len(dims(x) or [])
    if any(d is None for d in shape):
        return None
    tail = tuple(int(d) for d in shape if d is not None)
    dtype = x.dtype.numpy() if x.dtype is not None else np.dtype(np.float32)
    scale = _tail(affine.scale, tail) if affine.scale is not None else np.ones(tail, dtype)
    bias = _tail(affine.bias, tail) if affine.bias is not None else None
    if scale is None or (affine.bias is not None and bias is None):
        return None

    def emit(make: Maker) -> ir.Value:
        weights = [_kept(make, affine.scale, scale, "scale"), _kept(make, affine.bias, bias, "bias") if bias is not None else None]
        return make.op("LayerNormalization", x, *weights[: 2 if bias is not None else 1], axis=axis - rank, epsilon=epsilon)

    return Match("LayerNormalization", (x, *affine.inputs()), affine.output, emit)


def _kept(make: Maker, old: ir.Value | None, now: Array, name: str) -> ir.Value:
    """The weight itself where it has the shape that is wanted already, so that it keeps its name."""
    if old is not None and old.const_value is not None and tuple(old.const_value.shape.numpy()) == now.shape:
        return old
    return make.weight(now, name)


def _tail(value: ir.Value | None, tail: tuple[int, ...]) -> Array | None:
    """A weight as an array of the last axes; None where it varies along others."""
    held = array(value)
    if held is None or prod(held.shape[: max(0, held.ndim - len(tail))]) != 1:
        return None
    held = held.reshape(held.shape[max(0, held.ndim - len(tail)) :])
    try:
        return np.ascontiguousarray(np.broadcast_to(held, tail))
    except ValueError:
        return None


def _layer_of_channels(x: ir.Value, affine: _Affine, epsilon: float) -> Match | None:
    """Layer normalisation of the channels of each pixel: the axes change places around it, as channels-last frameworks need not do."""
    weights = _channel_weights(affine, 4, channels_of(x), x)
    if weights is None:
        return None
    scale, bias = weights

    def emit(make: Maker) -> ir.Value:
        last = make.op("Transpose", x, perm=[0, 2, 3, 1])
        done = make.op("LayerNormalization", last, make.weight(scale, "scale"), make.weight(bias, "bias"), axis=-1, epsilon=epsilon)
        return make.op("Transpose", done, perm=[0, 3, 1, 2])

    return Match("LayerNormalization", (x, *affine.inputs()), affine.output, emit)


def _grouped(node: ir.Node) -> Match | None:
    """Reshape to (batch, groups, rest), a normalisation of the rest, Reshape back: group normalisation."""
    inner = _of_groups(node)
    first = made_by(inner[0], "Reshape") if inner is not None else None
    back = user(node.outputs[0], "Reshape")
    x = first.inputs[0] if first is not None else None
    if inner is None or first is None or back is None or x is None or not floats(x):
        return None
    before, grouped, channels = dims(x), dims(first.outputs[0]), channels_of(x)
    if before is None or grouped is None or channels is None or before != dims(back.outputs[0]) or len(grouped) < 3:
        return None
    groups = grouped[1]
    if before[0] != grouped[0] or not groups or channels % groups or any(d is None for d in before[2:]):
        return None
    return _group(x, groups, _affine(back.outputs[0]), *inner[1:])


def _of_groups(node: ir.Node) -> tuple[ir.Value | None, float, Array, Array] | None:
    """What a node normalises over all axes from the third on, epsilon, and scale and bias of each group."""
    if node.op_type == "InstanceNormalization":
        scale, bias = array(node.inputs[1], 4096), array(node.inputs[2], 4096)
        return (node.inputs[0], float(attribute(node, "epsilon")), scale, bias) if scale is not None and bias is not None else None
    found = _normalized(node)
    shape = dims(found[0]) if found is not None else None
    if found is None or shape is None or len(shape) < 3 or shape[1] is None or found[1] != list(range(2, len(shape))):
        return None
    return found[0], found[2], np.ones(shape[1], np.float32), np.zeros(shape[1], np.float32)


def _group(x: ir.Value, groups: int, affine: _Affine, epsilon: float, inner: Array, shift: Array) -> Match | None:
    """GroupNormalization with the weights of a group and those of the channels joined."""
    channels = channels_of(x)
    weights = _channel_weights(affine, len(dims(x) or ()), channels, x)
    if weights is None or channels is None or inner.size != groups or shift.size != groups:
        return None
    each = channels // groups
    scale = (np.repeat(inner, each) * weights[0]).astype(weights[0].dtype)
    bias = (np.repeat(shift, each) * weights[0] + weights[1]).astype(weights[0].dtype)

    def emit(make: Maker) -> ir.Value:
        return make.op("GroupNormalization", x, make.weight(scale, "scale"), make.weight(bias, "bias"), num_groups=groups, epsilon=epsilon)

    return Match("GroupNormalization", (x, *affine.inputs()), affine.output, emit)


def _instance_affine(node: ir.Node) -> Match | None:
    """InstanceNormalization followed by a scale and a bias of its own: one InstanceNormalization."""
    x = node.inputs[0]
    affine = _affine(node.outputs[0])
    scale, bias, channels = array(node.inputs[1]), array(node.inputs[2]), channels_of(x)
    if x is None or x.shape is None or not floats(x) or not affine.inputs() or scale is None or bias is None:
        return None
    weights = _channel_weights(affine, len(x.shape), channels, x)
    if weights is None or scale.size != channels or bias.size != channels:
        return None
    joined, shift = scale * weights[0], bias * weights[0] + weights[1]
    epsilon = float(attribute(node, "epsilon"))

    def emit(make: Maker) -> ir.Value:
        return make.op("InstanceNormalization", x, make.weight(joined, "scale"), make.weight(shift, "bias"), epsilon=epsilon)

    return Match("InstanceNormalization", (x, *affine.inputs()), affine.output, emit)


RULES: Rules = {
    "InstanceNormalization": (_grouped, _instance_affine),
    "Div": (_grouped, _norm),
    "Mul": (_grouped, _norm),
}
