"""DeepLab's bilinear resizing, against its loop."""

from __future__ import annotations

import numpy as np
import pytest

from niudao.errors import NiudaoError
from niudao.ir.session import run

X = np.random.default_rng(5).standard_normal((3, 2, 7, 9)).astype("f4")


def resized(x, height, width):
    """caffe_cpu_interp2, a row and a column at a time."""
    h, w = x.shape[2:]
    out = np.empty((*x.shape[:2], height, width))
    for i in range(height):
        y = (h - 1) / (height - 1) * i if height > 1 else 0.0
        a, da = int(y), int(int(y) < h - 1)
        for j in range(width):
            z = (w - 1) / (width - 1) * j if width > 1 else 0.0
            b, db = int(z), int(int(z) < w - 1)
            t, s = y - a, z - b
            out[:, :, i, j] = (1 - t) * ((1 - s) * x[:, :, a, b] + s * x[:, :, a, b + db]) + t * (
                (1 - s) * x[:, :, a + da, b] + s * x[:, :, a + da, b + db]
            )
    return out


@pytest.mark.parametrize(
    ("text", "x", "size"),
    [
        ("height: 13 width: 4", X, (13, 4)),
        ("height: 1 width: 1", X, (1, 1)),
        ("height: 7 width: 9", X, (7, 9)),
        ("zoom_factor: 2", X, (13, 17)),
        ("shrink_factor: 2", X, (4, 5)),
        ("shrink_factor: 3 zoom_factor: 2", X, (5, 5)),
        ("zoom_factor: 3 pad_beg: -1 pad_end: -2", X[:, :, 1:5, 1:7], (10, 16)),
        ("pad_end: -1 height: 5 width: 5", X[:, :, :6, :8], (5, 5)),
        ("zoom_factor: 1", X, (7, 9)),
        ("zoom_factor: 2 height: 3 width: 3", X, (13, 17)),
    ],
)
def test_interp(net, text, x, size):
    model = net(f'layer {{ name: "y" type: "Interp" bottom: "x" top: "y" interp_param {{ {text} }} }}', x=(1, *X.shape[1:]))
    assert model.graph.inputs[0].shape[0] == "batch"
    np.testing.assert_allclose(run(model, {"x": X})["y"], resized(x.astype("f8"), *size), atol=2e-5)


def test_a_second_input_gives_the_size(net):
    model = net('layer { name: "y" type: "Interp" bottom: "x" bottom: "r" top: "y" }', x=(1, *X.shape[1:]), r=(1, 5, 10, 4))
    got = run(model, {"x": X, "r": np.zeros((3, 5, 10, 4), "f4")})["y"]
    np.testing.assert_allclose(got, resized(X.astype("f8"), 10, 4), atol=2e-5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "height: 5",
        "height: 0 width: 5",
        "height: 2147483647 width: 2147483647",
        "zoom_factor: 0",
        "zoom_factor: 2147483647",
        "shrink_factor: -1",
        "pad_beg: 1 zoom_factor: 2",
        "pad_beg: -4 pad_end: -3 zoom_factor: 2",
        "pad_beg: -2147483648 zoom_factor: 2",
    ],
)
def test_impossible_settings_are_refused(net, text):
    with pytest.raises(NiudaoError, match="layer 'y'"):
        net(f'layer {{ name: "y" type: "Interp" bottom: "x" top: "y" interp_param {{ {text} }} }}', x=X.shape)
