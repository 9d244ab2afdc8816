"""Normalizations against their formulas and against real Caffe."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from niudao.errors import NiudaoError
from niudao.formats.caffe.layers.call import SCALE_NAME
from niudao.ir.session import run

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4, 5, 2)).astype(np.float32)
MEAN, VAR, GAMMA, BETA = RNG.standard_normal(4), RNG.random(4) + 0.1, RNG.standard_normal(4), RNG.standard_normal(4)
BN = 'layer { name: "bn" type: "BatchNorm" bottom: "x" top: "b" batch_norm_param { eps: 0.001 } }'


def per_channel(v, rank=4):
    return np.asarray(v).reshape(1, -1, *[1] * (rank - 2))


def normal(x, mean, var, eps=0.001):
    return (x - per_channel(mean, x.ndim)) / np.sqrt(per_channel(var, x.ndim) + eps)


def close(model, want, **feeds) -> None:
    (got,) = run(model, feeds or {"x": X}).values()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [1.0, 999.98, 3.0, 0.0])
@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3), (2, 4, 5, 2), (2, 4, 2, 1, 3)])
def test_the_third_blob_divides_the_statistics(net, factor, shape) -> None:
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    f = 1 / factor if factor else 0
    close(net(BN, {"bn": [MEAN, VAR, [factor]]}, x=shape), normal(x, MEAN * f, VAR * f), x=x)


def test_a_scale_behind_becomes_part_of_the_node(net) -> None:
    scale = 'layer { name: "s" type: "Scale" bottom: "b" top: "y" scale_param { bias_term: true } }'
    model = net(BN, scale, {"bn": [MEAN, VAR, [1]], "s": [GAMMA, BETA]}, x=X.shape)
    close(model, normal(X, MEAN, VAR) * per_channel(GAMMA) + per_channel(BETA))
    (node,) = model.graph
    assert node.op_type == "BatchNormalization"
    assert node.metadata_props[SCALE_NAME] == "s"
    assert [v.name for v in node.inputs[1:]] == ["s/scale", "s/bias", "bn/mean", "bn/variance"]


@pytest.mark.parametrize("param", ["axis: -3", "axis: 1 num_axes: 1"])
@pytest.mark.parametrize("rank", [4, 5])
def test_a_scale_over_another_axis_stays_apart(net, param, rank) -> None:
    x = np.random.default_rng(2).standard_normal((2, 4, 4, 3, 2)[:rank]).astype(np.float32)
    scale = f'layer {{ name: "s" type: "Scale" bottom: "b" top: "y" scale_param {{ {param} }} }}'
    model = net(BN, scale, {"bn": [MEAN, VAR, [1]], "s": [GAMMA]}, x=x.shape)
    axis = rank - 3 if "-3" in param else 1
    close(model, normal(x, MEAN, VAR) * GAMMA.reshape([4 if a == axis else 1 for a in range(rank)]), x=x)
    assert len(list(model.graph)) == (1 if axis == 1 else 2)


def test_nvcaffe_keeps_the_scale_in_the_layer(net) -> None:
    close(net(BN, {"bn": [MEAN, VAR, [1], GAMMA, BETA]}, x=X.shape), normal(X, MEAN, VAR) * per_channel(GAMMA) + per_channel(BETA))


def test_statistics_of_the_batch_are_refused(net) -> None:
    with pytest.raises(NiudaoError, match="batch at hand"):
        net('layer { name: "bn" type: "BatchNorm" bottom: "x" top: "b" batch_norm_param { use_global_stats: false } }', x=X.shape)


def test_the_bn_of_two_forks(net) -> None:
    layer = 'layer { name: "bn" type: "BN" bottom: "x" top: "y" bn_param { bn_mode: INFERENCE } }'
    stored = [v.reshape(1, 4, 1, 1) for v in (GAMMA, BETA, MEAN, VAR)]
    close(net(layer, {"bn": stored[:2]}, x=X.shape), X * per_channel(GAMMA) + per_channel(BETA))
    layer = 'layer { name: "bn" type: "BN" bottom: "x" top: "y" bn_param { eps: 0.01 } }'
    close(net(layer, {"bn": stored}, x=X.shape), normal(X, MEAN, VAR, 0.01) * per_channel(GAMMA) + per_channel(BETA))
    with pytest.raises(NiudaoError, match="SegNet"):
        net(layer, {"bn": stored[:2]}, x=X.shape)


@pytest.mark.parametrize(
    ("param", "shape", "spread"),
    [
        ("", (4,), (1, 4, 1, 1)),
        ("axis: 2", (5,), (1, 1, 5, 1)),
        ("axis: -1", (2,), (1, 1, 1, 2)),
        ("axis: 1 num_axes: 2", (4, 5), (1, 4, 5, 1)),
        ("axis: 1 num_axes: -1", (4, 5, 2), (1, 4, 5, 2)),
        ("num_axes: 0", (), (1,)),
        ("axis: 0 num_axes: 2", (3, 4), (3, 4, 1, 1)),
    ],
)
def test_scale_and_bias_spread_their_blob(net, param, shape, spread) -> None:
    s, b = RNG.standard_normal(shape), RNG.standard_normal(shape)
    layer = f'layer {{ name: "s" type: "Scale" bottom: "x" top: "y" scale_param {{ bias_term: true {param} }} }}'
    close(net(layer, {"s": [s, b]}, x=X.shape), X * s.reshape(spread) + b.reshape(spread))
    layer = f'layer {{ name: "s" type: "Bias" bottom: "x" top: "y" bias_param {{ {param} }} }}'
    close(net(layer, {"s": [b]}, x=X.shape), X + b.reshape(spread))


@pytest.mark.parametrize(
    ("param", "shape"), [("axis: 0", (3, 4)), ("axis: 0", (3,)), ("axis: 1", (4, 5)), ("axis: -1", (2,)), ("axis: 0", (3, 4, 5, 2))]
)
def test_a_second_bottom_is_spread_from_the_axis(net, param, shape) -> None:
    s = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    axis = {"axis: 0": 0, "axis: 1": 1, "axis: -1": 3}[param]
    wide = s.reshape([1] * axis + list(shape) + [1] * (4 - axis - len(shape)))
    layer = f'layer {{ name: "s" type: "Scale" bottom: "x" bottom: "g" top: "y" scale_param {{ {param} }} }}'
    close(net(layer, x=X.shape, g=shape), X * wide, x=X, g=s)
    layer = f'layer {{ name: "s" type: "Bias" bottom: "x" bottom: "g" top: "y" bias_param {{ {param} }} }}'
    close(net(layer, x=X.shape, g=shape), X + wide, x=X, g=s)


@pytest.mark.parametrize(
    ("n", "alpha", "beta"), [(3, 0.7, 0.75), (5, 2.0, 0.5), (99, 1.5, 0.75), (3, -0.01, 0.75), (3, 1.0, -0.5), (1, 0.0, 1.0)]
)
def test_lrn_across_channels(net, n, alpha, beta) -> None:
    layer = f'layer {{ name: "n" type: "LRN" bottom: "x" top: "y" lrn_param {{ local_size: {n} alpha: {alpha} beta: {beta} k: 2 }} }}'
    square = np.pad(X.astype("f8") ** 2, ((0, 0), (n // 2, n // 2), (0, 0), (0, 0)))
    total = sum(square[:, i : i + 4] for i in range(n))
    close(net(layer, x=(1, *X.shape[1:])), X / (2 + alpha / n * total) ** beta)


@pytest.mark.parametrize("n", [1, 3, 9])
def test_lrn_within_each_channel(net, n) -> None:
    said = f"norm_region: WITHIN_CHANNEL alpha: 0.7 k: 5 local_size: {n}"
    layer = f'layer {{ name: "n" type: "LRN" bottom: "x" top: "y" lrn_param {{ {said} }} }}'
    square = np.pad(X.astype("f8") ** 2, ((0, 0), (0, 0), (n // 2, n // 2), (n // 2, n // 2)))
    total = sum(square[:, :, i : i + 5, j : j + 2] for i in range(n) for j in range(n))
    close(net(layer, x=(1, *X.shape[1:])), X / (1 + 0.7 / n**2 * total) ** 0.75)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("variance", [False, True])
def test_mvn_adds_eps_outside_the_root(net, across, variance) -> None:
    said = f"across_channels: {across} normalize_variance: {variance} eps: 0.1".lower()
    axes = (1, 2, 3) if across else (2, 3)
    y = X - X.mean(axes, keepdims=True)
    want = y / (np.sqrt((y * y).mean(axes, keepdims=True)) + 0.1) if variance else y
    close(net(f'layer {{ name: "n" type: "MVN" bottom: "x" top: "y" mvn_param {{ {said} }} }}', x=(1, *X.shape[1:])), want)


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_normalize_of_ssd(net, across, shared) -> None:
    said = f"across_spatial: {across} channel_shared: {shared} eps: 0.01".lower()
    s = np.float64(3.0) if shared else GAMMA
    want = X / np.sqrt((X * X).sum((1, 2, 3) if across else 1, keepdims=True) + 0.01) * (s if shared else per_channel(s))
    close(
        net(f'layer {{ name: "n" type: "Normalize" bottom: "x" top: "y" norm_param {{ {said} }} }}', {"n": [s]}, x=(1, *X.shape[1:])), want
    )


@pytest.mark.parametrize(
    "layer",
    [
        'type: "LRN" lrn_param { local_size: 4 }',
        'type: "LRN" lrn_param { local_size: 0 }',
        'type: "Scale" scale_param { axis: 4 }',
        'type: "Scale" scale_param { axis: 2 num_axes: 3 }',
        'type: "Scale" scale_param { num_axes: -2 }',
        'type: "Bias" bias_param { axis: -99 }',
        'type: "Scale" bottom: "x" bottom: "x"',
        'type: "Scale" bottom: "x" scale_param { axis: 1 }',
    ],
)
def test_impossible_settings_are_refused(net, layer) -> None:
    with pytest.raises(NiudaoError, match="'n'"):
        net(f'layer {{ name: "n" bottom: "x" top: "y" {layer} }}', x=X.shape)


@pytest.mark.parametrize("n", [2147483647, 2147483645])
def test_a_huge_window_costs_nothing(net, n) -> None:
    for region in ("ACROSS_CHANNELS", "WITHIN_CHANNEL"):
        layer = f'layer {{ name: "n" type: "LRN" bottom: "x" top: "y" lrn_param {{ local_size: {n} norm_region: {region} }} }}'
        close(net(layer, x=X.shape), X)


def test_networks_without_weights_normalize_by_nothing(net) -> None:
    model = net(BN, x=X.shape)
    close(model, X / np.sqrt(1.001))
    assert isinstance(model.graph.outputs[0].shape[0], ir.SymbolicDim)


@pytest.mark.parametrize(("name", "count"), [("op_batchnorm_scale", 9), ("op_lrn_across", 3)])
def test_as_real_caffe_ran(as_caffe_ran, name, count) -> None:
    assert as_caffe_ran(name) == count
