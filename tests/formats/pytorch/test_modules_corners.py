"""Corners of `to_module` and `from_module` that networks met in use: weights put together by exporters, deep networks, old opsets."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import niudao as nd
from niudao.errors import InvalidModel, Unsupported
from niudao.formats.pytorch import from_module, to_module
from niudao.ir.build import Builder

sys.path.insert(0, str(Path(__file__).parent))
from torchjudge import build, judge, operator, torch_answer, values

PICTURES = torch.from_numpy(values(6, 3, 6, 5))


def normalized(stats: int, *, shared: bool) -> ir.Model:
    """Two convolutions, each with a batch normalization; these have `stats` initializers between the four inputs of one."""
    b = Builder("net")
    y, channels = b.input("x", (None, 3, 6, 5)), 3
    ones, zeros = (b.weight(np.full(4, n, np.float32), f"n{n}") for n in (1, 0))
    own = [b.weight(np.full(4, n, np.float32), f"own{i}") for i, n in enumerate((1, 0, 0, 1))]
    for i in (1, 2):
        y = b.op("Conv", y, b.weight(values(4, channels, 1, 1, seed=i), f"conv{i}.weight"), layer=f"conv{i}")
        y = b.op("BatchNormalization", y, *((ones, zeros, zeros, ones) if stats == 2 else own), layer="bn" if shared else f"bn{i}")
        channels = 4
    b.output(b.op("GlobalAveragePool", y), "y")
    return b.model()


def trained(network: Any) -> torch.Tensor:
    """What a network says after some steps."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(4):
        optimizer.zero_grad()
        (network(PICTURES) - 1).square().mean().backward()
        optimizer.step()
    network.eval()
    answer: torch.Tensor = network(PICTURES).detach()
    return answer


@pytest.mark.parametrize("names", ["source", "torch"])
def test_equal_weights_that_an_exporter_put_together_are_trained_apart(names: Any) -> None:
    """Zeros that are shift and mean of every batch normalization at once, as exporters write a fresh network."""
    model = normalized(2, shared=False)
    network = to_module(model, names=names)
    want = trained(network)
    assert isinstance(network.bn1, nn.BatchNorm2d) and isinstance(network.bn2, nn.BatchNorm2d)
    assert not torch.equal(network.bn1.running_mean, network.bn2.running_mean)
    for _ in range(2):
        from_module(network)
        assert np.allclose(nd.run(model, {"x": PICTURES.numpy()})["y"], want.numpy(), atol=1e-5)


@pytest.mark.parametrize("names", ["source", "torch"])
def test_a_batch_normalization_that_is_called_twice_stays_one(names: Any) -> None:
    model = normalized(4, shared=True)
    network = to_module(model, names=names)
    want = trained(network)
    assert sum(b.shape == (4,) for b in network.buffers()) == 2
    from_module(network)
    assert np.allclose(nd.run(model, {"x": PICTURES.numpy()})["y"], want.numpy(), atol=1e-5)


def test_a_single_number_stays_without_axes() -> None:
    b = Builder("net")
    b.output(b.op("Mul", b.input("x", (2, 3)), b.weight(np.array(0.5, np.float32), "scale")), "y")
    model = b.model()
    from_module(to_module(model))
    held = model.graph.initializers["scale"].const_value
    assert held is not None and tuple(held.shape) == ()


def test_a_deep_network_is_pickled_without_its_model() -> None:
    b = Builder("deep")
    y = b.input("x", (None, 3, 6, 5))
    for i in range(300):
        y = b.op("Add", b.op("Relu", y, layer=f"relu{i}"), b.lazy(lambda: np.full(1, 0.5, np.float32), (1,), f"shift{i}"))
    b.output(y, "y")
    model = b.model()
    network = to_module(model)
    again = pickle.loads(pickle.dumps(network))
    assert torch.equal(again(PICTURES), network(PICTURES)) and again.model is None
    with pytest.raises(InvalidModel, match="does not remember its model"):
        from_module(again)
    assert from_module(again, model) is model


def test_a_copy_keeps_what_is_frozen() -> None:
    network = to_module(normalized(4, shared=False)).train()
    network.get_submodule("bn1").eval()
    twin = copy.deepcopy(network)
    assert twin.training and twin.conv1.training and not twin.bn1.training
    assert twin.model is network.model


@pytest.mark.parametrize("name", ["model.0.conv.weight", "backbone.model.weight", "text.meta.names.weight"])
def test_words_of_the_network_itself_are_names_of_layers_too(name: str) -> None:
    b = Builder("net")
    layer = name.removesuffix(".weight")
    b.output(b.op("Conv", b.input("x", (None, 3, 6, 5)), b.weight(values(2, 3, 1, 1), name), layer=layer), "y")
    model = b.model()
    network = to_module(model)
    assert set(network.state_dict()) == {name} and copy.deepcopy(network).remembered is model
    assert from_module(network) is model


def test_another_opset_is_refused() -> None:
    """Before opset 13 Softmax went over all axes from its own on: the same node, other numbers."""
    model = build([values(2, 3, 4)], operator("Softmax", axis=1))
    model.opset_imports[""] = 11
    with pytest.raises(InvalidModel, match="opset"):
        to_module(model)


def test_a_weight_without_a_recorded_shape() -> None:
    model = build([values(2, 3)], operator("LayerNormalization", values(3), values(3, seed=1)))
    model.graph.initializers["c1"].shape = None
    assert any(isinstance(m, nn.Module) for m in to_module(model, names="torch").children())


@pytest.mark.parametrize(
    ("strides", "shape", "auto"), [((3, 3), (14, 12), "NOTSET"), ((1, 3), (5, 13), "SAME_UPPER"), ((3, 1), (15, 4), "NOTSET")]
)
def test_a_transposed_convolution_that_is_asked_for_more_than_it_makes(strides: tuple[int, int], shape: tuple[int, int], auto: str) -> None:
    how = {"strides": strides, "output_shape": shape, "auto_pad": auto}
    judge([values(1, 2, 5, 4)], operator("ConvTranspose", values(2, 3, 1, 2), values(3), **how))


def test_a_transposed_convolution_whose_result_has_no_inferred_rank() -> None:
    model = build([values(1, 2, 5, 4)], operator("ConvTranspose", values(2, 3, 3, 3), output_shape=[5, 3]))
    if len(model.graph.outputs[0].shape or ()) == 4:
        judge([values(1, 2, 5, 4)], operator("ConvTranspose", values(2, 3, 3, 3), output_shape=[5, 3]))
        return
    with pytest.raises(Unsupported, match="rule of shapes"):
        to_module(model)


@pytest.mark.parametrize(
    ("op", "how"),
    [
        ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2]}),
        ("AveragePool", {"kernel_shape": [4, 3]}),
        ("LpPool", {"kernel_shape": [1, 3]}),
        ("MaxPool", {"kernel_shape": [2, 1], "dilations": [2, 1], "auto_pad": "SAME_UPPER"}),
    ],
)
def test_windows_that_runtimes_disagree_on_are_refused(op: str, how: dict[str, Any]) -> None:
    with pytest.raises(Unsupported, match=r"larger than|not agreed upon"):
        to_module(build([values(1, 2, 3, 2)], operator(op, **how)))


@pytest.mark.parametrize(
    ("op", "sizes", "how"),
    [
        ("LRN", (1, 4, 3, 3), {"size": 3}),
        ("AveragePool", (1, 2, 4, 4, 4), {"kernel_shape": [2, 2, 2]}),
        ("LpNormalization", (2, 3, 4), {"axis": 2, "p": 1}),
    ],
)
def test_half_precision_runs_where_torch_has_it_only_on_a_gpu(op: str, sizes: tuple[int, ...], how: dict[str, Any]) -> None:
    x = values(*sizes)
    x[0, 0] = 0
    (got,) = torch_answer(build([x.astype(np.float16)], operator(op, **how)), [x.astype(np.float16)])
    (want,) = torch_answer(build([x], operator(op, **how)), [x])
    assert got.dtype == np.float16 and np.allclose(got, want, atol=5e-3)


def test_statistics_of_another_type_are_refused() -> None:
    x = values(1, 3, 4).astype(np.float16)
    parts = [np.ones(3, np.float16)] * 2 + [np.ones(3, np.float32)] * 2
    with pytest.raises(Unsupported, match="types"):
        to_module(build([x], operator("BatchNormalization", *parts)))


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("include", [0, 1])
def test_a_mean_with_automatic_padding_of_open_sizes(auto: str, include: int) -> None:
    how = {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": auto, "count_include_pad": include}
    for size in (4, 5):
        judge([values(2, 2, size, 5)], operator("AveragePool", **how), free=True)


def test_a_mean_over_three_axes_of_which_one_is_smaller_than_its_window() -> None:
    judge([values(1, 2, 1, 4, 5)], operator("AveragePool", kernel_shape=[3, 3, 3], pads=[1] * 6, count_include_pad=1))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_factor_just_below_its_decimal_on_open_sizes(mode: str) -> None:
    """0.7 is a little less in float32, and torch's own layer would make 6 of 10."""
    how = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    for size in (10, 20, 7):
        judge([values(1, 2, size, 4)], operator("Resize", None, np.array([1, 1, 0.7, 1], np.float32), **how), free=True)


def test_corners_of_one_element_or_of_sizes_known_later() -> None:
    how = {"mode": "linear", "coordinate_transformation_mode": "align_corners"}
    judge([values(1, 2, 1, 4)], operator("Resize", None, np.array([1, 1, 1.5, 0.5], np.float32), **how))
    network = to_module(build([values(1, 2, 4, 4)], operator("Resize", None, np.array([1, 1, 1, 0.5], np.float32), **how), free=True))
    assert network(torch.zeros(1, 2, 3, 6)).shape == (1, 2, 3, 3)
    with pytest.raises(ValueError, match="part of an element"):
        network(torch.zeros(1, 2, 3, 5))
