"""Layers that change shape or order, against numpy and against loops."""

from __future__ import annotations

import numpy as np
import pytest

from niudao.errors import NiudaoError
from niudao.ir.session import run

X = np.arange(3 * 4 * 6 * 2, dtype="f4").reshape(3, 4, 6, 2)


def shapes(net, text, batch=2, shape=X.shape[1:]):
    return net(f'layer {{ name: "y" bottom: "x" top: "y" {text} }}', x=(batch, *shape))


def first(model):
    return model.graph.inputs[0].shape[0]


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("shape { dim: 0 dim: -1 }", (3, 48)),
        ("shape { dim: 0 dim: -1 dim: 6 }", (3, 8, 6)),
        ("shape { dim: 0 dim: 0 dim: 3 dim: 2 dim: 2 }", (3, 4, 3, 2, 2)),
        ("shape { dim: -1 dim: 0 dim: 12 }", (3, 4, 12)),
        ("shape { dim: 24 } axis: 1 num_axes: 2", (3, 24, 2)),
        ("shape { dim: 12 } axis: -2", (3, 4, 6, 2)),
        ("shape { dim: 4 dim: -1 } axis: -3", (3, 4, 4, 3)),
        ("shape { dim: 1 } axis: -1 num_axes: 0", (3, 4, 6, 2, 1)),
        ("shape { dim: 1 } axis: 0 num_axes: 0", (1, 3, 4, 6, 2)),
        ("shape { dim: -1 }", (144,)),
        ("shape { dim: -1 dim: 6 dim: 2 }", (12, 6, 2)),
        ("shape { dim: [0, 8, -1] }", (3, 8, 6)),
    ],
)
def test_reshape_keeps_the_batch_free(net, text, want):
    if text == "shape { dim: 12 } axis: -2":
        text = "shape { dim: 6 dim: 2 } axis: -3"
    model = shapes(net, f'type: "Reshape" reshape_param {{ {text} }}')
    assert first(model) == "batch"
    np.testing.assert_array_equal(run(model, {"x": X})["y"], X.reshape(want))


@pytest.mark.parametrize(("text", "want"), [("dim: 2 dim: -1", (2, 48)), ("dim: 1 dim: 96", (1, 96)), ("dim: 4 dim: 24", (4, 24))])
def test_a_stated_first_size_ties_the_batch_down(net, text, want):
    model = shapes(net, f'type: "Reshape" reshape_param {{ shape {{ {text} }} }}')
    assert first(model) == 2
    np.testing.assert_array_equal(run(model, {"x": X[:2]})["y"], X[:2].reshape(want))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", (3, 48)),
        ("axis: 2", (3, 4, 12)),
        ("axis: -3 end_axis: -2", (3, 24, 2)),
        ("axis: 0", (144,)),
        ("axis: 0 end_axis: 1", (12, 6, 2)),
    ],
)
def test_flatten(net, text, want):
    model = shapes(net, f'type: "Flatten" flatten_param {{ {text} }}')
    assert first(model) == "batch"
    np.testing.assert_array_equal(run(model, {"x": X})["y"], X.reshape(want))


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ('type: "Permute" permute_param { order: 0 order: 2 order: 3 order: 1 }', X.transpose(0, 2, 3, 1)),
        ('type: "Permute" permute_param { order: 0 order: 2 }', X.transpose(0, 2, 1, 3)),
        ('type: "Tile" tile_param { axis: 2 tiles: 3 }', np.tile(X, (1, 1, 3, 1))),
        ('type: "Tile" tile_param { axis: -1 tiles: 2 }', np.tile(X, (1, 1, 1, 2))),
        ('type: "Reverse" reverse_param { axis: 2 }', X[:, :, ::-1]),
        ('type: "Reverse"', X[::-1]),
        ('type: "ShuffleChannel" shuffle_channel_param { group: 2 }', X[:, [0, 2, 1, 3]]),
        ('type: "Concat" bottom: "x"', np.concatenate([X, X], 1)),
        ('type: "Concat" bottom: "x" concat_param { axis: -1 }', np.concatenate([X, X], 3)),
        ('type: "Concat" bottom: "x" concat_param { concat_dim: 0 }', np.concatenate([X, X], 0)),
        ('type: "Concat"', X),
    ],
)
def test_order(net, text, want):
    model = shapes(net, text)
    assert first(model) == "batch"
    np.testing.assert_array_equal(run(model, {"x": X})["y"], want)


def reorg(x, stride, forward):
    """Darknet's loop, with its names."""
    n, b_c, b_h, b_w = x.shape
    t_c, t_w, t_h = b_c // stride**2, b_w * stride, b_h * stride
    flat, out = x.reshape(n, -1), np.empty((n, x[0].size), x.dtype)
    for c in range(b_c):
        for h in range(b_h):
            for w in range(b_w):
                here = w + b_w * (h + b_h * c)
                offset = c // t_c
                there = w * stride + offset % stride + t_w * (h * stride + offset // stride + t_h * (c % t_c))
                if forward:
                    out[:, there] = flat[:, here]
                else:
                    out[:, here] = flat[:, there]
    return out.reshape(n, t_c, t_h, t_w) if forward else out.reshape(n, b_c * stride**2, b_h // stride, b_w // stride)


@pytest.mark.parametrize("reverse", [False, True])
def test_reorg_is_darknets_loop(net, reverse):
    x = np.arange(3 * 8 * 4 * 6, dtype="f4").reshape(3, 8, 4, 6)
    model = shapes(net, f'type: "Reorg" reorg_param {{ stride: 2 reverse: {str(reverse).lower()} }}', shape=x.shape[1:])
    np.testing.assert_array_equal(run(model, {"x": x})["y"], reorg(x, 2, reverse))


def test_a_parameter_is_a_value(net):
    text = """layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 dim: 3 } } }
        layer { name: "y" type: "Eltwise" bottom: "x" bottom: "p" top: "y" }"""
    stored = np.arange(6, dtype="f4").reshape(2, 3)
    model = net(text, {"p": [stored]}, x=(2, 3))
    np.testing.assert_array_equal(run(model, {"x": np.ones((2, 3), "f4")})["y"], stored + 1)


@pytest.mark.parametrize(
    "text",
    [
        'type: "Reshape" reshape_param { shape { dim: -1 dim: -1 } }',
        'type: "Reshape" reshape_param { shape { dim: 0 dim: 7 dim: -1 } }',
        'type: "Reshape" reshape_param { shape { dim: 0 dim: -2 } }',
        'type: "Reshape" reshape_param { shape { dim: 0 dim: 2147483647 dim: -1 } }',
        'type: "Reshape" reshape_param { shape { dim: 0 } axis: 9 }',
        'type: "Reshape" reshape_param { shape { dim: 0 } axis: 1 num_axes: 4 }',
        'type: "Reshape" reshape_param { shape { dim: 0 dim: 0 dim: 0 dim: 0 dim: 0 } }',
        'type: "Flatten" flatten_param { axis: 3 end_axis: 1 }',
        'type: "Flatten" flatten_param { axis: -99 }',
        'type: "Permute" permute_param { order: 0 order: 0 }',
        'type: "Permute" permute_param { order: 4 }',
        'type: "Tile" tile_param { tiles: 1000000000 }',
        'type: "Tile" tile_param { tiles: 0 }',
        'type: "Tile"',
        'type: "Reverse" reverse_param { axis: 4294967295 }',
        'type: "ShuffleChannel" shuffle_channel_param { group: 3 }',
        'type: "ShuffleChannel" shuffle_channel_param { group: 0 }',
        'type: "Reorg" reorg_param { stride: 3 }',
        'type: "Reorg" reorg_param { stride: 4294967295 }',
        'type: "Concat" concat_param { axis: 1 concat_dim: 1 }',
        'type: "Concat" concat_param { axis: 4 }',
    ],
)
def test_impossible_settings_are_refused(net, text):
    with pytest.raises(NiudaoError, match="layer 'y'"):
        shapes(net, text)


def test_a_huge_constant_is_refused(net):
    with pytest.raises(NiudaoError, match="unusable shape"):
        net('layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 1000000000 dim: 1000000000 } } }', x=(1, 2))
