"""Layers that change the size of pictures. Source: the interp layer of DeepLab and PSPNet."""

from __future__ import annotations

import onnx_ir as ir

from niudao.formats.caffe.layers import Call, reads
from niudao.formats.protobuf.message import Message


@reads("Interp")
def interp(call: Call, x: ir.Value, like: ir.Value | None = None) -> ir.Value:
    """Bilinear resizing in which the corners' centres stay in place: the input's row is (h - 1) / (h' - 1) times the output's.

    The output's size is stated, follows from a factor, or is that of a second input; pad_beg and pad_end crop the input first.
    """
    part = call.param("interp_param")
    call.rank(x, 4)
    begin, end = int(part.get("pad_beg")), int(part.get("pad_end"))
    height, width = call.sizes(x, 2)
    for key, value in (("pad_beg", begin), ("pad_end", end)):
        if value > 0 or -begin - end >= min(height, width):
            raise call.bad(key, "0 or below, and less than the picture", value)
    if begin or end:
        height, width = height + begin + end, width + begin + end
        x = call.b.op("Slice", x, *(call.b.const(v) for v in ([-begin] * 2, [-begin + height, -begin + width], [2, 3])))
    out = _size(call, part, height, width, like)
    call.bounded((*call.dims(x)[:2], *out), "size")
    if out == (height, width):
        return x
    return call.b.op(
        "Resize", x, None, None, call.b.const(list(out)), mode="linear", coordinate_transformation_mode="align_corners", axes=[2, 3]
    )


def _size(call: Call, part: Message, height: int, width: int, like: ir.Value | None) -> tuple[int, int]:
    """(height, width) of the output."""
    stated = [k for k in ("height", "width", "zoom_factor", "shrink_factor") if part.has(k)]
    if like is not None:
        if stated:
            raise call.bad(stated[0], "a second bottom or a stated size, not both", "both")
        call.rank(like, 4)
        rows, columns = call.sizes(like, 2)
        return rows, columns
    zoom, shrink = call.integer(part, "zoom_factor", default=1), call.integer(part, "shrink_factor", default=1)
    if part.has("zoom_factor") != part.has("shrink_factor") or not (part.has("height") and part.has("width")):
        if not part.has("zoom_factor") and not part.has("shrink_factor"):
            raise call.bad("height", "height and width, or zoom_factor, or shrink_factor", "none of them")
        small = [(s - 1) // shrink + 1 for s in (height, width)]
        return small[0] + (small[0] - 1) * (zoom - 1), small[1] + (small[1] - 1) * (zoom - 1)
    return call.integer(part, "height"), call.integer(part, "width")
