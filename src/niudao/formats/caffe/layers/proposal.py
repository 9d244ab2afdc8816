"""Faster R-CNN's proposals: the best boxes of a region proposal network, as a layer in C++ or as py-faster-rcnn's Python layer.

The Python layer is known by its class and rebuilt; no other Python layer is, and none is ever executed. Sources: py-faster-rcnn's
rpn/proposal_layer.py, rpn/generate_anchors.py and fast_rcnn/bbox_transform.py, and the proposal layer of its ports to C++.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.layers import Call, reads
from niudao.formats.caffe.layers.call import FixedBatch
from niudao.formats.caffe.net import Array

MOST = 1 << 22
"""Numbers that the anchors of one layer may have; a picture of 1000 x 600 has 88,000."""
_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class _Setting:
    """What a proposal layer is told; `drop`: boxes that are too small are left out, else they score 0."""

    anchors: Array
    stride: int
    smallest: float
    before: int
    after: int
    overlap: float
    drop: bool


@reads("Proposal")
def proposal(call: Call, scores: ir.Value, deltas: ir.Value, info: ir.Value) -> tuple[ir.Value, ...]:
    """Proposals (found, 5) of the layer in C++, and as its second top their scores (found, 1)."""
    part = call.param("proposal_param")
    ratios = [float(v) for v in part.all("ratio")] or [0.5, 1.0, 2.0]
    scales = [float(v) for v in part.all("scale")] or [8.0, 16.0, 32.0]
    for key, values in (("ratio", ratios), ("scale", scales)):
        if any(not 0 < v < 1e6 for v in values) or len(values) > 256:
            raise call.bad(key, "numbers above 0", values[:8])
    overlap = float(part.get("nms_thresh"))
    setting = _Setting(
        anchors=anchors(call.integer(part, "base_size", 1, 1 << 20), ratios, scales),
        stride=call.integer(part, "feat_stride", 1, 1 << 20),
        smallest=float(call.integer(part, "min_size", 0)),
        before=call.integer(part, "pre_nms_topn", 1),
        after=call.integer(part, "post_nms_topn", 1),
        overlap=overlap,
        drop=False,
    )
    return _proposals(call, setting, scores, deltas, info)


@reads("Python")
def python(call: Call, *values: ir.Value) -> tuple[ir.Value, ...]:
    """py-faster-rcnn's ProposalLayer with the settings of its test configuration; every other class is refused."""
    part = call.param("python_param")
    module, name = str(part.get("module")), str(part.get("layer"))
    if name != "ProposalLayer" or module not in ("rpn.proposal_layer", "proposal_layer"):
        raise call.refuse(f"it runs the Python class {name[:80]!r}, which is never executed")
    if len(values) != 3:
        raise call.bad("bottom", "scores, offsets and the picture's size", f"{len(values)} bottoms")
    stated = settings(call, str(part.get("param_str")))
    scales = stated.get("scales", (8.0, 16.0, 32.0))
    stride = stated.get("feat_stride", ())
    if len(stride) != 1 or stride[0] != int(stride[0]) or not 1 <= stride[0] < 1 << 20:
        raise call.bad("param_str", "'feat_stride': a whole number", part.get("param_str"))
    setting = _Setting(anchors(16, (0.5, 1.0, 2.0), scales), int(stride[0]), 16.0, 6000, 300, 0.7, True)
    return _proposals(call, setting, *values)


_PAIR = re.compile(r"""\s*['"]?(feat_stride|scales)['"]?\s*:\s*([-+.0-9e]{1,20}|[\[(][-+.0-9e,\s]{0,400}[\])])\s*(?:,|\n|$)""")


def settings(call: Call, text: str) -> dict[str, tuple[float, ...]]:
    """The settings in a ProposalLayer's param_str, `'feat_stride': 16` and `'scales': [8, 16, 32]`; nothing else is understood.

    Raises:
        Unsupported: Something else stands there.
    """
    found: dict[str, tuple[float, ...]] = {}
    rest = text.strip()
    if len(rest) > 1000:
        raise call.refuse("param_str is too long", attribute="param_str")
    rest = rest[1:-1].strip() if rest.startswith("{") and rest.endswith("}") else rest
    while rest:
        match = _PAIR.match(rest)
        try:
            numbers = tuple(float(v) for v in match[2].strip("[]()").split(",") if v.strip()) if match else ()
        except ValueError:
            numbers = ()
        if match is None or not numbers or any(not 0 < v < 1e6 for v in numbers):
            raise call.refuse("param_str holds more than feat_stride and scales", attribute="param_str")
        found[match[1]] = numbers
        rest = rest[match.end() :].strip()
    return found


def anchors(base: int, ratios: tuple[float, ...] | list[float], scales: tuple[float, ...] | list[float]) -> Array:
    """Boxes (ratios * scales, 4) around the first cell's centre: x1, y1, x2, y2, ends included.

    >>> anchors(16, (0.5,), (8,)).tolist()
    [[-84.0, -40.0, 99.0, 55.0]]
    """
    center, boxes = 0.5 * (base - 1), []
    for ratio in ratios:
        width = float(np.round(math.sqrt(base * base / ratio)))
        height = float(np.round(width * ratio))
        for scale in scales:
            w, h = 0.5 * (width * scale - 1), 0.5 * (height * scale - 1)
            boxes.append((center - w, center - h, center + w, center + h))
    return np.array(boxes, np.float32)


def _proposals(call: Call, s: _Setting, scores: ir.Value, deltas: ir.Value, info: ir.Value) -> tuple[ir.Value, ...]:
    """Boxes (found, 5), the picture's number 0 in front, and scores (found, 1)."""
    b, count = call.b, len(s.anchors)
    for value in (scores, deltas):
        call.rank(value, 4)
    if call.dims(scores)[0] is None:
        raise FixedBatch
    batch, channels, height, width = call.sizes(scores, 0)
    if batch != 1:
        raise call.bad("bottom", "one picture", batch)
    if channels != 2 * count or call.sizes(deltas, 0) != [1, 4 * count, height, width]:
        raise call.bad("bottom", f"{2 * count} scores and {4 * count} offsets a cell", f"{scores.shape} and {deltas.shape}")
    if not 0 <= s.overlap <= 1:
        raise call.bad("nms_thresh", "0 to 1", s.overlap)
    many = height * width * count
    if many > 1 << 24:
        raise call.bad("bottom", f"at most {1 << 24} boxes", many)
    told = int(np.prod(call.sizes(info, 0), dtype=object))
    if told < 3:
        raise call.bad("bottom", "height, width and scale of the picture", info.shape)
    flat = b.op("Reshape", info, b.const([-1]))
    # the layer in C++ takes a scale for each direction, where there are two
    rows, columns, down, right = (b.op("Slice", flat, b.const([i]), b.const([i + 1])) for i in (0, 1, 2, 2 if s.drop or told < 4 else 3))
    boxes = _moved(call, s, deltas, height, width)
    zero, one = b.const(0.0), b.const(1.0)
    # (y, x) limits as (x, y, x, y)
    limit = b.op("Sub", b.op("Concat", columns, rows, columns, rows, axis=0), one)
    boxes = b.op("Max", b.op("Min", boxes, limit), zero)
    low, high = b.ops("Split", boxes, b.const([2, 2]), outputs=2, axis=1)
    sides = b.op("Add", b.op("Sub", high, low), one)
    least = b.op("Mul", b.op("Concat", right, down, axis=0), b.const(s.smallest))
    small = b.op(
        "Cast",
        b.op("ReduceMax", b.op("Cast", b.op("Less", sides, least), to=int(ir.DataType.FLOAT)), b.const([1]), keepdims=0),
        to=int(ir.DataType.BOOL),
    )
    # of the two scores of an anchor the second says "something is here"
    object_scores = b.op("Slice", scores, b.const([count]), b.const([2 * count]), b.const([1]))
    object_scores = b.op("Reshape", b.op("Transpose", object_scores, perm=[0, 2, 3, 1]), b.const([many]))
    object_scores = b.op("Where", small, b.const(_LOWEST if s.drop else 0.0), object_scores)
    before = min(s.before, many)
    best, order = b.ops("TopK", object_scores, b.const([before]), outputs=2, axis=0)
    boxes = b.op("Gather", boxes, order, axis=0)
    # ends are included: a box from 3 to 3 is one pixel wide
    low, high = b.ops("Split", boxes, b.const([2, 2]), outputs=2, axis=1)
    areas = b.op("Unsqueeze", b.op("Concat", low, b.op("Add", high, one), axis=1), b.const([0]))
    inputs = [areas, b.op("Unsqueeze", best, b.const([0, 1])), b.const([min(s.after, before)]), b.const([s.overlap])]
    if s.drop:
        inputs.append(b.const(_LOWEST))
    chosen = b.op("NonMaxSuppression", *inputs)
    index = b.op("Squeeze", b.op("Slice", chosen, b.const([2]), b.const([3]), b.const([1])), b.const([1]))
    rois = b.op("Pad", b.op("Gather", boxes, index, axis=0), b.const([0, 1, 0, 0]), zero)
    return rois, b.op("Unsqueeze", b.op("Gather", best, index, axis=0), b.const([1]))


def _moved(call: Call, s: _Setting, deltas: ir.Value, height: int, width: int) -> ir.Value:
    """Anchors of every cell moved by the offsets: (H * W * A, 4), in order of row, column, anchor."""
    b, count = call.b, len(s.anchors)
    if height * width * count * 4 > MOST:
        raise call.bad("input", f"at most {MOST} numbers", f"{count} anchors in {height} x {width} cells")
    y, x = np.meshgrid(np.arange(height) * s.stride, np.arange(width) * s.stride, indexing="ij")
    shift = np.stack([x, y, x, y], -1).astype(np.float32)
    every = (shift[:, :, None] + s.anchors).reshape(-1, 4)
    size = every[:, 2:] - every[:, :2] + np.float32(1)
    center = b.weight(every[:, :2] + np.float32(0.5) * size, f"{call.layer.name}/centers")
    sides = b.weight(size, f"{call.layer.name}/sides")
    flat = b.op("Transpose", b.op("Reshape", deltas, b.const([count, 4, height * width])), perm=[2, 0, 1])
    first, second = b.ops("Split", b.op("Reshape", flat, b.const([-1, 4])), b.const([2, 2]), outputs=2, axis=1)
    center = b.op("Add", b.op("Mul", first, sides), center)
    reach = b.op("Mul", b.op("Mul", b.op("Exp", second), sides), b.const(0.5))
    return b.op("Concat", b.op("Sub", center, reach), b.op("Add", center, reach), axis=1)
