"""Slices and crops, against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from niudao.errors import NiudaoError
from niudao.ir.session import run

X = np.random.default_rng(2).standard_normal((3, 6, 8, 5)).astype("f4")


@pytest.mark.parametrize(
    ("text", "tops", "axis", "points"),
    [
        ("", 3, 1, [2, 4]),
        ("slice_point: 1 slice_point: 5", 3, 1, [1, 5]),
        ("axis: -2 slice_point: 3", 2, 2, [3]),
        ("slice_dim: 3", 5, 3, [1, 2, 3, 4]),
        ("axis: 2", 1, 2, []),
    ],
)
def test_slice(net, text, tops, axis, points):
    names = [f"y{i}" for i in range(tops)]
    model = net(
        f'layer {{ name: "s" type: "Slice" bottom: "x" {" ".join(f"top: {n!r}" for n in names)} slice_param {{ {text} }} }}',
        x=(1, *X.shape[1:]),
    )
    got = run(model, {"x": X})
    for name, want in zip(names, np.split(X, points, axis), strict=True):
        np.testing.assert_array_equal(got[name], want)


def test_parts_of_the_batch_tie_it_down(net):
    model = net('layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" slice_param { axis: 0 slice_point: 1 } }', x=X.shape)
    assert model.graph.inputs[0].shape[0] == 3
    got = run(model, {"x": X})
    np.testing.assert_array_equal(got["a"], X[:1])
    np.testing.assert_array_equal(got["b"], X[1:])


@pytest.mark.parametrize(
    ("text", "size", "want"),
    [
        ("", (6, 4, 3), X[:, :, :4, :3]),
        ("offset: 1", (6, 4, 3), X[:, :, 1:5, 1:4]),
        ("offset: 3 offset: 2", (9, 4, 3), X[:, :, 3:7, 2:5]),
        ("axis: 1 offset: 1 offset: 2 offset: 0", (4, 6, 5), X[:, 1:5, 2:8]),
        ("axis: -1 offset: 2", (6, 8, 2), X[..., 2:4]),
        ("axis: 0", (2, 4, 3), X[:, :2, :4, :3]),
    ],
)
def test_crop(net, text, size, want):
    model = net(
        f'layer {{ name: "y" type: "Crop" bottom: "x" bottom: "r" top: "y" crop_param {{ {text} }} }}', x=(1, *X.shape[1:]), r=(1, *size)
    )
    assert model.graph.inputs[0].shape[0] == "batch"
    np.testing.assert_array_equal(run(model, {"x": X, "r": np.zeros((3, *size), "f4")})["y"], want)


@pytest.mark.parametrize(
    "text",
    [
        "slice_point: 4 slice_point: 2",
        "slice_point: 2 slice_point: 2",
        "slice_point: 1 slice_point: 4294967295",
        "slice_point: 1",
        "axis: 2",
        "axis: 4",
        "axis: 1 slice_dim: 1",
    ],
)
def test_impossible_slices_are_refused(net, text):
    with pytest.raises(NiudaoError, match="layer 's'"):
        net(f'layer {{ name: "s" type: "Slice" bottom: "x" top: "a" top: "b" top: "c" slice_param {{ {text} }} }}', x=X.shape)


@pytest.mark.parametrize(
    "text", ["offset: 7", "offset: 4294967295", "offset: 1 offset: 1 offset: 1", "axis: 4", "axis: -5", "axis: 1 offset: 2"]
)
def test_impossible_crops_are_refused(net, text):
    with pytest.raises(NiudaoError, match="layer 'y'"):
        net(f'layer {{ name: "y" type: "Crop" bottom: "x" bottom: "r" top: "y" crop_param {{ {text} }} }}', x=X.shape, r=(3, 6, 4, 3))
