"""Convolutions and their transposes: every padding that ONNX can say, through a layer that pads alike on both sides."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from writing import Graph, by_caffe, judged, layers, refused


def conv(g: Graph, **given: Any) -> None:
    """A convolution with settings drawn at random; ONNX Runtime cannot dilate what pads by itself."""
    rank, group = g.pick(1, 2, 2, 3), g.pick(1, 1, 2, 3)
    kernel = [int(k) for k in g.rng.integers(1, 4, rank)]
    settings = {"kernel_shape": kernel, "strides": [int(s) for s in g.rng.integers(1, 4, rank)], "group": group}
    if g.rng.random() < 0.7:
        settings["pads"] = [int(p) for p in g.rng.integers(0, 4, 2 * rank)]
        settings["dilations"] = [int(d) for d in g.rng.integers(1, 3, rank)]
    else:
        settings["auto_pad"] = g.pick("SAME_UPPER", "SAME_LOWER", "VALID")
    settings |= given
    x = g.x([group * 2, *(int(n) for n in g.rng.integers(5, 9, rank))])
    if g.rng.random() < 0.3:
        pads = [int(p) for p in g.rng.integers(0, 3, 2 * rank)]
        x = g.op("Pad", x, g.ints(0, 0, *pads[:rank], 0, 0, *pads[rank:]))
    weights = [g.c(g.draw([group, 2, *kernel]))] + ([g.c(g.draw([group]))] if g.rng.random() < 0.5 else [])
    g.outputs.append(g.op("Conv", x, *weights, **settings))


def deconv(g: Graph) -> None:
    """A transposed convolution with settings drawn at random."""
    rank, group = g.pick(1, 2, 2, 3), g.pick(1, 1, 2)
    kernel, strides = ([int(k) for k in g.rng.integers(1, 4, rank)] for _ in range(2))
    settings: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "group": group}
    settings["dilations"] = [g.pick(1, 1, 2)] * rank
    way = g.rng.random()
    if way < 0.7:
        settings["pads"] = [int(p) for p in g.rng.integers(0, 2, 2 * rank)]
        settings["output_padding"] = [int(g.rng.integers(0, s)) for s in strides]
    elif way < 0.9:
        settings["auto_pad"] = g.pick("VALID", "NOTSET")
    else:
        settings["auto_pad"], settings["kernel_shape"] = g.pick("SAME_UPPER", "SAME_LOWER"), [3] * rank
        settings["strides"], kernel = [2] * rank, [3] * rank
    x = g.x([group * 2, *(int(n) for n in g.rng.integers(3, 6, rank))])
    weights = [g.c(g.draw([group * 2, 2, *kernel]))] + ([g.c(g.draw([group * 2]))] if g.rng.random() < 0.5 else [])
    g.outputs.append(g.op("ConvTranspose", x, *weights, **settings))


@pytest.mark.parametrize("add", [conv, deconv])
@pytest.mark.parametrize("seed", range(12))
def test_equal_when_read_back(add: Any, seed: int, tmp_path: Path) -> None:
    g = Graph(seed)
    add(g)
    judged(g, tmp_path)


def test_real_caffe_agrees(tmp_path: Path) -> None:
    g = Graph(40, free=True)
    for add in [conv, deconv] * 12:
        add(g)
    by_caffe(g, tmp_path)


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        ({"pads": [1, 1, 1, 1]}, ["Convolution"]),
        ({"pads": [1, 1, 1, 1], "strides": [2, 2]}, ["Convolution"]),
        ({"auto_pad": "SAME_UPPER"}, ["Convolution"]),
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, ["Convolution", "Slice", "Silence", "Slice", "Silence"]),
        ({"pads": [0, 0, 1, 0]}, ["Convolution", "Slice", "Silence"]),
    ],
)
def test_one_layer_where_one_will_do(settings: dict[str, Any], want: list[str], tmp_path: Path) -> None:
    g = Graph(1)
    g.outputs.append(g.op("Conv", g.x([2, 8, 8]), g.c(g.draw([4, 2, 3, 3])), kernel_shape=[3, 3], **settings))
    text = judged(g, tmp_path)
    assert layers(text) == want
    assert "kernel_size: 3" in text and "dilation" not in text and "group" not in text


def test_padding_nodes_become_padding(tmp_path: Path) -> None:
    g = Graph(2)
    x = g.op("Pad", g.x([2, 6, 6]), g.ints(0, 0, 3, 3, 0, 0, 3, 3))
    g.outputs.append(g.op("Conv", x, g.c(g.draw([4, 2, 7, 7])), strides=[2, 2]))
    text = judged(g, tmp_path)
    assert layers(text) == ["Convolution"] and "pad: 3" in text


def test_pytorch_upsampling_is_a_deconvolution_and_a_cut(tmp_path: Path) -> None:
    g = Graph(3)
    settings = {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}
    g.outputs.append(g.op("ConvTranspose", g.x([2, 4, 4]), g.c(g.draw([2, 3, 3, 3])), **settings))
    assert layers(judged(g, tmp_path)) == ["Deconvolution", "Slice", "Silence", "Slice", "Silence"]


def test_computed_weights_are_refused(tmp_path: Path) -> None:
    g = Graph(4, free=False)
    x = g.x([2, 5, 5])
    g.feeds["w"] = np.ones((2, 2, 3, 3), np.float32)
    g.outputs.append(g.op("Conv", x, "w"))
    assert "weights are computed" in refused(g, tmp_path)
