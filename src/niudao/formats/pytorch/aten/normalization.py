"""Normalisations. The statistics of a BatchNorm that tracks none are those of the batch, in evaluation too.

Source: aten/src/ATen/native/Normalization.cpp, group_norm.cpp, layer_norm.cpp.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.pytorch.aten.lowering import Lowering
from niudao.formats.pytorch.aten.sizes import Number
from niudao.formats.pytorch.aten.table import aten, split


def _filled(c: Lowering, weight: ir.Value | None, sizes: list[Number], value: float, name: str, like: ir.Value) -> ir.Value:
    """A weight, or the constant that stands for an absent one."""
    if weight is not None:
        return weight
    shape = [c.whole(n, "number of channels") for n in sizes]
    return c.b.weight(np.full(shape, value, c.dtype(like).numpy()), f"{c.b.layer}.{name}")


def _batch_norm(
    c: Lowering,
    x: ir.Value,
    weight: ir.Value | None,
    bias: ir.Value | None,
    mean: ir.Value | None,
    var: ir.Value | None,
    training: bool,
    eps: Any,
) -> ir.Value:
    if training or mean is None or var is None:
        if mean is not None:
            c.scope.notes.append(f"{c.b.layer} was saved while it trained: it uses the statistics of the batch")
        return _batch_statistics(c, x, weight, bias, c.number(eps, "eps"))
    channels = [c.size(mean, 0)]
    scale = _filled(c, weight, channels, 1, "weight", mean)
    shift = _filled(c, bias, channels, 0, "bias", mean)
    return c.op("BatchNormalization", x, scale, shift, mean, var, epsilon=float(c.number(eps, "eps")))


def _batch_statistics(c: Lowering, x: ir.Value, weight: ir.Value | None, bias: ir.Value | None, eps: float) -> ir.Value:
    rank = c.rank(x)
    axes = c.const([0, *range(2, rank)])
    centred = c.op("Sub", x, c.op("ReduceMean", x, axes, keepdims=1))
    var = c.op("ReduceMean", c.op("Mul", centred, centred), axes, keepdims=1)
    y = c.op("Div", centred, c.op("Sqrt", c.op("Add", var, c.const(eps, x))))
    for op, held in (("Mul", weight), ("Add", bias)):
        if held is not None:
            y = c.op(op, y, c.rearranged(held, [c.size(held, 0), *[1] * (rank - 2)]))
    return y


@aten("aten.batch_norm", "aten.native_batch_norm", "aten._native_batch_norm_legit", "aten.cudnn_batch_norm", "aten.miopen_batch_norm")
def batch_norm(
    c: Lowering,
    input: ir.Value,
    weight: ir.Value | None,
    bias: ir.Value | None,
    running_mean: ir.Value | None,
    running_var: ir.Value | None,
    training: bool,
    momentum: Any,
    eps: Any,
    cudnn_enabled: bool = False,
) -> Any:
    y = _batch_norm(c, input, weight, bias, running_mean, running_var, training, eps)
    return y if split(c.call.target)[0] == "aten.batch_norm" else _statistics(c, y)


@aten("aten._native_batch_norm_legit_no_training", "aten._batch_norm_no_update")
def batch_norm_no_training(
    c: Lowering,
    input: ir.Value,
    weight: ir.Value | None,
    bias: ir.Value | None,
    running_mean: ir.Value,
    running_var: ir.Value,
    momentum: Any,
    eps: Any,
) -> Any:
    return (*_statistics(c, _batch_norm(c, input, weight, bias, running_mean, running_var, False, eps)), None)


@aten("aten._native_batch_norm_legit.no_stats")
def batch_norm_no_stats(
    c: Lowering, input: ir.Value, weight: ir.Value | None, bias: ir.Value | None, training: bool, momentum: Any, eps: Any
) -> Any:
    return _statistics(c, _batch_norm(c, input, weight, bias, None, None, True, eps))


def _statistics(c: Lowering, y: ir.Value) -> tuple[ir.Value, None, None]:
    """A result whose second and third parts only the way back needs."""
    if c.wants(1) or c.wants(2):
        c.refuse("its statistics are used, which only training computes")
    return y, None, None


@aten("aten.instance_norm")
def instance_norm(
    c: Lowering,
    input: ir.Value,
    weight: ir.Value | None,
    bias: ir.Value | None,
    running_mean: ir.Value | None,
    running_var: ir.Value | None,
    use_input_stats: bool,
    momentum: Any,
    eps: Any,
    cudnn_enabled: bool = False,
) -> ir.Value:
    if not use_input_stats:
        return _batch_norm(c, input, weight, bias, running_mean, running_var, False, eps)
    channels = [c.size(input, 1)]
    scale, shift = _filled(c, weight, channels, 1, "weight", input), _filled(c, bias, channels, 0, "bias", input)
    return c.op("InstanceNormalization", input, scale, shift, epsilon=float(c.number(eps, "eps")))


@aten("aten.group_norm")
def group_norm(
    c: Lowering,
    input: ir.Value,
    num_groups: Any,
    weight: ir.Value | None = None,
    bias: ir.Value | None = None,
    eps: Any = 1e-5,
    cudnn_enabled: bool = True,
) -> ir.Value:
    channels = [c.size(input, 1)]
    scale, shift = _filled(c, weight, channels, 1, "weight", input), _filled(c, bias, channels, 0, "bias", input)
    groups = c.whole(num_groups, "num_groups")
    x = input if c.rank(input) > 2 else c.op("Unsqueeze", input, c.const([2]))
    y = c.op("GroupNormalization", x, scale, shift, num_groups=groups, epsilon=float(c.number(eps, "eps")))
    return y if x is input else c.op("Squeeze", y, c.const([2]))


@aten("aten.native_group_norm")
def native_group_norm(
    c: Lowering, input: ir.Value, weight: ir.Value | None, bias: ir.Value | None, N: Any, C: Any, HxW: Any, group: Any, eps: Any
) -> Any:
    return _statistics(c, group_norm(c, input, group, weight, bias, eps))


@aten("aten.layer_norm")
def layer_norm(
    c: Lowering,
    input: ir.Value,
    normalized_shape: Any,
    weight: ir.Value | None = None,
    bias: ir.Value | None = None,
    eps: Any = 1e-5,
    cudnn_enable: bool = True,
) -> ir.Value:
    shape: list[Number] = [c.whole(s, "normalized_shape") for s in normalized_shape]
    scale = _filled(c, weight, shape, 1, "weight", input)
    return c.op("LayerNormalization", input, scale, bias, axis=-len(shape), epsilon=float(c.number(eps, "eps")))


@aten("aten.native_layer_norm")
def native_layer_norm(c: Lowering, input: ir.Value, normalized_shape: Any, weight: ir.Value | None, bias: ir.Value | None, eps: Any) -> Any:
    return _statistics(c, layer_norm(c, input, normalized_shape, weight, bias, eps))


@aten("aten.rms_norm", "aten._fused_rms_norm")
def rms_norm(c: Lowering, input: ir.Value, normalized_shape: Any, weight: ir.Value | None = None, eps: Any = None) -> Any:
    shape = [c.whole(s, "normalized_shape") for s in normalized_shape]
    if eps is None:
        eps = float(np.finfo(c.dtype(input).numpy()).eps)
    axes = c.const(list(range(-len(shape), 0)))
    mean = c.op("ReduceMean", c.op("Mul", input, input), axes, keepdims=1)
    y = c.op("Div", input, c.op("Sqrt", c.op("Add", mean, c.const(c.number(eps, "eps"), input))))
    if weight is not None:
        y = c.op("Mul", y, weight)
    return _statistics(c, y)[:2] if "_fused" in c.call.target else y


@aten("aten.cosine_similarity")
def cosine_similarity(c: Lowering, x1: ir.Value, x2: ir.Value, dim: Any = 1, eps: Any = 1e-8) -> ir.Value:
    a, b = c.promoted(x1, x2)
    axes = c.const([c.axis(max(c.rank(a), c.rank(b)), dim) - max(c.rank(a), c.rank(b))])
    least = c.const(c.number(eps, "eps"), a)
    a, b = (c.op("Div", v, c.op("Max", c.op("ReduceL2", v, axes, keepdims=1), least)) for v in (a, b))
    return c.op("ReduceSum", c.op("Mul", a, b), axes, keepdims=0)


@aten("aten.pairwise_distance")
def pairwise_distance(c: Lowering, x1: ir.Value, x2: ir.Value, p: Any = 2.0, eps: Any = 1e-6, keepdim: bool = False) -> ir.Value:
    order = c.number(p, "p")
    if order not in (1, 2):
        c.refuse(f"a distance of order {order}", "p")
    a, b = c.promoted(x1, x2)
    gap = c.op("Add", c.op("Sub", a, b), c.const(c.number(eps, "eps"), a))
    return c.op("ReduceL2" if order == 2 else "ReduceL1", gap, c.const([-1]), keepdims=int(keepdim))
