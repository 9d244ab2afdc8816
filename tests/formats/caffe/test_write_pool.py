"""Pooling: ONNX's windows and divisors through a layer that rounds up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from writing import Graph, by_caffe, judged, layers, refused

import niudao as nd
from niudao.errors import Unsupported
from niudao.formats.caffe.read import read
from niudao.formats.caffe.write import write
from niudao.ir.session import run

OPERATORS = ["MaxPool", "AveragePool", "LpPool"]


def pool(g: Graph, kind: str) -> None:
    """A pooling with settings drawn at random."""
    rank = g.pick(1, 2, 2, 3)
    kernel = [int(k) for k in g.rng.integers(1, 5, rank)]
    settings: dict[str, Any] = {"kernel_shape": kernel, "strides": [int(s) for s in g.rng.integers(1, 4, rank)]}
    if g.rng.random() < 0.2:
        settings["dilations"] = [int(d) for d in g.rng.integers(1, 3, rank)]
    if g.rng.random() < 0.7:
        settings["pads"] = [int(g.rng.integers(0, k)) for k in kernel * 2]
        settings["ceil_mode"] = g.pick(0, 0, 1)
        if settings["ceil_mode"] and kind != "MaxPool":
            settings.pop("dilations", None)
    elif "dilations" not in settings:
        settings["auto_pad"], settings["strides"] = g.pick("SAME_UPPER", "SAME_LOWER"), [1 if k == 1 else 2 for k in kernel]
    if kind == "AveragePool":
        settings["count_include_pad"] = g.pick(0, 1)
    x = g.x([2, *(int(n) for n in g.rng.integers(7, 10, rank))])
    if g.rng.random() < 0.3:
        x = g.op("Relu", x)
    if kind != "LpPool" and g.rng.random() < 0.3:
        pads = [int(p) for p in g.rng.integers(0, 3, 2 * rank)]
        x = g.op("Pad", x, g.ints(0, 0, *pads[:rank], 0, 0, *pads[rank:]))
    g.outputs.append(g.op(kind, x, **settings))


def written(g: Graph, folder: Path) -> list[np.ndarray]:
    """What our reader makes of the files that we write, run."""
    onnx.save(g.proto(), folder / "model.onnx")
    write(nd.read(folder / "model.onnx"), folder / "net.prototxt")
    return list(run(read(folder / "net.prototxt"), g.feeds).values())


@pytest.mark.parametrize("kind", OPERATORS)
@pytest.mark.parametrize("seed", range(12))
def test_equal_when_read_back(kind: str, seed: int, tmp_path: Path) -> None:
    g = Graph(seed)
    pool(g, kind)
    try:
        judged(g, tmp_path)
    except Unsupported as e:
        assert "runtimes compute differently" in str(e)


def test_real_caffe_agrees(tmp_path: Path) -> None:
    g = Graph(21, free=True)
    for kind in OPERATORS * 8:
        pool(g, kind)
    by_caffe(g, tmp_path)


@pytest.mark.parametrize(
    ("kind", "size", "settings", "want"),
    [
        ("MaxPool", 8, {"kernel_shape": [2, 2], "strides": [2, 2]}, ["Pooling"]),
        ("MaxPool", 8, {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, ["Pooling"]),
        ("MaxPool", 7, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, ["Pooling"]),
        # Caffe's rounding up would give one row and one column more
        (
            "MaxPool",
            8,
            {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
            ["Pooling", "Slice", "Silence", "Slice", "Silence"],
        ),
        ("MaxPool", 8, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, ["Pooling"]),
        ("AveragePool", 8, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1}, ["Pooling"]),
        ("AveragePool", 8, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, ["Pooling", "Scale"]),
        ("AveragePool", 8, {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, ["Pooling"]),
    ],
)
def test_as_a_person_would_have_written(kind: str, size: int, settings: dict[str, Any], want: list[str], tmp_path: Path) -> None:
    g = Graph(1)
    g.outputs.append(g.op(kind, g.x([2, size, size]), **settings))
    assert layers(judged(g, tmp_path)) == want


def test_caffes_own_poolings_come_back_as_one_layer(net: Any, tmp_path: Path) -> None:
    rng, n = np.random.default_rng(0), 0
    for kind in ("MAX", "AVE"):
        for kernel, stride, pad in ((3, 2, 0), (3, 2, 1), (2, 2, 0), (3, 1, 1), (5, 3, 2), (2, 3, 0)):
            settings = f"pool: {kind} kernel_size: {kernel} stride: {stride} pad: {pad}"
            model = net(f'layer {{ name: "p" type: "Pooling" bottom: "x" top: "y" pooling_param {{ {settings} }} }}', x=(1, 2, 11, 8))
            write(model, tmp_path / "net.prototxt")
            assert layers((tmp_path / "net.prototxt").read_text()) == ["Pooling"], settings
            feeds = {"x": rng.standard_normal((3, 2, 11, 8)).astype(np.float32)}
            np.testing.assert_allclose(run(read(tmp_path / "net.prototxt"), feeds)["y"], run(model, feeds)["y"], atol=1e-6)
            n += 1
    assert n == 12


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_global_poolings(rank: int, tmp_path: Path) -> None:
    g = Graph(rank)
    for kind in ("GlobalMaxPool", "GlobalAveragePool"):
        g.outputs.append(g.op(kind, g.x([2, *range(3, 3 + rank)])))
    text = judged(g, tmp_path)
    assert text.count("global_pooling: true") == 2


def test_places_of_maxima_are_refused(tmp_path: Path) -> None:
    g = Graph(1)
    best, place = g.op("MaxPool", g.x([2, 6, 6]), outputs=2, kernel_shape=[2, 2])
    g.outputs += [best, g.number(place)]
    assert "places of its maxima" in refused(g, tmp_path)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("sizes", [(2, 5), (2, 5, 4), (2, 3, 4, 5)])
def test_global_norms_against_their_formula(p: int, sizes: tuple[int, ...], tmp_path: Path) -> None:
    g = Graph(p, free=True)
    x = g.x(list(sizes))
    g.outputs.append(g.op("GlobalLpPool", x, p=p))
    (got,) = written(g, tmp_path)  # ONNX Runtime has no such operator
    held = np.abs(g.feeds[x].astype(np.float64)) ** p
    np.testing.assert_allclose(got, held.sum(tuple(range(2, held.ndim)), keepdims=True) ** (1 / p), rtol=1e-5)


def test_windows_behind_the_image_are_never_divided_by_nothing(tmp_path: Path) -> None:
    g = Graph(8, free=True)
    x = g.op("Pad", g.x([2, 4, 8]), g.ints(0, 0, 1, 0, 0, 0, 2, 2))
    g.outputs.append(g.op("AveragePool", x, kernel_shape=[2, 1], strides=[2, 2], pads=[1, 0, 0, 0]))
    judged(g, tmp_path)
