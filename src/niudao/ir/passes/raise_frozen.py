"""Batch normalisation with frozen statistics, written as arithmetic by one number for each channel.

    ((x - mean) / deviation) * gamma + beta

raise_batchnorm takes any arithmetic for targets that know no other. This takes the whole of it only: a scale and a bias alone may be a
layer that never normalised anything, and would ask for statistics once the network is trained again.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from niudao.ir.operators import is_weight
from niudao.ir.passes.chain import Maker, Match, Rules, channels_of, floats, same_dims, user
from niudao.ir.passes.edit import Array, array
from niudao.ir.passes.fold_batchnorm import per_channel

_OPS = ("Sub", "Div", "Mul", "Add")


def _step(node: ir.Node, x: ir.Value, channels: int, rank: int) -> tuple[ir.Value, Array] | None:
    """The weight, one number for each channel, by which a node changes x."""
    other = node.inputs[1] if node.inputs[0] is x else node.inputs[0]
    if node.op_type in ("Sub", "Div") and node.inputs[0] is not x:
        return None
    if other is None or not is_weight(other) or other.const_value is None or other.const_value.size != channels:
        return None
    held = per_channel(array(other), rank, channels)
    return (other, held) if held is not None and same_dims(x, node.outputs[0]) else None


def _frozen(node: ir.Node) -> Match | None:
    """Sub, Div, Mul, Add in this order."""
    x = next((v for v in node.inputs if v is not None and not is_weight(v)), None)
    channels = channels_of(x)
    if x is None or x.shape is None or not floats(x) or channels is None or channels < 2:
        return None
    rank = len(x.shape)
    found: dict[str, tuple[ir.Value, Array]] = {}
    value, current = x, node
    for op in _OPS:
        if current.op_type != op:
            continue
        step = _step(current, value, channels, rank)
        if step is None:
            break
        found[op] = step
        value = current.outputs[0]
        follower = user(value, *_OPS)
        if follower is None or follower.graph is not node.graph:
            break
        current = follower
    if len(found) != len(_OPS):
        return None
    dtype = x.dtype.numpy() if x.dtype is not None else np.dtype(np.float32)
    deviation = found["Div"][1]
    if (deviation <= 0).any():
        return None
    parts = (("scale", found["Mul"][1]), ("bias", found["Add"][1]), ("mean", found["Sub"][1]), ("variance", deviation**2))

    def emit(make: Maker) -> ir.Value:
        return make.op("BatchNormalization", x, *(make.weight(held.astype(dtype), name) for name, held in parts), epsilon=0.0)

    return Match("BatchNormalization", (x, *(v for v, _ in found.values())), value, emit)


RULES: Rules = {"Sub": (_frozen,)}
