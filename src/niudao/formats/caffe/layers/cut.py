"""Layers that cut a value into parts. Sources: BVLC Caffe's slice and crop layers."""

from __future__ import annotations

from itertools import pairwise

import onnx_ir as ir

from niudao.formats.caffe.layers import Call, reads
from niudao.formats.caffe.layers.call import FixedBatch


@reads("Slice")
def cut(call: Call, x: ir.Value) -> tuple[ir.Value, ...]:
    """Parts along one axis, between the slice points, or as many equal ones as there are tops."""
    part, tops = call.param("slice_param"), len(call.layer.tops)
    if part.has("slice_dim") and part.has("axis"):
        raise call.bad("slice_dim", "axis or slice_dim, not both", "both")
    key = "slice_dim" if part.has("slice_dim") else "axis"
    axis = call.axis(int(part.get(key)), call.rank(x), key)
    size = call.dims(x)[axis]
    if tops < 1:
        raise call.bad("top", "at least one", tops)
    points = [int(p) for p in part.all("slice_point")]
    if points and len(points) != tops - 1:
        raise call.bad("slice_point", f"{tops - 1} points for {tops} tops", points)
    if tops == 1:
        return (x,)
    if size is None:
        raise FixedBatch
    if points:
        edges = [0, *points, size]
        if any(b <= a for a, b in pairwise(edges)):
            raise call.bad("slice_point", f"rising numbers between 0 and {size}", points)
        sizes = [b - a for a, b in pairwise(edges)]
    else:
        if size % tops:
            raise call.bad("top", f"as many tops as divide the size {size}", tops)
        sizes = [size // tops] * tops
    return call.b.ops("Split", x, call.b.const(sizes), outputs=tops, axis=axis)


@reads("Crop")
def crop(call: Call, x: ir.Value, like: ir.Value) -> ir.Value:
    """From `axis` on, a window of x of the other input's size that begins at the offset."""
    part, rank = call.param("crop_param"), call.rank(x)
    call.rank(like, rank)
    axis = call.axis(int(part.get("axis")), rank)
    offsets = [int(o) for o in part.all("offset")] or [0]
    if len(offsets) not in (1, rank - axis):
        raise call.bad("offset", f"one number or {rank - axis}", offsets)
    offsets = offsets * (rank - axis) if len(offsets) == 1 else offsets
    have, want = call.dims(x), call.dims(like)
    begins, ends, axes = [], [], []
    for i, offset in zip(range(axis, rank), offsets, strict=True):
        old, new = have[i], want[i]
        if old is None and new is None and i == 0 and offset == 0:
            continue  # the same free batch
        if old is None or new is None:
            raise FixedBatch
        if offset + new > old:
            raise call.bad("offset", f"at most {old - new} on axis {i}", offset)
        if offset or new != old:
            begins.append(offset)
            ends.append(offset + new)
            axes.append(i)
    if not axes:
        return x
    return call.b.op("Slice", x, call.b.const(begins), call.b.const(ends), call.b.const(axes))
