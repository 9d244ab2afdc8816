"""Shapes and orders: what plain Caffe has no layer for is cut and joined."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from writing import Graph, by_caffe, judged, layers, refused

OPERATORS = "Reshape Flatten Squeeze Unsqueeze Transpose Expand Tile DepthToSpace SpaceToDepth Shuffle".split()


def add(g: Graph, kind: str) -> None:
    """One operator on an input of its own."""
    sizes = g.sizes()
    if kind == "Reshape":
        count = int(np.prod(sizes))
        part = g.pick(*(d for d in range(1, count + 1) if count % d == 0))
        target = [0 if g.free else g.batch, part, count // part]
        if g.rng.random() < 0.3:
            target[int(g.rng.integers(1, 3))] = -1
        y = g.op("Reshape", g.x(sizes), g.ints(*target))
    elif kind == "Flatten":
        y = g.op("Flatten", g.x(sizes), axis=1 if g.free else int(g.rng.integers(0, len(sizes) + 2)))
    elif kind == "Unsqueeze":
        y = g.op("Unsqueeze", g.x(sizes), g.ints(int(g.rng.integers(1, len(sizes) + 2))))
    elif kind == "Squeeze":
        y = g.op("Squeeze", g.op("Relu", g.op("Unsqueeze", g.x(sizes), g.ints(1, 3))), g.ints(-len(sizes) - 2))
    elif kind == "Transpose":
        order = [0, *(int(i) + 1 for i in g.rng.permutation(len(sizes)))] if g.free else [int(i) for i in g.rng.permutation(len(sizes) + 1)]
        y = g.op("Transpose", g.x(sizes), perm=order)
    elif kind == "Expand":
        y = g.op("Expand", g.x(sizes), g.ints(1, *(d if d > 1 else int(g.rng.integers(1, 4)) for d in sizes)))
    elif kind == "Tile":
        y = g.op("Tile", g.x(sizes), g.ints(1, *(int(n) for n in g.rng.integers(1, 4, size=len(sizes)))))
    elif kind == "Shuffle":
        y = shuffled(g, g.pick(1, 2, 3), g.pick(1, 2, 3))
    else:
        b = g.pick(1, 2, 3)
        mode = {"mode": g.pick("DCR", "CRD")} if kind == "DepthToSpace" else {}
        y = g.op(kind, g.x([b * b * 2, 3, 2] if kind == "DepthToSpace" else [2, 3 * b, 2 * b]), blocksize=b, **mode)
    g.outputs.append(y)


def shuffled(g: Graph, groups: int, each: int) -> str:
    """ShuffleNet's channel shuffle."""
    split = g.op("Reshape", g.x([groups * each, 3, 4]), g.ints(0, groups, each, 3, 4))
    return str(g.op("Reshape", g.op("Transpose", split, perm=[0, 2, 1, 3, 4]), g.ints(0, groups * each, 3, 4)))


@pytest.mark.parametrize("kind", OPERATORS)
def test_equal_when_read_back(kind: str, tmp_path: Path) -> None:
    for seed in range(10):
        g = Graph(seed)
        add(g, kind)
        judged(g, tmp_path)


def test_real_caffe_agrees(tmp_path: Path) -> None:
    g = Graph(3, free=True)
    for kind in OPERATORS * 3:
        add(g, kind)
    by_caffe(g, tmp_path)


def test_channel_shuffle_is_cut_and_joined_once(tmp_path: Path) -> None:
    g = Graph(0)
    g.outputs.append(shuffled(g, 3, 8))
    assert layers(judged(g, tmp_path)) == ["Reshape", "Slice", "Concat", "Reshape"]
    g = Graph(0)
    g.outputs.append(shuffled(g, 3, 8))
    assert layers(judged(g, tmp_path, "ShuffleChannel")) == ["ShuffleChannel"]


def test_transposition_of_long_axes_goes_factor_by_factor(tmp_path: Path) -> None:
    g = Graph(0, free=True)
    g.outputs.append(g.op("Transpose", g.x([96, 80, 1]), perm=[0, 2, 3, 1]))
    text = judged(g, tmp_path)
    assert text.count("top:") < 80
    assert layers(judged(g, tmp_path, "Permute")) == ["Permute"]


def test_only_axes_of_one_move_for_nothing(tmp_path: Path) -> None:
    g = Graph(0)
    g.outputs.append(g.op("Transpose", g.x([7, 1, 1]), perm=[0, 2, 3, 1]))
    assert layers(judged(g, tmp_path)) == ["Reshape"]


def test_the_free_batch_stays_where_it_is(tmp_path: Path) -> None:
    g = Graph(0, free=True)
    x = g.x([2, 3])
    g.outputs += [
        g.op("Transpose", x, perm=[1, 0, 2]),
        g.op("Reshape", x, g.ints(3, -1)),
        g.op("Transpose", g.x([211, 223]), perm=[0, 2, 1]),
    ]
    reasons = refused(g, tmp_path)
    assert "moves the batch" in reasons and "is free" in reasons


def test_items_join_the_batch_and_leave_it(tmp_path: Path) -> None:
    for caffe in (False, True):
        g = Graph(0, free=True)
        items = g.op("Mul", g.op("Reshape", g.x([4, 6]), g.ints(-1, 6)), g.c(g.draw([6])))
        items = g.op("Gemm", items, g.c(g.draw([6, 5])))
        g.outputs.append(g.op("Reshape", items, g.ints(-1, 4, 5)))
        if caffe:
            by_caffe(g, tmp_path)
        else:
            judged(g, tmp_path)


def test_nothing_works_in_place_on_memory_that_others_still_read(tmp_path: Path) -> None:
    """A Reshape's blob is its input's memory, in Caffe."""
    for check in (judged, by_caffe):
        g = Graph(0, free=True)
        x = g.op("Tanh", g.x([4, 6]))
        g.outputs += [g.op("Neg", g.op("Relu", g.op("Reshape", x, g.ints(0, 3, 8)))), g.op("Exp", x)]
        check(g, tmp_path)
