"""Settings of every kind of layer that Caffe would refuse, or that mean next to nothing; hundreds of small networks."""

from __future__ import annotations

from collections.abc import Iterator

from bad_prototxt import CONV, HEAD
from badfile import BadFile, from_bytes
from caffe_layers import Row, given, one
from keras_config import CANARY

PARAMS = {
    "Convolution": "convolution", "Deconvolution": "convolution", "Im2col": "convolution", "BatchNorm": "batch_norm", "ArgMax": "argmax",
    "InnerProduct": "inner_product", "ShuffleChannel": "shuffle_channel", "Normalize": "norm",
}  # fmt: skip
"""Layers whose settings are not called after them in small letters."""

SETTINGS = """
Power: power: 1e38 scale: 1e38 shift: -1e38
Power: power: nan
Power: power: 0 scale: inf
Power: power: -1 scale: 0 shift: 0
Exp: base: 0
Exp: base: -2
Exp: base: 1e38 shift: 1e38
Log: base: 1
Log: base: nan
Log: base: 1e-45
ELU: alpha: nan
ELU: alpha: -1e38
Clip: min: 2 max: 1
Clip: min: nan max: nan
Clip:
LRN: local_size: 5 alpha: nan
LRN: beta: -1 k: 0
LRN: alpha: -1e38
LRN: norm_region: WITHIN_CHANNEL local_size: 2147483647
MVN: eps: 0
MVN: eps: -1 across_channels: true
MVN: eps: nan
Normalize: eps: 0
Normalize: eps: -1 across_spatial: true channel_shared: false
BatchNorm: eps: -1
BatchNorm: eps: nan
BatchNorm: use_global_stats: false
BN: eps: -1
BN: bn_mode: LEARN
Scale: num_axes: -2
Scale: axis: 0 num_axes: -1 bias_term: true
Scale: num_axes: 0
Scale: num_axes: -2147483648
Bias: axis: -5
Bias: num_axes: 2147483647
Softmax: axis: 4
Softmax: axis: -2147483648
Softmax: axis: 0
Reduction: coeff: nan
Reduction: axis: 0
Reduction: operation: 9
Flatten: axis: 2 end_axis: 1
Flatten: axis: 0
Flatten: axis: -2147483648
Reshape:
Reshape: shape { dim: -2 }
Reshape: shape { dim: 0 dim: 0 dim: 0 dim: 0 dim: 0 }
Reshape: axis: 9
Reshape: num_axes: -7
Reshape: shape { dim: 9223372036854775807 }
Reshape: shape { dim: -1 dim: 7 }
Reshape: axis: -1 num_axes: 0 shape { dim: -1 }
Slice: axis: 0
Slice: slice_point: 4
Slice: slice_point: 0
Slice: slice_dim: 9
Slice: axis: 1 slice_dim: 1
Crop: axis: 9
Crop: offset: 4294967295
Tile: tiles: -1
Tile: axis: 0 tiles: 2
Permute: order: 4294967295
Permute: order: 1
Permute:
Reverse: axis: -9
Reverse: axis: 0
ShuffleChannel: group: 4294967295
Reorg: stride: 0
Reorg: stride: 4294967295
Reorg: stride: 5
Reorg: stride: 2 reverse: true
Interp:
Interp: shrink_factor: 0
Interp: zoom_factor: -1
Interp: pad_beg: 1 zoom_factor: 2
Interp: pad_end: -9 zoom_factor: 2
Interp: pad_beg: -2147483648 pad_end: -2147483648 height: 1 width: 1
Upsample: scale: 0
Upsample: upsample_h: 4294967295
Upsample: upsample_h: 0
Pooling: kernel_size: 7
Pooling: kernel_size: 0
Pooling: kernel_size: 3 pad: 3
Pooling: kernel_size: 2 stride: 4294967295
Pooling: pool: 7 kernel_size: 2
Pooling: pool: AVE kernel_size: 6 stride: 5 pad: 5
Pooling: kernel_h: 2
Pooling: kernel_size: 2 stride: 2 stride_h: 2
SPP: pyramid_height: 3 pool: STOCHASTIC
SPP: pyramid_height: 4
Convolution: num_output: 4 kernel_size: [3, 3, 3]
Convolution: num_output: 4 kernel_size: 3 axis: 9
Convolution: num_output: 4 kernel_size: 3 axis: 0
Convolution: num_output: 4 kernel_size: 3 axis: 3
Convolution: num_output: 4 kernel_size: 3 kernel_h: 3 kernel_w: 3
Convolution: kernel_size: 3
Convolution: num_output: 4 kernel_size: 3 group: 4294967295
Convolution: num_output: 4
Deconvolution: num_output: 4 kernel_size: 1 pad: 3
Deconvolution: num_output: 4 kernel_size: 3 stride: 4294967295
Deconvolution: num_output: 4 kernel_size: 3 axis: 0
Im2col: kernel_size: 0
Im2col: kernel_size: 3 axis: 3
Im2col: kernel_size: 3 axis: 0
InnerProduct: num_output: 2 axis: 0
InnerProduct: num_output: 2 axis: 3 transpose: true
InnerProduct: num_output: 0
InnerProduct: num_output: 2 axis: -9
Embed: num_output: 0 input_dim: 1
Embed: num_output: 1 input_dim: 0
ArgMax: top_k: 0
ArgMax: axis: 0 top_k: 3
ArgMax: axis: -9
ArgMax: out_max_val: true top_k: 144
Parameter:
Parameter: shape { dim: 0 }
Parameter: shape { dim: 9223372036854775807 }
PReLU: channel_shared: true
ReLU6: negative_slope: -1
ReLU6: negative_slope: nan
"""

PARAM_STRS = [
    f"__import__('os').system('touch {CANARY}')", "'feat_stride': 1e999", "'feat_stride': -0", "'feat_stride': e", "{" * 900, "",
    "'feat_stride': 16, 'scales': [1e5, nan]", "'feat_stride': [" + "1," * 190 + "]", "feat_stride: 16\\nscales: !!int 8",
    f"!!python/object/apply:os.system ['touch {CANARY}']",
]  # fmt: skip

TAKERS = (
    "ReLU Convolution Pooling Eltwise Concat Slice LSTM RNN ROIPooling PSROIPooling Proposal PriorBox DetectionOutput Crop Upsample Axpy "
    "BatchReindex Filter Scale Bias Embed InnerProduct Split Silence Reshape BatchNorm Interp Python Input DummyData"
).split()


def settings() -> Iterator[Row]:
    """Each setting on a picture and on a vector; each layer with too few and too many inputs of odd ranks."""
    shapes = {"image": given("data", 1, 4, 6, 6), "flat": given("data", 1, 4)}
    rows = [row.split(": ", 1) if ": " in row else [row.strip(":"), ""] for row in SETTINGS.strip().split("\n")]
    for i, (type, text) in enumerate(rows):
        part = f"{PARAMS.get(type, type.lower())}_param {{ {text} }}"
        for name, shape in shapes.items():
            bottoms = {"Crop": "data data", "Parameter": ""}.get(type, "data")
            yield f"set-{type}-{i}-{name}", shape + one(type, part, bottoms, "a b" if type == "Slice" else "y"), "", "either"
    for i, word in enumerate(PARAM_STRS):
        part = f"python_param {{ module: 'rpn.proposal_layer' layer: 'ProposalLayer' param_str: \"{word}\" }}"
        yield f"set-Python-{i}", HEAD + one("Python", part, "data data data"), "", "refuse"
    yield "set-Python-elsewhere", HEAD + one("Python", "python_param { module: 'evil' layer: 'ProposalLayer' }"), "", "refuse"
    for type in TAKERS:
        for name, shape in (
            ("scalar", given("data")),
            ("vector", given("data", 3)),
            ("rank-8", given("data", *[1] * 8)),
            ("conv", HEAD + CONV),
        ):
            for number in (0, 1, 2, 3, 5):
                text = shape + one("ReLU", tops="z", name="r") + one(type, "", "data " * number)
                yield f"take-{type}-{number}-{name}", text, "", "either"


def cases() -> Iterator[BadFile]:
    """Every case of this module."""
    for name, text, says, verdict in settings():
        yield from_bytes(name, text.encode(), ".prototxt", says, verdict)
