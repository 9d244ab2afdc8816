"""The inverse of folding: arithmetic by one number per channel becomes BatchNormalization, for targets that know no other way."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from niudao.ir.operators import dims
from niudao.ir.passes import PASSES, Result
from niudao.ir.passes.edit import Edit, graphs, sole_user
from niudao.ir.passes.fold_batchnorm import Affine, affine_of
from niudao.ir.passes.remove_dead import remove_dead

_OPS = ("Add", "Sub", "Mul", "Div")


@PASSES.register("raise_batchnorm")
def raise_batchnorm(model: ir.Model) -> Result:
    """Turn Mul, Add, Sub and Div by a constant per channel, and chains of them, into one BatchNormalization.

    The statistics are mean 0 and variance 1 and epsilon is 0, so that nothing is rounded.

    Requires: shapes with a known number of channels.
    Ensures: single numbers (scale by 2, add 1) stay what they are.
    """
    count = 0
    for graph in graphs(model):
        edit = Edit(graph, model)
        for node in list(graph):
            if node.graph is graph and node.op_type in _OPS and node.domain == "" and _raise(edit, node):
                count += 1
    if count:
        remove_dead(model)
    return Result(count > 0, (f"raised {count} BatchNormalization",) if count else ())


def _step(node: ir.Node, x: ir.Value, channels: int) -> Affine | None:
    other = node.inputs[1] if node.inputs[0] is x else node.inputs[0]
    if other is None or other.const_value is None or other.const_value.size != channels or channels == 1:
        return None
    return affine_of(node, x, channels)


def _raise(edit: Edit, node: ir.Node) -> bool:
    x = next((v for v in node.inputs if v is not None and v.const_value is None), None)
    shape = dims(x)
    channels = shape[1] if shape is not None and len(shape) > 1 else None
    if x is None or channels is None or x.dtype != ir.DataType.FLOAT or dims(node.outputs[0]) != shape:
        return False
    last, value = node, x
    step = _step(last, value, channels)
    if step is None:
        return False
    scale, shift = np.ones(channels), np.zeros(channels)
    while step is not None:
        if step.scale is not None:
            scale, shift = scale * step.scale, shift * step.scale
        if step.shift is not None:
            shift = shift + step.shift
        value = last.outputs[0]
        follower = sole_user(value)
        if follower is None or follower.graph is not edit.graph or follower.op_type not in _OPS or follower.domain != "":
            break
        step = _step(follower, value, channels)
        last = follower if step is not None else last
    base = node.name or "scale"
    weights = [
        edit.weight(ir.tensor(np.asarray(a, dtype=np.float32)), f"{base}/{part}")
        for part, a in (("gamma", scale), ("beta", shift), ("mean", np.zeros(channels)), ("variance", np.ones(channels)))
    ]
    new = edit.node("BatchNormalization", [x, *weights], before=last, like=node, epsilon=0.0)
    if not edit.replace(last.outputs[0], new):
        return False
    edit.drop(last)
    return True
