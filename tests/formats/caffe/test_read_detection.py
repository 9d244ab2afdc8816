"""SSD's and Faster R-CNN's layers against plain loops over boxes, as the layers' sources describe them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import reference

from niudao.errors import NiudaoError
from niudao.formats.caffe.layers.call import Call
from niudao.formats.caffe.layers.proposal import anchors, settings
from niudao.formats.caffe.net import Layer
from niudao.formats.caffe.schema import schema
from niudao.formats.protobuf.message import message
from niudao.ir.build import Builder
from niudao.ir.session import run


def boxes_of(rows, columns, height, width, small, large=(), ratios=(), flip=True, clip=False, step=None, offset=0.5):
    """A loop over cells and sizes."""
    ratios_all = [1.0]
    for a in ratios:
        if all(abs(a - r) > 1e-6 for r in ratios_all):
            ratios_all += [a, 1 / a] if flip else [a]
    sy, sx = (step, step) if step else (height / rows, width / columns)
    out = []
    for h in range(rows):
        for w in range(columns):
            cx, cy = (w + offset) * sx, (h + offset) * sy
            for i, s in enumerate(small):
                s = int(s)
                sides = [(s, s)] + ([(np.sqrt(s * int(large[i])),) * 2] if large else [])
                sides += [(s * np.sqrt(a), s / np.sqrt(a)) for a in ratios_all if abs(a - 1) > 1e-6]
                for bw, bh in sides:
                    out += [(cx - bw / 2) / width, (cy - bh / 2) / height, (cx + bw / 2) / width, (cy + bh / 2) / height]
    flat = np.array(out)
    return np.clip(flat, 0, 1) if clip else flat


@pytest.mark.parametrize(
    ("text", "setting", "variance"),
    [
        ("min_size: 30.7 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2", {"small": [30.7]}, [0.1, 0.1, 0.2, 0.2]),
        ("min_size: 20 max_size: 35.84 aspect_ratio: 2 clip: true", {"small": [20], "large": [35.84], "ratios": [2], "clip": True}, [0.1]),
        (
            "min_size: 4 min_size: 9 aspect_ratio: 2 aspect_ratio: 3 aspect_ratio: 0.5 aspect_ratio: 1 step: 7 offset: 0.25 variance: 0.3",
            {"small": [4, 9], "ratios": [2, 3, 0.5], "step": 7, "offset": 0.25},
            [0.3],
        ),
        ("min_size: 4 aspect_ratio: 2 flip: false img_h: 50 img_w: 60", {"small": [4], "ratios": [2], "flip": False}, [0.1]),
    ],
)
def test_prior_boxes_are_those_of_a_loop(net, text, setting, variance):
    layer = f'layer {{ name: "p" type: "PriorBox" bottom: "f" bottom: "data" top: "p" prior_box_param {{ {text} }} }}'
    size = (50, 60) if "img_h" in text else (40, 36)
    model = net(layer, data=(1, 3, 40, 36), f=(1, 2, 5, 3))
    feeds = {"data": np.zeros((1, 3, 40, 36), "f4"), "f": np.zeros((1, 2, 5, 3), "f4")}
    got = run(model, feeds)["p"]
    want = boxes_of(5, 3, *size, **setting)
    assert got.shape == (1, 2, want.size)
    np.testing.assert_allclose(got[0, 0], want, atol=1e-6)
    np.testing.assert_allclose(got[0, 1], np.resize(variance, want.size), atol=1e-7)


def decoded(code, loc, prior, variance):
    x1, y1, x2, y2 = prior
    w, h = x2 - x1, y2 - y1
    d = loc * variance
    if code == "CORNER":
        return prior + d
    if code == "CORNER_SIZE":
        return prior + d * np.array([w, h, w, h])
    cx, cy = (x1 + x2) / 2 + d[0] * w, (y1 + y2) / 2 + d[1] * h
    bw, bh = w * np.exp(d[2]), h * np.exp(d[3])
    return np.array([cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2])


def area(box):
    return 0.0 if box[2] < box[0] or box[3] < box[1] else (box[2] - box[0]) * (box[3] - box[1])


def overlap(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return w * h / (area(a) + area(b) - w * h) if w > 0 and h > 0 else 0.0


def detections(loc, conf, prior, variance, *, code, share, background, threshold, nms, top_k, keep):
    """Picture by picture, class by class, box by box."""
    rows = []
    for n in range(len(loc)):
        found = []
        for c in range(conf.shape[2]):
            if c == background:
                continue
            boxes = [decoded(code, loc[n, p, 0 if share else c], prior[p], variance[p]) for p in range(len(prior))]
            order = [i for i in np.argsort(-conf[n, :, c], kind="stable") if conf[n, i, c] > threshold]
            kept = []
            for i in order[: top_k if top_k > -1 else None]:
                if all(overlap(boxes[i], boxes[k]) <= nms for k in kept):
                    kept.append(i)
            found += [(conf[n, i, c], c, boxes[i]) for i in kept]
        if -1 < keep < len(found):
            found = sorted(found, key=lambda f: -f[0])[:keep]
            found.sort(key=lambda f: f[1])
        rows += [[n, c, score, *box] for score, c, box in found]
    return np.array(rows) if rows else np.array([[n] + [-1] * 6 for n in range(len(loc))], float)


@pytest.mark.parametrize("seed", range(12))
def test_detections_are_those_of_a_loop(net, seed):
    rng = np.random.default_rng(seed)
    batch, count, classes = 3, 15, 4
    code, share = ("CORNER", "CENTER_SIZE", "CORNER_SIZE")[seed % 3], seed % 2 == 0
    setting = {"background": (0, 2, -1)[seed // 4], "threshold": (0.3, 0.99, 0.1)[seed % 3 - 1], "nms": 0.45}
    setting |= {"top_k": (-1, 6)[seed % 2], "keep": (-1, 5, 100)[seed // 2 % 3]}
    groups = 1 if share else classes
    center, half = rng.uniform(0.2, 0.8, (count, 2)), rng.uniform(0.05, 0.3, (count, 2))
    prior = np.concatenate([center - half, center + half], 1).astype("f4")
    variance = rng.uniform(0.05, 0.3, (count, 4)).astype("f4")
    loc = rng.standard_normal((batch, count, groups, 4)).astype("f4")
    conf = rng.uniform(0, 1, (batch, count, classes)).astype("f4")
    layer = f"""layer {{ name: "d" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "d" detection_output_param {{
        num_classes: {classes} share_location: {str(share).lower()} background_label_id: {setting["background"]} code_type: {code}
        nms_param {{ nms_threshold: {setting["nms"]} {f"top_k: {setting['top_k']}" if setting["top_k"] > -1 else ""} }}
        keep_top_k: {setting["keep"]} confidence_threshold: {setting["threshold"]} }} }}"""
    stored = {"prior": [np.stack([prior.ravel(), variance.ravel()])[None]]}
    parameter = f'layer {{ name: "prior" type: "Parameter" top: "prior" parameter_param {{ shape {{ dim: [1, 2, {count * 4}] }} }} }}'
    model = net(parameter + layer, stored, loc=(1, count * groups * 4), conf=(1, count * classes))
    feeds = {"loc": loc.reshape(batch, -1), "conf": conf.reshape(batch, -1)}
    want = detections(loc, conf, prior, variance, code=code, share=share, **setting)
    got = run(model, feeds)["d"]
    assert got.shape == (1, 1, *want.shape)
    np.testing.assert_allclose(got[0, 0], want, atol=1e-5)
    again = reference.ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)[0]
    np.testing.assert_allclose(again, got, atol=1e-5)


def test_a_falling_threshold_is_refused(net):
    nms = "nms_param { eta: 0.9 nms_threshold: 0.6 }"
    layer = f"""layer {{ name: "d" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "p" top: "d"
        detection_output_param {{ num_classes: 2 {nms} }} }}"""
    with pytest.raises(NiudaoError, match="falls"):
        net(layer, loc=(1, 8), conf=(1, 4), p=(1, 2, 8))


PUBLISHED = [
    [-83, -39, 100, 56],
    [-175, -87, 192, 104],
    [-359, -183, 376, 200],
    [-55, -55, 72, 72],
    [-119, -119, 136, 136],
    [-247, -247, 264, 264],
    [-35, -79, 52, 96],
    [-79, -167, 96, 184],
    [-167, -343, 184, 360],
]
"""The anchors in the comment of py-faster-rcnn's generate_anchors.py, which counts from 1 (Matlab)."""


def test_anchors_are_the_published_ones():
    assert anchors(16, (0.5, 1, 2), (8, 16, 32)).tolist() == (np.array(PUBLISHED) - 1).tolist()


def proposals(scores, deltas, info, stride, drop, smallest=16, before=6000, after=300, threshold=0.7):
    """py-faster-rcnn's forward pass, box by box."""
    base = anchors(16, (0.5, 1, 2), (8, 16, 32)).astype(float)
    found = []
    for h in range(scores.shape[2]):
        for w in range(scores.shape[3]):
            for a, anchor in enumerate(base):
                x1, y1, x2, y2 = anchor + np.array([w, h, w, h]) * stride
                aw, ah = x2 - x1 + 1, y2 - y1 + 1
                dx, dy, dw, dh = deltas[0, a * 4 : a * 4 + 4, h, w].astype(float)
                cx, cy, bw, bh = x1 + aw / 2 + dx * aw, y1 + ah / 2 + dy * ah, aw * np.exp(dw), ah * np.exp(dh)
                box = np.array([cx - bw / 2, cy - bh / 2, cx + bw / 2, cy + bh / 2])
                box = np.maximum(np.minimum(box, [info[1] - 1, info[0] - 1, info[1] - 1, info[0] - 1]), 0)
                large = min(box[2] - box[0], box[3] - box[1]) + 1 >= smallest * info[2]
                if large or not drop:
                    found.append((scores[0, len(base) + a, h, w] * large, box))
    found.sort(key=lambda f: -f[0])
    kept, ends = [], np.array([0, 0, 1, 1])
    for score, box in found[:before]:
        if len(kept) < after and all(overlap(box + ends, k + ends) <= threshold for _, k in kept):
            kept.append((score, box))
    return np.array([[0, *box] for _, box in kept])


@pytest.mark.parametrize("python", [True, False])
def test_proposals_are_those_of_a_loop(net, python):
    rng = np.random.default_rng(3)
    h, w = 6, 7
    scores = rng.uniform(0.1, 1, (1, 18, h, w)).astype("f4")
    deltas = (rng.standard_normal((1, 36, h, w)) * 0.3).astype("f4")
    info = np.array([[96, 112, 3.0]], "f4")
    kind = "Python" if python else "Proposal"
    part = (
        """python_param { module: 'rpn.proposal_layer' layer: 'ProposalLayer' param_str: "'feat_stride': 16" }"""
        if python
        else "proposal_param { pre_nms_topn: 200 post_nms_topn: 40 }"
    )
    layer = f'layer {{ name: "p" type: "{kind}" bottom: "s" bottom: "d" bottom: "i" top: "rois" {part} }}'
    model = net(layer, s=scores.shape, d=deltas.shape, i=info.shape)
    got = run(model, {"s": scores, "d": deltas, "i": info})["rois"]
    limits = {} if python else {"before": 200, "after": 40}
    want = proposals(scores, deltas, info[0], 16, python, **limits)
    assert got.shape == want.shape and len(want) > 5
    np.testing.assert_allclose(got, want, atol=1e-3)


def test_no_other_python_layer_is_read(net):
    layer = """layer { name: "p" type: "Python" bottom: "x" top: "y" python_param { module: 'os' layer: 'System' } }"""
    with pytest.raises(NiudaoError, match="never executed"):
        net(layer, x=(1, 3))


def test_settings_of_the_python_layer_are_parsed_and_nothing_else():
    m = message(schema(), "LayerParameter", name="p", type="Python")
    call = Call(Builder(), Layer("p", "Python", (), (), m))
    assert settings(call, "{'feat_stride': 16, 'scales': [4, 8.5]}") == {"feat_stride": (16.0,), "scales": (4.0, 8.5)}
    assert settings(call, "'feat_stride': 8\n\"scales\": (2,)") == {"feat_stride": (8.0,), "scales": (2.0,)}
    for text in ("'feat_stride': __import__('os')", "16", "'stride': 16", "'scales': [1, [2]]", "'feat_stride': 1e99", "(" * 100000):
        with pytest.raises(NiudaoError):
            settings(call, text)


IMPOSSIBLE = [
    'type: "PriorBox" bottom: "f" bottom: "data" prior_box_param { }',
    'type: "PriorBox" bottom: "f" bottom: "data" prior_box_param { min_size: -1 }',
    'type: "PriorBox" bottom: "f" bottom: "data" prior_box_param { min_size: 5 max_size: 4 }',
    'type: "PriorBox" bottom: "f" bottom: "data" prior_box_param { min_size: 5 max_size: 9 max_size: 10 }',
    'type: "PriorBox" bottom: "f" bottom: "data" prior_box_param { min_size: 5 variance: 1 variance: 1 }',
    'type: "PriorBox" bottom: "f" bottom: "data" prior_box_param { min_size: 5 img_size: 3 img_h: 3 }',
    'type: "PriorBox" bottom: "f" bottom: "data" prior_box_param { min_size: 5 step: -1 }',
    'type: "PriorBox" bottom: "f" bottom: "data" prior_box_param { min_size: inf }',
    'type: "PriorBox" bottom: "huge" bottom: "data" prior_box_param { min_size: 5 }',
    'type: "PriorBox" bottom: "f"',
    'type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "p" detection_output_param { num_classes: 3 }',
    'type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "p" detection_output_param { num_classes: 4294967295 }',
    'type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "p" detection_output_param { }',
    'type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "f" detection_output_param { num_classes: 2 }',
    'type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "p" detection_output_param { num_classes: 2 nms_param { eta: 2 } }',
    'type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "p" detection_output_param { num_classes: 2 keep_top_k: 0 }',
    'type: "Proposal" bottom: "f" bottom: "f" bottom: "loc"',
    'type: "Proposal" bottom: "f" bottom: "f" bottom: "loc" proposal_param { ratio: 0 }',
    'type: "Proposal" bottom: "f" bottom: "f" bottom: "loc" proposal_param { feat_stride: 4294967295 }',
]


@pytest.mark.parametrize("text", IMPOSSIBLE)
def test_impossible_settings_name_the_layer(net, text):
    inputs = {"data": (1, 3, 40, 36), "f": (1, 2, 5, 3), "huge": (1, 1, 100000, 100000), "loc": (1, 8), "conf": (1, 4), "p": (1, 2, 8)}
    with pytest.raises(NiudaoError, match="y"):
        net(f'layer {{ name: "y" top: "y" {text} }}', **inputs)
