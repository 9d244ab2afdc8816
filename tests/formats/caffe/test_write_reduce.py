"""Reductions along any axes, and the place of the largest."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from writing import Graph, by_caffe, judged, layers, refused

SUMS = "ReduceMean ReduceSum ReduceMax ReduceMin ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp ReduceProd".split()
OPERATORS = [*SUMS, "ArgMax", "ArgMin", "TopK"]


def add(g: Graph, kind: str) -> None:
    """One operator on an input of its own."""
    sizes = g.sizes()
    first = 1 if g.free else g.pick(0, 1)
    axes = range(first, len(sizes) + 1)
    if kind in ("ArgMax", "ArgMin"):
        x = g.x(sizes, whole=True)  # so that there are equal ones
        best = g.op(kind, x, axis=g.pick(*axes), keepdims=1 if len(sizes) == 1 else g.pick(0, 1), select_last_index=g.pick(0, 1))
        g.outputs.append(g.number(best))
    elif kind == "TopK":
        axis = g.pick(*range(1, len(sizes) + 1))
        count = int(g.rng.integers(1, sizes[axis - 1] + 1))
        values, indices = g.op("TopK", g.x(sizes, whole=True), g.ints(count), outputs=2, axis=axis, largest=g.pick(0, 1))
        g.outputs += [values, g.number(indices)]
    else:
        chosen = sorted(int(a) for a in g.rng.permutation(list(axes))[: int(g.rng.integers(1, len(axes) + 1))])
        keep = 1 if len(chosen) == len(sizes) + 1 else g.pick(0, 1)
        g.outputs.append(g.op(kind, g.x(sizes, positive=kind == "ReduceLogSum"), g.ints(*chosen), keepdims=keep))


@pytest.mark.parametrize("kind", OPERATORS)
def test_equal_when_read_back(kind: str, tmp_path: Path) -> None:
    for seed in range(12):
        g = Graph(seed)
        add(g, kind)
        judged(g, tmp_path)


def test_real_caffe_agrees(tmp_path: Path) -> None:
    g = Graph(5, free=True)
    for kind in OPERATORS * 3:
        add(g, kind)
    by_caffe(g, tmp_path)


@pytest.mark.parametrize(
    ("kind", "axes", "keepdims", "want"),
    [
        ("ReduceMean", (2, 3), 1, ["Pooling"]),
        ("ReduceMean", (2, 3), 0, ["Reduction"]),
        ("ReduceSum", (1, 2, 3), 0, ["Reduction"]),
        ("ReduceMax", (2, 3), 1, ["Pooling"]),
        ("ReduceMax", (3,), 1, ["Pooling"]),
        ("ReduceMean", (1,), 1, ["Reshape", "Pooling", "Reshape"]),
    ],
)
def test_few_layers(kind: str, axes: tuple[int, ...], keepdims: int, want: list[str], tmp_path: Path) -> None:
    g = Graph(0, free=True)
    g.outputs.append(g.op(kind, g.x([3, 4, 5]), g.ints(*axes), keepdims=keepdims))
    assert layers(judged(g, tmp_path)) == want


def test_the_last_of_equal_maxima_is_caffes_own_layer(tmp_path: Path) -> None:
    g = Graph(0)
    g.outputs.append(g.number(g.op("ArgMax", g.x([3, 4, 5], whole=True), axis=1, select_last_index=1)))
    assert layers(judged(g, tmp_path)) == ["ArgMax"]


def test_refusals_say_why(tmp_path: Path) -> None:
    g = Graph(0, free=True)
    g.outputs += [g.op("ReduceSum", g.x([3]), g.ints(0), keepdims=1), g.number(g.op("ArgMax", g.x([3]), axis=0))]
    reasons = refused(g, tmp_path)
    assert "reduces the free batch" in reasons and "looks along the free batch" in reasons
