"""Arithmetic, comparisons and logic with every kind of second operand: equal, broadcast, of another rank, constant."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from writing import Graph, by_caffe, judged, layers, refused

ARITHMETIC = "Add Sub Mul Div Max Min Sum Mean Pow".split()
COMPARISONS = "Greater Less GreaterOrEqual LessOrEqual Equal".split()
LOGIC = "And Or Xor".split()


def other(g: Graph, sizes: list[int], positive: bool = False) -> str:
    """A second operand that broadcasts with a blob of these sizes."""
    some = [d if g.rng.random() < 0.6 else 1 for d in sizes]
    kind = int(g.rng.integers(8))
    if kind == 0:
        return g.x(sizes, positive)
    if kind in (1, 2):
        return g.x(some, positive)
    if kind == 3:
        return g.x(sizes[:1] + [1] * (len(sizes) - 1), positive)
    if kind == 4:
        return g.c(g.draw([1] * int(g.rng.integers(0, len(sizes) + 2)), positive))
    if kind == 5:
        return g.c(g.draw([1, *some], positive))
    if kind == 6:
        return g.c(g.draw(sizes[int(g.rng.integers(0, len(sizes))) :], positive))
    return g.x([1] * len(sizes), positive)


def add(g: Graph, kind: str) -> None:
    """One operator on inputs of its own."""
    sizes = g.sizes()
    x = g.x([d if g.rng.random() < 0.85 else 1 for d in sizes], positive=kind in ("Pow", "Div"), whole=kind in COMPARISONS)
    if kind == "Pow":
        g.outputs.append(g.op("Pow", x, g.c(g.pick(2, 3, 0.5, -1, 0, 1, 1.7))) if g.rng.random() < 0.7 else g.op("Pow", g.c(1.7), x))
    elif kind in LOGIC:
        truths = g.op("Greater", x, g.c(0.0)), g.op("Less", other(g, sizes), g.c(0.3))
        g.outputs.append(g.number(g.op(kind, *truths)))
    elif kind in COMPARISONS:
        y = other(g, sizes)
        if y in g.feeds:
            g.feeds[y] = np.round(g.feeds[y])
        g.outputs.append(g.number(g.op(kind, *g.pick((x, y), (y, x)))))
    elif kind == "Where":
        g.outputs.append(g.op("Where", g.op("Greater", x, g.c(0.0)), other(g, sizes), other(g, sizes)))
    elif kind in ("Sum", "Mean", "Max", "Min"):
        g.outputs.append(g.op(kind, x, *(other(g, sizes) for _ in range(int(g.rng.integers(0, 3))))))
    else:
        y = other(g, sizes, positive=kind == "Div")
        g.outputs.append(g.op(kind, *g.pick((x, y), (y, x))))


@pytest.mark.parametrize("kind", [*ARITHMETIC, *COMPARISONS, *LOGIC, "Where"])
def test_equal_when_read_back(kind: str, tmp_path: Path) -> None:
    for seed in range(12):
        g = Graph(seed)
        add(g, kind)
        judged(g, tmp_path)


def test_real_caffe_agrees(tmp_path: Path) -> None:
    g = Graph(2, free=True)
    for kind in [*ARITHMETIC, *COMPARISONS, *LOGIC, "Where"] * 3:
        add(g, kind)
    by_caffe(g, tmp_path)


def test_gate_of_squeeze_and_excitation(tmp_path: Path) -> None:
    for fork, want in (("", ["Reshape", "Scale", "Eltwise"]), ("Axpy", ["Reshape", "Axpy"])):
        g = Graph(0)
        x, gate, shortcut = g.x([4, 3, 5]), g.x([4, 1, 1]), g.x([4, 3, 5])
        g.outputs.append(g.op("Add", g.op("Mul", gate, x), shortcut))
        assert [t.replace("Flatten", "Reshape") for t in layers(judged(g, tmp_path, fork))] == want


def test_swish_of_a_fork(tmp_path: Path) -> None:
    for fork, want in (("", ["Sigmoid", "Eltwise"]), ("Swish", ["Swish"])):
        g = Graph(0)
        x = g.x([4, 3, 5])
        g.outputs.append(g.op("Mul", x, g.op("Sigmoid", x)))
        assert layers(judged(g, tmp_path, fork)) == want


def test_a_vector_for_the_channels_is_one_layer(tmp_path: Path) -> None:
    g = Graph(0)
    g.outputs.append(g.op("Add", g.op("Mul", g.x([4, 3, 5]), g.c(g.draw([4, 1, 1]))), g.c(g.draw([1, 4, 1, 1]))))
    text = judged(g, tmp_path)
    assert layers(text) == ["Scale"] and "bias_term: true" in text and "axis" not in text


def test_refusals_say_why(tmp_path: Path) -> None:
    g = Graph(0, free=True)
    x, y = g.x([4]), g.x([4])
    g.outputs += [
        g.op("Pow", x, y),
        g.op("Mod", x, y, fmod=1),
        g.op("Div", x, g.c([1, 0, 1, 1])),
        g.op("Where", g.op("Less", x, y), x, g.c(-np.inf)),
    ]
    reasons = refused(g, tmp_path)
    assert all(w in reasons for w in ("negative base", "no Caffe layer", "divisor holds zeros", "not finite"))


def test_minimum_of_far_bounds_keeps_its_digits(tmp_path: Path) -> None:
    g = Graph(0)
    g.outputs.append(g.op("Min", g.op("Max", g.x([50]), g.c(-1e7)), g.c(1e7)))
    judged(g, tmp_path)
