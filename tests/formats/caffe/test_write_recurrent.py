"""LSTM, GRU and RNN: Caffe's LSTM where it is one, steps written out elsewhere, the batch free wherever frameworks leave it so."""

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
from niudao.formats.caffe.emit.batchfirst import batch_first
from niudao.formats.caffe.emit.network import emit

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}


def add(g: Graph, kind: str, steps: int | None = None, plain: bool = False) -> None:
    """A recurrence as frameworks write it: the batch is first outside, time is first inside."""
    steps = steps or g.pick(1, 2, 4)
    width, hidden = (int(n) for n in g.rng.integers(1, 5, 2))
    direction = "forward" if plain else g.pick("forward", "reverse", "bidirectional")
    ways = 2 if direction == "bidirectional" else 1
    settings: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if kind == "GRU":
        settings["linear_before_reset"] = g.pick(0, 1)
    if not plain and g.rng.random() < 0.3:
        settings["activations"] = [g.pick("Sigmoid", "Tanh", "Relu", "HardSigmoid") for _ in range(FUNCTIONS[kind] * ways)]
    many = GATES[kind] * hidden
    x = g.op("Transpose", g.x([steps, width]), perm=[1, 0, 2])
    weights = [g.c(g.draw([ways, many, n])) for n in (width, hidden)]
    bias = [g.c(g.draw([ways, 2 * many]))] if g.rng.random() < 0.7 else []
    y, *last = g.op(kind, x, *weights, *bias, outputs=3 if kind == "LSTM" else 2, **settings)
    if g.rng.random() < 0.5:
        g.outputs.append(g.op("Transpose", y, perm=[2, 0, 1, 3]))
    else:
        g.outputs.append(g.op("Transpose", g.pick(*last), perm=[1, 0, 2]))


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("seed", range(8))
def test_equal_when_read_back(kind: str, seed: int, tmp_path: Path) -> None:
    g = Graph(seed)
    add(g, kind)
    judged(g, tmp_path)


def test_real_caffe_agrees(tmp_path: Path) -> None:
    g = Graph(9, free=True)
    for kind in [*GATES] * 4:
        add(g, kind)
    by_caffe(g, tmp_path)


def test_a_plain_lstm_is_caffes_layer(tmp_path: Path) -> None:
    g = Graph(3, free=True)
    add(g, "LSTM", steps=3, plain=True)
    text = judged(g, tmp_path)
    assert layers(text).count("LSTM") == 1 and "TanH" not in text


def test_steps_share_their_weights_and_two_recurrences_do_not(tmp_path: Path) -> None:
    g = Graph(4)
    for _ in range(2):
        add(g, "GRU", steps=4, plain=True)
    onnx.save(g.proto(), tmp_path / "model.onnx")
    model = nd.read(tmp_path / "model.onnx")
    for node in model.graph:
        node.metadata_props["niudao.layer"] = "cell"  # one layer of the source may hold both directions as operators of their own
    held: dict[str, list[np.ndarray]] = {}
    for named in emit(batch_first(model)).layers:
        if named.layer.share:
            held.setdefault(named.layer.share, []).append(named.layer.weights[0].load())
    assert len(held) >= 2
    for arrays in held.values():
        assert len(arrays) == 3 and all((a == arrays[0]).all() for a in arrays)


@pytest.mark.parametrize(
    ("settings", "extra", "reason"),
    [
        ({"clip": 1.0}, [], "clips inside"),
        ({"activations": ["Sigmoid", "Softsign", "Tanh"]}, [], "uses softsign"),
        ({}, ["lengths"], "lengths of their own"),
        ({}, ["", "state"], "a state of its own"),
    ],
)
def test_what_caffe_has_not_is_refused(settings: dict[str, Any], extra: list[str], reason: str, tmp_path: Path) -> None:
    g = Graph(1, free=False)
    g.batch = 2
    given = {"lengths": g.c([2, 3], "i4"), "state": g.c(np.ones((1, 2, 4), np.float32)), "": ""}
    x = g.op("Transpose", g.x([3, 5]), perm=[1, 0, 2])
    weights = [g.c(g.draw([1, 16, 5])), g.c(g.draw([1, 16, 4])), ""]
    y, _, _ = g.op("LSTM", x, *weights, *(given[e] for e in extra), outputs=3, hidden_size=4, **settings)
    g.outputs.append(y)
    assert reason in refused(g, tmp_path)


def test_too_many_steps_are_refused(tmp_path: Path) -> None:
    g = Graph(2)
    add(g, "GRU", steps=60, plain=True)
    assert "60 steps" in refused(g, tmp_path)


def test_networks_without_recurrences_stay_what_they_are(tmp_path: Path) -> None:
    g = Graph(6, free=True)
    g.outputs.append(g.op("Relu", g.x([3])))
    onnx.save(g.proto(), tmp_path / "model.onnx")
    model = nd.read(tmp_path / "model.onnx")
    assert batch_first(model) is model
