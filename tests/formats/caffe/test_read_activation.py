"""Layers that work on each number alone, against their formulas and against what Caffe computed."""

from __future__ import annotations

import numpy as np
import pytest

from niudao.errors import NiudaoError
from niudao.ir.session import run

X = np.random.default_rng(0).standard_normal((3, 4, 5, 2)).astype("f4") * 2


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


FORMULAS = [
    ('type: "ReLU"', lambda x: np.maximum(x, 0)),
    ('type: "ReLU" relu_param { negative_slope: -0.2 }', lambda x: np.where(x > 0, x, -0.2 * x)),
    ('type: "ReLU6"', lambda x: np.clip(x, 0, 6)),
    ('type: "ReLU6" relu6_param { negative_slope: 0.1 }', lambda x: np.minimum(np.where(x > 0, x, 0.1 * x), 6)),
    ('type: "ELU" elu_param { alpha: 0.3 }', lambda x: np.where(x > 0, x, 0.3 * np.expm1(x))),
    ('type: "PReLU"', lambda x: np.where(x > 0, x, 0.25 * x)),
    ('type: "PReLU" prelu_param { channel_shared: true }', lambda x: np.where(x > 0, x, 0.25 * x)),
    ('type: "Sigmoid"', sigmoid),
    ('type: "TanH"', np.tanh),
    ('type: "AbsVal"', np.abs),
    ('type: "BNLL"', lambda x: np.log1p(np.exp(x))),
    ('type: "Swish" swish_param { beta: 1.5 }', lambda x: x * sigmoid(1.5 * x)),
    ('type: "HardSwish"', lambda x: x * np.clip(x + 3, 0, 6) / 6),
    ('type: "Mish"', lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    ('type: "Power" power_param { power: 3 scale: 0.5 shift: -1 }', lambda x: (x * 0.5 - 1) ** 3),
    ('type: "Power" power_param { power: 0 }', np.ones_like),
    ('type: "Power" power_param { power: 2 scale: 0 shift: 3 }', lambda x: np.full_like(x, 9)),
    ('type: "Power" power_param { power: 0.5 scale: 0 shift: -1 }', lambda x: np.full_like(x, np.nan)),
    ('type: "Power" power_param { power: 0.5 }', lambda x: np.where(x < 0, np.nan, np.abs(x) ** 0.5)),
    ('type: "Exp" exp_param { base: 2 scale: 0.5 shift: 1 }', lambda x: 2 ** (0.5 * x + 1)),
    ('type: "Exp" exp_param { scale: 0.5 shift: 1 }', lambda x: np.exp(0.5 * x + 1)),
    ('type: "Log" log_param { base: 10 scale: 2 shift: 30 }', lambda x: np.log10(2 * x + 30)),
    ('type: "Log" log_param { shift: 30 }', lambda x: np.log(x + 30)),
    ('type: "Threshold" threshold_param { threshold: 0.3 }', lambda x: (x > 0.3).astype("f4")),
    ('type: "Clip" clip_param { min: -1 max: 0.5 }', lambda x: np.clip(x, -1, 0.5)),
    ('type: "Clip" clip_param { min: 1 max: 0.5 }', np.ones_like),
    ('type: "Softmax"', lambda x: np.exp(x) / np.exp(x).sum(1, keepdims=True)),
    ('type: "Softmax" softmax_param { axis: -2 }', lambda x: np.exp(x) / np.exp(x).sum(2, keepdims=True)),
    ('type: "Dropout" dropout_param { dropout_ratio: 0.9 }', lambda x: x),
]


@pytest.mark.parametrize(("text", "formula"), FORMULAS, ids=[t.split('"', 1)[1] for t, _ in FORMULAS])
def test_a_layer_is_its_formula_for_any_batch(net, text, formula):
    model = net(f'layer {{ name: "y" bottom: "x" top: "y" {text} }}', x=(2, *X.shape[1:]))
    with np.errstate(all="ignore"):
        want = formula(X.astype("f8"))
    np.testing.assert_allclose(run(model, {"x": X})["y"], want, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["op_activations", "op_prelu", "op_softmax", "op_eltwise", "op_concat_slice"])
def test_caffe_computed_the_same(as_caffe_ran, name):
    assert as_caffe_ran(name) > 2


def test_split_gives_every_top_the_same_and_silence_takes_an_output_away(net):
    layers = [
        'layer { name: "s" type: "Split" bottom: "x" top: "a" top: "b" top: "c" }',
        'layer { name: "q" type: "Silence" bottom: "a" }',
        'layer { name: "y" type: "TanH" bottom: "b" top: "y" }',
    ]
    got = run(net("".join(layers), x=(1, *X.shape[1:])), {"x": X})
    np.testing.assert_allclose(got["y"], np.tanh(X), atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        'type: "Exp" exp_param { base: -2 }',
        'type: "Exp" exp_param { base: 0 }',
        'type: "Log" log_param { base: 1 }',
        'type: "Log" log_param { base: 0 }',
        'type: "Softmax" softmax_param { axis: 4 }',
        'type: "Softmax" softmax_param { axis: -99 }',
        'type: "Clip" clip_param { min: 0 }',
        'type: "ReLU" bottom: "x"',
    ],
)
def test_impossible_settings_name_the_layer(net, text):
    with pytest.raises(NiudaoError, match="layer 'y'"):
        net(f'layer {{ name: "y" bottom: "x" top: "y" {text} }}', x=X.shape)
