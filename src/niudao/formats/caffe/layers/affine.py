"""Scale and Bias: multiply by, or add, a blob or a second bottom that is spread from `axis` on.

    y = x * s + b, s and b of the sizes axis ... axis + num_axes - 1 of x

Source: BVLC Caffe, scale_layer.cpp, bias_layer.cpp.
"""

from __future__ import annotations

import onnx_ir as ir

from niudao.formats.caffe.layers import reads
from niudao.formats.caffe.layers.call import Call, FixedBatch
from niudao.formats.caffe.layers.spatial import bounded
from niudao.formats.protobuf.message import Message


def _own(call: Call, x: ir.Value, part: Message) -> tuple[int, ...]:
    """Shape of a blob that multiplies or is added: sizes of x from `axis` on, with ones behind for the axes that it does not have."""
    rank = call.rank(x)
    count = int(part.get("num_axes"))
    if count == 0:
        return (1,)
    axis = call.axis(int(part.get("axis")), rank)
    end = rank if count == -1 else axis + count
    if count < -1 or end > rank:
        raise call.bad("num_axes", f"-1 to {rank - axis}", count)
    shape = call.sizes(x, axis)[: end - axis]
    bounded(call, shape, "num_axes")
    return (*shape, *[1] * (rank - end))


def _second(call: Call, x: ir.Value, other: ir.Value, part: Message) -> tuple[ir.Value, int]:
    """The second bottom with ones behind, so that ONNX spreads it as Caffe does; and how many ones."""
    sizes, held = call.dims(x), call.dims(other)
    axis = call.axis(int(part.get("axis")), len(sizes)) if held else 0
    found = sizes[axis : axis + len(held)]
    if found != held and len(found) == len(held):
        if None in (*found, *held):
            raise FixedBatch
        raise call.bad("bottom", f"a second input of {found}", held)
    if len(found) != len(held):
        raise call.bad("bottom", f"a second input of at most {len(sizes) - axis} axes", held)
    behind = len(sizes) - axis - len(held)
    if not behind or not held:
        return other, behind
    return call.b.op("Unsqueeze", other, call.b.const(list(range(len(held), len(held) + behind)))), behind


def affine(call: Call, x: ir.Value, *others: ir.Value) -> ir.Value:
    """Scale: the factor from a blob or the second bottom, the summand always from a blob."""
    part = call.param("scale_param")
    if len(others) > 1:
        raise call.bad("bottom", "one or two", 1 + len(others))
    bias = bool(part.get("bias_term"))
    shape: tuple[int, ...]
    if others:
        factor, behind = _second(call, x, others[0], part)
        if bias:
            call.expect(1)
            shape = (*call.sizes(others[0], 0), *[1] * behind) if call.rank(others[0]) else (1,)
        index = 0
    else:
        call.expect(2 if bias else 1)
        shape, index = _own(call, x, part), 1
        factor = call.weight(0, shape, "scale", fill=1.0)
    y = call.b.op("Mul", x, factor)
    return call.b.op("Add", y, call.weight(index, shape, "bias", fill=0.0)) if bias else y


@reads("Scale")
def scale(call: Call, x: ir.Value, *others: ir.Value) -> ir.Value:
    """y = x * s + b, spread from `axis` on."""
    return affine(call, x, *others)


@reads("Bias")
def bias(call: Call, x: ir.Value, *others: ir.Value) -> ir.Value:
    """y = x + b, spread from `axis` on."""
    part = call.param("bias_param")
    if len(others) > 1:
        raise call.bad("bottom", "one or two", 1 + len(others))
    if others:
        return call.b.op("Add", x, _second(call, x, others[0], part)[0])
    call.expect(1)
    return call.b.op("Add", x, call.weight(0, _own(call, x, part), "bias", fill=0.0))
