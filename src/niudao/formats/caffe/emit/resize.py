"""Resize: repeated elements as a Deconvolution of ones, everything else as a constant matrix along each axis."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.broadcast import MOST
from niudao.formats.caffe.emit.gather import taken
from niudao.formats.caffe.emit.graph import Array, Dim, Net, Refused, Top, constant, refuse
from niudao.formats.caffe.emit.order import permuted
from niudao.formats.caffe.emit.table import emits
from niudao.formats.caffe.emit.view import reshaped
from niudao.ir.operators import attribute
from niudao.ir.resampling import resampling

_COPIES = 1 << 20
"""A matrix that must be stored for every channel is taken up to this size; beyond it the axes change places first, if that can be."""


@emits("Resize", "Upsample")
def _resize(net: Net, node: ir.Node) -> None:
    x, after = net.get(node.inputs[0]), net.dims(node.outputs[0])
    before = x.shape
    if attribute(node, "keep_aspect_ratio_policy", "stretch") != "stretch":
        refuse("it keeps the ratio of the sides", "keep_aspect_ratio_policy", "state the sizes")
    if attribute(node, "coordinate_transformation_mode", "") == "tf_crop_and_resize":
        refuse("it crops while it resizes", "coordinate_transformation_mode", "crop first")
    given = node.inputs[2] if len(node.inputs) > 2 else None
    scales = net.constant(given) if given is not None else None
    if given is not None and scales is None and not net.is_constant(given):
        refuse("its scales are computed", "scales")
    picked = attribute(node, "axes")
    axes = [int(a) % x.rank for a in picked] if picked else list(range(x.rank))
    factors = {a: float(scales.reshape(-1)[i]) for i, a in enumerate(axes)} if scales is not None and scales.size else {}
    changed = [i for i in range(x.rank) if before[i] != after[i] or factors.get(i, 1.0) != 1.0]
    if any(before[i] is None or after[i] is None for i in changed):
        refuse("it resizes the free batch", rewrite="fix the batch (--batch)")
    if max([prod(d or 1 for d in after), 1]) > MOST:
        refuse("its output is larger than 64 MB")
    if not changed:
        net.put(node.outputs[0], x)
        return
    if net.knows("Interp") and changed and set(changed) <= {2, 3} and x.rank == 4 and _corners(node) and not factors:
        net.put(node.outputs[0], net.layer("Interp", x, {"interp_param": {"height": after[2], "width": after[3]}}, shape=after))
        return
    if any((before[i] or 1) * (after[i] or 1) > MOST // 4 for i in changed):
        refuse("its axis is too long")
    try:
        matrices = {i: resampling(node, before[i] or 1, after[i] or 1, factors.get(i)) for i in changed}
    except ValueError as e:
        refuse(str(e), "mode")
    picks = {i: m.argmax(axis=1) for i, m in matrices.items() if ((m == 0) | (m == 1)).all() and (m.sum(axis=1) == 1).all()}
    repeats = {i: _repeat(picks[i], before[i] or 1) for i in picks}
    if len(picks) == len(changed) and all(repeats.values()) and set(changed) <= {2, 3} and x.rank == 4:
        net.put(node.outputs[0], upsampled(net, x, repeats.get(2, 1), repeats.get(3, 1)))
        return
    net.note("resampling as a constant matrix along each axis" if len(picks) < len(changed) else "nearest sampling by picking elements")
    for k, axis in enumerate(sorted(changed, key=lambda i: (after[i] or 1) / (before[i] or 1))):
        suffix = "" if k == len(changed) - 1 else f"_axis{axis}"
        x = _along(net, x, axis, matrices[axis], picks.get(axis), suffix)
    net.put(node.outputs[0], x)


def _corners(node: ir.Node) -> bool:
    return (
        attribute(node, "mode", "nearest") == "linear"
        and attribute(node, "coordinate_transformation_mode", "half_pixel") == "align_corners"
        and not attribute(node, "antialias", 0)
    )


def _repeat(picks: Array, size: int) -> int:
    """How often each element stands in turn, or 0."""
    times = len(picks) // size
    return times if times * size == len(picks) and np.array_equal(picks, np.repeat(np.arange(size), times)) else 0


def upsampled(net: Net, x: Top, high: int, wide: int) -> Top:
    """Every element of a picture repeated: a Deconvolution with ones, channel by channel."""
    n, c, h, w = x.shape
    channels = c or 1
    shape = (n, channels, (h or 1) * high, (w or 1) * wide)
    if net.knows("Upsample") and high == wide:
        return replace(
            net.layer("Upsample", x, {"upsample_param": {"scale": high} if high != 2 else {}}, shape=shape), nonnegative=x.nonnegative
        )
    net.note("repeated elements as a Deconvolution with ones")
    params: dict[str, object] = {"num_output": channels, "bias_term": False}
    params |= (
        {"kernel_size": [high], "stride": [high]}
        if high == wide
        else {"kernel_h": high, "kernel_w": wide, "stride_h": high, "stride_w": wide}
    )
    if channels > 1:
        params["group"] = channels
    ones = constant(1.0, (channels, 1, high, wide))
    return net.layer("Deconvolution", x, {"convolution_param": params}, shape=shape, weights=[ones], nonnegative=x.nonnegative)


def _along(net: Net, x: Top, axis: int, matrix: Array, picks: Array | None, suffix: str) -> Top:
    if picks is not None and (np.diff(picks) != 1).sum() < 100:
        return taken(net, x, axis, picks.tolist(), suffix)
    return by_matrix(net, x, axis, matrix, suffix)


def by_matrix(net: Net, x: Top, axis: int, matrix: Array, suffix: str = "") -> Top:
    """matrix @ x along an axis: InnerProduct on the last axis, a 1 x 1 Convolution with as many groups as there are elements before it."""
    new, size = matrix.shape
    shape: tuple[Dim, ...] = tuple(new if i == axis else d for i, d in enumerate(x.shape))
    if axis == x.rank - 1 and x.rank > 1:
        params: dict[str, object] = {"num_output": new, "bias_term": False}
        params |= {"axis": axis} if axis != 1 else {}
        return net.layer("InnerProduct", x, {"inner_product_param": params}, shape=shape, weights=[constant(matrix)], suffix=suffix)
    before, after = prod(d or 1 for d in x.shape[1:axis]), prod(d or 1 for d in x.shape[axis + 1 :])
    if axis == 0:
        refuse("it mixes the batch")
    copies = before * new * size
    if copies > _COPIES:
        order = [i for i in range(x.rank) if i != axis] + [axis]
        start, notes = len(net.layers), len(net.rewrites)
        try:
            y = by_matrix(net, permuted(net, x, order), x.rank - 1, matrix, suffix)
            return permuted(net, y, [order.index(i) for i in range(x.rank)])
        except Refused:
            del net.layers[start:], net.rewrites[notes:]
        if copies > MOST:
            refuse("its matrix would have to be stored for every channel, more than 64 MB", rewrite="name the fork: Permute")
    params = {"num_output": before * new, "bias_term": False, "kernel_size": [1]}
    if before > 1:
        params["group"] = before
    weight = constant(np.tile(matrix, (before, 1)).reshape(before * new, size, 1, 1))
    rows = reshaped(net, x, (x.shape[0], before * size, after, 1), "_rows")
    y = net.layer(
        "Convolution", rows, {"convolution_param": params}, shape=(x.shape[0], before * new, after, 1), weights=[weight], suffix=suffix
    )
    return reshaped(net, y, shape)
