"""Layers that combine values, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from niudao.errors import NiudaoError
from niudao.ir.session import run

RNG = np.random.default_rng(1)
A, B, C = (RNG.standard_normal((3, 4, 2, 5)).astype("f4") for _ in range(3))
SHAPE = (1, *A.shape[1:])


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("", A + B + C),
        ("operation: SUM coeff: 2 coeff: -1 coeff: 1", 2 * A - B + C),
        ("operation: SUM coeff: 0 coeff: 1 coeff: 0.5", B + 0.5 * C),
        ("operation: PROD", A * B * C),
        ("operation: MAX", np.maximum(np.maximum(A, B), C)),
        ("operation: 0", A * B * C),
    ],
)
def test_eltwise(net, text, want):
    model = net(
        f'layer {{ name: "y" type: "Eltwise" bottom: "a" bottom: "b" bottom: "c" top: "y" eltwise_param {{ {text} }} }}',
        a=SHAPE,
        b=SHAPE,
        c=SHAPE,
    )
    np.testing.assert_allclose(run(model, {"a": A, "b": B, "c": C})["y"], want, atol=1e-6)


@pytest.mark.parametrize("gate", [(1, 4), (1, 4, 1, 1)])
def test_axpy(net, gate):
    model = net('layer { name: "y" type: "Axpy" bottom: "g" bottom: "a" bottom: "b" top: "y" }', g=gate, a=SHAPE, b=SHAPE)
    g = RNG.standard_normal((3, *gate[1:])).astype("f4")
    np.testing.assert_allclose(run(model, {"g": g, "a": A, "b": B})["y"], g.reshape(3, 4, 1, 1) * A + B, atol=1e-6)


def test_batch_reindex(net):
    model = net('layer { name: "y" type: "BatchReindex" bottom: "a" bottom: "i" top: "y" }', a=A.shape, i=(3,))
    index = np.array([2, 0, 2], "f4")
    np.testing.assert_array_equal(run(model, {"a": A, "i": index})["y"], A[[2, 0, 2]])


@pytest.mark.parametrize(
    "text",
    [
        'type: "Eltwise" bottom: "a"',
        'type: "Eltwise" bottom: "a" bottom: "b"',
        'type: "Eltwise" bottom: "a" bottom: "a" eltwise_param { coeff: 1 }',
        'type: "Eltwise" bottom: "a" bottom: "a" eltwise_param { operation: PROD coeff: 1 coeff: 1 }',
        'type: "Axpy" bottom: "a" bottom: "a" bottom: "a"',
        'type: "Axpy" bottom: "a"',
        'type: "BatchReindex" bottom: "a" bottom: "b"',
        'type: "Filter" bottom: "a" bottom: "b"',
    ],
)
def test_what_does_not_fit_is_refused(net, text):
    with pytest.raises(NiudaoError):
        net(f'layer {{ name: "y" top: "y" {text} }}', a=(2, 3, 4, 5), b=(2, 3, 4, 1))
