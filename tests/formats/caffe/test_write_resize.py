"""Resizing: every mode as a Deconvolution of ones, as picked elements or as a constant matrix along each axis."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from writing import Graph, by_caffe, judged, layers, refused

PLACES = "half_pixel pytorch_half_pixel align_corners asymmetric half_pixel_symmetric".split()


def add(g: Graph, mode: str) -> None:
    """One Resize on an input of its own."""
    sizes = g.sizes(g.pick(3, 4, 4, 4) if mode != "cubic" else 4)
    settings = {"mode": mode, "coordinate_transformation_mode": g.pick(*PLACES)}
    if mode == "nearest":
        settings["nearest_mode"] = g.pick("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    if mode == "cubic":
        settings |= {"cubic_coeff_a": g.pick(-0.75, -0.5), "exclude_outside": g.pick(0, 1)}
    if mode != "nearest" and len(sizes) == 3:
        settings["antialias"] = g.pick(0, 0, 1)
    if g.rng.random() < 0.5:
        factors = [g.pick(1, 2, 3, 1.5, 0.7) if d > 1 else g.pick(1, 2, 3) for d in sizes[1:]]
        g.outputs.append(g.op("Resize", g.x(sizes), "", g.c([1, 1, *factors]), **settings))
    else:
        new = [int(n) for n in g.rng.integers(1, 12, size=len(sizes) - 1)]
        g.outputs.append(g.op("Resize", g.x(sizes), "", "", g.ints(*new), axes=list(range(2, len(sizes) + 1)), **settings))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_equal_when_read_back(mode: str, tmp_path: Path) -> None:
    for seed in range(30):
        g = Graph(seed)
        add(g, mode)
        judged(g, tmp_path)


def test_real_caffe_agrees(tmp_path: Path) -> None:
    g = Graph(6, free=True)
    for mode in ["nearest", "linear", "cubic"] * 6:
        add(g, mode)
    by_caffe(g, tmp_path)


def test_doubling_is_one_deconvolution(tmp_path: Path) -> None:
    for fork, want in (("", "Deconvolution"), ("Upsample", "Upsample")):
        g = Graph(0)
        g.outputs.append(
            g.op("Resize", g.x([3, 4, 5]), "", g.c([1, 1, 2, 2]), coordinate_transformation_mode="asymmetric", nearest_mode="floor")
        )
        assert layers(judged(g, tmp_path, fork)) == [want]


def test_corners_are_the_forks_interp(tmp_path: Path) -> None:
    settings = {"mode": "linear", "coordinate_transformation_mode": "align_corners", "axes": [2, 3]}
    g = Graph(0)
    g.outputs.append(g.op("Resize", g.x([3, 4, 5]), "", "", g.ints(9, 11), **settings))
    assert layers(judged(g, tmp_path, "Interp")) == ["Interp"]
    assert layers(judged(g, tmp_path)) == ["InnerProduct", "Reshape", "Convolution", "Reshape"]


def test_crop_and_resize_is_refused(tmp_path: Path) -> None:
    g = Graph(0)
    roi = g.c(np.array([0, 0, 0, 0, 1, 1, 1, 1], "f4"))
    g.outputs.append(
        g.op(
            "Resize", g.x([3, 4, 5]), roi, "", g.ints(g.batch, 3, 8, 9), mode="linear", coordinate_transformation_mode="tf_crop_and_resize"
        )
    )
    assert "crop" in refused(g, tmp_path)
