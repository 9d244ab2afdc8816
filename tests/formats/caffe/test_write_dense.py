"""Matrix products: a constant on either side, on neither, with every form of bias."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from writing import Graph, by_caffe, judged, layers, refused

SHAPES = [  # x without its batch, the other side, which side is constant
    ((4,), (4, 5), "right"),
    ((2, 4), (4, 5), "right"),
    ((2, 6, 4), (4, 5), "right"),
    ((2, 4), (1, 4, 5), "right"),
    ((4,), (4,), "right"),
    ((2, 4), (4,), "right"),
    ((2, 6, 4), (2, 4, 5), "right"),
    ((1, 6, 4), (2, 4, 5), "right"),
    ((4, 5), (2, 4), "left"),
    ((2, 4, 5), (6, 4), "left"),
    ((4, 5), (1, 2, 4), "left"),
    ((4, 5), (4,), "left"),
    ((2, 4), (4, 5), "none"),
    ((2, 6, 4), (2, 4, 5), "none"),
    ((2, 6, 4), (1, 4, 5), "none"),
    ((1, 4), (4, 1), "none"),
]


def matmul(g: Graph, sizes: tuple[int, ...], other: tuple[int, ...], side: str) -> None:
    x = g.x(list(sizes))
    y = g.x(list(other)) if side == "none" else g.c(g.draw(list(other)))
    g.outputs.append(g.op("MatMul", *((y, x) if side == "left" else (x, y))))


def gemm(g: Graph) -> None:
    inner, columns = (int(n) for n in g.rng.integers(1, 6, 2))
    flip = g.pick(0, 1)
    bias = g.pick((), (1,), (columns,), (1, columns), (1, 1), None)
    inputs = [g.x([inner]), g.c(g.draw([columns, inner] if flip else [inner, columns]))]
    inputs += [] if bias is None else [g.c(g.draw(list(bias)))]
    g.outputs.append(g.op("Gemm", *inputs, transB=flip, alpha=g.pick(1.0, 0.5, -2.0), beta=g.pick(1.0, 0.5, 0.0)))


@pytest.mark.parametrize(("sizes", "other", "side"), SHAPES)
def test_matmul_is_equal_when_read_back(sizes: tuple[int, ...], other: tuple[int, ...], side: str, tmp_path: Path) -> None:
    g = Graph(0, free=True)
    matmul(g, sizes, other, side)
    judged(g, tmp_path)


@pytest.mark.parametrize("seed", range(20))
def test_gemm_is_equal_when_read_back(seed: int, tmp_path: Path) -> None:
    g = Graph(seed)
    gemm(g)
    assert layers(judged(g, tmp_path)) == ["InnerProduct"]


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm_of_two_inputs_and_of_a_constant_left_side(transposed: int, tmp_path: Path) -> None:
    g = Graph(transposed, free=False)
    x = g.x([4])
    g.outputs.append(g.op("Gemm", x, x, transA=transposed, transB=1 - transposed))
    g.outputs.append(g.op("Gemm", g.c(g.draw([2, 4])), x, transB=1))
    judged(g, tmp_path)


def test_real_caffe_agrees(tmp_path: Path) -> None:
    g = Graph(7, free=True)
    for sizes, other, side in SHAPES:
        matmul(g, sizes, other, side)
        gemm(g)
    by_caffe(g, tmp_path)


def test_a_dense_layer_is_one_layer(tmp_path: Path) -> None:
    g = Graph(3)
    y = g.op("MatMul", g.x([2, 4]), g.c(g.draw([4, 5])))
    g.outputs.append(g.op("Add", y, g.c(g.draw([5]))))
    text = judged(g, tmp_path)
    assert layers(text) == ["InnerProduct"] and "axis: 2" in text and "bias_term" not in text


def test_products_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    g = Graph(1, free=True)
    g.outputs.append(g.op("MatMul", g.x([400, 300]), g.x([300, 400])))
    assert "48000000 products" in refused(g, tmp_path)
