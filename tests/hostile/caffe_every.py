"""Small networks of every kind of layer and of every generation, to be damaged: the damage then reaches every reader of a layer."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import bad_prototxt as base
from caffe_layers import given, one


def vision() -> str:
    return given("data", 2, 4, 12, 12) + "".join(
        one(type, settings, bottoms, tops, f"l{i}")
        for i, (type, settings, bottoms, tops) in enumerate(
            [
                (
                    "Convolution",
                    "convolution_param { num_output: 8 kernel_h: 3 kernel_w: 3 pad: 1 stride: 1 group: 2 dilation: 1 bias_term: true }",
                    "data",
                    "c",
                ),
                ("BatchNorm", "batch_norm_param { use_global_stats: true eps: 0.001 }", "c", "c"),
                ("Scale", "scale_param { axis: 1 bias_term: true }", "c", "c"),
                ("PReLU", "prelu_param { channel_shared: false }", "c", "p"),
                ("Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 2 pad: 0 round_mode: CEIL }", "p", "m mask"),
                ("Upsample", "upsample_param { scale: 2 upsample_h: 12 upsample_w: 12 }", "m mask", "u"),
                ("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 pad: 1 }", "c", "a"),
                ("LRN", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 k: 1 norm_region: ACROSS_CHANNELS }", "a", "n"),
                ("Deconvolution", "convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 }", "a", "d"),
                ("Crop", "crop_param { axis: 2 offset: 0 offset: 1 }", "d u", "k"),
                ("Eltwise", "eltwise_param { operation: SUM coeff: 1 coeff: -1 }", "c u", "e"),
                ("Concat", "concat_param { axis: 1 }", "e c", "j"),
                ("Slice", "slice_param { axis: 1 slice_point: 4 slice_point: 8 }", "j", "s1 s2 s3"),
                ("ShuffleChannel", "shuffle_channel_param { group: 2 }", "s1", "h"),
                ("Reorg", "reorg_param { stride: 2 reverse: false }", "j", "g"),
                ("Interp", "interp_param { height: 7 width: 7 pad_beg: 0 pad_end: -1 }", "s2", "i"),
                ("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }", "i", "q"),
                ("Flatten", "flatten_param { axis: 1 end_axis: -1 }", "q", "f"),
                ("Normalize", "norm_param { across_spatial: false channel_shared: false eps: 1e-10 }", "s3", "z"),
                ("MVN", "mvn_param { normalize_variance: true across_channels: false eps: 1e-9 }", "z", "v"),
                ("SPP", "spp_param { pyramid_height: 2 pool: MAX }", "v", "y1"),
                ("InnerProduct", "inner_product_param { num_output: 5 axis: 1 transpose: false bias_term: true }", "f", "t"),
                ("Softmax", "softmax_param { axis: 1 }", "t", "prob"),
                ("ArgMax", "argmax_param { top_k: 2 axis: 1 out_max_val: true }", "prob", "y2"),
                ("Reduction", "reduction_param { operation: MEAN axis: 1 coeff: 2 }", "h", "y3"),
                ("Tile", "tile_param { axis: 1 tiles: 3 }", "t", "y4"),
                ("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 2 } axis: 0 num_axes: -1 }", "n", "y5"),
                ("Im2col", "convolution_param { kernel_size: 3 stride: 2 }", "d", "y6"),
                ("Bias", "bias_param { axis: 1 num_axes: 1 }", "g", "y7"),
                ("Pooling", "pooling_param { pool: AVE global_pooling: true }", "c", "e1"),
                ("Axpy", "", "e1 c u", "y8"),
            ]
        )
    )


def numbers() -> str:
    rows = [
        ("Power", "power_param { power: 2 scale: 0.5 shift: 1 }"), ("Exp", "exp_param { base: 2 scale: 1 shift: 0 }"),
        ("Log", "log_param { base: 10 scale: 1 shift: 3 }"), ("ELU", "elu_param { alpha: 0.5 }"),
        ("ReLU6", "relu6_param { negative_slope: 0.1 }"), ("Swish", "swish_param { beta: 1.5 }"),
        ("Clip", "clip_param { min: -1 max: 1 }"), ("Threshold", "threshold_param { threshold: 0.5 }"),
        ("Embed", "embed_param { num_output: 3 input_dim: 7 bias_term: true }"), ("Reverse", "reverse_param { axis: 0 }"),
    ]  # fmt: skip
    return given("data", 3, 5) + "".join(one(type, settings, "data", f"y{i}", f"l{i}") for i, (type, settings) in enumerate(rows))


def sequences() -> str:
    return (
        given("x", 3, 2, 4) + given("cont", 3, 2) + given("h", 1, 2, 5)
        + one("LSTM", "recurrent_param { num_output: 5 expose_hidden: false }", "x cont", "y1", "lstm")
        + one("RNN", "recurrent_param { num_output: 5 expose_hidden: true }", "x cont h", "y2 y3", "rnn")
    )  # fmt: skip


def detectors() -> str:
    prior = (
        "min_size: 8 max_size: 16 aspect_ratio: 2 aspect_ratio: 3 flip: true clip: false "
        "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 step: 8 offset: 0.5"
    )
    found = (
        "num_classes: 3 share_location: true background_label_id: 0 nms_param { nms_threshold: 0.45 top_k: 40 } "
        "code_type: CENTER_SIZE keep_top_k: 20 confidence_threshold: 0.01"
    )
    proposed = (
        "feat_stride: 8 base_size: 16 min_size: 16 ratio: 0.5 ratio: 1 ratio: 2 scale: 8 scale: 16 scale: 32 "
        "pre_nms_topn: 60 post_nms_topn: 10 nms_thresh: 0.7"
    )
    python = "module: 'rpn.proposal_layer' layer: 'ProposalLayer' param_str: \"'feat_stride': 8\""
    shapes = {
        "data": (1, 3, 32, 32), "map": (1, 8, 4, 4), "loc": (1, 384), "conf": (1, 288), "rois": (5, 5), "info": (1, 3),
        "score": (1, 18, 4, 4), "delta": (1, 36, 4, 4),
    }  # fmt: skip
    return (
        "".join(given(name, *dims) for name, dims in shapes.items())
        + one("PriorBox", f"prior_box_param {{ {prior} }}", "map data", "prior", "prior")
        + one("DetectionOutput", f"detection_output_param {{ {found} }}", "loc conf prior", "y1", "detections")
        + one("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 spatial_scale: 0.125 }", "map rois", "y2", "regions")
        + one("Proposal", f"proposal_param {{ {proposed} }}", "score delta info", "y3", "proposals")
        + one("Python", f"python_param {{ {python} }}", "score delta info", "y4", "python")
    )


def texts() -> Iterator[tuple[str, bytes]]:
    """(name, prototxt) of each; every one opens."""
    padding = 'layers { layer { name: "p" type: "padding" pad: 1 } bottom: "data" top: "p" }\n'
    made = {
        "vision": vision(), "numbers": numbers(), "sequences": sequences(), "detectors": detectors(), "train": base.TRAIN, "v1": base.V1,
        "v0": base.V0.replace('bottom: "data"', 'bottom: "p"').replace("layers {", padding + "layers {", 1),
    }  # fmt: skip
    for name, text in made.items():
        yield name, text.encode()


_VALUE = re.compile(rb"(?<=: )(?:\"[^\"]*\"|[-\w.]+)")
_NUMBERS = b"-1 0 1 2 3 4 5 7 8 9 13 64 1000 65536 2147483647 -2147483648 4294967295 1e38 nan inf 0.5 -0.5 1e-30".split()
_WORDS = b"MAX AVE STOCHASTIC SUM PROD MEAN WITHIN_CHANNEL CENTER_SIZE CORNER true false".split()


def mutate(data: bytes, seed: int) -> bytes:
    """One to three values exchanged for others of their kind, or a field dropped: most of these texts are networks still."""
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_VALUE.finditer(data))
        place = rng.choice(places)
        old, begin = place[0], place.start()
        if old[:1] == b'"':
            new = rng.choice([p[0] for p in places if p[0][:1] == b'"'])
        else:
            new = rng.choice(_WORDS if old[:1].isalpha() else _NUMBERS)
        if rng.random() < 0.15:  # the whole field
            begin, new = data.rfind(b" ", 0, begin - 2) + 1, b""
        elif rng.random() < 0.1:  # once more
            new = old + b" " + data[data.rfind(b" ", 0, begin - 2) + 1 : place.end()]
        data = data[:begin] + new + data[place.end() :]
    return data
