"""Normalizations and softmax."""

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
from niudao.formats.caffe.read import read
from niudao.formats.caffe.write import write
from niudao.ir.session import run

KINDS = [
    "BatchNormalization",
    "InstanceNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "LpNormalization",
    "MeanVarianceNormalization",
    "LRN",
    "Softmax",
    "LogSoftmax",
]


def add(g: Graph, kind: str) -> None:
    """One operator on an input of its own."""
    rank = 4 if kind in ("LRN", "MeanVarianceNormalization") else g.pick(3, 4, 5) if kind[:2] in ("In", "Gr") else g.pick(2, 3, 4, 5)
    sizes = [4, *(int(d) for d in g.rng.integers(2, 5, rank - 2))]
    x, axis = g.x(sizes), g.pick(*range(1, rank))
    channels = [g.c(g.draw([4])) for _ in range(3)]
    run = sizes[axis - 1 :]
    if kind == "BatchNormalization":
        y = g.op(kind, x, *channels, g.c(g.draw([4], positive=True)), epsilon=g.pick(1e-5, 1e-3))
    elif kind == "InstanceNormalization":
        y = g.op(kind, x, *channels[:2], epsilon=1e-3)
    elif kind == "GroupNormalization":
        y = g.op(kind, x, *channels[:2], num_groups=g.pick(1, 2, 4))
    elif kind == "LayerNormalization":
        y = g.op(kind, x, g.c(g.draw(run)), *([g.c(g.draw(run))] if g.rng.random() < 0.5 else []), axis=axis, epsilon=1e-3)
    elif kind == "RMSNormalization":
        y = g.op(kind, x, g.c(g.draw(g.pick(run, run[-1:], [1]))), axis=axis, epsilon=1e-3)
    elif kind == "LpNormalization":
        g.feeds[x][0] = 0  # zeros have no length, and stay zeros
        y = g.op(kind, x, axis=axis, p=g.pick(1, 2))
    elif kind == "MeanVarianceNormalization":
        y = g.op(kind, x, axes=g.pick([2, 3], [1, 2, 3], [1], [3]))
    elif kind == "LRN":
        y = g.op(kind, x, size=g.pick(1, 3, 5, 7), alpha=0.5, beta=0.6, bias=1.5)
    else:
        g.feeds[x] *= 40 if kind == "LogSoftmax" else 3
        y = g.op(kind, x, axis=axis)
    g.outputs.append(y)


def written(g: Graph, folder: Path) -> list[np.ndarray]:
    """What our reader makes of the files that we write, run."""
    onnx.save(g.proto(), folder / "model.onnx")
    write(nd.read(folder / "model.onnx"), folder / "net.prototxt")
    return list(run(read(folder / "net.prototxt"), g.feeds).values())


@pytest.mark.parametrize("kind", KINDS)
def test_equal_when_read_back(kind: str, tmp_path: Path) -> None:
    for seed in range(8):
        g = Graph(seed)
        add(g, kind)
        judged(g, tmp_path)


def test_real_caffe_agrees(tmp_path: Path) -> None:
    g = Graph(11, free=True)
    for kind in KINDS * 4:
        add(g, kind)
    by_caffe(g, tmp_path)


@pytest.mark.parametrize(
    ("kind", "settings", "want"),
    [
        ("LRN", {"size": 5, "alpha": 1e-4}, ["LRN"]),
        ("MeanVarianceNormalization", {"axes": [2, 3]}, ["MVN"]),
        ("Softmax", {"axis": 1}, ["Softmax"]),
    ],
)
def test_one_layer_where_caffe_has_it(kind: str, settings: dict[str, Any], want: list[str], tmp_path: Path) -> None:
    g = Graph(2)
    g.outputs.append(g.op(kind, g.x([6, 4, 4]), **settings))
    assert layers(judged(g, tmp_path)) == want


def test_batch_normalization_is_the_pair(tmp_path: Path) -> None:
    g = Graph(5)
    add(g, "BatchNormalization")
    assert layers(judged(g, tmp_path)) == ["BatchNorm", "Scale"]


@pytest.mark.parametrize("scale", ["", "layer { name: 's' type: 'Scale' bottom: 'y' top: 'z' scale_param { bias_term: true } }"])
def test_caffes_pair_keeps_its_names(net: Any, scale: str, tmp_path: Path) -> None:
    blobs = {"n": [np.arange(3.0), np.ones(3), np.array([2.0])]} | ({"s": [np.arange(3.0), np.ones(3)]} if scale else {})
    model = net('layer { name: "n" type: "BatchNorm" bottom: "x" top: "y" }', scale.replace("'", '"'), blobs, x=(1, 3, 4, 4))
    write(model, tmp_path / "out.prototxt")
    text = (tmp_path / "out.prototxt").read_text()
    assert layers(text) == ["BatchNorm", "Scale"][: 2 if scale else 1]
    assert 'name: "n"' in text and ('name: "s"' in text) == bool(scale)


def test_statistics_of_the_batch_are_refused(tmp_path: Path) -> None:
    g = Graph(1, free=True)
    g.outputs.append(g.op("MeanVarianceNormalization", g.x([2, 4, 4])))
    assert "free batch" in refused(g, tmp_path)


@pytest.mark.parametrize("size", [2, 4, 6])
def test_windows_of_an_even_number_of_channels_against_the_formula(size: int, tmp_path: Path) -> None:
    g = Graph(size, free=True)
    x = g.x([5, 4, 3])
    g.outputs.append(g.op("LRN", x, size=size, alpha=0.5, beta=0.6, bias=1.5))
    (got,) = written(g, tmp_path)  # ONNX Runtime refuses even sizes
    a = g.feeds[x].astype(np.float64)
    before, after = (size - 1) // 2, size // 2
    sums = np.stack([(a[:, max(0, c - before) : c + after + 1] ** 2).sum(1) for c in range(5)], 1)
    np.testing.assert_allclose(got, a / (1.5 + 0.5 / size * sums) ** 0.6, rtol=1e-5)
