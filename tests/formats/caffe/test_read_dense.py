"""InnerProduct and Embed against numpy and against real Caffe."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from niudao.errors import NiudaoError
from niudao.ir.session import run

SHAPE = (2, 3, 4, 5)


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("axis", [1, 2, 3, -1, 0])
def test_a_product_from_an_axis_on(net, axis, transpose) -> None:
    rng = np.random.default_rng(0)
    at = axis % 4
    inputs = int(np.prod(SHAPE[at:]))
    w, b = rng.standard_normal((7, inputs)), rng.standard_normal(7)
    said = f"num_output: 7 axis: {axis} transpose: {str(transpose).lower()}"
    layer = f'layer {{ name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {{ {said} }} }}'
    model = net(layer, {"fc": [w.T if transpose else w, b]}, x=SHAPE)
    x = rng.standard_normal(SHAPE if at == 0 else (5, *SHAPE[1:])).astype(np.float32)  # another batch, unless it is summed over
    want = x.reshape(*x.shape[:at], inputs) @ w.T + b
    np.testing.assert_allclose(run(model, {"x": x})["y"], want, atol=1e-4)
    first = model.graph.outputs[0].shape
    assert first is not None
    assert (first[0] == 7) if at == 0 else isinstance(first[0], ir.SymbolicDim)


def test_no_copy_of_the_matrix_is_made(net) -> None:
    layer = 'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 200 } }'
    model = net(layer, {"fc": [np.ones((200, 150)), np.ones(200)]}, x=(1, 1, 10, 15))
    assert isinstance(model.graph.initializers["fc/weight"].const_value, ir.ExternalTensor)
    assert [n.op_type for n in model.graph] == ["Flatten", "Gemm"]


def test_embed_takes_rows(net) -> None:
    rng = np.random.default_rng(1)
    w, b = rng.standard_normal((10, 6)).astype(np.float32), rng.standard_normal(6).astype(np.float32)
    layer = 'layer { name: "e" type: "Embed" bottom: "x" top: "y" embed_param { input_dim: 10 num_output: 6 } }'
    x = rng.integers(0, 10, (4, 3)).astype(np.float32)
    got = run(net(layer, {"e": [w, b]}, x=(2, 3)), {"x": x})["y"]
    np.testing.assert_array_equal(got, w[x.astype(int)] + b)


@pytest.mark.parametrize(
    "layer",
    [
        'type: "InnerProduct" inner_product_param { num_output: 0 }',
        'type: "InnerProduct"',
        'type: "InnerProduct" inner_product_param { num_output: 4294967295 }',
        'type: "InnerProduct" inner_product_param { num_output: 3 axis: 4 }',
        'type: "InnerProduct" inner_product_param { num_output: 3 axis: -99 }',
        'type: "Embed" embed_param { num_output: 100000 input_dim: 100000 }',
        'type: "Embed" embed_param { num_output: 5 }',
        'type: "Embed" embed_param { num_output: 100000000 input_dim: 1 }',
    ],
)
def test_impossible_settings_are_refused(net, layer) -> None:
    with pytest.raises(NiudaoError, match="'fc'"):
        net(f'layer {{ name: "fc" {layer} bottom: "x" top: "y" }}', x=SHAPE)


@pytest.mark.parametrize(
    "blobs", [[np.ones((3, 60))], [np.ones((3, 61)), np.ones(3)], [np.ones((60, 3)), np.ones(3)], [np.ones((3, 60)), np.ones(4)], []]
)
def test_weights_of_another_network_are_noticed(net, blobs) -> None:
    layer = 'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 3 } }'
    with pytest.raises(NiudaoError, match="'fc'"):
        net(layer, {"fc": blobs, "other": [np.ones(1)]}, x=SHAPE)


@pytest.mark.parametrize(("name", "count"), [("op_innerproduct", 5), ("op_embed", 1)])
def test_as_real_caffe_ran(as_caffe_ran, name, count) -> None:
    assert as_caffe_ran(name) == count
