"""Shapes, indices, padding and reductions as torch modules: random settings, judged by ONNX Runtime."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import niudao as nd
from niudao.formats.pytorch import to_module
from niudao.ir.build import Builder

sys.path.insert(0, str(Path(__file__).parent))
from torchjudge import Make, build, judge, operator, values

Draw = Callable[[st.SearchStrategy[Any]], Any]
Case = tuple[list[np.ndarray[Any, Any]], Make]
EXAMPLES = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def one_of(*choices: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(choices)


def ints(*numbers: int) -> np.ndarray[Any, Any]:
    return np.array(numbers, np.int64)


def shape(draw: Draw, rank: int = 4) -> list[int]:
    return draw(st.lists(st.integers(1, 5), min_size=rank, max_size=rank))


def reshape(draw: Draw) -> Case:
    sizes = shape(draw)
    target = draw(one_of([0, -1], [-1], [0, 0, -1], [sizes[0], -1, sizes[3]], [0, 0, 0, 0], [1, *sizes], [-1, 1]))
    return [values(*sizes)], operator("Reshape", ints(*target), allowzero=0)


def flatten(draw: Draw) -> Case:
    return [values(*shape(draw))], operator("Flatten", axis=draw(st.integers(-4, 4)))


def squeeze(draw: Draw) -> Case:
    axes = draw(one_of([0], [2], [-1], [0, -2], [0, 2, 3], None))
    return [values(1, 3, 1, 1)], operator("Squeeze", *([] if axes is None else [ints(*axes)]))


def unsqueeze(draw: Draw) -> Case:
    return [values(*shape(draw, 2))], operator("Unsqueeze", ints(*draw(one_of([0], [-1], [0, -1], [1, 3], [2, 0], [-2]))))


def transpose(draw: Draw) -> Case:
    perm = draw(st.permutations(range(4)))
    return [values(*shape(draw))], operator("Transpose", **({} if draw(st.booleans()) else {"perm": list(perm)}))


def expand(draw: Draw) -> Case:
    return [values(3, 1, 2)], operator("Expand", ints(*draw(one_of([1], [4, 1], [3, 5, 2], [2, 1, 1, 2], [3, 1, 1], [2, 3, 4, 2]))))


def tile(draw: Draw) -> Case:
    return [values(*shape(draw, 3))], operator("Tile", ints(*draw(st.lists(st.integers(1, 3), min_size=3, max_size=3))))


def concat(draw: Draw) -> Case:
    axis = draw(st.integers(-3, 2))
    sizes = shape(draw, 3)
    other = list(sizes)
    other[axis] += 1
    return [values(*sizes), values(*other)], operator("Concat", axis=axis)


def split(draw: Draw) -> Case:
    axis, count = draw(one_of(0, 1, 2, -1)), draw(st.integers(1, 4))
    sizes = shape(draw, 3)
    if draw(st.booleans()):
        lengths = draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
        sizes[axis] = sum(lengths)
        return [values(*sizes)], operator("Split", ints(*lengths), outputs=count, axis=axis)
    sizes[axis] = draw(st.integers(count, 3 * count))
    if -(-sizes[axis] // count) * (count - 1) >= sizes[axis]:
        sizes[axis] = count
    return [values(*sizes)], operator("Split", outputs=count, axis=axis, num_outputs=count)


def cut(draw: Draw) -> Case:
    sizes = shape(draw)
    axes = draw(st.lists(one_of(0, 1, -2, 3), min_size=1, max_size=4, unique=True))
    steps = [draw(one_of(1, 1, 2, -1, -2)) for _ in axes]
    starts = [draw(one_of(0, 1, -2, -7, 3, 2**31 - 1 if s < 0 else 0)) for s in steps]
    ends = [draw(one_of(2, -1, 5, 2**63 - 1 if s > 0 else -(2**63), 0)) for s in steps]
    return [values(*sizes)], operator("Slice", ints(*starts), ints(*ends), ints(*axes), ints(*steps))


def gather(draw: Draw) -> Case:
    index = draw(one_of(ints(0, -1, 1), np.array(1), np.array(-1), ints(1, 0, -2, 1).reshape(2, 2)))
    return [values(3, 2, 4)], operator("Gather", index, axis=draw(one_of(0, 1, 2, -1)))


def gather_computed(draw: Draw) -> Case:
    index = np.random.default_rng(0).integers(-2, 2, draw(one_of((), (3,), (2, 2)))).astype(draw(one_of(np.int32, np.int64)))
    return [values(3, 2, 4), index], operator("Gather", axis=draw(one_of(0, 1, 2, -1)))


def gather_elements(draw: Draw) -> Case:
    axis = draw(one_of(0, 1, -1))
    index = np.random.default_rng(draw(st.integers(0, 9))).integers(-2, 2, (2, 2, 2))
    return [values(3, 2, 4), index], operator("GatherElements", axis=axis)


def gather_nd(draw: Draw) -> Case:
    batch, depth = draw(one_of((0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 1)))
    index = np.random.default_rng(1).integers(-2, 2, (*(2, 3)[:batch], 2, depth))
    return [values(2, 3, 4), index], operator("GatherND", batch_dims=batch)


def scatter_elements(draw: Draw) -> Case:
    index = np.stack([np.random.default_rng(k).permutation(4)[:2] for k in range(3)]) - 4 * draw(one_of(0, 1))
    reduction = draw(one_of("none", "add", "mul", "max", "min"))
    return [values(3, 4), index, values(3, 2, seed=1)], operator("ScatterElements", axis=draw(one_of(1, -1)), reduction=reduction)


def scatter_nd(draw: Draw) -> Case:
    depth = draw(one_of(1, 2))
    index = ints(0, 2).reshape(2, 1) if depth == 1 else ints(0, 1, 2, -1).reshape(2, 2)
    updates = values(2, *(4, 3)[depth - 1 :], seed=1)
    return [values(3, 4, 3), index, updates], operator("ScatterND", reduction=draw(one_of("none", "add", "mul", "max", "min")))


def top_k(draw: Draw) -> Case:
    x = np.round(values(3, 5, 4), draw(one_of(0, 3)))
    return [x], operator("TopK", ints(draw(st.integers(1, 3))), outputs=2, axis=draw(one_of(0, 1, -1)), largest=draw(one_of(0, 1)))


def one_hot(draw: Draw) -> Case:
    index = np.random.default_rng(0).integers(-6, 6, (2, 3))
    return [index], operator("OneHot", np.array(5), np.array([-1.0, 2.0], np.float32), axis=draw(one_of(0, 1, 2, -1)))


def triangle(draw: Draw) -> Case:
    return [values(2, 4, 3)], operator("Trilu", np.array(draw(st.integers(-3, 3))), upper=draw(one_of(0, 1)))


def compress(draw: Draw) -> Case:
    axis = draw(one_of(None, 0, 1))
    return [values(3, 4)], operator("Compress", np.array([True, False, True]), **({} if axis is None else {"axis": axis}))


def unique(draw: Draw) -> Case:
    x = np.round(values(4, 3))
    axis = draw(one_of(None, 0, 1))
    return [x], operator("Unique", outputs=4, sorted=draw(one_of(0, 1)), **({} if axis is None else {"axis": axis}))


def reverse_sequence(draw: Draw) -> Case:
    batch = draw(one_of(0, 1))
    lengths = ints(*draw(st.lists(st.integers(1, 3), min_size=3, max_size=3)))
    return [values(3, 3, 2), lengths], operator("ReverseSequence", batch_axis=batch, time_axis=1 - batch)


def pad(draw: Draw) -> Case:
    mode = draw(one_of("constant", "reflect", "edge", "wrap"))
    rank = draw(one_of(2, 3, 4, 5))
    sizes = [draw(st.integers(3, 4)) for _ in range(rank)]
    pads = [draw(st.integers(-1 if mode == "constant" else 0, 2)) for _ in range(2 * rank)]
    if draw(st.booleans()):
        pads[:2] = pads[rank : rank + 2] = [0, 0]
    fill = np.array(1.5, np.float32) if draw(st.booleans()) and mode == "constant" else None
    if rank > 2 and draw(st.booleans()):
        return [values(*sizes)], operator("Pad", ints(*pads[1:3], *pads[:2]), fill, ints(-1, 1), mode=mode)
    return [values(*sizes)], operator("Pad", ints(*pads), fill, mode=mode)


def reduce(draw: Draw) -> Case:
    kind = draw(one_of(*"Mean Sum Max Min Prod L1 L2 SumSquare LogSum LogSumExp".split()))
    axes = draw(one_of(None, [0], [1], [-1], [2, 3], [1, -1], [0, 1, 2, 3]))
    x = np.abs(values(2, 3, 4, 2)) + 0.1 if kind == "LogSum" else values(2, 3, 4, 2)
    if kind not in ("L1", "L2", "LogSum", "LogSumExp", "Mean") and draw(st.booleans()):
        x = np.round(3 * x).astype(np.int32)
    return [x], operator(f"Reduce{kind}", *([] if axes is None else [ints(*axes)]), keepdims=draw(one_of(0, 1)))


def arg(draw: Draw) -> Case:
    how = {"axis": draw(one_of(0, 1, -1)), "keepdims": draw(one_of(0, 1)), "select_last_index": draw(one_of(0, 1))}
    return [np.round(values(3, 4, 5))], operator(draw(one_of("ArgMax", "ArgMin")), **how)


def running(draw: Draw) -> Case:
    how = {"exclusive": draw(one_of(0, 1)), "reverse": draw(one_of(0, 1))}
    return [values(2, 4, 3)], operator("CumSum", np.array(draw(one_of(0, 1, -1))), **how)


def softmax(draw: Draw) -> Case:
    return [values(2, 3, 4)], operator(draw(one_of("Softmax", "LogSoftmax", "Hardmax")), axis=draw(st.integers(-3, 2)))


FAMILIES = (
    reshape,
    flatten,
    squeeze,
    unsqueeze,
    transpose,
    expand,
    tile,
    concat,
    split,
    cut,
    gather,
    gather_computed,
    gather_elements,
    gather_nd,
)
FAMILIES += (scatter_elements, scatter_nd, top_k, one_hot, triangle, compress, unique, reverse_sequence, pad, reduce, arg, running, softmax)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.__name__)
def test_random_settings(family: Callable[[Draw], Case]) -> None:
    @EXAMPLES
    @given(st.data())
    def judged(data: st.DataObject) -> None:
        arrays, make = family(data.draw)
        judge(arrays, make, free=data.draw(st.booleans()))

    judged()


def test_a_free_batch_stays_free() -> None:
    """Shapes that follow the input's work for another batch, and export with a free one."""
    b = Builder("free")
    x = b.input("x", (None, 3, 4, 4))
    sizes = b.op("Shape", x)
    batch = b.op("Gather", sizes, b.const([0]), axis=0)
    y = b.op("Reshape", x, b.op("Concat", batch, b.const([-1]), axis=0))
    first = b.op("Unsqueeze", b.op("Slice", y, b.const([0]), b.const([5]), b.const([1])), b.const([1]))
    y = b.op("Concat", b.op("Expand", first, b.op("Concat", batch, b.const([2, 5]), axis=0)), first, axis=1)
    b.output(y, "y")
    model = b.model()
    network = to_module(model)
    for n in (1, 3):
        x_n = values(n, 3, 4, 4)
        np.testing.assert_array_equal(network(torch.from_numpy(x_n)).numpy(), nd.run(model, {"x": x_n})["y"])
    exported = torch.export.export(network, (torch.zeros(2, 3, 4, 4),), dynamic_shapes=({0: torch.export.Dim("n")},))
    assert exported.module()(torch.zeros(5, 3, 4, 4)).shape == (5, 3, 5)


def test_empty_axes() -> None:
    """Reductions over nothing give the element that changes nothing."""
    for kind in ("Max", "Min", "Sum", "Prod"):
        judge([np.zeros((2, 0, 3), np.float32)], operator(f"Reduce{kind}", ints(1), keepdims=0))


def test_embedding_is_a_layer() -> None:
    """A table that is looked up is torch's own layer where its weight is called so."""

    def make(b: Builder, inputs: Any) -> Any:
        return [b.op("Gather", b.weight(values(7, 3), "words.weight"), inputs[0], axis=0, layer="words")]

    model = build([ints(1, 2, 6)], make)
    network = to_module(model)
    assert isinstance(network.get_submodule("words"), torch.nn.Embedding)
    judge([ints(1, 2, 6)], make)
