"""Cutting, joining, padding and picking."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from writing import Graph, by_caffe, judged, layers, refused

OPERATORS = "Slice Split Concat Pad Gather Embed CumSum".split()


def add(g: Graph, kind: str) -> None:
    """One operator on inputs of its own."""
    sizes = g.sizes()
    x = g.x(sizes)
    rank, axis = len(sizes) + 1, int(g.rng.integers(1, len(sizes) + 1))
    size = sizes[axis - 1]
    if kind == "Slice":
        axes = [int(i) + 1 for i in g.rng.permutation(len(sizes))[:2]]
        ranges = [_range(g, sizes[a - 1]) for a in axes]
        starts, ends, steps = zip(*ranges, strict=True)
        y = g.op(
            "Slice", x, g.ints(*starts), g.ints(*ends), g.ints(*(a - rank if g.rng.random() < 0.3 else a for a in axes)), g.ints(*steps)
        )
    elif kind == "Split":
        cut = int(g.rng.integers(1, size)) if size > 1 else size
        made = g.op("Split", x, g.ints(cut, size - cut), outputs=2, axis=axis) if size > 1 else [g.op("Relu", x)]
        g.outputs += made[: g.pick(1, 2)]
        return
    elif kind == "Concat":
        wide = [*sizes[: axis - 1], g.pick(1, 2, 3), *sizes[axis:]]
        constant = [] if g.free else [g.c(g.draw([g.batch, *wide]))]
        y = g.op("Concat", x, g.x(wide), *constant, *g.pick([], [x]), axis=axis)
    elif kind == "Pad":
        mode = g.pick("constant", "reflect", "edge", "wrap")
        most = [{"reflect": d - 1, "wrap": d}.get(mode, 3) for d in sizes]
        before, after = ([0, *(int(g.rng.integers(0, min(m, 3) + 1)) for m in most)] for _ in range(2))
        if mode == "constant" and sizes[0] > 1:
            before[1] = g.pick(-1, before[1])
        y = g.op("Pad", x, g.ints(*before, *after), *([g.c(g.pick(0, 1.5))] if mode == "constant" else []), mode=mode)
    elif kind == "Gather":
        y = g.op("Gather", x, g.c(g.rng.integers(-size, size, size=g.pick([], [3], [2, 2])), "i8"), axis=axis)
    elif kind == "Embed":
        g.feeds[x] = g.rng.integers(0, 7, size=g.feeds[x].shape).astype("f4")
        y = g.op("Gather", g.c(g.draw([7, *g.pick([], [4], [2, 3])])), g.op("Cast", x, to=7))
    else:
        y = g.op("CumSum", x, g.c(axis, "i8"), exclusive=g.pick(0, 1), reverse=g.pick(0, 1))
    g.outputs.append(y)


def _range(g: Graph, size: int) -> tuple[int, int, int]:
    start, step = int(g.rng.integers(0, size)), g.pick(1, 1, 2, 3, -1)
    end = int(g.rng.integers(start + 1, size + 1))
    if step < 0:
        return end - 1, start - 1 if start else -100, step
    return g.pick(start, start - size), g.pick(end, 1 << 31) if end == size else end, step


@pytest.mark.parametrize("kind", OPERATORS)
def test_equal_when_read_back(kind: str, tmp_path: Path) -> None:
    for seed in range(14):
        g = Graph(seed)
        add(g, kind)
        judged(g, tmp_path)


def test_real_caffe_agrees(tmp_path: Path) -> None:
    g = Graph(4, free=True)
    for kind in OPERATORS * 4:
        add(g, kind)
    by_caffe(g, tmp_path)


def test_every_second_pixel_is_one_pooling(tmp_path: Path) -> None:
    g = Graph(0)
    g.outputs.append(g.op("Slice", g.x([3, 9, 7]), g.ints(0, 0), g.ints(99, 99), g.ints(2, 3), g.ints(2, 2)))
    text = judged(g, tmp_path)
    assert layers(text) == ["Pooling"] and "stride: 2" in text


def test_a_class_token_follows_the_batch(tmp_path: Path) -> None:
    g = Graph(0, free=True)
    x = g.x([4, 6])
    batch = g.op("Concat", g.op("Slice", g.op("Shape", x), g.ints(0), g.ints(1)), g.ints(1, 6), axis=0)
    g.outputs.append(g.op("Concat", g.op("Expand", g.c(g.draw([1, 1, 6])), batch), x, axis=1))
    judged(g, tmp_path)


def test_the_free_batch_is_not_cut(tmp_path: Path) -> None:
    g = Graph(0, free=True)
    x = g.x([4, 6])
    g.outputs += [
        g.op("Slice", x, g.ints(1), g.ints(3), g.ints(0)),
        g.op("Gather", x, g.c(1, "i8")),
        g.op("Pad", x, g.ints(1, 0, 0, 0, 0, 0)),
    ]
    assert refused(g, tmp_path).count("batch") == 3
    h = Graph(0)
    h.outputs.append(h.op("GatherElements", h.x([3]), h.c(np.zeros((1, 1)), "i8")))
    assert "no Caffe layer" in refused(h, tmp_path)
