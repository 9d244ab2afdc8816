"""Operators of detectors."""

from __future__ import annotations

from typing import Any

from niudao.formats.pytorch.modules.call import Call
from niudao.formats.pytorch.modules.functions import detection as f
from niudao.formats.pytorch.modules.table import converts


@converts("NonMaxSuppression")
def non_max_suppression(c: Call) -> Any:
    most, iou = (_setting(c, i, 0) for i in (2, 3))
    score = _setting(c, 4, None)
    return c.call(f.non_max_suppression, c.x(0), c.x(1), most, iou, score, bool(c.attr("center_point_box")))


def _setting(c: Call, i: int, default: Any) -> Any:
    """A limit as a number, whether the file or the network's caller gives it."""
    if not c.has(i) or c.dims(i) == [0]:
        return default
    return (c.ints(i) or [default])[0]


@converts("RoiAlign")
def roi_align(c: Call) -> Any:
    half = c.attr("coordinate_transformation_mode") == "half_pixel"
    height, width, sampling, scale = (c.attr(n) for n in ("output_height", "output_width", "sampling_ratio", "spatial_scale"))
    return c.call(f.roi_align, c.x(0), c.x(1), c.x(2), height, width, max(sampling, 0), scale, half, c.attr("mode").lower())


@converts("MaxRoiPool")
def max_roi_pool(c: Call) -> Any:
    height, width = c.attr("pooled_shape")
    return c.call(f.max_roi_pool, c.x(0), c.x(1), height, width, c.attr("spatial_scale"))
