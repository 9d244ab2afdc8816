"""Convolutions against loops over windows, as Caffe's im2col describes them, and against real Caffe."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from niudao.errors import NiudaoError
from niudao.ir.session import run


def correlate(x, w, bias, stride, pad, dilation, group):
    """(N, C, *spatial): a loop over outputs and kernel elements; what lies outside is zero; Caffe's division goes towards zero."""
    spatial, kernel = x.shape[2:], w.shape[2:]
    rest = [n + 2 * p - d * (k - 1) - 1 for n, p, d, k in zip(spatial, pad, dilation, kernel, strict=True)]
    out = [int(r / s) + 1 for r, s in zip(rest, stride, strict=True)]
    y = np.zeros((len(x), len(w), *out))
    ins, outs = x.shape[1] // group, len(w) // group
    for at in product(*map(range, out)):
        for k in product(*map(range, kernel)):
            place = [a * s - p + d * i for a, s, p, d, i in zip(at, stride, pad, dilation, k, strict=True)]
            if all(0 <= q < n for q, n in zip(place, spatial, strict=True)):
                for g in range(group):
                    part = x[(slice(None), slice(g * ins, (g + 1) * ins), *place)]
                    y[(slice(None), slice(g * outs, (g + 1) * outs), *at)] += part @ w[(slice(g * outs, (g + 1) * outs), slice(None), *k)].T
    return y + bias.reshape(1, -1, *[1] * len(spatial))


def scatter(x, w, bias, stride, pad, dilation, group):
    """The transpose: every input adds its kernel to the output."""
    spatial, kernel = x.shape[2:], w.shape[2:]
    full = [s * (n - 1) + d * (k - 1) + 1 for n, s, d, k in zip(spatial, stride, dilation, kernel, strict=True)]
    ins, outs = x.shape[1] // group, w.shape[1]
    y = np.zeros((len(x), outs * group, *full))
    for at in product(*map(range, spatial)):
        for k in product(*map(range, kernel)):
            place = tuple(a * s + d * i for a, s, d, i in zip(at, stride, dilation, k, strict=True))
            for g in range(group):
                part = x[(slice(None), slice(g * ins, (g + 1) * ins), *at)] @ w[(slice(g * ins, (g + 1) * ins), slice(None), *k)]
                y[(slice(None), slice(g * outs, (g + 1) * outs), *place)] += part
    inside = tuple(slice(p, n - p) for p, n in zip(pad, full, strict=True))
    return y[(slice(None), slice(None), *inside)] + bias.reshape(1, -1, *[1] * len(spatial))


SETTINGS = [
    # spatial, kernel, stride, pad, dilation, group
    ((7, 6), (3, 2), (2, 1), (1, 0), (1, 2), 1),
    ((5, 9), (3, 3), (1, 3), (2, 1), (2, 2), 2),
    ((8,), (3,), (2,), (1,), (1,), 4),
    ((3, 4, 5), (2, 1, 3), (1, 2, 1), (0, 1, 1), (1, 1, 1), 2),
    ((4, 4), (6, 2), (3, 1), (0, 0), (1, 1), 1),  # a kernel that is larger than the image still gives one window
]


def said(num, kernel, stride, pad, dilation, group):
    lists = {"kernel_size": kernel, "stride": stride, "pad": pad, "dilation": dilation}
    return f"num_output: {num} group: {group} " + " ".join(f"{k}: {v}" for k, values in lists.items() for v in values)


@pytest.mark.parametrize("setting", SETTINGS)
def test_convolution_is_a_loop_over_windows(net, setting) -> None:
    spatial, *rest, group = setting
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 4, *spatial)).astype(np.float32)
    w, bias = rng.standard_normal((6 if group < 4 else 8, 4 // group, *rest[0])), rng.standard_normal(6 if group < 4 else 8)
    layer = f'layer {{ name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param {{ {said(len(w), *rest, group)} }} }}'
    model = net(layer, {"c": [w, bias]}, x=(1, 4, *spatial))
    np.testing.assert_allclose(run(model, {"x": x})["y"], correlate(x, w, bias, *rest[1:], group), atol=1e-4)


@pytest.mark.parametrize("setting", SETTINGS[:4])
def test_deconvolution_adds_kernels_up(net, setting) -> None:
    spatial, *rest, group = setting
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 4, *spatial)).astype(np.float32)
    w, bias = rng.standard_normal((4, 3, *rest[0])), rng.standard_normal(3 * group)
    layer = f'layer {{ name: "c" type: "Deconvolution" bottom: "x" top: "y" convolution_param {{ {said(3 * group, *rest, group)} }} }}'
    model = net(layer, {"c": [w, bias]}, x=(1, 4, *spatial))
    np.testing.assert_allclose(run(model, {"x": x})["y"], scatter(x, w, bias, *rest[1:], group), atol=1e-4)


def test_the_channels_may_be_another_axis(net) -> None:
    rng = np.random.default_rng(2)
    x, w = rng.standard_normal((2, 3, 4, 5, 6)).astype(np.float32), rng.standard_normal((7, 4, 3, 3))
    said = "num_output: 7 kernel_size: 3 axis: 2 bias_term: false"
    layer = f'layer {{ name: "c" type: "Convolution" bottom: "x" top: "y" convolution_param {{ {said} }} }}'
    model = net(layer, {"c": [w]}, x=(2, 3, 4, 5, 6))
    want = correlate(x.reshape(6, 4, 5, 6), w, np.zeros(7), (1, 1), (0, 0), (1, 1), 1)
    np.testing.assert_allclose(run(model, {"x": x})["y"], want.reshape(2, 3, 7, 3, 4), atol=1e-4)
    assert not isinstance(model.graph.outputs[0].shape[0], int)


@pytest.mark.parametrize("kind", ["ConvolutionDepthwise", "DepthwiseConvolution"])
def test_depthwise_layers_imply_their_groups(net, kind) -> None:
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((2, 4, 5, 5)).astype(np.float32), rng.standard_normal((4, 1, 3, 3))
    said = "num_output: 4 kernel_size: 3 pad: 1 bias_term: false"
    layer = f'layer {{ name: "c" type: "{kind}" bottom: "x" top: "y" convolution_param {{ {said} }} }}'
    model = net(layer, {"c": [w]}, x=(1, 4, 5, 5))
    np.testing.assert_allclose(run(model, {"x": x})["y"], correlate(x, w, np.zeros(4), (1, 1), (1, 1), (1, 1), 4), atol=1e-4)


def test_several_bottoms_share_the_weights(net) -> None:
    blobs = 'bottom: "a" bottom: "b" top: "y" top: "z"'
    layer = f'layer {{ name: "c" type: "Convolution" {blobs} convolution_param {{ num_output: 2 kernel_size: 3 }} }}'
    model = net(layer, a=(1, 3, 5, 5), b=(1, 3, 5, 5))
    x = np.random.default_rng(4).standard_normal((2, 3, 5, 5)).astype(np.float32)
    out = run(model, {"a": x, "b": x})
    np.testing.assert_array_equal(out["y"], out["z"])
    assert {"c/weight", "c/bias"} == {n for n in model.graph.initializers if n.startswith("c/")}


def test_im2col_lays_windows_into_channels(net) -> None:
    x = np.random.default_rng(5).standard_normal((2, 3, 4, 5)).astype(np.float32)
    model = net(
        'layer { name: "c" type: "Im2col" bottom: "x" top: "y" convolution_param { kernel_h: 2 kernel_w: 3 stride: 1 } }', x=(1, 3, 4, 5)
    )
    want = [x[:, c, i : i + 3, j : j + 3] for c in range(3) for i in range(2) for j in range(3)]
    np.testing.assert_array_equal(run(model, {"x": x})["y"], np.stack(want, 1))


BAD = [
    "kernel_size: 3",
    "num_output: 4",
    "num_output: 0 kernel_size: 3",
    "num_output: 4 kernel_size: 0",
    "num_output: 4 kernel_size: 4294967295",
    "num_output: 4 kernel_size: 3 stride: 0",
    "num_output: 4 kernel_size: 3 pad: 1073741824",
    "num_output: 4 kernel_size: 3 dilation: 0",
    "num_output: 4 kernel_size: 3 dilation: 1000000000",
    "num_output: 4 kernel_size: 3 group: 0",
    "num_output: 4 kernel_size: 3 group: 2",
    "num_output: 4294967295 kernel_size: 1",
    "num_output: 4 kernel_size: 3 axis: 4",
    "num_output: 4 kernel_size: 3 axis: -99",
    "num_output: 4 kernel_size: 3 kernel_h: 3 kernel_w: 3",
    "num_output: 4 kernel_h: 3",
    "num_output: 4 kernel_size: [1, 2, 3]",
    "num_output: 4 kernel_size: 9",
    "num_output: 4 kernel_size: 3 stride: 4294967295 pad: 4000000000",
]


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution", "Im2col", "ConvolutionDepthwise"])
@pytest.mark.parametrize("setting", BAD)
def test_impossible_settings_are_refused(net, kind, setting) -> None:
    layer = f'layer {{ name: "c" type: "{kind}" bottom: "x" top: "y" convolution_param {{ {setting} }} }}'
    try:
        net(layer, x=(1, 3, 8, 8))
    except NiudaoError as e:
        assert "layer 'c'" in e.message or "c (" in e.message
    else:  # what one kind needs another may not
        assert kind != "Convolution"


@pytest.mark.parametrize(("name", "count"), [("op_conv", 5), ("op_deconv", 5)])
def test_as_real_caffe_ran(as_caffe_ran, name, count) -> None:
    assert as_caffe_ran(name) == count
