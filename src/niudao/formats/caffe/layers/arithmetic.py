"""Layers that combine values of one shape, and those that pick items of the batch.

Sources: BVLC Caffe's eltwise, batch_reindex and filter layers; SENet's axpy layer.
"""

from __future__ import annotations

from functools import reduce

import onnx_ir as ir

from niudao.formats.caffe.layers import Call, reads
from niudao.formats.caffe.layers.call import FixedBatch


@reads("Eltwise")
def eltwise(call: Call, *values: ir.Value) -> ir.Value:
    """Product, weighted sum or maximum of values of one shape."""
    if len(values) < 2:
        raise call.bad("bottom", "at least two", len(values))
    part = call.param("eltwise_param")
    operation, coeff = part.get("operation"), [float(c) for c in part.all("coeff")]
    if coeff and len(coeff) != len(values):
        raise call.bad("coeff", f"one number for each of {len(values)} bottoms", coeff)
    if coeff and operation == "PROD":
        raise call.bad("coeff", "none with PROD", coeff)
    for other in values[1:]:
        same(call, values[0], other)
    if operation == "PROD":
        return reduce(lambda a, b: call.b.op("Mul", a, b), values)
    if operation == "MAX":
        return call.b.op("Max", *values)
    if operation != "SUM":
        raise call.bad("operation", "PROD, SUM or MAX", operation)
    terms = [x if c == 1 else call.b.op("Mul", x, call.b.const(c)) for x, c in zip(values, coeff or [1.0] * len(values), strict=True)]
    return reduce(lambda a, b: call.b.op("Add", a, b), terms)


def same(call: Call, x: ir.Value, y: ir.Value) -> None:
    """Check that two inputs have one shape.

    Raises:
        FixedBatch: They may have, for the right batch.
        InvalidModel: They have not.
    """
    a, b = call.dims(x), call.dims(y)
    if a == b:
        return
    if len(a) == len(b) and a[1:] == b[1:] and None in (a[0], b[0]):
        raise FixedBatch
    raise call.bad("bottom", f"inputs of one shape, {x.shape}", y.shape)


@reads("Axpy")
def axpy(call: Call, a: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
    """a * x + y with one factor for each channel: the gate of a squeeze-and-excitation block and its shortcut."""
    same(call, x, y)
    rank, dims, want = call.rank(x), call.dims(a), call.dims(x)
    if rank < 2 or len(dims) < 2 or dims[:2] != want[:2] or any(d != 1 for d in dims[2:]):
        raise call.bad("bottom", f"factors of shape {want[:2]}", a.shape)
    if len(dims) != rank:
        a = call.b.op("Reshape", a, call.b.const([0, 0] + [1] * (rank - 2)))
    return call.b.op("Add", call.b.op("Mul", x, a), y)


@reads("BatchReindex")
def batch_reindex(call: Call, x: ir.Value, index: ir.Value) -> ir.Value:
    """Items of the batch by their number: y[i] = x[index[i]]."""
    call.rank(index, 1)
    if call.rank(x) < 1:
        raise call.bad("input", "at least 1 axis", "none")
    return call.b.op("Gather", x, call.b.op("Cast", index, to=int(ir.DataType.INT64)), axis=0)


@reads("Filter")
def keep(call: Call, *values: ir.Value) -> tuple[ir.Value, ...]:
    """Items of the batch whose selector, the last bottom, is not 0; with none of them Caffe gives an item of zeros."""
    raise call.refuse("how many items it gives depends on their numbers")
