"""Shapes that a graph computes become constants; results by ONNX Runtime before and after."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest

import niudao as nd
from niudao.errors import Where
from niudao.ir.build import Builder
from niudao.ir.passes import PASSES, load
from niudao.ir.session import run
from niudao.ir.validate import validate

load()
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def raised(make: Callable[[Builder, ir.Value], ir.Value], *shape: int | None) -> ir.Model:
    """The model after the pass, found to compute what it computed before, for two sizes of a free batch."""
    b = Builder()
    x = b.input("x", shape or (None, 12, 6, 8))
    b.output(make(b, x), "y")
    model = b.model()
    sizes = [tuple(d or n for d in shape or (None, 12, 6, 8)) for n in (2, 3)]
    feeds = [normal(*s) for s in sizes]
    before = [run(model, f, optimize=False)["y"] for f in feeds]
    PASSES["raise_shapes"](model)
    validate(model, where=Where())
    for f, want in zip(feeds, before, strict=True):
        got = run(model, f, optimize=False)["y"]
        assert got.shape == want.shape
        assert np.abs(got - want).max() <= 1e-6 * np.abs(want).max()
    return model


def ops(model: ir.Model) -> str:
    return " ".join(n.op_type for n in model.graph)


def batch(b: Builder, x: ir.Value) -> ir.Value:
    return b.op("Gather", b.op("Shape", x), b.const([0]), axis=0)


def target(model: ir.Model, place: int = 1) -> list[int]:
    return next(n for n in model.graph if n.op_type in ("Reshape", "Expand", "Resize")).inputs[place].const_value.numpy().tolist()


@pytest.mark.parametrize("rest", [[-1], [576]])
@pytest.mark.parametrize("allowzero", [0, 1])
def test_keeping_the_batch_and_joining_the_rest_is_flatten(rest: list[int], allowzero: int) -> None:
    model = raised(lambda b, x: b.op("Reshape", x, b.op("Concat", batch(b, x), b.const(rest), axis=0), allowzero=allowzero))
    assert ops(model) == "Flatten"


def test_a_computed_target_becomes_constant_with_0_for_the_batch() -> None:
    model = raised(lambda b, x: b.op("Reshape", x, b.op("Concat", batch(b, x), b.const([3, 4]), b.const([-1]), axis=0), allowzero=1))
    assert ops(model) == "Reshape"
    assert target(model) == [0, 3, 4, 48]


def test_a_literal_batch_becomes_0() -> None:
    model = raised(lambda b, x: b.op("Reshape", x, b.const([2, 3, 4, 6, 8]), allowzero=1), 2, 12, 6, 8)
    assert target(model) == [0, 3, 4, 6, 8]


def test_a_batch_that_is_joined_with_others_is_left() -> None:
    model = raised(lambda b, x: b.op("Reshape", x, b.const([-1, 8])))
    assert target(model) == [-1, 8]


def test_expand_like_another_value() -> None:
    model = raised(lambda b, x: b.op("Expand", b.op("GlobalAveragePool", x), b.op("Shape", x)))
    assert ops(model) == "GlobalAveragePool Expand"
    assert target(model) == [1, 1, 6, 8]


def test_expand_before_arithmetic_goes() -> None:
    model = raised(lambda b, x: b.op("Div", x, b.op("Expand", b.op("ReduceL2", x, b.const([1])), b.op("Shape", x))))
    assert ops(model) == "ReduceL2 Div"


def test_expand_that_makes_the_result_larger_stays() -> None:
    model = raised(lambda b, x: b.op("Mul", b.op("Expand", x, b.const([1, 12, 6, 8])), b.const(2.0)), None, 1, 6, 8)
    assert ops(model) == "Expand Mul"


@pytest.mark.parametrize(
    ("size", "scales"), [((12, 16), [1.0, 1.0, 2.0, 2.0]), ((3, 4), [1.0, 1.0, 0.5, 0.5]), ((9, 10), [1.0, 1.0, 1.5, 1.25])]
)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_sizes_that_scales_say_exactly(size: tuple[int, int], scales: list[float], mode: str) -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        two = b.op("Slice", b.op("Shape", x), b.const([0]), b.const([2]), b.const([0]))
        return b.op("Resize", x, None, None, b.op("Concat", two, b.const(list(size)), axis=0), mode=mode)

    model = raised(make)
    assert ops(model) == "Resize"
    assert target(model, 2) == scales
    assert model.graph.outputs[0].shape[2:] == size


def test_sizes_that_no_scale_says_exactly_stay_sizes() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        return b.op("Resize", x, None, None, b.op("Concat", batch(b, x), b.const([12, 11, 13]), axis=0), mode="linear")

    model = raised(make)
    assert ops(model) == "Resize"
    assert target(model, 3) == [11, 13]


def test_a_branch_that_is_known_is_taken() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        pooled = b.op("GlobalAveragePool", x)
        then, other = Builder("then"), Builder("other")
        then.output(then.op("Flatten", pooled, name="squeezed"), "a")
        other.output(other.op("Identity", pooled), "c")
        one = b.op("Equal", b.op("Gather", b.op("Shape", pooled), b.const([2])), b.const([1]))
        return b.op("Tanh", b.op("If", one, then_branch=then.model().graph, else_branch=other.model().graph))

    model = raised(make)
    assert ops(model) == "GlobalAveragePool Flatten Tanh"
    assert len(list(model.graph[0].outputs[0].uses())) == 1


def test_castlike_of_a_constant_is_a_constant() -> None:
    model = raised(lambda b, x: b.op("Clip", x, b.op("CastLike", b.const(0), x), b.op("CastLike", b.const(6), x)))
    assert ops(model) == "Clip"
    assert all(v.dtype == ir.DataType.FLOAT for v in model.graph[0].inputs)


@pytest.mark.parametrize("sizes", ["int64 sizes = {4}", "int64[2] sizes = {3, 9}", "int64[3] sizes = {5, 5, 2}"])
def test_pieces_of_a_sequence_are_slices(sizes: str) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 18]>
    pieces (float[batch, 12, 6, 8] x) => (float[batch, n, 6, 8] y)
    <{sizes}, int64 first = {{0}}, int64 last = {{-1}}>
    {{
        parts = SplitToSequence <axis = 1> (x, sizes)
        a = SequenceAt (parts, first)
        b = SequenceAt (parts, last)
        y = Concat <axis = 1> (b, a)
    }}"""
    model = nd.read(onnx.parser.parse_model(text))
    before = run(model, x := normal(2, 12, 6, 8))["y"]
    PASSES["raise_shapes"](model)
    assert ops(model) == "Slice Slice Concat"
    assert np.array_equal(run(model, x)["y"], before)


@pytest.mark.parametrize(
    ("middle", "perm", "result", "op"),
    [
        ([0, 3, 2, 2, 6, 8], [0, 1, 4, 2, 5, 3], [0, 3, 12, 16], "DepthToSpace CRD"),
        ([0, 2, 2, 3, 6, 8], [0, 3, 4, 1, 5, 2], [0, 3, 12, 16], "DepthToSpace DCR"),
        ([0, 12, 3, 2, 4, 2], [0, 3, 5, 1, 2, 4], [0, 48, 3, 4], "SpaceToDepth"),
        ([0, 12, 3, 2, 4, 2], [0, 1, 3, 5, 2, 4], [0, 48, 3, 4], ""),
        ([0, 3, 2, 2, 6, 8], [0, 1, 4, 3, 5, 2], [0, 3, 12, 16], ""),
        ([0, 3, 2, 2, 6, 8], [0, 1, 4, 2, 5, 3], [0, 3, 16, 12], ""),
        ([0, 12, 2, 3, 2, 4], [0, 2, 4, 1, 3, 5], [0, 48, 3, 4], ""),
    ],
)
def test_channels_dealt_out_as_pixels(middle: list[int], perm: list[int], result: list[int], op: str) -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        return b.op("Reshape", b.op("Transpose", b.op("Reshape", x, b.const(middle)), perm=perm), b.const(result))

    model = raised(make)
    node = model.graph[0]
    mode = node.attributes.get_string("mode", "") if node.op_type == "DepthToSpace" else ""
    assert ops(model) == (op.split()[0] if op else "Reshape Transpose Reshape")
    assert not op or f"{node.op_type} {mode}".strip() == op
