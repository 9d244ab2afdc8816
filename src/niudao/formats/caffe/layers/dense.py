"""InnerProduct and Embed: products with a matrix, and rows of one.

Source: BVLC Caffe, inner_product_layer.cpp, embed_layer.cpp.
"""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from niudao.formats.caffe.layers import reads
from niudao.formats.caffe.layers.call import Call
from niudao.formats.caffe.layers.spatial import bounded, leading, reshape


@reads("InnerProduct")
def inner_product(call: Call, x: ir.Value) -> ir.Value:
    """y = x W^T + b on what lies from `axis` on, flattened; W is stored as (out, in), or (in, out) with `transpose`."""
    part = call.param("inner_product_param")
    outputs = call.integer(part, "num_output")
    axis = call.axis(part.get("axis"), call.rank(x))
    inputs = prod(call.sizes(x, axis))
    bounded(call, [outputs, inputs], "num_output")
    transpose = bool(part.get("transpose"))
    call.expect(2 if part.get("bias_term") else 1)
    bias = call.weight(1, (outputs,), "bias", fill=0.0) if part.get("bias_term") else None
    if axis == 1:
        flat = x if call.rank(x) == 2 else call.b.op("Flatten", x, axis=1)
        weight = call.weight(0, (inputs, outputs) if transpose else (outputs, inputs), "weight")
        return call.b.op("Gemm", flat, weight, bias, transB=None if transpose else 1)
    lead = leading(call, x, axis)
    bounded(call, [*lead, outputs], "num_output")
    flat = x if axis == call.rank(x) - 1 else reshape(call, x, [*lead, inputs], source=x)
    y = call.b.op("MatMul", flat, call.weight(0, (inputs, outputs), "weight") if transpose else _turned(call, outputs, inputs))
    return y if bias is None else call.b.op("Add", y, bias)


def _turned(call: Call, outputs: int, inputs: int) -> ir.Value:
    """The stored matrix as MatMul takes it, (in, out)."""
    if not call.weightless:
        call.stored(0, (outputs, inputs), "weight")
    return call.derived([0], (inputs, outputs), "weight", lambda flat: flat.reshape(outputs, inputs).T)


@reads("Embed")
def embed(call: Call, x: ir.Value) -> ir.Value:
    """y = W[int(x)] + b, W of shape (input_dim, num_output); the input holds the numbers as floats."""
    part = call.param("embed_param")
    outputs, rows = call.integer(part, "num_output"), call.integer(part, "input_dim")
    bounded(call, [rows, outputs], "num_output")
    bounded(call, [*call.dims(x), outputs], "num_output")
    call.expect(2 if part.get("bias_term") else 1)
    weight = call.weight(0, (rows, outputs), "weight")
    y = call.b.op("Gather", weight, call.b.op("Cast", x, to=ir.DataType.INT64), axis=0)
    return call.b.op("Add", y, call.weight(1, (outputs,), "bias", fill=0.0)) if part.get("bias_term") else y
