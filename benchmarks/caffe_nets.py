"""SqueezeNet v1.1 and VGG-19 as prototxt files with fillers, from which real Caffe makes the weights."""

from __future__ import annotations


def _conv(name: str, bottom: str, outputs: int, kernel: int, more: str = "") -> str:
    fillers = 'weight_filler { type: "msra" } bias_filler { type: "gaussian" std: 0.01 }'
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}"\n'
        f"  convolution_param {{ num_output: {outputs} kernel_size: {kernel} {more} {fillers} }} }}\n"
        f'layer {{ name: "relu_{name}" type: "ReLU" bottom: "{name}" top: "{name}" }}\n'
    )


def _pool(name: str, bottom: str, kernel: int) -> str:
    settings = f"pool: MAX kernel_size: {kernel} stride: 2"
    return f'layer {{ name: "{name}" type: "Pooling" bottom: "{bottom}" top: "{name}" pooling_param {{ {settings} }} }}\n'


def _head(name: str, side: int) -> str:
    return f'name: "{name}"\ninput: "data"\ninput_shape {{ dim: 1 dim: 3 dim: {side} dim: {side} }}\n'


def squeezenet() -> str:
    """Iandola et al. 2016, version 1.1: 1,235,496 weights."""
    text, x = _head("SqueezeNet", 227) + _conv("conv1", "data", 64, 3, "stride: 2") + _pool("pool1", "conv1", 3), "pool1"
    for i, (squeeze, expand) in enumerate(((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256)), 2):
        name = f"fire{i}"
        text += _conv(f"{name}/squeeze1x1", x, squeeze, 1)
        text += _conv(f"{name}/expand1x1", f"{name}/squeeze1x1", expand, 1) + _conv(
            f"{name}/expand3x3", f"{name}/squeeze1x1", expand, 3, "pad: 1"
        )
        parts = f'bottom: "{name}/expand1x1" bottom: "{name}/expand3x3"'
        text += f'layer {{ name: "{name}/concat" type: "Concat" {parts} top: "{name}/concat" }}\n'
        x = f"{name}/concat"
        if i in (3, 5):
            text, x = text + _pool(f"pool{i}", x, 3), f"pool{i}"
    text += f'layer {{ name: "drop9" type: "Dropout" bottom: "{x}" top: "{x}" dropout_param {{ dropout_ratio: 0.5 }} }}\n'
    text += _conv("conv10", x, 1000, 1)
    text += 'layer { name: "pool10" type: "Pooling" bottom: "conv10" top: "pool10" pooling_param { pool: AVE global_pooling: true } }\n'
    return text + 'layer { name: "prob" type: "Softmax" bottom: "pool10" top: "prob" }\n'


def vgg19() -> str:
    """Simonyan and Zisserman 2014, configuration E: 143,667,240 weights."""
    text, x = _head("VGG_ILSVRC_19_layers", 224), "data"
    for block, (layers, outputs) in enumerate(((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)), 1):
        for i in range(1, layers + 1):
            text, x = text + _conv(f"conv{block}_{i}", x, outputs, 3, "pad: 1"), f"conv{block}_{i}"
        text, x = text + _pool(f"pool{block}", x, 2), f"pool{block}"
    for i, outputs in ((6, 4096), (7, 4096), (8, 1000)):
        settings = f'num_output: {outputs} weight_filler {{ type: "msra" }}'
        text += f'layer {{ name: "fc{i}" type: "InnerProduct" bottom: "{x}" top: "fc{i}" inner_product_param {{ {settings} }} }}\n'
        x = f"fc{i}"
        if i < 8:
            text += f'layer {{ name: "relu{i}" type: "ReLU" bottom: "{x}" top: "{x}" }}\n'
            text += f'layer {{ name: "drop{i}" type: "Dropout" bottom: "{x}" top: "{x}" dropout_param {{ dropout_ratio: 0.5 }} }}\n'
    return text + f'layer {{ name: "prob" type: "Softmax" bottom: "{x}" top: "prob" }}\n'
