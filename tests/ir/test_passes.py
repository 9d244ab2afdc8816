"""Each pass on the graph it is for, and all of them on networks that exporters wrote; results by ONNX Runtime before and after."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from niudao.errors import UnknownName, Where
from niudao.ir import card
from niudao.ir.build import Builder
from niudao.ir.passes import NAMES, PASSES, SIMPLIFY, load
from niudao.ir.passes import run as run_passes
from niudao.ir.passes.layout import turn
from niudao.ir.passes.raise_idioms import channel_shuffle
from niudao.ir.passes.transposes import count
from niudao.ir.session import run
from niudao.ir.validate import validate

load()
DATA = Path(os.environ.get("NIUDAO_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def ops(model: ir.Model) -> list[str]:
    return [n.op_type for n in model.graph]


def check(model: ir.Model, names: list[str], feeds: object = None, tolerance: float = 1e-5) -> ir.Model:
    """Run passes; the results stay."""
    if feeds is None:
        shapes = {v.name: [d if isinstance(d, int) else 2 for d in v.shape] for v in model.graph.inputs}
        feeds = {k: normal(*s) for k, s in shapes.items()}
    before = run(model, feeds, optimize=False)
    result = run_passes(model, names)
    assert result.modified == bool(result.changes)
    validate(model, where=Where())
    after = run(model, feeds, optimize=False)
    assert list(after) == list(before)
    for name, want in before.items():
        assert after[name].shape == want.shape
        assert np.abs(after[name] - want).max() <= tolerance * max(1.0, np.abs(want).max())
    return model


def build(make: Callable[[Builder, ir.Value], ir.Value], *shape: int | None) -> ir.Model:
    b = Builder()
    x = b.input("x", shape or (None, 4, 6, 6))
    b.layer = "here"
    b.output(make(b, x), "y")
    return b.model()


def batchnorm(b: Builder, x: ir.Value, n: int) -> ir.Value:
    parts = [
        b.weight(a, name) for a, name in ((normal(n), "gamma"), (normal(n), "beta"), (normal(n), "mean"), (np.abs(normal(n)) + 0.1, "var"))
    ]
    return b.op("BatchNormalization", x, *parts, epsilon=1e-3)


def test_every_pass_is_registered_and_an_unknown_one_is_named() -> None:
    assert set(NAMES) <= set(PASSES)
    with pytest.raises(UnknownName, match="transpose"):
        run_passes(build(lambda b, x: b.op("Relu", x)), ["transpose"])


@pytest.mark.parametrize("name", [*NAMES, "fold_affine"])
def test_a_pass_with_nothing_to_do_says_so(name: str) -> None:
    model = build(lambda b, x: b.op("Sin", x))
    if name != "convert_float16":
        assert not PASSES[name](model).modified


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose", "Gemm"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 2])
def test_fold_batchnorm(op: str, bias: bool, group: int) -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        extra = [b.weight(normal(6), "b")] if bias else []
        if op == "Gemm":
            attributes = {"transB": group - 1, "beta": 0.5}
            y = b.op(op, x, b.weight(normal(*((6, 4) if group == 2 else (4, 6))), "w"), *extra, **attributes)
        else:
            shape = (6, 4 // group, 3, 3) if op == "Conv" else (4, 6 // group, 3, 3)
            y = b.op(op, x, b.weight(normal(*shape), "w"), *extra, group=group)
        return b.op("Relu", batchnorm(b, y, 6))

    model = build(make, None, 4) if op == "Gemm" else build(make)
    assert ops(check(model, ["fold_batchnorm"])) == [op, "Relu"]
    assert model.graph[0].metadata_props[card.LAYER] == "here"


def test_a_shared_convolution_or_a_wanted_value_is_not_folded() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        y = b.op("Conv", x, b.weight(normal(4, 4, 1, 1), "w"))
        return b.op("Add", batchnorm(b, y, 4), y)

    assert "BatchNormalization" in ops(check(build(make), ["fold_batchnorm"]))


def test_shared_weights_are_folded_apart() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        w = b.weight(normal(4, 4, 1, 1), "w")
        return b.op("Add", batchnorm(b, b.op("Conv", x, w), 4), b.op("Conv", b.op("Tanh", x), w))

    assert "BatchNormalization" not in ops(check(build(make), ["fold_batchnorm"]))


def test_fold_affine_makes_biases() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        y = b.op("Conv", x, b.weight(normal(5, 4, 3, 3), "w"))
        y = b.op("Sub", b.weight(normal(5, 1, 1), "c"), b.op("Mul", y, b.weight(normal(1, 5, 1, 1), "s")))
        return b.op("Div", b.op("Add", y, b.const(2.0)), b.const(3.0))

    assert ops(check(build(make), ["fold_affine"])) == ["Conv"]


def test_raise_batchnorm() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        y = b.op("Mul", b.op("Relu", x), b.weight(normal(4, 1, 1), "s"))
        return b.op("Mul", b.op("Add", b.weight(normal(1, 4, 1, 1), "c"), y), b.const(2.0))

    assert ops(check(build(make), ["raise_batchnorm"])) == ["Relu", "BatchNormalization", "Mul"]


def test_remove_identity() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        y = b.op("Identity", b.op("Dropout", b.op("Relu", x)))
        y = b.op("Cast", y, to=int(ir.DataType.FLOAT))
        y = b.op("Reshape", b.op("Reshape", y, b.const([-1, 144])), b.const([-1, 4, 6, 6]))
        y = b.op("Transpose", b.op("Pad", y, b.const([0] * 8)), perm=[0, 1, 2, 3])
        y = b.op("Slice", y, b.const([0]), b.const([6]), b.const([2]))
        y = b.op("Concat", b.op("Add", b.op("Mul", y, b.const(1.0)), b.const(0.0)), axis=1)
        return b.op("Identity", b.op("Identity", y))

    model = check(build(make), ["infer_shapes", "remove_identity", "remove_dead"])
    assert ops(model) == ["Relu"] and model.graph.outputs[0].name == "y"


def test_an_identity_between_input_and_output_stays() -> None:
    model = build(lambda b, x: b.op("Identity", x))
    assert ops(check(model, ["remove_identity"])) == ["Identity"]


def test_shape_arithmetic_becomes_a_constant() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        zero = b.weight(ir.tensor(np.asarray(0)), "zero")
        n = b.op("Unsqueeze", b.op("Gather", b.op("Shape", x), zero, axis=0), b.const([0]))
        rest = b.op("Mul", b.const([4]), b.op("Slice", b.op("Shape", x), b.const([2]), b.const([3])))
        target = b.op("Concat", n, rest, b.const([6]), axis=0)
        return b.op("Relu", b.op("Reshape", x, target))

    model = check(build(make), ["infer_shapes", "fold_constants"])
    assert ops(model) == ["Reshape", "Relu"]
    assert [str(d) for d in model.graph.outputs[0].shape] == ["batch", "24", "6"]


def test_constants_are_folded_within_reason() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        small = b.op("Add", b.op("Mul", b.weight(normal(4, 1, 1), "a"), b.const(2.0)), b.op("Constant", value=ir.tensor(np.float32(1))))
        huge = b.op("ConstantOfShape", b.const([4, 600, 600]), value=ir.tensor(np.zeros(1, np.float32)))
        packed = b.op("DequantizeLinear", b.weight(np.ones((4, 1, 1), np.int8), "q"), b.const(0.5))
        half = b.op("Cast", b.weight(np.ones((4, 1, 1), np.float16), "h"), to=int(ir.DataType.FLOAT))
        y = b.op("Add", b.op("Add", b.op("Mul", x, small), packed), half)
        return b.op("Add", y, b.op("ReduceMax", huge, keepdims=0))

    model = check(build(make), ["fold_constants"])
    assert {"DequantizeLinear", "Cast", "ConstantOfShape"} <= set(ops(model))
    assert "Constant" not in ops(model) and ops(model).count("Mul") == 1


def test_random_operators_are_never_folded() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        return b.op("Add", x, b.op("RandomNormalLike", b.weight(normal(4, 1, 1), "a")))

    model = build(make)
    assert not run_passes(model, ["fold_constants"]).modified


def test_remove_dead_takes_nodes_weights_and_leaves_inputs() -> None:
    b = Builder()
    x = b.input("x", (None, 4))
    b.input("unused", (None, 4))
    b.op("MatMul", x, b.weight(normal(4, 4), "w"))
    b.output(b.op("Relu", x), "y")
    model = b.model()
    assert PASSES["remove_dead"](model).changes == ("removed 1 unused nodes", "removed 1 unused weights")
    assert ops(model) == ["Relu"] and [v.name for v in model.graph.inputs] == ["x", "unused"]


@pytest.mark.parametrize("flatten", ["Flatten", "Reshape"])
def test_a_flattening_takes_the_order_into_the_rows(flatten: str) -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        y = b.op("Transpose", b.op("Relu", x), perm=[0, 2, 3, 1])
        y = b.op("Flatten", y) if flatten == "Flatten" else b.op("Reshape", y, b.const([-1, 144]))
        y = batchnorm(b, b.op("Relu", y), 144)
        y = b.op("Gemm", y, b.weight(normal(144, 144) / 12, "w"), transB=1)
        y = b.op(
            "Reshape", b.op("Add", b.op("MatMul", y, b.weight(normal(144, 144), "v")), b.weight(normal(144), "c")), b.const([-1, 6, 6, 4])
        )
        return b.op("MaxPool", b.op("Transpose", y, perm=[0, 3, 1, 2]), kernel_shape=[2, 2])

    assert "Transpose" not in ops(check(build(make), ["infer_shapes", "transposes"], tolerance=2e-5))


def test_layout_is_found_and_recorded() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        y = b.op("Conv", b.op("Transpose", x, perm=[0, 3, 1, 2]), b.weight(normal(5, 4, 3, 3), "w"))
        return b.op("Transpose", y, perm=[0, 2, 3, 1])

    x = normal(2, 6, 6, 4)
    model = build(make, None, 6, 6, 4)
    before = run(model, x)
    run_passes(model, ["layout", "transposes"])
    assert ops(model) == ["Conv"]
    assert card.get_layout(model.graph.inputs[0]) == card.get_layout(model.graph.outputs[0]) == (0, 3, 1, 2)
    assert np.allclose(run(model, x, layout="source")["y"], before["y"], atol=1e-5)
    assert run(model, x.transpose(0, 3, 1, 2))["y"].shape == (2, 5, 4, 4)


def gelu(b: Builder, x: ir.Value) -> ir.Value:
    curve = b.op("Add", b.op("Erf", b.op("Div", x, b.const(2**0.5))), b.const(1.0))
    return b.op("Mul", b.op("Mul", x, curve), b.const(0.5))


def gelu_tanh(b: Builder, x: ir.Value) -> ir.Value:
    inner = b.op("Add", x, b.op("Mul", b.op("Pow", x, b.const(3.0)), b.const(0.044715)))
    curve = b.op("Tanh", b.op("Mul", inner, b.const((2 / np.pi) ** 0.5)))
    return b.op("Mul", b.op("Mul", b.const(0.5), x), b.op("Add", b.const(1.0), curve))


def hard_swish(b: Builder, x: ir.Value) -> ir.Value:
    return b.op("Mul", x, b.op("Div", b.op("Clip", b.op("Add", x, b.const(3.0)), b.const(0.0), b.const(6.0)), b.const(6.0)))


def hard_swish_late(b: Builder, x: ir.Value) -> ir.Value:
    return b.op("Div", b.op("Mul", x, b.op("Clip", b.op("Add", x, b.const(3.0)), b.const(0.0), b.const(6.0))), b.const(6.0))


def hard_sigmoid(b: Builder, x: ir.Value) -> ir.Value:
    return b.op("Clip", b.op("Add", b.op("Mul", x, b.const(0.2)), b.const(0.5)), b.const(0.0), b.const(1.0))


def softplus(b: Builder, x: ir.Value) -> ir.Value:
    return b.op("Log", b.op("Add", b.op("Exp", x), b.const(1.0)))


def mish(b: Builder, x: ir.Value) -> ir.Value:
    return b.op("Mul", x, b.op("Tanh", b.op("Softplus", x)))


def layer_norm(b: Builder, x: ir.Value) -> ir.Value:
    centred = b.op("Sub", x, b.op("ReduceMean", x, b.const([-1])))
    variance = b.op("ReduceMean", b.op("Pow", centred, b.const(2.0)), b.const([-1]))
    y = b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, b.const(1e-6))))
    return b.op("Add", b.op("Mul", y, b.weight(normal(6), "gamma")), b.weight(normal(6), "beta"))


def lrn(b: Builder, x: ir.Value) -> ir.Value:
    y = b.op("Unsqueeze", b.op("Mul", x, x), b.const([1]))
    y = b.op("Pad", y, b.const([0, 0, 1, 0, 0, 0, 0, 1, 0, 0]))
    y = b.op("Squeeze", b.op("AveragePool", y, kernel_shape=[3, 1, 1], strides=[1, 1, 1]), b.const([1]))
    return b.op("Div", x, b.op("Pow", b.op("Add", b.op("Mul", y, b.const(0.5)), b.const(2.0)), b.const(0.75)))


def pooled(b: Builder, x: ir.Value) -> ir.Value:
    return b.op("ReduceMean", x, b.const([2, 3]))


@pytest.mark.parametrize(
    ("make", "op"),
    [
        (gelu, "Gelu"),
        (gelu_tanh, "Gelu"),
        (hard_swish, "HardSwish"),
        (hard_swish_late, "HardSwish"),
        (hard_sigmoid, "HardSigmoid"),
        (softplus, "Softplus"),
        (mish, "Mish"),
        (layer_norm, "LayerNormalization"),
        (lrn, "LRN"),
        (pooled, "GlobalAveragePool"),
    ],
)
def test_idioms(make: Callable[[Builder, ir.Value], ir.Value], op: str) -> None:
    model = check(build(make), ["raise_idioms"])
    assert ops(model) == [op]
    assert model.graph[0].metadata_props[card.LAYER] == "here"


def test_what_only_looks_like_an_idiom_stays() -> None:
    def almost(b: Builder, x: ir.Value) -> ir.Value:
        curve = b.op("Add", b.op("Erf", b.op("Div", x, b.const(1.4))), b.const(1.0))
        return b.op("Mul", b.op("Mul", x, curve), b.const(0.5))

    assert not run_passes(build(almost), ["raise_idioms"]).modified
    assert not run_passes(build(lambda b, x: b.op("Clip", x, b.const(0.0), b.const(6.0))), ["raise_idioms"]).modified


def test_matmul_and_add_are_gemm() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        return b.op("Add", b.op("MatMul", x, b.weight(normal(4, 3), "w")), b.weight(normal(3), "b"))

    assert ops(check(build(make, None, 4), ["raise_idioms"])) == ["Gemm"]


def test_a_channel_shuffle_is_seen() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        y = b.op("Transpose", b.op("Reshape", x, b.const([-1, 2, 2, 6, 6])), perm=[0, 2, 1, 3, 4])
        return b.op("Reshape", y, b.const([-1, 4, 6, 6]))

    model = build(make)
    run_passes(model, ["infer_shapes"])
    assert [channel_shuffle(n) for n in model.graph] == [None, None, 2]


@pytest.mark.parametrize(("block", "groups"), [(2, 1), (3, 2)])
def test_a_dilated_convolution_spelt_out(block: int, groups: int) -> None:
    swap = [1, 0, 2, 3]

    def make(b: Builder, x: ir.Value) -> ir.Value:
        y = b.op("SpaceToDepth", b.op("Transpose", x, perm=swap), blocksize=block)
        y = b.op(
            "Conv", b.op("Transpose", y, perm=swap), b.weight(normal(6, 4 // groups, 3, 2), "w"), b.weight(normal(6), "b"), group=groups
        )
        y = b.op("DepthToSpace", b.op("Transpose", y, perm=swap), blocksize=block)
        return b.op("Transpose", y, perm=swap)

    model = check(build(make, None, 4, 12, 12), ["raise_atrous", "transposes"])
    assert ops(model) == ["Conv"] and model.graph[0].attributes["dilations"].as_ints() == (block, block)


def test_float16_keeps_inputs_and_outputs() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        y = b.op("Relu", batchnorm(b, b.op("Conv", x, b.weight(normal(4, 4, 3, 3) / 6, "w"), pads=[1] * 4), 4))
        y = b.op("Resize", y, None, b.const(np.asarray([1, 1, 2, 2], np.float32)))
        y = b.op("Add", b.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]), x)
        return b.op("Softmax", b.op("Gemm", b.op("Flatten", y), b.weight(normal(144, 5) / 12, "v")))

    model = build(make)
    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value.size > 4)
    check(model, ["convert_float16"], tolerance=5e-3)
    assert {v.dtype for v in (*model.graph.inputs, *model.graph.outputs)} == {ir.DataType.FLOAT}
    assert sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value.size > 4) == size // 2
    assert model.graph.outputs[0].name == "y"


def test_float16_with_inner_outputs_and_integers() -> None:
    b = Builder()
    x = b.input("x", (None, 4))
    i = b.input("i", (None,), ir.DataType.INT64)
    y = b.op("Tanh", x)
    b.output(y, "y")
    e = b.op("Gather", b.weight(normal(10, 4), "table"), i)
    b.output(b.op("Mul", b.op("Cast", b.op("Cast", y, to=int(ir.DataType.INT32)), to=int(ir.DataType.FLOAT)), e), "z")
    check(b.model(), ["convert_float16"], {"x": normal(3, 4), "i": np.asarray([1, 2, 9])}, tolerance=5e-3)


FIXTURES = sorted((DATA / "frameworks" / "onnx-old").glob("*/model.onnx"))
PIPELINE = [*SIMPLIFY, "fold_batchnorm"]


@pytest.mark.skipif(not FIXTURES, reason=f"no networks of old exporters below {DATA}")
@pytest.mark.parametrize("path", FIXTURES, ids=lambda p: p.parent.name)
def test_exported_networks(path: Path) -> None:
    from niudao.formats.onnx.read import read

    model = read(path)
    feeds = dict(np.load(path.parent / "input.npz"))
    feeds = (
        dict(zip([v.name for v in model.graph.inputs], feeds.values(), strict=True))
        if set(feeds) != {v.name for v in model.graph.inputs}
        else feeds
    )
    before = run(model, feeds, optimize=False)
    if path.parent.name.startswith("tf2onnx"):
        turn(model, [v.name or "" for v in (*model.graph.inputs, *model.graph.outputs) if v.shape is not None and len(v.shape) == 4])
    run_passes(model, PIPELINE)
    validate(model, where=Where(file=str(path)))
    if path.parent.name.startswith("tf2onnx"):
        assert count(model.graph) == 0
    for optimize in (False, True):
        after = run(model, feeds, layout="source", optimize=optimize)
        for name, want in before.items():
            assert np.abs(after[name] - want).max() <= 1e-5 * np.abs(want).max()


def test_bodies_of_branches_are_simplified_too() -> None:
    """A branch uses values from outside, and keeps its own names apart."""
    text = """
      <ir_version: 10, opset_import: ["" : 27]>
      net (float[batch,4,6,6] x, bool c) => (float[batch,6,6,4] y) {
        last = Transpose <perm = [0,2,3,1]> (x)
        two = Constant <value_float = 2.0> ()
        y = If (c) <
          then_branch = then_net () => (float[batch,6,6,4] t) {
            a = Transpose <perm = [0,3,1,2]> (last)
            four = Mul (two, two)
            b = Mul (a, four)
            d = Identity (b)
            t = Transpose <perm = [0,2,3,1]> (d)
          },
          else_branch = else_net () => (float[batch,6,6,4] e) { e = Relu (last) }
        >
      }"""
    model = ir.from_onnx_text(text)
    feeds = {"x": normal(2, 4, 6, 6), "c": np.asarray(True)}
    for condition in (True, False):
        check(model.clone(), list(SIMPLIFY), feeds | {"c": np.asarray(condition)})
    run_passes(model, list(SIMPLIFY))
    branch = next(n for n in model.graph if n.op_type == "If").attributes["then_branch"].as_graph()
    assert [n.op_type for n in branch] == ["Mul", "Transpose"] or [n.op_type for n in branch] == ["Mul"]
