"""Normalizations by the data at hand: means and variances by Reduction and Pooling, then two-bottom Bias and Scale.

MVN adds its epsilon outside the root, ONNX's operators inside, so that it serves for MeanVarianceNormalization alone. Source: BVLC Caffe,
mvn_layer.cpp, lrn_layer.cpp; ONNX, Operators.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.broadcast import product, scaled, shifted, total
from niudao.formats.caffe.emit.graph import Net, Top, refuse
from niudao.formats.caffe.emit.pool import average
from niudao.formats.caffe.emit.reduce import reduced
from niudao.formats.caffe.emit.table import emits
from niudao.formats.caffe.emit.view import reshaped
from niudao.formats.caffe.emit.window import Window
from niudao.ir.operators import attribute

_TINY = float(np.finfo(np.float32).tiny)


def _tail(net: Net, x: Top, axes: Sequence[int], operation: str, factor: float, suffix: str) -> Top | None:
    """A Reduction times a number, its axes gone; None where the axes are not the last ones."""
    first = axes[0]
    if first < 1 or list(axes) != list(range(first, x.rank)):
        return None
    params = {"operation": operation, "axis": first, **({"coeff": factor} if factor != 1 else {})}
    return net.layer("Reduction", x, {"reduction_param": params}, shape=x.shape[:first], suffix=suffix, nonnegative=operation != "MEAN")


def centred(net: Net, x: Top, axes: Sequence[int]) -> Top:
    """x minus its mean over the axes."""
    minus = _tail(net, x, axes, "MEAN", -1.0, "_minus_mean")
    if minus is not None:
        return net.broadcast("Bias", x, minus, 0, "_centred")
    return total(net, [x, reduced(net, x, axes, "MEAN", suffix="_mean")], [1, -1], "_centred")


def divided(net: Net, x: Top, axes: Sequence[int], epsilon: float, suffix: str = "") -> Top:
    """x / sqrt(mean(x^2) + epsilon)"""
    count = prod(x.shape[a] or 1 for a in axes)
    mean = _tail(net, x, axes, "SUMSQ", 1 / count, "_variance")
    if mean is not None:
        return net.broadcast("Scale", x, _inverse(net, mean, epsilon, -0.5), 0, suffix)
    square = net.power(x, power=2.0, suffix="_square", nonnegative=True)
    return product(net, x, _inverse(net, reduced(net, square, axes, "MEAN", suffix="_variance"), epsilon, -0.5), suffix)


def _inverse(net: Net, x: Top, shift: float, power: float) -> Top:
    return net.power(x, shift=shift, power=power, suffix="_inverse", nonnegative=True)


def finished(net: Net, x: Top, scale: ir.Value | None, bias: ir.Value | None, axis: int, rank: int) -> Top:
    """x * scale + bias, both broadcast over the axes from `axis` on that their `rank` axes cover."""
    for value in (scale, bias):
        if value is not None and not net.is_constant(value):
            refuse("its scale or bias is computed")
    run = tuple(d or 0 for d in x.shape[axis : axis + rank])
    fitting = [v for v in (scale, bias) if v is not None and net.shape_of(v) == run]
    if scale is not None and len(fitting) == (1 if bias is None else 2):
        return net.scale(x, net.weight(scale, run), None if bias is None else net.weight(bias, run), axis, "")
    for value, change in ((scale, scaled), (bias, shifted)):
        if value is not None:
            array = np.asarray(net.constant(value), np.float32)
            x = change(net, x, array.reshape(array.shape + (1,) * (x.rank - axis - rank)), f"_{change.__name__}")
    return x


@emits("InstanceNormalization")
def _instance(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    if x.rank < 3:
        refuse("it has no spatial axes")
    axes = list(range(2, x.rank))
    net.note("mean and variance of each channel by Reduction")
    y = divided(net, centred(net, x, axes), axes, float(attribute(node, "epsilon", 1e-5)), "_unit")
    net.put(node.outputs[0], finished(net, y, node.inputs[1], node.inputs[2], 1, 1))


@emits("GroupNormalization")
def _group(net: Net, node: ir.Node) -> None:
    x, groups = net.get(node.inputs[0]), int(attribute(node, "num_groups"))
    whole = prod(d or 1 for d in x.shape[1:])
    net.note("mean and variance of each group of channels by Reduction")
    y = centred(net, reshaped(net, x, (x.shape[0], groups, whole // groups)), [2])
    y = divided(net, y, [2], float(attribute(node, "epsilon", 1e-5)), "_unit")
    net.put(node.outputs[0], finished(net, reshaped(net, y, x.shape), node.inputs[1], node.inputs[2], 1, 1))


@emits("LayerNormalization", "RMSNormalization")
def _layer(net: Net, node: ir.Node) -> None:
    if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        refuse("its mean or deviation is used")
    x = net.get(node.inputs[0])
    axis = int(attribute(node, "axis", -1)) % x.rank
    axes = list(range(axis, x.rank))
    net.note("mean and variance by Reduction")
    y = x if node.op_type == "RMSNormalization" else centred(net, x, axes)
    y = divided(net, y, axes, float(attribute(node, "epsilon", 1e-5)), "_unit")
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    net.put(node.outputs[0], finished(net, y, node.inputs[1], bias, axis, x.rank - axis))


@emits("MeanVarianceNormalization")
def _mean_variance(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    axes = sorted(int(a) % x.rank for a in (attribute(node, "axes") or [0, 2, 3]))
    if x.rank == 4 and axes in ([2, 3], [1, 2, 3]):
        params = {"across_channels": True} if 1 in axes else {}
        net.put(node.outputs[0], net.layer("MVN", x, {"mvn_param": params}, shape=x.shape))
        return
    y = centred(net, x, axes)
    square = net.power(y, power=2.0, suffix="_square", nonnegative=True)
    deviation = net.power(reduced(net, square, axes, "MEAN", suffix="_variance"), power=0.5, suffix="_deviation", nonnegative=True)
    net.put(node.outputs[0], product(net, y, net.power(deviation, shift=1e-9, power=-1.0, suffix="_inverse", nonnegative=True)))


@emits("LpNormalization")
def _lp(net: Net, node: ir.Node) -> None:
    x, p = net.get(node.inputs[0]), int(attribute(node, "p", 2))
    axis = int(attribute(node, "axis", -1)) % x.rank
    if p not in (1, 2):
        refuse(f"its p is {p}", "p")
    operation = "ASUM" if p == 1 else "SUMSQ"
    net.note("the smallest float is added to the norm, so that zeros stay zeros")
    norm = _tail(net, x, [axis], operation, 1.0, "_norm")
    if norm is not None:
        net.put(node.outputs[0], net.broadcast("Scale", x, _inverse(net, norm, _TINY, -1.0 / p), 0))
    else:
        norm = reduced(net, x, [axis], operation, suffix="_norm")
        net.put(node.outputs[0], product(net, x, _inverse(net, norm, _TINY, -1.0 / p)))


@emits("LRN")
def _lrn(net: Net, node: ir.Node) -> None:
    x, size = net.get(node.inputs[0]), int(attribute(node, "size"))
    alpha, beta, k = (float(attribute(node, key, default)) for key, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    if x.rank < 2:
        refuse("it has no channels")
    rest = x.shape[2:] if x.rank == 4 else (prod(d or 1 for d in x.shape[2:]), 1)
    flat = reshaped(net, x, (*x.shape[:2], *rest))
    if size % 2:
        said = {key: v for key, v, d in (("local_size", size, 5), ("alpha", alpha, 1.0), ("beta", beta, 0.75), ("k", k, 1.0)) if v != d}
        y = net.layer("LRN", flat, {"lrn_param": said}, shape=flat.shape)
    else:
        net.note("a window of an even number of channels as a pooling over them")
        channels, plane = x.shape[1] or 0, prod(d or 1 for d in x.shape[2:])
        before, after = (size - 1) // 2, size // 2
        squares = reshaped(net, net.power(x, power=2.0, suffix="_square", nonnegative=True), (x.shape[0], 1, channels, plane))
        w = (Window(channels, size, 1, 1, before, after, channels), Window(plane, 1, 1, 1, 0, 0, plane))
        mean = reshaped(net, average(net, squares, w, [np.full(channels, size), np.ones(plane)], "_mean"), flat.shape)
        y = product(net, flat, net.power(mean, scale=alpha, shift=k, power=-beta, suffix="_factor"))
    net.put(node.outputs[0], reshaped(net, y, x.shape))
