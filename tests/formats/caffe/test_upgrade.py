"""Networks of every generation and phase become today's layers for inference."""

from __future__ import annotations

from pathlib import Path

import pytest

from niudao.errors import ReadError
from niudao.formats.caffe.net import Net
from niudao.formats.caffe.opening import read_prototxt
from niudao.formats.caffe.upgrade import network


def net(tmp_path: Path, text: str) -> Net:
    path = tmp_path / "net.prototxt"
    path.write_text(text)
    return network(read_prototxt(path), str(path))


INPUT = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8\n'


def test_v0_layers_keep_their_settings_and_padding_is_folded(tmp_path: Path) -> None:
    n = net(
        tmp_path,
        INPUT
        + """
        layers { layer { name: "pad" type: "padding" pad: 2 } bottom: "data" top: "padded" }
        layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 5 stride: 2 biasterm: false group: 1 } bottom: "padded" top: "c" }
        layers { layer { name: "p" type: "pool" pool: AVE kernelsize: 3 stride: 2 } bottom: "c" top: "p" }
        layers { layer { name: "n" type: "lrn" local_size: 3 alpha: 0.5 beta: 0.25 } bottom: "p" top: "n" }
        layers { layer { name: "s" type: "softmax" } bottom: "n" top: "s" }
        """,
    )
    assert n.generation == "V0"
    assert [x.type for x in n.layers] == ["Convolution", "Pooling", "LRN", "Softmax"]
    conv = n.layers[0].message.sub("convolution_param")
    assert n.layers[0].bottoms == ("data",)
    assert (conv.all("pad"), conv.all("kernel_size"), conv.all("stride"), conv.get("bias_term")) == ([2], [5], [2], False)
    pool, norm = n.layers[1].message.sub("pooling_param"), n.layers[2].message.sub("lrn_param")
    assert (pool.get("pool"), pool.get("kernel_size"), pool.get("stride")) == ("AVE", 3, 2)
    assert (norm.get("local_size"), norm.get("alpha"), norm.get("beta")) == (3, 0.5, 0.25)


def test_v1_types_are_renamed_by_meaning(tmp_path: Path) -> None:
    n = net(
        tmp_path,
        INPUT
        + """
        layers { name: "fc" type: INNER_PRODUCT bottom: "data" top: "fc" inner_product_param { num_output: 2 } }
        layers { name: "t" type: TANH bottom: "fc" top: "fc" }
        layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" }
        """,
    )
    assert n.generation == "V1"
    assert [(x.name, x.type) for x in n.layers] == [("fc", "InnerProduct"), ("t", "TanH"), ("prob", "Softmax")]


TRAIN = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN } transform_param { crop_size: 4 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
        transform_param { crop_size: 8 mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.5 } }
layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "only_train" type: "ReLU" bottom: "c" top: "c" exclude { phase: TEST } }
layer { name: "staged" type: "ReLU" bottom: "c" top: "c" include { stage: "deploy" } }
layer { name: "fc" type: "InnerProduct" bottom: "c" top: "fc" inner_product_param { num_output: 2 } }
layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def test_a_training_network_becomes_the_network_that_is_deployed(tmp_path: Path) -> None:
    n = net(tmp_path, TRAIN)
    assert [x.name for x in n.layers] == ["c", "fc", "prob"]
    assert [(x.name, x.shape) for x in n.inputs] == [("data", (None, None, 8, 8))]
    assert n.outputs() == ["prob"]


def test_stages_of_the_state_are_honoured(tmp_path: Path) -> None:
    n = net(tmp_path, 'state { phase: TEST stage: "deploy" }\n' + TRAIN)
    assert [x.name for x in n.layers] == ["c", "staged", "fc", "prob"]


def test_an_auxiliary_loss_goes_with_its_branch(tmp_path: Path) -> None:
    n = net(
        tmp_path,
        INPUT
        + """
        layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 4 kernel_size: 3 } }
        layer { name: "x" type: "InnerProduct" bottom: "a" top: "x" inner_product_param { num_output: 2 } }
        layer { name: "xr" type: "ReLU" bottom: "x" top: "x" }
        layer { name: "aux" type: "SoftmaxWithLoss" bottom: "x" bottom: "label" top: "aux" loss_weight: 0.3 }
        layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" inner_product_param { num_output: 2 } }
        layer { name: "loss" type: "SoftmaxWithLoss" bottom: "b" bottom: "label" top: "loss" }
        """,
    )
    assert [x.name for x in n.layers] == ["a", "b", "prob"]
    assert n.outputs() == ["prob"]
    assert any("aux" in note for note in n.notes)


def test_a_regression_ends_with_what_its_loss_took(tmp_path: Path) -> None:
    n = net(
        tmp_path,
        """
        layer { name: "data" type: "MemoryData" top: "data" top: "points"
                memory_data_param { batch_size: 2 channels: 1 height: 5 width: 4 } }
        layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 2 } }
        layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "points" top: "loss" }
        """,
    )
    assert [(x.name, x.shape) for x in n.inputs] == [("data", (2, 1, 5, 4))]
    assert n.outputs() == ["fc"]


def test_what_works_in_place_makes_its_blob_anew(tmp_path: Path) -> None:
    n = net(
        tmp_path,
        INPUT
        + """
        layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }
        layer { name: "before" type: "Sigmoid" bottom: "c" top: "early" }
        layer { name: "r" type: "ReLU" bottom: "c" top: "c" }
        layer { name: "d" type: "Dropout" bottom: "c" top: "c" }
        """,
    )
    assert n.outputs() == ["early", "c"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('input: "a" input_dim: 1 input_dim: 3\nlayer { name: "r" type: "ReLU" bottom: "a" top: "b" }', "input_dim"),
        ('input: "a" input_shape { dim: 1 } input_shape { dim: 2 }\nlayer { name: "r" type: "ReLU" bottom: "a" top: "b" }', "input_shape"),
        ('layers { layer { name: "a" type: "nonsense" } bottom: "data" top: "a" }', "type"),
        ('layers { layer { name: "p" type: "padding" pad: 1 } bottom: "data" top: "p" }\n'
         'layers { layer { name: "r" type: "relu" } bottom: "p" top: "r" }', "padding"),
        ('net: "train_val.prototxt" base_lr: 0.01', "solver"),
        ('name: "empty"', "no layer"),
    ],
)  # fmt: skip
def test_what_no_caffe_would_load_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ReadError, match=says):
        net(tmp_path, text)
