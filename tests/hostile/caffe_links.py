"""Bad prototxt files, by their links: who takes what from whom, and what the inputs are said to be."""

from __future__ import annotations

from collections.abc import Iterator

from bad_prototxt import HEAD, layer
from badfile import BadFile, from_bytes
from caffe_layers import Row, given, many, one


def links() -> Iterator[Row]:
    """Who takes what from whom."""
    yield "link-top-twice", HEAD + one("ReLU", tops="y") + one("TanH", tops="y", name="other"), "", "either"
    yield "link-in-place-on-an-input", HEAD + one("ReLU", tops="data") + one("TanH", tops="data", name="other"), "", "open"
    yield (
        "link-in-place-of-another-shape",
        HEAD + one("Pooling", "pooling_param { kernel_size: 2 }", tops="data") + one("ReLU", name="r"),
        "",
        "either",
    )
    yield (
        "link-top-is-an-input-again",
        HEAD + one("Convolution", "convolution_param { num_output: 1 kernel_size: 1 }", tops="data"),
        "",
        "either",
    )
    yield "link-one-top-twice", HEAD + one("Slice", tops="y y y"), "", "either"
    yield (
        "link-bottom-of-a-dropped-layer",
        HEAD + one("ReLU", "include { phase: TRAIN }", tops="t", name="t") + one("ReLU", bottoms="t"),
        "'t'",
        "refuse",
    )
    yield "link-all-dropped", HEAD + one("ReLU", "include { phase: TRAIN }"), "", "refuse"
    yield "link-all-silenced", HEAD + one("Silence", tops=""), "output", "refuse"
    yield "link-loss-of-nothing", HEAD + one("SoftmaxWithLoss", bottoms=""), "", "refuse"
    yield "link-loss-of-a-missing", HEAD + one("SoftmaxWithLoss", bottoms="nobody label"), "nobody", "refuse"
    yield "link-loss-weights-odd", HEAD + one("SoftmaxWithLoss", "loss_weight: nan loss_weight: 1e400", bottoms="data"), "", "either"
    yield "link-ring-of-three", HEAD + many(lambda i: one("ReLU", bottoms=f"r{(i + 2) % 3}", tops=f"r{i}", name=f"r{i}"), 3), "r2", "refuse"
    yield "link-rules-both", HEAD + one("ReLU", "include { phase: TEST } exclude { phase: TEST }"), "", "either"
    yield "link-rules-levels", "state { level: -2147483648 }\n" + HEAD + one("ReLU", "include { min_level: 2147483647 }"), "", "refuse"
    yield (
        "link-dummy-data",
        'layer { name: "d" type: "DummyData" top: "data" dummy_data_param { num: 0 channels: 4294967295 height: 1 width: 1 } }\n'
        + one("ReLU"),
        "",
        "refuse",
    )
    yield "link-dummy-none", 'layer { name: "d" type: "DummyData" top: "data" }\n' + one("ReLU"), "shape", "refuse"
    yield "link-input-without-shape", 'layer { name: "d" type: "Input" top: "data" }\n' + one("ReLU"), "shape", "refuse"
    yield "link-input-9-axes", given("data", *[1] * 9) + one("ReLU"), "sizes", "refuse"
    yield (
        "link-input-declared-twice",
        'input: "data" input: "data" ' + "input_dim: 1 " * 8 + one("ReLU"),
        "data",
        "refuse",
    )
    yield (
        "link-input-dim-odd",
        'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8 input_dim: 8\n' + one("ReLU"),
        "input_dim",
        "refuse",
    )
    yield "link-input-dim-without-input", "input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8\n" + one("ReLU"), "input_dim", "refuse"
    yield (
        "link-input-both-ways",
        'input: "data" input_dim: 9 input_dim: 9 input_dim: 9 input_dim: 9 input_shape { dim: 1 dim: 3 }\n' + one("ReLU"),
        "",
        "either",
    )
    yield (
        "link-shared-parameters",
        HEAD
        + many(
            lambda i: one(
                "InnerProduct", "param { name: 'w' } param { name: 'w' } inner_product_param { num_output: 2 }", tops=f"y{i}", name=f"f{i}"
            ),
            2,
        ),
        "",
        "either",
    )
    yield (
        "link-python-data",
        'layer { name: "d" type: "Python" top: "data" python_param { module: "os" layer: "system" } }\n' + one("ReLU"),
        "shape|never",
        "refuse",
    )
    yield "link-eltwise-not-broadcast", HEAD + given("v", 1, 3, 1, 1) + one("Eltwise", bottoms="data v"), "shape", "refuse"
    yield "link-batch-tied", given("a", 2, 3) + given("b", 5, 3) + one("Eltwise", bottoms="a b"), "shape", "refuse"
    yield (
        "link-regions-of-images",
        given("data", 1, 3, 8, 8) + one("ROIPooling", "roi_pooling_param { pooled_h: 2 pooled_w: 2 }", bottoms="data data"),
        "5 numbers|regions",
        "refuse",
    )
    yield "link-layer-of-old-names", layer("RELU", ""), "RELU", "refuse"


def cases() -> Iterator[BadFile]:
    """Every case of this module."""
    for name, text, says, verdict in links():
        yield from_bytes(name, text.encode(), ".prototxt", says, verdict)
