"""The grid of prior boxes of an SSD detector. Source: the prior_box layer of Wei Liu's SSD branch of Caffe."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.layers import Call, reads
from niudao.formats.caffe.net import Array
from niudao.formats.protobuf.message import Message

MOST = 1 << 22
"""Numbers that the boxes of one layer may have; SSD's largest layer has 23,104."""


@reads("PriorBox")
def prior_box(call: Call, features: ir.Value, image: ir.Value) -> ir.Value:
    """Boxes around the centre of every cell of a feature map, as fractions of the picture, and their variances: (1, 2, H * W * P * 4).

    For each min_size s: a square of side s, one of side sqrt(s * max_size) where there are max_sizes, then for every aspect ratio
    a other than 1 a box of s * sqrt(a) by s / sqrt(a). They depend on sizes only and become a constant.
    """
    part = call.param("prior_box_param")
    call.rank(features, 4)
    rows, columns = call.sizes(features, 2)
    height, width = _picture(call, part, image)
    shapes = _shapes(call, part)
    if rows * columns * len(shapes) * 8 > MOST:
        raise call.bad("min_size", f"at most {MOST} numbers", f"{len(shapes)} boxes in {rows} x {columns} cells")
    step_y, step_x = _steps(call, part, height / rows, width / columns)
    offset = np.float32(part.get("offset"))
    y = ((np.arange(rows, dtype=np.float32) + offset) * np.float32(step_y)).astype(np.float64)
    x = ((np.arange(columns, dtype=np.float32) + offset) * np.float32(step_x)).astype(np.float64)
    boxes = np.empty((rows, columns, len(shapes), 4), np.float32)
    for i, (h, w) in enumerate(shapes):
        boxes[:, :, i, 0] = (x[None] - w / 2) / width
        boxes[:, :, i, 1] = (y[:, None] - h / 2) / height
        boxes[:, :, i, 2] = (x[None] + w / 2) / width
        boxes[:, :, i, 3] = (y[:, None] + h / 2) / height
    if part.get("clip"):
        boxes = np.clip(boxes, 0, 1)
    flat = boxes.reshape(-1)
    both = np.stack([flat, np.resize(_variances(call, part), flat.shape)])[None]
    return call.b.weight(both, f"{call.layer.name}/boxes")


def _numbers(call: Call, part: Message, key: str) -> list[float]:
    found = [float(v) for v in part.all(key)]
    if any(not 0 < v < math.inf for v in found) or len(found) > 100:
        raise call.bad(key, "at most 100 numbers above 0", found[:8])
    return found


def _picture(call: Call, part: Message, image: ir.Value) -> tuple[int, int]:
    """(height, width) of the picture: stated, or those of the second bottom."""
    single, both = part.has("img_size"), part.has("img_h") or part.has("img_w")
    if single and both:
        raise call.bad("img_size", "img_size, or img_h and img_w, not both", "both")
    if single or both:
        keys = ("img_size", "img_size") if single else ("img_h", "img_w")
        return call.integer(part, keys[0], 1, default=None), call.integer(part, keys[1], 1, default=None)
    call.rank(image, 4)
    height, width = call.sizes(image, 2)
    return height, width


def _steps(call: Call, part: Message, down: float, right: float) -> tuple[float, float]:
    """(vertical, horizontal) distance of the cells' centres in pixels; without one stated the picture is shared out evenly."""
    if part.has("step") and (part.has("step_h") or part.has("step_w")):
        raise call.bad("step", "step, or step_h and step_w, not both", "both")
    found = [float(part.get(k) or part.get("step") or 0) for k in ("step_h", "step_w")]
    if any(not 0 <= v < math.inf for v in found):
        raise call.bad("step", "numbers above 0", found)
    return (found[0], found[1]) if all(found) else (down, right)


def _shapes(call: Call, part: Message) -> list[tuple[float, float]]:
    """(height, width) in pixels of each of a cell's boxes. Sizes lose their fractions: SSD keeps them as whole numbers."""
    small, large = _numbers(call, part, "min_size"), _numbers(call, part, "max_size")
    if not small:
        raise call.bad("min_size", "at least one size", "none")
    if large and (len(large) != len(small) or any(b <= a for a, b in zip(small, large, strict=True))):
        raise call.bad("max_size", "one for each min_size, and above it", large[:8])
    ratios = [np.float32(1)]
    for a in map(np.float32, _numbers(call, part, "aspect_ratio")):
        if not any(abs(a - r) < 1e-6 for r in ratios):
            ratios += [a, np.float32(1) / a] if part.get("flip") else [a]
    if len(ratios) * len(small) > MOST:
        raise call.bad("aspect_ratio", "fewer boxes", f"{len(ratios) * len(small)} boxes a cell")
    shapes = []
    for i, size in enumerate(small):
        s = int(size)
        shapes.append((float(s), float(s)))
        if large:
            side = float(np.float32(math.sqrt(s * int(large[i]))))
            shapes.append((side, side))
        for a in ratios:
            if abs(a - 1) >= 1e-6:
                root = np.sqrt(a)
                shapes.append((float(np.float32(s) / root), float(np.float32(s) * root)))
    return shapes


def _variances(call: Call, part: Message) -> Array:
    found = _numbers(call, part, "variance") or [0.1]
    if len(found) not in (1, 4):
        raise call.bad("variance", "1 or 4 numbers", found[:8])
    return np.array(found, np.float32)
