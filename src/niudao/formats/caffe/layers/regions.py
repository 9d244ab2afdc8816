"""ROIPooling and the two Upsample layers.

    ROIPooling  Fast R-CNN: the largest element of each bin of a region; (batch, x1, y1, x2, y2) in the image's pixels, both ends included
    Upsample    SegNet: with a second bottom, each element at the place that a MAX pooling's second top noted, zero elsewhere
                YOLO: with one bottom, every pixel repeated

Source: Fast R-CNN, roi_pooling_layer.cpp; caffe-segnet, upsample_layer.cpp.
"""

from __future__ import annotations

import onnx_ir as ir

from niudao.formats.caffe.layers import reads
from niudao.formats.caffe.layers.call import Call
from niudao.formats.caffe.layers.spatial import bounded, reshape


@reads("ROIPooling")
def roi_pooling(call: Call, x: ir.Value, rois: ir.Value) -> ir.Value:
    """ONNX's MaxRoiPool rounds as Caffe does: corners to the nearest, bins outwards, empty bins are 0."""
    part = call.param("roi_pooling_param")
    call.rank(x, 4)
    height, width = call.integer(part, "pooled_h"), call.integer(part, "pooled_w")
    bounded(call, [call.sizes(x)[0], height, width], "pooled_h")
    dims = call.dims(rois)
    if len(dims) not in (2, 4) or dims[1:] != [5, 1, 1][: len(dims) - 1]:
        raise call.bad("bottom", "regions of 5 numbers each", dims)
    flat = rois if len(dims) == 2 else reshape(call, rois, [dims[0], 5])
    return call.b.op("MaxRoiPool", x, flat, pooled_shape=[height, width], spatial_scale=float(part.get("spatial_scale")))


@reads("Upsample")
def upsample(call: Call, x: ir.Value, *masks: ir.Value) -> ir.Value:
    """Unpool with a mask, or repeat pixels without one."""
    part, b = call.param("upsample_param"), call.b
    call.rank(x, 4)
    batch = call.dims(x)[0]
    channels, *sizes = call.sizes(x)
    scale = call.integer(part, "scale", default=2)
    scales = [call.integer(part, f"scale_{a}", default=scale) for a in "hw"]
    if len(masks) > 1:
        raise call.bad("bottom", "one or two", 1 + len(masks))
    wanted = []
    for axis, n, s in zip("hw", sizes, scales, strict=True):
        less = 1 if part.get(f"pad_out_{axis}") else 0
        wanted.append(call.integer(part, f"upsample_{axis}", default=n * s - less))
    bounded(call, [channels, *wanted], "scale")
    if not masks:
        if wanted != [n * s for n, s in zip(sizes, scales, strict=True)]:
            raise call.refuse("it repeats pixels to another size than a multiple", attribute="upsample_h")
        factors = b.const([1.0, 1.0, *map(float, scales)])
        return b.op("Resize", x, None, factors, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    if call.dims(masks[0]) != call.dims(x):
        raise call.bad("bottom", f"a mask of {call.dims(x)}", call.dims(masks[0]))
    area = wanted[0] * wanted[1]
    flat = [batch, channels, sizes[0] * sizes[1]]
    places = b.op("Cast", reshape(call, masks[0], flat), to=ir.DataType.INT64)
    values = reshape(call, x, flat)
    # zeros of (batch, channels, area) without asking for the batch: nothing of each row, padded
    nothing = b.op("Slice", values, b.const([0]), b.const([0]), b.const([2]))
    canvas = b.op("Pad", nothing, b.const([0, 0, 0, 0, 0, area]), b.const(0.0))
    return reshape(call, b.op("ScatterElements", canvas, places, values, axis=2), [batch, channels, *wanted], source=x)
