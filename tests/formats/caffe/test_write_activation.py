"""Activations as Caffe layers, many settings of each."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from writing import Graph, by_caffe, judged, layers, refused

SETTINGS = {
    "Elu": lambda g: {"alpha": g.pick(1.0, 0.3)},
    "LeakyRelu": lambda g: {"alpha": g.pick(0.01, 0.3, -0.2)},
    "Celu": lambda g: {"alpha": g.pick(1.0, 0.5, 2.0)},
    "Swish": lambda g: {"alpha": g.pick(1.0, 1.7)},
    "ThresholdedRelu": lambda g: {"alpha": g.pick(1.0, 0.1, -0.5)},
    "Shrink": lambda g: {"lambd": g.pick(0.5, 0.1, -0.3), "bias": g.pick(0.0, 0.3)},
    "HardSigmoid": lambda g: {"alpha": 0.3, "beta": 0.4},
    "Gelu": lambda g: {"approximate": "tanh"},
}
PLAIN = "Relu Sigmoid Tanh Abs Softplus Exp Neg Softsign HardSwish Mish Sign Cosh Identity Selu Reciprocal".split()
OPERATORS = [*PLAIN, *SETTINGS, "Log", "Sqrt", "Atanh", "Clip", "PRelu", "Cast"]


def add(g: Graph, kind: str) -> None:
    """One operator on an input of its own."""
    sizes = g.sizes()
    x = g.x(sizes, positive=kind in ("Log", "Sqrt", "Reciprocal"))
    if kind in ("Log", "Sqrt", "Exp") and g.rng.random() < 0.5:
        x = g.op("Add", g.op("Mul", x, g.c(0.5)), g.c(2.0))
    inputs = [x]
    if kind == "Atanh":
        g.feeds[x] = np.tanh(g.feeds[x])
    if kind == "Clip":
        inputs += [g.c(g.pick(-1, 0, 0.2, -500)) if g.rng.random() < 0.7 else "", g.c(g.pick(0.5, 6, 1000)) if g.rng.random() < 0.7 else ""]
    if kind == "PRelu":
        shapes = [1], [sizes[0]] + [1] * (len(sizes) - 1), [1, *sizes], sizes[-1:], [1] * (len(sizes) + 1)
        inputs.append(g.c(g.draw(g.pick(*shapes))))
    if kind == "Cast":
        truth = g.op("Greater", x, g.c(0.1))
        g.outputs.append(g.number(g.op("Not", truth) if g.rng.random() < 0.5 else truth))
    else:
        g.outputs.append(g.op(kind, *inputs, **SETTINGS.get(kind, lambda g: {})(g)))


@pytest.mark.parametrize("kind", OPERATORS)
def test_equal_when_read_back(kind: str, tmp_path: Path) -> None:
    for seed in range(6):
        g = Graph(seed)
        add(g, kind)
        judged(g, tmp_path)


def test_real_caffe_agrees(tmp_path: Path) -> None:
    g = Graph(1, free=True)
    for kind in OPERATORS * 2:
        add(g, kind)
    by_caffe(g, tmp_path)


@pytest.mark.parametrize(
    ("kind", "type"), [("Relu", "ReLU"), ("Sigmoid", "Sigmoid"), ("Tanh", "TanH"), ("Abs", "AbsVal"), ("Softplus", "BNLL"), ("Elu", "ELU")]
)
def test_one_layer_for_one_operator(kind: str, type: str, tmp_path: Path) -> None:
    g = Graph(0)
    g.outputs.append(g.op(kind, g.x([4, 3, 3])))
    assert layers(judged(g, tmp_path)) == [type]


def test_scaling_and_shifting_are_one_power_layer(tmp_path: Path) -> None:
    g = Graph(0)
    g.outputs.append(g.op("Pow", g.op("Div", g.op("Sub", g.x([3, 4, 4], positive=True), g.c(-1.0)), g.c(4.0)), g.c(1.5)))
    text = judged(g, tmp_path)
    assert layers(text) == ["Power"] and "scale: 0.25" in text and "shift: 0.25" in text and "power: 1.5" in text


def test_relu6_is_a_layer_only_in_forks(tmp_path: Path) -> None:
    for fork, want in (("", ["ReLU", "Power", "ReLU", "Power"]), ("ReLU6", ["ReLU6"]), ("Clip", ["Clip"])):
        g = Graph(0)
        g.outputs.append(g.op("Clip", g.x([4, 3, 3]), g.c(0.0), g.c(6.0)))
        assert layers(judged(g, tmp_path, fork)) == want


@pytest.mark.parametrize("kind", ["Floor", "Sin", "Erf"])
def test_refused_by_name(kind: str, tmp_path: Path) -> None:
    g = Graph(0)
    g.outputs.append(g.op(kind, g.x([4])))
    assert "no Caffe layer" in refused(g, tmp_path)


def test_gelu_of_the_error_function_and_truncation_are_refused(tmp_path: Path) -> None:
    g = Graph(0)
    g.outputs.append(g.op("Gelu", g.x([4])))
    g.outputs.append(g.number(g.op("Cast", g.x([4]), to=6)))
    reasons = refused(g, tmp_path)
    assert "error function" in reasons and "behind the point" in reasons
