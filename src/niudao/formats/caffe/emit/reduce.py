"""Reductions: Caffe's Reduction where the axes are the last ones, pooling over everything for any other run of axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.emit.activation import above
from niudao.formats.caffe.emit.broadcast import total
from niudao.formats.caffe.emit.gather import taken
from niudao.formats.caffe.emit.graph import Net, Top, constant, refuse
from niudao.formats.caffe.emit.table import emits
from niudao.formats.caffe.emit.view import linear, picture, pooled, reshaped
from niudao.ir.operators import attribute

_OPERATIONS = {
    "ReduceSum": "SUM",
    "ReduceMean": "MEAN",
    "ReduceL1": "ASUM",
    "ReduceSumSquare": "SUMSQ",
    "ReduceL2": "SUMSQ",
    "ReduceLogSum": "SUM",
}


def axes_of(net: Net, node: ir.Node, rank: int) -> list[int]:
    """Axes that a node reduces, rising."""
    given = node.inputs[1] if len(node.inputs) > 1 else None
    if given is not None and not net.is_constant(given):
        refuse("its axes are computed", "axes")
    array = net.constant(given)
    if array is None or array.size == 0:
        return [] if attribute(node, "noop_with_empty_axes", 0) else list(range(rank))
    return sorted({int(a) % rank for a in array.reshape(-1)})


def _runs(axes: Sequence[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for a in axes:
        if runs and runs[-1][1] == a - 1:
            runs[-1] = (runs[-1][0], a)
        else:
            runs.append((a, a))
    return runs


def reduced(net: Net, x: Top, axes: Sequence[int], operation: str, keep: bool = True, suffix: str = "") -> Top:
    """Every axis of `axes` reduced to size 1.

    Args:
        net: The network.
        x: The blob.
        axes: Axes, rising.
        operation: SUM, MEAN, ASUM, SUMSQ or MAX.
        keep: Whether the axes of size 1 are wanted: a mean over a picture is then a pooling.
        suffix: Of the layers.
    """
    if any(x.shape[a] is None for a in axes):
        refuse("it reduces the free batch", "axes", "fix the batch (--batch)")
    for first, last in reversed(_runs(axes)):
        shape = tuple(1 if first <= i <= last else d for i, d in enumerate(x.shape))
        behind = prod(d or 1 for d in x.shape[last + 1 :]) == 1
        spatial = x.rank == 4 and (first, last) == (2, 3)
        count = prod(d or 1 for d in x.shape[first : last + 1])
        if operation == "MAX":
            y = x if count == 1 else reshaped(net, pooled(net, picture(net, x, first, last), "MAX", suffix), shape)
        elif behind and not (operation == "MEAN" and spatial and keep):
            start = first
            if first == 0:
                x, start = reshaped(net, x, (1, *x.shape), "_reshape"), 1
            params = {k: v for k, v, d in (("operation", operation, "SUM"), ("axis", start, 0)) if v != d}
            sums = net.layer("Reduction", x, {"reduction_param": params}, shape=x.shape[:start], suffix=suffix)
            y = reshaped(net, replace(sums, nonnegative=x.nonnegative or operation in ("ASUM", "SUMSQ")), shape)
        else:
            if operation == "ASUM" and not x.nonnegative:
                x = net.unary("AbsVal", x, suffix="_abs", nonnegative=True)
            elif operation == "SUMSQ":
                x = net.power(x, power=2.0, suffix="_square", nonnegative=True)
            y = x if count == 1 else pooled(net, picture(net, x, first, last), "AVE", suffix if operation == "MEAN" else "_mean")
            if operation != "MEAN" and count > 1:
                y = net.power(y, scale=float(count), suffix=suffix, nonnegative=y.nonnegative)
            y = reshaped(net, y, shape)
        x, operation = y, "SUM" if operation in ("ASUM", "SUMSQ") else operation
    return x


@emits(*_OPERATIONS, "ReduceMax", "ReduceMin")
def _reduce(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    op, target = node.op_type, net.dims(node.outputs[0])
    axes = axes_of(net, node, x.rank)
    whole = node.inputs[0] is not None and node.inputs[0].dtype is not None and node.inputs[0].dtype.is_integer()
    if op == "ReduceMean" and whole:
        refuse("it averages whole numbers, and no Caffe layer rounds")
    if not target:
        refuse("it gives a single number without axes, and a blob has one at least", "keepdims", "keep the axes")
    keep = bool(attribute(node, "keepdims", 1))
    if op == "ReduceMin":
        net.note("a minimum as the negated maximum of the negated blob")
        y = net.power(reduced(net, linear(net, x, -1, 0, "_minus"), axes, "MAX", keep, "_max"), scale=-1.0)
    elif op == "ReduceMax":
        y = reduced(net, x, axes, "MAX", keep)
    elif not axes and op in ("ReduceL1", "ReduceSumSquare", "ReduceL2"):
        y = net.unary("AbsVal", x) if op != "ReduceSumSquare" else net.power(x, power=2.0)
    else:
        rest = {"ReduceL2": ("_squares", 0.5), "ReduceLogSum": ("_sum", 0.0)}.get(op)
        y = reduced(net, x, axes, _OPERATIONS[op], keep, rest[0] if rest else "")
        if op == "ReduceL2":
            y = net.power(y, power=0.5, nonnegative=True)
        elif op == "ReduceLogSum":
            y = net.unary("Log", y)
    net.put(node.outputs[0], reshaped(net, y, target))


@emits("ReduceLogSumExp")
def _log_sum_exp(net: Net, node: ir.Node) -> None:
    x = net.get(node.inputs[0])
    axes, target = axes_of(net, node, x.rank), net.dims(node.outputs[0])
    if not axes or not target:
        refuse("it reduces nothing, or everything to a number without axes", "axes")
    net.note("log(sum(exp(x))) with the largest x taken out before and added after")
    largest = reduced(net, x, axes, "MAX", suffix="_max")
    sums = reduced(net, net.unary("Exp", total(net, [x, largest], [1, -1], "_below"), suffix="_exp"), axes, "SUM", suffix="_sum")
    net.put(node.outputs[0], reshaped(net, total(net, [net.unary("Log", sums, suffix="_log"), largest]), target))


@emits("ReduceProd")
def _product(net: Net, node: ir.Node) -> None:
    x, target = net.get(node.inputs[0]), net.dims(node.outputs[0])
    axes = axes_of(net, node, x.rank)
    if any(x.shape[a] is None for a in axes) or not target:
        refuse("it multiplies along the free batch, or to a number without axes", "axes")
    if any((x.shape[a] or 1) > 64 for a in axes):
        refuse("it multiplies more than 64 elements", "axes")
    for a in axes:
        size = x.shape[a] or 1
        if size > 1:
            x = net.eltwise("PROD", net.slices(x, a, range(1, size), "_slice"), suffix="" if a == axes[-1] else f"_axis{a}")
    net.put(node.outputs[0], reshaped(net, x, target))


@emits("ArgMax", "ArgMin")
def _argmax(net: Net, node: ir.Node) -> None:
    x, target = net.get(node.inputs[0]), net.dims(node.outputs[0])
    axis = int(attribute(node, "axis", 0)) % x.rank
    size = x.shape[axis]
    if size is None or not target:
        refuse("it looks along the free batch, or gives a number without axes", "axis")
    if node.op_type == "ArgMin":
        x = linear(net, x, -1, 0, "_minus")
    y = _best(net, x, axis, 1) if attribute(node, "select_last_index", 0) else first_of_best(net, x, axis, size)
    net.put(node.outputs[0], reshaped(net, y, target))


def _best(net: Net, x: Top, axis: int, count: int, values: bool = False, suffix: str = "") -> Top:
    """Caffe's ArgMax: where the largest stand, or they themselves; of equal ones the last."""
    params: dict[str, object] = {"out_max_val": True} if values else {}
    params |= {"top_k": count} if count != 1 else {}
    shape = tuple(count if i == axis else d for i, d in enumerate(x.shape))
    return net.layer("ArgMax", x, {"argmax_param": {**params, "axis": axis}}, shape=shape, suffix=suffix, nonnegative=not values)


def first_of_best(net: Net, x: Top, axis: int, size: int) -> Top:
    """The first index of the largest element: Caffe's own layer gives the last one."""
    net.note("the first of equal maxima, where Caffe's ArgMax gives the last, by comparing with the maximum")
    largest = reduced(net, x, [axis], "MAX", suffix="_max")
    lower = above(net, total(net, [largest, x], [1, -1], "_below"), 0, "_lower")
    rank = np.arange(size, 0, -1, dtype=np.float32)
    weighted = net.scale(
        net.power(lower, scale=-1.0, shift=1.0, suffix="_largest", nonnegative=True), constant(rank), axis=axis, suffix="_count"
    )
    return net.power(reduced(net, weighted, [axis], "MAX", suffix="_first"), scale=-1.0, shift=float(size), nonnegative=True)


@emits("TopK")
def _topk(net: Net, node: ir.Node) -> None:
    x, given = net.get(node.inputs[0]), net.constant(node.inputs[1])
    axis = int(attribute(node, "axis", -1)) % x.rank
    size, count = x.shape[axis], 0 if given is None else int(given.reshape(-1)[0])
    if size is None or count < 1:
        refuse("how many it takes is computed, or it looks along the free batch", "k")
    if not attribute(node, "sorted", 1) and count > 1:
        refuse("the order of its results is open", "sorted", "ask for sorted results")
    largest = bool(attribute(node, "largest", 1))
    x = x if largest else linear(net, x, -1, 0, "_minus")
    if node.outputs[0].uses() or node.outputs[0].is_graph_output():
        values = _best(net, x, axis, count, values=True, suffix="" if largest else "_values")
        net.put(node.outputs[0], values if largest else net.power(values, scale=-1.0, suffix="_back"))
    if len(node.outputs) > 1 and (node.outputs[1].uses() or node.outputs[1].is_graph_output()):
        if count == 1:
            index = first_of_best(net, x, axis, size)
        else:  # the first of equal ones is the last of the reversed axis
            turned = taken(net, x, axis, range(size - 1, -1, -1), "_reversed")
            index = net.power(_best(net, turned, axis, count, suffix="_index"), scale=-1.0, shift=float(size - 1), nonnegative=True)
        net.put(node.outputs[1], index)
