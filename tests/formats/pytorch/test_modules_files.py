"""Files of real frameworks through `to_module`: what ONNX Runtime says, and every weight under its source's name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

import niudao as nd
from niudao.formats.pytorch import from_module, to_module
from niudao.formats.pytorch.modules import Network

FILES = (
    "keras-2.2.4/squeezenet/model.h5",
    "keras-2.2.4/lstm/model.h5",
    "keras-2.2.4/zoo_gru_variants/model.h5",
    "keras-3/zoo_bidirectional/model.keras",
    "keras-3/zoo_layernorm_attention/model.keras",
    "keras-3/zoo_deconv/model.keras",
    "keras-3/zoo_upsampling/model.keras",
    "caffe-1.0/squeezenet/deploy.prototxt",
    "caffe-1.0/mobilenet_v2/deploy.prototxt",
    "caffe-1.0/op_pool_ave/deploy.prototxt",
    "caffe-1.0/op_pool_max/deploy.prototxt",
    "caffe-1.0/op_deconv/deploy.prototxt",
    "caffe-1.0/op_lstm/deploy.prototxt",
)


def compare(model: ir.Model, network: Network) -> None:
    rng = np.random.default_rng(0)
    shapes = {v.name: [d if isinstance(d, int) else (2 if i == 0 else 8) for i, d in enumerate(v.shape)] for v in model.graph.inputs}
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    want = nd.run(model, feeds)
    with torch.no_grad():
        out = network(*(torch.from_numpy(feeds[v.name]) for v in model.graph.inputs))
    for got, (name, value) in zip(out if isinstance(out, tuple) else (out,), want.items(), strict=True):
        assert got.shape == value.shape, name
        assert np.abs(got.numpy() - value).max() <= 1e-4 * np.abs(value).max() + 1e-7, name


@pytest.mark.parametrize("names", ["source", "torch"])
@pytest.mark.parametrize("file", FILES)
def test_a_real_file_gives_the_same_numbers(real_data: Path, file: str, names: Any) -> None:
    path = real_data / "frameworks" / file
    if not path.exists():
        pytest.skip(f"{path} is not there")
    model = nd.read(path)
    network = to_module(model, names=names)
    compare(model, network)
    if names == "source":
        assert set(network.state_dict()) <= set(model.graph.initializers)
    assert set(network.initializers.values()) <= set(model.graph.initializers)
    torch.manual_seed(0)
    with torch.no_grad():  # what training would do
        for parameter in network.parameters():
            parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
    assert from_module(network) is model
    compare(model, network)
