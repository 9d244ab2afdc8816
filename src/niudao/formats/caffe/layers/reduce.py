"""Layers that turn many numbers into few. Sources: BVLC Caffe's reduction and argmax layers."""

from __future__ import annotations

import onnx_ir as ir

from niudao.formats.caffe.layers import Call, reads

_REDUCTIONS = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}


@reads("Reduction")
def reduction(call: Call, x: ir.Value) -> ir.Value:
    """Sum, sum of absolutes, sum of squares or mean over every axis from `axis` to the last, times coeff."""
    part = call.param("reduction_param")
    operation, coeff = part.get("operation"), float(part.get("coeff"))
    if operation not in _REDUCTIONS:
        raise call.bad("operation", ", ".join(_REDUCTIONS), operation)
    rank = call.rank(x)
    axis = call.axis(int(part.get("axis")), rank)
    y = call.b.op(_REDUCTIONS[operation], x, call.b.const(list(range(axis, rank))), keepdims=0)
    return y if coeff == 1 else call.b.op("Mul", y, call.b.const(coeff))


@reads("ArgMax")
def argmax(call: Call, x: ir.Value) -> ir.Value:
    """Where the largest numbers stand, as floats; of equal ones the last.

    With an axis, that axis has the top_k indices, or the numbers themselves with out_max_val. Without one, all but the batch
    is one list, and the output is (N, 1, top_k), or with out_max_val (N, 2, top_k): indices, then numbers; filled up with
    axes of 1 to the input's rank.
    """
    part = call.param("argmax_param")
    values, top_k, rank = bool(part.get("out_max_val")), call.integer(part, "top_k", 1), call.rank(x)
    if part.has("axis"):
        axis = call.axis(int(part.get("axis")), rank)
        size = call.dims(x)[axis]
        if size is None and top_k > 1:
            size = call.sizes(x, 0)[axis]
        if size is not None and top_k > size:
            raise call.bad("top_k", f"at most {size}", top_k)
        return _best(call, x, axis, top_k, size, indices=not values, values=values)[0]
    if rank < 1:
        raise call.bad("input", "at least 1 axis", "none")
    count = 1
    for d in call.sizes(x):
        count *= d
    if top_k > count:
        raise call.bad("top_k", f"at most {count}", top_k)
    flat = call.b.op("Reshape", x, call.b.const([0, 1, count]))
    found = _best(call, flat, 2, top_k, count, indices=True, values=values)
    y = call.b.op("Concat", *found, axis=1) if values else found[0]
    return call.b.op("Reshape", y, call.b.const([0, 2 if values else 1, top_k] + [1] * (rank - 3))) if rank > 3 else y


def _best(call: Call, x: ir.Value, axis: int, top_k: int, size: int | None, *, indices: bool, values: bool) -> list[ir.Value]:
    """Indices and numbers of the largest, as asked for."""
    b, found = call.b, []
    if top_k == 1:
        if indices:
            index = b.op("ArgMax", x, axis=axis, keepdims=1, select_last_index=1)
            found.append(b.op("Cast", index, to=int(ir.DataType.FLOAT)))
        if values:
            found.append(b.op("ReduceMax", x, b.const([axis]), keepdims=1))
        return found
    # TopK prefers the first of equal numbers and Caffe the last: the axis is turned round before and the indices after
    turned = b.op("Slice", x, b.const([-1]), b.const([-(1 << 62)]), b.const([axis]), b.const([-1]))
    best, where = b.ops("TopK", turned, b.const([top_k]), outputs=2, axis=axis)
    if indices and size is not None:
        found.append(b.op("Cast", b.op("Sub", b.const(size - 1), where), to=int(ir.DataType.FLOAT)))
    if values:
        found.append(best)
    return found
