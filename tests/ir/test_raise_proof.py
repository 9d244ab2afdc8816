"""A raise is put in place only where ONNX Runtime finds both sides equal; else the chain stays and a line says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import niudao as nd
from niudao.errors import Where
from niudao.ir.build import Builder
from niudao.ir.passes.chain import Match, Rule, near, one, single
from niudao.ir.passes.proving import Tally, Unproven, apply, prove
from niudao.ir.passes.raising import raise_all
from niudao.ir.session import run
from niudao.ir.validate import validate

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def ops(model: ir.Model) -> list[str]:
    return [n.op_type for n in model.graph]


def build(make: Callable[[Builder, ir.Value], ir.Value], *shape: int | None, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Model:
    b = Builder()
    x = b.input("x", shape or (None, 4, 6, 6), dtype)
    b.layer = "here"
    b.output(make(b, x), "y")
    return b.model()


def tried(model: ir.Model, op: str, rule: Rule) -> tuple[str, ...]:
    tally = Tally()
    apply(model, {op: (rule,)}, tally)
    validate(model, where=Where())
    return tally.result().changes


def test_a_false_rule_is_refuted_and_nothing_is_done() -> None:
    model = build(lambda b, x: b.op("Tanh", x))
    assert tried(model, "Tanh", lambda n: one("Sigmoid", (n.inputs[0],), n))[0].startswith("left 1 Sigmoid: it differs by ")
    assert ops(model) == ["Tanh"]
    assert not model.graph.initializers
    assert len(list(model.graph.inputs[0].uses())) == 1


def test_a_rule_that_is_wrong_by_one_in_ten_thousand_is_refuted() -> None:
    model = build(lambda b, x: b.op("Elu", x, alpha=1.0))
    assert tried(model, "Elu", lambda n: one("Elu", (n.inputs[0],), n, alpha=1.0001))[0].startswith("left 1 Elu: it differs by ")


def test_small_numbers_tell_epsilons_apart() -> None:
    weights = (normal(4), normal(4))

    def make(b: Builder, x: ir.Value) -> ir.Value:
        return b.op("InstanceNormalization", x, b.weight(weights[0], "s"), b.weight(weights[1], "b"), epsilon=1e-5)

    def rule(node: ir.Node) -> Match:
        return one("InstanceNormalization", tuple(node.inputs), node, epsilon=1e-6)

    with pytest.raises(Unproven, match="it differs"):
        prove(rule(next(iter(build(make).graph))))


def test_another_shape_is_refuted() -> None:
    model = build(lambda b, x: b.op("GlobalAveragePool", x))
    assert "its shape is" in tried(model, "GlobalAveragePool", lambda n: one("Relu", (n.inputs[0],), n))[0]


def test_what_cannot_be_run_is_left() -> None:
    model = build(lambda b, x: b.op("Relu", x))
    assert "it could not be run" in tried(model, "Relu", lambda n: one("LRN", (n.inputs[0],), n, size=0))[0]


def test_a_chain_without_numbers_proves_nothing() -> None:
    model = build(lambda b, x: b.op("Sqrt", b.op("Neg", b.op("Abs", x))))
    assert "no numbers" in tried(model, "Sqrt", lambda n: one("Relu", (n.inputs[0],), n))[0]


def test_half_floats_are_tried_as_single_ones() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        return b.op("Div", x, b.op("Add", b.op("Abs", x), b.const(np.float16(1), np.float16)))

    model = build(make, dtype=ir.DataType.FLOAT16)
    raise_all(model)
    assert ops(model) == ["Softsign"]
    x = normal(2, 4, 6, 6).astype(np.float16)
    assert np.abs(run(model, x)["y"] - x / (1 + np.abs(x))).max() < 1e-3


def test_large_images_are_cut_for_the_proof() -> None:
    model = build(lambda b, x: b.op("Mul", x, b.op("Tanh", b.op("Softplus", x))), 8, 64, 2048, 2048)
    assert raise_all(model).changes == ("raised 1 Mish (proven exactly)",)


def test_large_images_that_cannot_be_cut_lose_channels_for_the_proof() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        sizes = b.op("Concat", b.op("Shape", x, start=0, end=2), b.const([300, 450]), axis=0)
        return b.op("Resize", x, None, None, sizes, mode="nearest")

    model = build(make, None, 64, 150, 150)
    assert raise_all(model).changes == ("raised 1 Resize (proven exactly)",)
    assert model.graph[0].inputs[2].const_value.numpy().tolist() == [1, 1, 2, 3]


def test_inner_values_that_somebody_else_uses_stay() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        gate = b.op("Clip", b.op("Add", x, b.const(3.0)), b.const(0.0), b.const(6.0))
        b.output(gate, "gate")
        return b.op("Div", b.op("Mul", x, gate), b.const(6.0))

    model = build(make)
    before = run(model, x := normal(2, 4, 6, 6))
    assert raise_all(model).modified
    assert ops(model) == ["Add", "Clip", "HardSwish"]
    for name, want in run(model, x).items():
        assert np.abs(want - before[name]).max() <= 1e-5 * np.abs(want).max()


def test_the_operator_takes_names_and_layer_of_the_chain() -> None:
    model = build(lambda b, x: b.op("Mul", x, b.op("Tanh", b.op("Softplus", x)), name="act"))
    raise_all(model)
    node = model.graph[0]
    assert (node.op_type, node.name, node.outputs[0].name) == ("Mish", "act", "y")
    assert node.metadata_props["niudao.layer"] == "here"


def test_raising_twice_changes_nothing() -> None:
    model = build(lambda b, x: b.op("Mul", x, b.op("Tanh", b.op("Log", b.op("Add", b.op("Exp", x), b.const(1.0))))))
    assert raise_all(model).modified
    assert not raise_all(model).modified
    assert ops(model) == ["Mish"]


def test_shapes_that_only_a_matrix_tells_are_found() -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        return b.op("Add", b.op("MatMul", x, b.weight(normal(7, 3), "w")), b.weight(normal(3), "b"))

    model = build(make, None, None)
    assert raise_all(model).changes[0].startswith("raised 1 Gemm")


@pytest.mark.parametrize("what", ["neither", "axes", "epsilon in another place", "another mean"])
def test_normalisations_that_are_none_stay(what: str) -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        def mean(v: ir.Value, axes: list[int]) -> ir.Value:
            return b.op("ReduceMean", v, b.const(axes), keepdims=1)

        middle = mean(b.op("Abs", x) if what == "another mean" else x, [2, 3])
        centred = b.op("Sub", x, middle)
        variance = mean(b.op("Mul", centred, centred), [3] if what == "axes" else [2, 3])
        if what == "epsilon in another place":
            return b.op("Div", centred, b.op("Add", b.op("Sqrt", variance), b.const(1e-2)))
        return b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, b.const(1e-5))))

    model = build(make)
    before = run(model, x := normal(2, 4, 6, 6))["y"]
    raise_all(model)
    assert ("InstanceNormalization" in ops(model)) == (what == "neither")
    assert np.abs(run(model, x)["y"] - before).max() <= 1e-5 * np.abs(before).max()


@pytest.mark.parametrize(
    ("pads", "size", "fill", "raised"),
    [
        ((2, 2), 5, 0.0, True),
        ((1, 1), 3, 0.0, True),
        ((1, 2), 4, 0.0, False),
        ((2, 1), 4, 0.0, False),
        ((0, 4), 5, 0.0, False),
        ((2, 2), 5, 1.0, False),
    ],
)
def test_the_window_of_lrn_must_be_that_of_onnx(pads: tuple[int, int], size: int, fill: float, raised: bool) -> None:
    def make(b: Builder, x: ir.Value) -> ir.Value:
        stacked = b.op("Unsqueeze", b.op("Mul", x, x), b.const([1]))
        padded = b.op("Pad", stacked, b.const([0, 0, pads[0], 0, 0, 0, 0, pads[1], 0, 0]), b.const(fill))
        mean = b.op("Squeeze", b.op("AveragePool", padded, kernel_shape=[size, 1, 1]), b.const([1]))
        return b.op("Div", x, b.op("Pow", b.op("Add", b.op("Mul", mean, b.const(0.3)), b.const(2.0)), b.const(0.75)))

    model = build(make, None, 8, 5, 5)
    before = run(model, x := normal(2, 8, 5, 5))["y"]
    raise_all(model)
    assert (ops(model) == ["LRN"]) == raised
    assert np.abs(run(model, x)["y"] - before).max() <= 1e-5 * np.abs(before).max()


def test_numbers_of_constants() -> None:
    b = Builder()
    assert single(b.const(2.5)) == 2.5
    assert single(b.const([1, 2])) is None
    assert near(1 / 6, 0.16666667) and not near(0.1666, 1 / 6) and not near(None, 0)


@pytest.mark.parametrize("name", ["googlenet_lrn", "alexnet"])
def test_a_file_of_torch_1_0_1(real_data: Path, name: str) -> None:
    folder = real_data / "frameworks" / "pytorch-1.0.1" / name
    model = nd.read(folder / "model.onnx")
    raise_all(model)
    assert ops(model).count("LRN") == 2
    assert not {"Shape", "Gather", "Pad", "Pow"} & set(ops(model))
    with np.load(folder / "input.npz") as fed, np.load(folder / "output.npz") as wanted:
        got = next(iter(run(model, fed[fed.files[0]]).values()))
        want = wanted[wanted.files[0]]
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
