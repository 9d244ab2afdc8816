"""Normalizations."""

from __future__ import annotations

import operator
from typing import Any

import onnx_ir as ir
import torch
from torch import nn
from torch.nn import functional as F

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.functions.normalization import (
    across_channels,
    batch_statistics,
    group_norm,
    instance_norm,
    layer_norm,
    layer_norm_statistics,
    mean_variance,
    rms_norm,
)
from niudao.formats.pytorch.modules.layers.normalization import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GivenBatchNorm1d,
    GivenBatchNorm2d,
    GivenBatchNorm3d,
)
from niudao.formats.pytorch.modules.table import converts
from niudao.ir.operators import is_weight

_BATCH = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_COUNTERLESS = {2: BatchNorm1d, 3: BatchNorm1d, 4: BatchNorm2d, 5: BatchNorm3d}
_GIVEN = {2: GivenBatchNorm1d, 3: GivenBatchNorm1d, 4: GivenBatchNorm2d, 5: GivenBatchNorm3d}
_OWN = ("weight", "bias", "running_mean", "running_var")
_INSTANCE = {3: nn.InstanceNorm1d, 4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}


_NO_EPSILON = 1e-30
"""For an epsilon of 0, which torch refuses in training; no variance of float32 notices it."""


@converts("BatchNormalization")
def batch_normalization(c: Call) -> Any:
    """nn.BatchNorm2d and its siblings, with their running statistics; ONNX's momentum is what is kept, torch's what is new."""
    epsilon, kept = c.attr("epsilon") or _NO_EPSILON, c.attr("momentum")
    if c.attr("training_mode"):
        results = c.call(batch_statistics, *(c.x(i) for i in range(5)), epsilon, kept)
        return tuple(c.call(operator.getitem, results, i) for i in range(3))
    rank, (channels, *_) = c.needs_rank(0), c.dims(1) or [None]
    momentum = round(1 - kept, 7)
    types = {c.dtype(i) for i in range(1, 5)}
    if len(types) > 1 or not types <= {c.dtype(0), torch.float32}:
        c.refuse("torch has no batch normalization whose inputs are of these types: " + ", ".join(str(c.dtype(i)) for i in range(5)))
    inputs = _kept_apart(c)
    if rank in _BATCH and channels is not None:
        kind = (_COUNTERLESS if c.building.names == "source" else _BATCH)[rank]
        own: Any = dict(zip(_OWN, inputs, strict=True))
        layer = c.weighted(lambda: kind(channels, eps=epsilon, momentum=momentum), own, c.x(0))
        if layer is not None:
            return layer
    if rank in _GIVEN and channels is not None and c.is_weight(3) and c.is_weight(4):
        given = [c.building.tensor(v, statistic=k > 1) for k, v in enumerate(inputs)]
        return c.module(_GIVEN[rank](channels, eps=epsilon, momentum=momentum), c.x(0), *given)
    return c.call(F.batch_norm, c.x(0), c.statistic(3), c.statistic(4), c.x(1), c.x(2), False, 0.0, epsilon)


def _kept_apart(c: Call) -> list[ir.Value]:
    """Scale, shift, mean and variance; as weights of this node alone where an exporter put equal ones together.

    Zeros that are shift and mean at once would be trained and overwritten by statistics. A layer that is called several times shares
    all four, each in its place, and keeps sharing them.
    """
    inputs = [v for v in c.node.inputs[1:5] if v is not None]
    if not all(is_weight(v) for v in inputs):
        return inputs
    for i in (3, 4):
        for node, k in inputs[i - 1].uses():
            if k != i or node.op_type != c.node.op_type or list(node.inputs[1:5]) != inputs:
                return [
                    c.building.weights.private(v, f"{c.layer}.{own}", c.node, j)
                    for j, (own, v) in enumerate(zip(_OWN, inputs, strict=True), 1)
                ]
    return inputs


@converts("InstanceNormalization")
def instance_normalization(c: Call) -> Any:
    """nn.InstanceNorm2d and its siblings, which refuse pictures of one element."""
    sizes, (channels, *_) = c.dims(0) or [], c.dims(1) or [None]
    epsilon = c.attr("epsilon")
    if len(sizes) in _INSTANCE and channels is not None and any(d is not None and d > 1 for d in sizes[2:]):
        kind = _INSTANCE[len(sizes)]
        layer = c.weighted(lambda: kind(channels, eps=epsilon, affine=True), {"weight": 1, "bias": 2}, c.x(0))
        if layer is not None:
            return layer
    return c.call(instance_norm, c.x(0), c.x(1), c.x(2), epsilon)


@converts("GroupNormalization")
def group_normalization(c: Call) -> Any:
    """nn.GroupNorm where scale and shift have one number a channel."""
    groups, epsilon = c.attr("num_groups"), c.attr("epsilon")
    sizes, scale = c.dims(0) or [None, None], c.dims(1)
    if scale is not None and scale[0] is not None and scale[0] == sizes[1] and any(d is not None and d > 1 for d in sizes[2:]):
        layer = c.weighted(lambda: nn.GroupNorm(groups, scale[0], eps=epsilon), {"weight": 1, "bias": 2}, c.x(0))
        if layer is not None:
            return layer
    return c.call(group_norm, c.x(0), c.x(1), c.x(2), groups, epsilon)


@converts("LayerNormalization")
def layer_normalization(c: Call) -> Any:
    """nn.LayerNorm where scale and shift have the shape of the axes that are normalized."""
    rank, epsilon = c.needs_rank(0), c.attr("epsilon")
    axis = c.attr("axis") % max(rank, 1)
    shape, scale, bias = (c.dims(0) or [])[axis:], c.dims(1), c.dims(2)
    if c.wants(1) or c.wants(2):
        results = c.call(layer_norm_statistics, c.x(0), c.x(1), c.x(2), axis, epsilon)
        return tuple(c.call(operator.getitem, results, i) for i in range(3))
    if None not in shape and scale == shape and bias in (None, shape):
        layer = c.weighted(lambda: nn.LayerNorm(shape, eps=epsilon, bias=bias is not None), {"weight": 1, "bias": 2}, c.x(0))
        if layer is not None:
            return layer
    return c.call(layer_norm, c.x(0), c.x(1), c.x(2), axis, epsilon)


@converts("RMSNormalization")
def rms_normalization(c: Call) -> Any:
    """nn.RMSNorm where the scale has the shape of the axes that are normalized."""
    rank, epsilon = c.needs_rank(0), c.attr("epsilon")
    axis = c.attr("axis", -1) % max(rank, 1)
    shape = (c.dims(0) or [])[axis:]
    if None not in shape and c.dims(1) == shape:
        layer = c.weighted(lambda: nn.RMSNorm(shape, eps=epsilon), {"weight": 1}, c.x(0))
        if layer is not None:
            return layer
    return c.call(rms_norm, c.x(0), c.x(1), axis, epsilon)


@converts("LRN")
def lrn(c: Call) -> Any:
    """nn.LocalResponseNorm, whose even windows reach the other way."""
    size, alpha, beta, k = (c.attr(n) for n in ("size", "alpha", "beta", "bias"))
    if size % 2 and c.needs_rank(0) >= 3 and c.dtype(0) != torch.float16:  # whose mean torch has only on a GPU
        return c.module(nn.LocalResponseNorm(size, alpha, beta, k), c.x(0))
    return c.call(across_channels, c.x(0), size, alpha, beta, k)


@converts("LpNormalization")
def lp_normalization(c: Call) -> Any:
    least = 6e-8 if c.dtype(0) == torch.float16 else 1e-30  # a number that the type has, and no norm but that of zeros lies below
    return c.call(F.normalize, c.x(0), p=float(c.attr("p")), dim=c.attr("axis"), eps=least)


@converts("MeanVarianceNormalization")
def mean_variance_normalization(c: Call) -> Any:
    return c.call(mean_variance, c.x(0), c.attr("axes") or [0, 2, 3])
