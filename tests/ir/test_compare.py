"""Compare says "same" only where that was shown, and names the first layer that differs although its inputs agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from niudao.errors import ReadError, UsageError
from niudao.ir import card
from niudao.ir.build import Builder
from niudao.ir.compare import CompareReport, ModelRunner, compare, load_repro, save_repro
from niudao.ir.difference import aligned, difference
from niudao.ir.noise import run_double
from niudao.ir.session import run

Array = np.ndarray[Any, Any]


class Fixed:
    """A runner that gives what it was told to, whatever it is fed."""

    def __init__(self, name: str = "fixed", **outputs: Any) -> None:
        self.name = name
        self.model: ir.Model | None = None
        self.inputs = {"x": (np.dtype(np.float32), (1, 2))}
        self._outputs = {k: np.asarray(v) for k, v in outputs.items()}

    def run(self, feeds: Any) -> dict[str, Array]:
        return dict(self._outputs)


def net(*, names: str = "", change: Callable[[dict[str, Array]], None] | None = None, out: str = "scores", seed: int = 0) -> ir.Model:
    """conv -> bn -> relu, a shortcut around conv2, pool, dense. `change` edits the weights, `names` prefixes every name."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return random.standard_normal(shape).astype(np.float32)

    w: dict[str, Array] = {"conv1": draw(6, 3, 3, 3), "gamma": draw(6) + 2, "beta": draw(6), "mean": draw(6), "var": draw(6) ** 2 + 1}
    w |= {"conv2": draw(6, 6, 3, 3), "dense": draw(6, 5)}
    if change is not None:
        change(w)
    b = Builder()
    x = b.input(f"{names}image", (None, 3, 8, 8))

    def layer(op: str, x: ir.Value, name: str, *more: ir.Value, **attributes: Any) -> ir.Value:
        return b.op(op, x, *more, layer=f"{names}{name}", **attributes)

    def weight(name: str) -> ir.Value:
        return b.weight(w[name], f"{names}{name}")

    x = layer("Conv", x, "conv1", weight("conv1"), pads=[1, 1, 1, 1])
    x = layer("BatchNormalization", x, "bn", *(weight(n) for n in ("gamma", "beta", "mean", "var")))
    x = layer("Relu", x, "relu")
    y = layer("Conv", x, "conv2", weight("conv2"), pads=[1, 1, 1, 1])
    x = layer("Add", x, "add", y)
    x = layer("Flatten", layer("GlobalAveragePool", x, "pool"), "flat")
    b.output(layer("MatMul", x, "dense", weight("dense")), out)
    return b.model()


def both(a: ir.Model, b: ir.Model, **options: Any) -> CompareReport:
    return compare(ModelRunner(a, name="one"), ModelRunner(b, name="other"), **options)


def test_a_network_is_the_same_as_itself_in_two_batches() -> None:
    report = both(net(), net())
    assert report.same and report.ok
    assert report.batches == (4, 1)
    assert report.outputs[0].max_abs == 0
    assert "one" in report.oracle and "other" in report.oracle
    assert any("0..1" in note for note in report.notes)


def test_figures_are_those_of_onnx_runtime_and_numpy() -> None:
    def change(w: dict[str, Array]) -> None:
        w["dense"] = w["dense"] * np.float32(1.01)

    a, b = net(), net(change=change)
    x = np.random.default_rng(5).random((3, 3, 8, 8), np.float32)
    report = both(a, b, feeds={"image": x})
    p, q = (onnxruntime.InferenceSession(ir.to_proto(m).SerializeToString()).run(None, {"image": x})[0] for m in (a, b))
    assert not report.same
    assert report.outputs[0].max_rel == pytest.approx(np.abs(p - q).max() / np.abs(q).max(), rel=1e-3)
    assert report.outputs[0].cosine == pytest.approx(1, abs=1e-6)
    assert report.seed is None


@pytest.mark.parametrize(("weight", "layer"), [("conv1", "conv1"), ("gamma", "bn"), ("conv2", "conv2"), ("dense", "dense")])
@pytest.mark.parametrize("names", ["", "other/"])
def test_the_first_layer_is_found_with_and_without_names(weight: str, layer: str, names: str) -> None:
    def change(w: dict[str, Array]) -> None:
        w[weight] = w[weight][::-1]

    report = both(net(), net(names=names, change=change))
    first = report.first_divergence
    assert first is not None and not report.same
    assert (first.source_layer, first.target_layer) == (layer, names + layer)
    assert first.verified and first.runs <= first.runs_allowed
    assert any(a.name.startswith("input") and not a.same for a in first.attributes)
    assert layer in report.to_text()


def test_other_names_are_matched() -> None:
    assert both(net(), net(names="other/", out="probabilities")).same


def test_a_branch_that_hides_a_fault_does_not_mislead() -> None:
    """The fault of `low` vanishes in a Relu and lives on in the shortcut; the values in between agree."""

    def build(shift: float) -> ir.Model:
        b = Builder()
        x = b.input("x", (None, 4))
        low = b.op("Sub", x, b.const(100.0 + shift), layer="low")
        y = low
        for i in range(9):
            y = b.op("Relu", y, layer=f"zero{i}")
        z = b.op("Add", y, low, layer="join")
        for i in range(9):
            z = b.op("Mul", z, b.const(1.0 + 0.01 * i), layer=f"scale{i}")
        b.output(z, "z")
        return b.model()

    first = both(build(0), build(1)).first_divergence
    assert first is not None
    assert first.source_layer == "low"
    assert first.runs <= first.runs_allowed


def test_a_fault_that_vanishes_is_not_blamed_for_a_later_one() -> None:
    def build(early: float, late: float) -> ir.Model:
        b = Builder()
        x = b.input("x", (None, 4))
        y = b.op("Sub", x, b.const(100.0 + early), layer="early")
        y = b.op("Relu", y, layer="relu")
        y = b.op("Add", y, x, layer="join")
        for i in range(12):
            y = b.op("Add", y, b.const(1.0 + i + late * (i == 9)), layer=f"late{i}")
        b.output(y, "y")
        return b.model()

    first = both(build(0, 0), build(1, 1)).first_divergence
    assert first is not None
    assert first.verified
    assert first.source_layer in ("early", "late9")
    assert first.runs <= first.runs_allowed


def test_a_fused_batch_normalization_is_stepped_over() -> None:
    b = Builder()
    sound = net()
    w = {n: v.const_value.numpy() for n, v in sound.graph.initializers.items() if v.const_value is not None}
    factor = w["gamma"] / np.sqrt(w["var"] + np.float32(1e-5))
    x = b.input("image", (None, 3, 8, 8))
    kernel = b.weight(w["conv1"] * factor[:, None, None, None], "kernel")
    x = b.op("Conv", x, kernel, b.weight(w["beta"] - w["mean"] * factor, "bias"), layer="conv1", pads=[1, 1, 1, 1])
    x = b.op("Relu", x, layer="relu")
    y = b.op("Conv", x, b.weight(-w["conv2"], "conv2"), layer="conv2", pads=[1, 1, 1, 1])
    y = b.op("Flatten", b.op("GlobalAveragePool", b.op("Add", x, y, layer="add"), layer="pool"), layer="flat")
    b.output(b.op("MatMul", y, b.weight(w["dense"], "dense"), layer="dense"), "scores")
    first = both(sound, b.model()).first_divergence
    assert first is not None
    assert first.source_layer == "conv2"


def test_what_cannot_be_compared_is_a_no() -> None:
    nan = float("nan")
    ok = [[1.0, 2.0]]
    assert compare(Fixed(y=ok), Fixed(y=ok)).same
    for a, b in (
        ([[nan, 2.0]], [[nan, 2.0]]),
        ([[1.0, nan]], ok),
        (ok, [1.0, 2.0]),
        (ok, np.array(ok, np.float32)),
        (ok, [[2.0, 1.0]]),
        ([[np.inf, 1.0]], ok),
        ([[1, 2]], [[1, 3]]),
        ([[0.0, 0.0]], [[0.0, 1e-9]]),
    ):
        report = compare(Fixed(y=a), Fixed(y=b))
        assert not report.same, (a, b)
        json.loads(report.to_json())
        assert report.to_text()
    assert not compare(Fixed(y=ok, z=ok), Fixed(y=ok)).same
    assert not compare(Fixed(), Fixed()).same
    assert compare(Fixed(y=[[np.inf, 1.0]]), Fixed(y=[[np.inf, 1.0]])).same


def test_inputs_of_another_shape_are_a_no() -> None:
    b = Builder()
    b.output(b.op("Relu", b.input("image", (None, 4, 8, 8))), "y")
    report = both(net(), b.model())
    assert not report.same
    assert "3" in report.reason and "4" in report.reason


def test_a_softmax_that_is_saturated_hides_nothing() -> None:
    def build(last: float) -> ir.Model:
        b = Builder()
        x = b.input("x", (None, 3))
        w = np.diag([0.0, 0.0, 0.0]).astype(np.float32)
        logits = b.op("Add", b.op("MatMul", x, b.weight(w, "w")), b.const([40.0, 0.0, last]), layer="logits")
        b.output(b.op("Softmax", logits, layer="softmax"), "p")
        return b.model()

    assert both(build(5), build(5)).same
    assert not both(build(5), build(9)).same


def test_classes_in_another_order_are_another_network() -> None:
    a, b = net(), net()
    card.set_classes(a, list("abcde"))
    card.set_classes(b, list("abced"))
    report = both(a, b)
    assert not report.same
    assert any("order" in n for n in report.notes)


def test_rounding_is_told_from_a_fault() -> None:
    def build(fused: bool) -> ir.Model:
        random = np.random.default_rng(3)
        b = Builder()
        x = b.input("x", (None, 32))
        for i in range(40):
            w = (random.standard_normal((32, 32)) / np.sqrt(16)).astype(np.float32)
            order = np.arange(32)[::-1] if fused else np.arange(32)
            x = b.op("MatMul", b.op("Gather", x, b.const(order), axis=1, layer=f"turn{i}"), b.weight(w[order], f"w{i}"), layer=f"dense{i}")
            x = b.op("Relu", x, layer=f"relu{i}")
        b.output(x, "y")
        return b.model()

    report = both(build(False), build(True), rtol=1e-9)
    assert not report.same
    assert report.noise is not None and "float64" in report.noise
    assert report.first_divergence is None


def test_double_precision_is_double() -> None:
    x = np.random.default_rng(0).random((1, 3, 8, 8))
    single = run(net(), {"image": x.astype(np.float32)}, optimize=False)["scores"]
    double = run_double(net(), {"image": x.astype(np.float32)})["scores"]
    assert double.dtype == np.float64
    np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-5)


def test_a_failing_comparison_is_kept_without_pickles(tmp_path: Path) -> None:
    report = both(net(), net(seed=1), seed=7)
    save_repro(tmp_path / "repro.npz", report)
    kept = load_repro(tmp_path / "repro.npz")
    assert (kept.seed, kept.rtol, kept.oracle) == (7, 1e-4, report.oracle)
    again = run(net(), kept.feeds, optimize=False)["scores"]
    np.testing.assert_array_equal(again, kept.source["scores"])
    assert "onnxruntime" in kept.versions
    (tmp_path / "bad.npz").write_bytes((tmp_path / "repro.npz").read_bytes()[:300])
    for name in ("bad.npz", "absent.npz"):
        with pytest.raises(ReadError):
            load_repro(tmp_path / name)


def test_a_report_tells_the_layers_and_draws_them() -> None:
    report = both(net(), net(), layers=True)
    assert [e.layer for e in report.layers] == ["conv1", "bn", "relu", "conv2", "add", "pool", "flat", "dense"]
    assert all(e.error == 0 for e in report.layers)
    assert report.to_html().startswith("<!")


def test_limits_that_decide_nothing_are_refused() -> None:
    for options in ({"samples": 0}, {"rtol": -1.0}, {"rtol": float("nan")}, {"rtol": float("inf")}):
        with pytest.raises(UsageError):
            both(net(), net(), **options)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 14), st.integers(0, 100))
def test_random_graphs(seed: int, length: int, at: int) -> None:
    """Whatever the graph: the same is the same, and a layer that is found differs while its matched inputs agree."""

    def build(fault: int | None) -> ir.Model:
        random = np.random.default_rng(seed)
        b = Builder()
        values = [b.input("x", (None, 6))]
        for i in range(length):
            op = ("Add", "Mul", "Max", "Relu", "MatMul")[int(random.integers(5))]
            x, y = (values[max(0, len(values) - 1 - int(random.integers(3)))] for _ in range(2))
            if op == "MatMul":
                w = random.standard_normal((6, 6)).astype(np.float32)
                values.append(b.op("MatMul", x, b.weight(w + np.float32(0.5) * (i == fault), f"w{i}"), layer=f"l{i}"))
            elif op == "Relu":
                values.append(b.op("Relu", b.op("Sub", x, b.const(0.5 + (i == fault)), layer=f"s{i}"), layer=f"l{i}"))
            else:
                values.append(b.op(op, x, y, layer=f"l{i}"))
        b.output(values[-1], "y")
        return b.model()

    x = np.random.default_rng(seed).standard_normal((3, 6)).astype(np.float32)
    assert both(build(None), build(None), feeds={"x": x}).same
    report = both(build(None), build(at % length), feeds={"x": x})
    if not report.same and report.first_divergence is not None:
        assert report.first_divergence.verified
        assert report.first_divergence.runs <= report.first_divergence.runs_allowed
        assert report.first_divergence.source_layer[1:] == str(at % length)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=True, allow_infinity=True), min_size=1, max_size=8), st.floats(0, 1))
def test_agreement_is_shown_never_assumed(values: list[float], rtol: float) -> None:
    a = np.array(values, np.float32)
    d = difference(a, a.copy())
    assert d.within(rtol) == (not np.isnan(a).any())
    b = a.copy()
    b[0] = np.float32(np.nan)
    assert not difference(a, b).within(rtol)


def test_another_float_width_inside_is_compared_as_numbers() -> None:
    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
    found = aligned(x, x.astype(np.float16), 1e-2)
    assert found.within(1e-2) and 0 < found.max_rel < 1e-3
