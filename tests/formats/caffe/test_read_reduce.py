"""Reductions and the places of the largest numbers, against numpy and against Caffe's own order of pairs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import reference

from niudao.errors import NiudaoError
from niudao.ir.session import run

X = np.random.default_rng(4).integers(-3, 4, (3, 4, 5, 2)).astype("f4")


def layer(text):
    return f'layer {{ name: "y" bottom: "x" top: "y" {text} }}'


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize(
    ("operation", "f"), [("SUM", np.sum), ("ASUM", lambda x, a: np.abs(x).sum(a)), ("SUMSQ", lambda x, a: (x**2).sum(a)), ("MEAN", np.mean)]
)
def test_reduction(net, operation, f, axis):
    model = net(layer(f'type: "Reduction" reduction_param {{ operation: {operation} axis: {axis} coeff: 0.5 }}'), x=(1, *X.shape[1:]))
    want = 0.5 * f(X, tuple(range(axis % 4, 4)))
    got = run(model, {"x": X})["y"]
    assert got.shape == np.shape(want)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def best(row, k):
    """Caffe sorts (number, index) pairs downwards: of equal numbers the later one is first."""
    pairs = sorted(((v, i) for i, v in enumerate(row)), reverse=True)[:k]
    return np.array([i for _, i in pairs], "f4"), np.array([v for v, _ in pairs], "f4")


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("values", [False, True])
@pytest.mark.parametrize("axis", [None, 1, -2])
def test_argmax(net, axis, values, k):
    stated = "" if axis is None else f"axis: {axis}"
    text = f'type: "ArgMax" argmax_param {{ out_max_val: {str(values).lower()} top_k: {k} {stated} }}'
    model = net(layer(text), x=(1, *X.shape[1:]))
    got = run(model, {"x": X})["y"]
    if axis is None:
        pairs = [best(row.ravel(), k) for row in X]
        want = np.stack([np.stack(p) if values else p[0][None] for p in pairs])[..., None]
    else:
        want = np.apply_along_axis(lambda row: best(row, k)[values], axis, X)
    assert got.dtype == np.float32 and got.shape == want.shape
    np.testing.assert_array_equal(got, want)
    again = reference.ReferenceEvaluator(ir.to_proto(model)).run(None, {"x": X})[0]
    np.testing.assert_array_equal(again, want)


def test_argmax_of_short_shapes_has_three_axes(net):
    model = net(layer('type: "ArgMax" argmax_param { top_k: 2 out_max_val: true }'), x=(1, 5))
    x = np.array([[3, 1, 3, 2, 0], [1, 2, 3, 4, 5]], "f4")
    np.testing.assert_array_equal(run(model, {"x": x})["y"], [[[2, 0], [3, 3]], [[4, 3], [5, 4]]])


@pytest.mark.parametrize(
    "text",
    [
        'type: "ArgMax" argmax_param { top_k: 41 }',
        'type: "ArgMax" argmax_param { top_k: 0 }',
        'type: "ArgMax" argmax_param { axis: 1 top_k: 5 }',
        'type: "ArgMax" argmax_param { axis: 1 top_k: 4294967295 }',
        'type: "ArgMax" argmax_param { axis: 4 }',
        'type: "Reduction" reduction_param { axis: -5 }',
        'type: "Reduction" reduction_param { axis: 4 }',
    ],
)
def test_impossible_settings_are_refused(net, text):
    with pytest.raises(NiudaoError, match="layer 'y'"):
        net(layer(text), x=X.shape)
