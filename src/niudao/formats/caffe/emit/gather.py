"""Chosen elements: runs of them as pieces, regular steps as a pooling of single elements, a table's rows as Embed."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.graph import Net, Top, refuse
from niudao.formats.caffe.emit.table import emits
from niudao.formats.caffe.emit.view import Picture, picture, reshaped
from niudao.ir.operators import attribute

MOST_PIECES = 300


def taken(net: Net, x: Top, axis: int, indices: Sequence[int], suffix: str = "") -> Top:
    """x[..., indices, ...] along an axis, in any order, repeats allowed."""
    indices = [int(i) for i in indices]
    size = x.shape[axis]
    if size is None:
        refuse("it takes elements of the free batch", rewrite="fix the batch (--batch)")
    if not indices or min(indices) < 0 or max(indices) >= size:
        refuse(f"it takes elements {indices[:5]} of an axis of {size}")
    runs = _runs(indices)
    if len(runs) == 1:
        return net.piece(x, axis, *runs[0], suffix)
    step = indices[1] - indices[0]
    if step > 1 and indices == list(range(indices[0], indices[-1] + 1, step)):
        cut = net.piece(x, axis, indices[0], indices[-1] + 1, "_slice")
        p = picture(net, cut, axis, axis)
        y = _stepped(net, p, step, len(indices), suffix)
        return reshaped(net, y, (*x.shape[:axis], len(indices), *x.shape[axis + 1 :]))
    if net.knows("Reverse") and indices == list(range(size))[::-1]:
        return net.layer("Reverse", x, {"reverse_param": {"axis": axis} if axis else {}}, shape=x.shape, suffix=suffix)
    if len(runs) > MOST_PIECES:
        refuse(f"it picks its elements in {len(runs)} pieces")
    points = sorted({p for run in runs for p in run} - {0, size})
    parts = net.slices(x, axis, points, "_slice")
    edges = [0, *points, size]
    chosen: list[Top] = []
    for start, end in runs:
        k = edges.index(start)
        while edges[k] < end:
            chosen.append(parts[k])
            k += 1
    if len(chosen) > 2 * MOST_PIECES:
        refuse(f"it picks its elements in {len(chosen)} pieces")
    used = {t.index for t in chosen}
    net.silence([p for p in parts if p.index not in used] if len(parts) > 1 else [])
    return net.concat(chosen, axis, suffix)


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """(start, end) of every run of rising neighbours."""
    runs: list[tuple[int, int]] = []
    for i in indices:
        if runs and runs[-1][1] == i:
            runs[-1] = (runs[-1][0], i + 1)
        else:
            runs.append((i, i + 1))
    return runs


def _stepped(net: Net, p: Picture, step: int, count: int, suffix: str) -> Top:
    """Every `step`-th row (or column) of a picture whose last one is taken: a pooling of single elements."""
    shape = tuple(count if i == p.first else d for i, d in enumerate(p.top.shape))
    stride = {"stride_h": step, "stride_w": 1} if p.first == 2 else {"stride_h": 1, "stride_w": step}
    net.note("every so many elements by a pooling over one element")
    return net.layer("Pooling", p.top, {"pooling_param": {"pool": "MAX", "kernel_size": 1, **stride}}, shape=shape, suffix=suffix)


@emits("Gather")
def _gather(net: Net, node: ir.Node) -> None:
    data, where, axis = node.inputs[0], node.inputs[1], int(attribute(node, "axis", 0))
    if net.is_constant(data) and not net.is_constant(where):
        net.put(node.outputs[0], _embed(net, node, axis))
        return
    x = net.get(data)
    axis = axis + x.rank if axis < 0 else axis
    if not net.is_constant(where):
        if axis == 0 and x.rank > 0 and len(net.dims(where)) == 1:
            index = net.get(where)
            net.note("indices below zero, which count from the end in ONNX, are errors in Caffe")
            net.put(node.outputs[0], net.layer("BatchReindex", [x, index], shape=(index.shape[0], *x.shape[1:])))
            return
        refuse("its indices are computed", "indices")
    array = net.constant(where)
    size = x.shape[axis]
    if array is None or size is None:
        refuse("it picks from the free batch", rewrite="fix the batch (--batch)")
    indices = [int(i) + size if i < 0 else int(i) for i in np.asarray(array).reshape(-1)]
    y = taken(net, x, axis, indices, "" if array.ndim == 1 else "_slice")
    target = (*x.shape[:axis], *array.shape, *x.shape[axis + 1 :])
    if not target:
        refuse("it gives a single number without axes, and a blob has one at least")
    net.put(node.outputs[0], reshaped(net, y, target))


def _embed(net: Net, node: ir.Node, axis: int) -> Top:
    """Rows of a table."""
    data = node.inputs[0]
    if data is None or axis != 0 or not (shape := net.shape_of(data)):
        refuse("it picks from a constant along another axis than the first", "axis")
    index = net.get(node.inputs[1])
    width = prod(shape[1:])
    params = {"num_output": width, "input_dim": shape[0], "bias_term": False}
    net.note("indices below zero, which count from the end in ONNX, are errors in Caffe")
    y = net.layer("Embed", index, {"embed_param": params}, shape=(*index.shape, width), weights=[net.weight(data, (shape[0], width))])
    return reshaped(net, y, (*index.shape, *shape[1:]))
