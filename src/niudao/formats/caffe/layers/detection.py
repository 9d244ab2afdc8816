"""SSD's last layer: boxes from offsets to prior boxes, the best of them of every class without their overlapping neighbours.

Source: the detection_output layer and bbox_util of Wei Liu's SSD branch of Caffe.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from niudao.formats.caffe.layers import Call, reads

_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class _Setting:
    classes: int
    priors: int
    shared: bool
    background: int
    code: str
    encoded: bool
    overlap: float
    top_k: int
    keep: int
    least: float

    @property
    def kept(self) -> list[int]:
        """Classes that are looked for, in order."""
        return [c for c in range(self.classes) if c != self.background]


@reads("DetectionOutput")
def detection_output(call: Call, loc: ir.Value, conf: ir.Value, priors: ir.Value) -> ir.Value:
    """(1, 1, found, 7): picture, class, score, and the box's x1, y1, x2, y2 as fractions of the picture.

    Rows are in order of picture, class and falling score. Where nothing is found in any picture there is one row of -1 for
    each, with the picture's number in front. How many rows there are is known only when the network runs; the batch stays free.
    """
    s = _setting(call, loc, conf, priors)
    b, groups = call.b, 1 if s.shared else s.classes
    # offsets and scores by class: (N, groups, priors, 4) and (N, kept, priors)
    offsets = b.op("Transpose", b.op("Reshape", loc, b.const([0, s.priors, groups, 4])), perm=[0, 2, 1, 3])
    scores = b.op("Transpose", b.op("Reshape", conf, b.const([0, s.priors, s.classes])), perm=[0, 2, 1])
    scores = b.op("Gather", scores, b.const(s.kept), axis=1)
    boxes = _decode(call, s, offsets, priors)
    if not s.shared:
        boxes = b.op("Gather", boxes, b.const(s.kept), axis=1)
    # the top_k of every class, best first
    scores, order = b.ops("TopK", scores, b.const([s.top_k]), outputs=2, axis=2)
    if s.shared:
        boxes = b.op("Reshape", boxes, b.const([0, s.priors, 4]))
        flat = b.op("Reshape", order, b.const([0, len(s.kept) * s.top_k, 1]))
        boxes = b.op("GatherElements", boxes, b.op("Expand", flat, b.const([1, 1, 4])), axis=1)
    else:
        index = b.op("Expand", b.op("Unsqueeze", order, b.const([3])), b.const([1, 1, 1, 4]))
        boxes = b.op("GatherElements", boxes, index, axis=2)
    return _rows(call, s, boxes, scores, _unsuppressed(call, s, boxes, scores))


def _setting(call: Call, loc: ir.Value, conf: ir.Value, priors: ir.Value) -> _Setting:
    part = call.param("detection_output_param")
    nms = part.sub("nms_param")
    call.rank(priors, 3)
    count = call.sizes(priors)[1]
    classes, shared = call.integer(part, "num_classes", 1, 1 << 20), bool(part.get("share_location"))
    if count % 4 or call.sizes(priors)[0] != 2 or call.dims(priors)[0] != 1:
        raise call.bad("bottom", "prior boxes of shape (1, 2, 4 * boxes)", priors.shape)
    for name, value, want in (("offsets", loc, count * (1 if shared else classes)), ("scores", conf, count // 4 * classes)):
        if int(np.prod(call.sizes(value), dtype=object)) != want:
            raise call.bad("bottom", f"{want} {name} for each picture", value.shape)
    call.bounded((count, classes), "num_classes")
    eta, overlap = float(nms.get("eta")), float(nms.get("nms_threshold"))
    if not overlap >= 0:
        raise call.bad("nms_threshold", "0 or above", overlap)
    if not 0 < eta <= 1:
        raise call.bad("eta", "above 0, at most 1", eta)
    if eta < 1 and overlap > 0.5:
        raise call.refuse("a threshold that falls with every box kept is unknown", attribute="eta")
    background = int(part.get("background_label_id"))
    setting = _Setting(
        classes=classes,
        priors=count // 4,
        shared=shared,
        background=background,
        code=str(part.get("code_type")),
        encoded=bool(part.get("variance_encoded_in_target")),
        overlap=min(overlap, 1.0),
        top_k=min(int(nms.get("top_k")), count // 4) if nms.has("top_k") and int(nms.get("top_k")) > -1 else count // 4,
        keep=int(part.get("keep_top_k")),
        least=float(part.get("confidence_threshold")) if part.has("confidence_threshold") else _LOWEST,
    )
    if not setting.kept:
        raise call.bad("num_classes", "a class besides the background", classes)
    if setting.top_k < 1 or setting.keep == 0:
        raise call.refuse("it keeps no box", attribute="top_k" if setting.top_k < 1 else "keep_top_k")
    return setting


def _decode(call: Call, s: _Setting, offsets: ir.Value, priors: ir.Value) -> ir.Value:
    """Boxes (N, groups, priors, 4) from offsets of the same shape."""
    b = call.b
    both = b.op("Reshape", priors, b.const([1, 2, s.priors, 4]))
    prior, variance = b.ops("Split", both, b.const([1, 1]), outputs=2, axis=1)
    if not s.encoded:
        offsets = b.op("Mul", offsets, variance)
    low, high = b.ops("Split", prior, b.const([2, 2]), outputs=2, axis=3)
    if s.code == "CORNER":
        return b.op("Add", offsets, prior)
    size = b.op("Sub", high, low)
    first, second = b.ops("Split", offsets, b.const([2, 2]), outputs=2, axis=3)
    if s.code == "CORNER_SIZE":
        return b.op("Concat", b.op("Add", low, b.op("Mul", first, size)), b.op("Add", high, b.op("Mul", second, size)), axis=3)
    if s.code != "CENTER_SIZE":
        raise call.bad("code_type", "CORNER, CENTER_SIZE or CORNER_SIZE", s.code)
    half = b.const(0.5)
    center = b.op("Add", b.op("Mul", first, size), b.op("Mul", b.op("Add", low, high), half))
    reach = b.op("Mul", b.op("Mul", b.op("Exp", second), size), half)
    return b.op("Concat", b.op("Sub", center, reach), b.op("Add", center, reach), axis=3)


def _unsuppressed(call: Call, s: _Setting, boxes: ir.Value, scores: ir.Value) -> ir.Value:
    """(N, kept * top_k): 1 where a box stays, else 0. Every class of every picture is an item of NonMaxSuppression's batch.

    Boxes turned inside out have no area in SSD and so touch nothing; ONNX would turn them back.
    """
    b, k, many = call.b, s.top_k, len(s.kept) * s.top_k
    low, high = b.ops("Split", b.op("Reshape", boxes, b.const([-1, k, 4])), b.const([2, 2]), outputs=2, axis=2)
    right = b.op("Concat", low, b.op("Max", low, high), axis=2)
    flat = b.op("Reshape", scores, b.const([-1, 1, k]))
    limits = [b.const([k]), b.const([s.overlap])]
    if s.least > _LOWEST:
        limits.append(b.const([s.least]))
    chosen = b.op("NonMaxSuppression", right, flat, *limits)
    zeros = b.op("ConstantOfShape", b.op("Shape", flat))
    ones = b.op("ConstantOfShape", b.op("Shape", chosen, end=1), value=np.ones(1, np.float32))
    return b.op("Reshape", b.op("ScatterND", zeros, chosen, ones), b.const([-1, many]))


def _rows(call: Call, s: _Setting, boxes: ir.Value, scores: ir.Value, stay: ir.Value) -> ir.Value:
    """The rows of the boxes that stay, at most keep_top_k of a picture."""
    b, k, many = call.b, s.top_k, len(s.kept) * s.top_k
    scores = b.op("Reshape", scores, b.const([-1, many, 1]))
    shape = b.op("Shape", scores)
    pictures = b.op("CumSum", b.op("ConstantOfShape", shape, value=np.ones(1, np.float32)), b.const(0), exclusive=1)
    labels = b.op("Expand", b.const(np.repeat(np.array(s.kept, np.float32), k)[None, :, None]), shape)
    rows = b.op("Concat", pictures, labels, scores, b.op("Reshape", boxes, b.const([-1, many, 4])), axis=2)
    stay = b.op("Greater", stay, b.const(0.0))
    if -1 < s.keep < many:
        rank = b.op("Where", stay, b.op("Reshape", scores, b.const([-1, many])), b.const(-np.inf))
        _, best = b.ops("TopK", rank, b.const([s.keep]), outputs=2, axis=1)
        best, _ = b.ops("TopK", best, b.const([s.keep]), outputs=2, axis=1, largest=0)  # back in order of class
        stay = b.op("GatherElements", stay, best, axis=1)
        rows = b.op("GatherElements", rows, b.op("Expand", b.op("Unsqueeze", best, b.const([2])), b.const([1, 1, 7])), axis=1)
    # a row of -1 for each picture stands behind, and counts only where nothing is found at all
    number = b.op("Slice", pictures, b.const([0]), b.const([1]), b.const([1]))
    fake = b.op("Pad", number, b.const([0, 0, 0, 0, 0, 6]), b.const(-1.0))
    most = b.op("ReduceMax", b.op("Cast", stay, to=int(ir.DataType.FLOAT)), keepdims=0)
    fake_stay = b.op("Less", b.op("Mul", b.op("Add", number, b.const(1.0)), most), b.const(0.5))
    stay = b.op("Concat", b.op("Reshape", stay, b.const([-1])), b.op("Reshape", fake_stay, b.const([-1])), axis=0)
    rows = b.op("Concat", b.op("Reshape", rows, b.const([-1, 7])), b.op("Reshape", fake, b.const([-1, 7])), axis=0)
    return b.op("Unsqueeze", b.op("Compress", rows, stay, axis=0), b.const([0, 1]))
