"""Padding, cropping, resizing and scaling of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.call import Call
from niudao.formats.keras.tensor import Tensor


def pairs(call: Call, key: str, n: int, default: int) -> list[tuple[int, int]]:
    """`1`, `(1, 2)` (one number an axis) or `((1, 2), (3, 4))` as before and after of each axis."""
    value = call.get(key, default=default)
    if isinstance(value, dict):  # Keras 1: {"top_pad": 1, ...}
        names = ("top_pad", "bottom_pad", "left_pad", "right_pad")[2 if n == 1 else 0 :]
        value = [value.get(name, 0) for name in names]
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], (list, tuple)):
        rows = [call.whole_list(key, row, 2, 0) for row in value]
        if len(rows) != n:
            raise call.bad(key, f"{n} pairs of whole numbers")
        return [(a, z) for a, z in rows]
    if isinstance(value, (list, tuple)) and (n, len(value)) in ((1, 2), (2, 4)):  # Keras 1, 2-D: top, bottom, left, right
        flat = call.whole_list(key, value, 2 * n, 0)
        return list(zip(flat[::2], flat[1::2], strict=True))
    return [(v, v) for v in call.whole_list(key, value, n, 0)]


@reads("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D")
def zero_padding(call: Call, x: Tensor) -> Tensor:
    n = int(call.class_name[-2])
    amounts = pairs(call, "padding", n, 1)
    axis = call.channel_axis(n + 2)
    call.known()
    spatial = [i for i in range(1, n + 2) if i != axis]
    begin, end = [0] * x.rank, [0] * x.rank
    for s, (a, z) in zip(spatial, amounts, strict=True):
        begin[x.axis(s)], end[x.axis(s)] = a, z
    return x.like(call.b.op("Pad", x.value, call.b.const(begin + end)))


@reads("Cropping1D", "Cropping2D", "Cropping3D")
def cropping(call: Call, x: Tensor) -> Tensor:
    n = int(call.class_name[-2])
    amounts = pairs(call, "cropping", n, 1 if n == 1 else 0)
    axis = call.channel_axis(n + 2)
    call.known()
    spatial = [i for i in range(1, n + 2) if i != axis]
    cuts = [(x.axis(s), a, z) for s, (a, z) in zip(spatial, amounts, strict=True) if a or z]
    return crop(call, x, cuts)


def crop(call: Call, x: Tensor, cuts: Sequence[tuple[int, int, int]]) -> Tensor:
    """Cut (our axis, before, after)."""
    if not cuts:
        return x
    b = call.b
    starts = [a for _, a, _ in cuts]
    ends = [-z if z else np.iinfo(np.int64).max for _, _, z in cuts]
    return x.like(b.op("Slice", x.value, b.const(starts), b.const(ends), b.const([axis for axis, _, _ in cuts])))


@reads("UpSampling1D", "UpSampling2D", "UpSampling3D")
def up_sampling(call: Call, x: Tensor) -> Tensor:
    """Nearest repeats; bilinear is TensorFlow 1's legacy resize in stand-alone Keras 1 and 2, half-pixel centres since."""
    n = int(call.class_name[-2])
    size = call.ints("size", "length", n=n, default=2)
    mode = str(call.get("interpolation", default="nearest"))
    axis = call.channel_axis(n + 2)
    call.known()
    b = call.b
    x = x.channels_first(b, axis)
    scales = b.const([1.0, 1.0, *map(float, size)])
    if mode == "nearest":
        y = b.op("Resize", x.value, None, scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    elif mode == "bilinear":
        legacy = call.generation < 3 and not call.tf_keras
        y = b.op("Resize", x.value, None, scales, mode="linear", coordinate_transformation_mode="asymmetric" if legacy else "half_pixel")
    elif mode == "bicubic":
        y = b.op(
            "Resize",
            x.value,
            None,
            scales,
            mode="cubic",
            cubic_coeff_a=-0.5,
            exclude_outside=1,
            coordinate_transformation_mode="half_pixel",
        )
    else:
        raise call.refuse(f"the interpolation {mode!r} is not read", attribute="interpolation", rewrite="nearest, bilinear or bicubic")
    return x.like(y)


@reads("Resizing")
def resizing(call: Call, x: Tensor) -> Tensor:
    height, width = call.integer("height"), call.integer("width")
    mode = str(call.get("interpolation", default="bilinear"))
    crop_ratio, pad_ratio = call.flag("crop_to_aspect_ratio", default=False), call.flag("pad_to_aspect_ratio", default=False)
    antialias = call.flag("antialias", default=False)
    axis = call.channel_axis(4)
    call.known("fill_mode", "fill_value", "data_format")
    if pad_ratio:
        raise call.refuse("pad_to_aspect_ratio is not read", attribute="pad_to_aspect_ratio")
    b = call.b
    x = x.channels_first(b, axis)
    h, w = x.our_shape[2:]
    if crop_ratio:
        if not (isinstance(h, int) and isinstance(w, int)):
            raise call.refuse("crop_to_aspect_ratio needs a fixed input size", attribute="crop_to_aspect_ratio")
        keep_h, keep_w = min(h, int(w * height / width)), min(w, int(h * width / height))
        top, left = int((h - keep_h) / 2), int((w - keep_w) / 2)
        x = crop(call, x, [(2, top, h - keep_h - top), (3, left, w - keep_w - left)])
    channels = x.our_shape[1]
    if not isinstance(channels, int):
        raise call.refuse("its number of channels is open")
    if mode not in ("nearest", "bilinear"):
        raise call.refuse(f"the interpolation {mode!r} is not read", attribute="interpolation", rewrite="nearest or bilinear")
    sizes = b.op("Concat", b.op("Shape", x.value, start=0, end=2), b.const([height, width]), axis=0)
    how = {"mode": "nearest", "nearest_mode": "round_prefer_ceil"} if mode == "nearest" else {"mode": "linear", "antialias": int(antialias)}
    y = b.op("Resize", x.value, None, None, sizes, coordinate_transformation_mode="half_pixel", **how)
    y.shape = ir.Shape([x.our_shape[0] or "batch", channels, height, width])
    return x.like(y)


@reads("CenterCrop")
def center_crop(call: Call, x: Tensor) -> Tensor:
    height, width = call.integer("height"), call.integer("width")
    axis = call.channel_axis(4)
    call.known()
    spatial = [i for i in range(1, 4) if i != axis]
    cuts = []
    for s, want in zip(spatial, (height, width), strict=True):
        have = x.shape[s]
        if not isinstance(have, int) or have < want:
            raise call.refuse("its input is smaller than the crop, or of open size; Keras would resize then")
        before = int((have - want) / 2)
        cuts.append((x.axis(s), before, have - want - before))
    return crop(call, x, [c for c in cuts if c[1] or c[2]])


@reads("Rescaling")
def rescaling(call: Call, x: Tensor) -> Tensor:
    """x * scale + offset; either may be one number or one a channel."""
    scale, offset = call.get("scale", default=1.0), call.get("offset", default=0.0)
    axis = call.channel_axis(x.rank)
    call.known()
    b = call.b

    def constant(value: Any) -> np.ndarray[Any, Any]:
        value = value.get("config", value) if isinstance(value, dict) else value
        value = value.get("value", value) if isinstance(value, dict) else value
        array = np.asarray(value, np.float32)
        if not np.isfinite(array).all():
            raise call.refuse("its numbers are not finite")
        if array.size == 1:
            return array.reshape(())
        shape = [1] * x.rank
        shape[x.axis(axis)] = array.size
        return array.reshape(shape[1:])

    y = b.op("Mul", x.value, b.const(constant(scale)))
    o = constant(offset)
    return x.like(b.op("Add", y, b.const(o)) if np.any(o) else y)
