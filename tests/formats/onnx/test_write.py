"""What we write, ONNX's own checker accepts and ONNX Runtime runs to the same numbers, in every opset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from niudao.errors import Unsupported, UsageError, WriteError
from niudao.formats.onnx.read import read
from niudao.formats.onnx.write import lowered, refusals, write
from niudao.ir import OPSET, card
from niudao.ir.build import Builder
from niudao.ir.session import run

F = np.float32
RNG = np.random.default_rng(2)
X = RNG.standard_normal((2, 3, 8, 8)).astype(F)


def small() -> ir.Model:
    """A network with one of each operator whose words changed between opset 13 and 18, and a big weight."""
    b = Builder("net")
    x = b.input("x", (None, 3, 8, 8))
    y = b.op("Conv", x, b.weight(RNG.standard_normal((64, 3, 3, 3)).astype(F), "conv/kernel"), pads=[1, 1, 1, 1], layer="conv")
    y = b.op("Clip", y, b.const(0.0), b.const(6.0))
    y = b.op("Pad", y, b.const([1, 0, 1, 2]), None, b.const([2, 3]))
    left, right = b.ops("Split", y, outputs=2, axis=1, num_outputs=2)
    y = b.op("Add", left, right)
    y = b.op("ReduceMean", y, b.const([2, 3]), keepdims=0)
    y = b.op("MatMul", y, b.weight(RNG.standard_normal((32, 1000)).astype(F), "fc/kernel:0"))
    b.output(b.op("Softmax", y, axis=-1), "y")
    model = b.model()
    card.set_classes(model, ["a", "b"])
    return model


def native(path: Path, feeds: dict[str, Any]) -> list[Any]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, feeds)


@pytest.mark.parametrize("opset", [None, *range(13, OPSET + 1)])
def test_same_numbers_in_every_opset(tmp_path: Path, opset: int | None) -> None:
    model = small()
    want = run(model, X)["y"]
    path = tmp_path / "net.onnx"
    report = write(model, path, opset=opset)
    assert report.files == (str(path),)
    proto = onnx.load(path)
    onnx.checker.check_model(proto, full_check=True)
    assert proto.opset_import[0].version == (opset or 13)
    np.testing.assert_allclose(native(path, {"x": X})[0], want, rtol=1e-5, atol=1e-7)
    back = read(path)
    assert card.get_classes(back) == ["a", "b"]
    assert {card.layer_of(n) for n in back.graph} >= {"conv"}
    assert {"conv/kernel", "fc/kernel:0"} <= set(back.graph.initializers)
    np.testing.assert_array_equal(
        back.graph.initializers["fc/kernel:0"].const_value.numpy(), model.graph.initializers["fc/kernel:0"].const_value.numpy()
    )
    np.testing.assert_allclose(run(back, X)["y"], want, rtol=1e-5, atol=1e-7)


def test_the_model_stays_as_it_is(tmp_path: Path) -> None:
    model = small()
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    write(model, tmp_path / "net.onnx", opset=13)
    write(model, tmp_path / "net2.onnx", external_data=True)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    model = small()
    report = write(model, tmp_path / "net.onnx", external_data=True)
    assert [Path(f).name for f in report.files] == ["net.onnx", "net.onnx.data"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "net.onnx.data"]
    np.testing.assert_allclose(native(tmp_path / "net.onnx", {"x": X})[0], run(model, X)["y"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(run(read(tmp_path / "net.onnx"), X)["y"], run(model, X)["y"], rtol=1e-5, atol=1e-7)
    with pytest.raises(UsageError):
        write(model, tmp_path / "net.onnx", weights=tmp_path / "elsewhere" / "w")


def test_a_model_may_be_written_over_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write(small(), path)
    model = read(path)
    want = run(model, X)["y"]
    write(model, path, opset=18)
    write(model, path, opset=21)
    np.testing.assert_allclose(run(read(path), X)["y"], want, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("op", "options", "oldest"),
    [
        ("Relu", {}, 13),
        ("HardSwish", {}, 14),
        ("Mish", {}, 18),
        ("Gelu", {}, 20),
    ],
)
def test_the_oldest_opset_that_says_the_same(tmp_path: Path, op: str, options: dict[str, Any], oldest: int) -> None:
    b = Builder()
    b.output(b.op(op, b.input("x", (None, 3, 8, 8)), layer="act", **options), "y")
    path = tmp_path / "net.onnx"
    model = b.model()
    write(model, path)
    assert onnx.load(path).opset_import[0].version == oldest
    if oldest > 13:
        with pytest.raises(Unsupported) as e:
            write(model, path, opset=oldest - 1)
        assert [(r.node, r.op) for r in e.value.refusals] == [("act", op)]
    assert refusals(model) == []


def test_uneven_parts_get_their_sizes(tmp_path: Path) -> None:
    b = Builder()
    for i, part in enumerate(b.ops("Split", b.input("x", (None, 3, 8, 8)), outputs=3, axis=3, num_outputs=3)):
        b.output(part, f"y{i}")
    model = b.model()
    write(model, tmp_path / "net.onnx", opset=13)
    for a, c in zip(native(tmp_path / "net.onnx", {"x": X}), run(model, X).values(), strict=True):
        np.testing.assert_array_equal(a, c)


@pytest.mark.parametrize(("mode", "old"), [("linear", "bilinear"), ("cubic", "bicubic"), ("nearest", "nearest")])
def test_sampling_modes_had_other_names(tmp_path: Path, mode: str, old: str) -> None:
    b = Builder()
    grid = b.input("grid", (None, 4, 4, 2))
    b.output(b.op("GridSample", b.input("x", (None, 3, 8, 8)), grid, mode=mode), "y")
    model = b.model()
    write(model, tmp_path / "net.onnx")
    proto = onnx.load(tmp_path / "net.onnx")
    assert proto.opset_import[0].version == 16
    assert {a.name: a.s.decode() for a in proto.graph.node[0].attribute}["mode"] == old
    feeds = {"grid": np.tanh(RNG.standard_normal((2, 4, 4, 2))).astype(F), "x": X}
    np.testing.assert_allclose(native(tmp_path / "net.onnx", feeds)[0], run(model, feeds)["y"], rtol=1e-4, atol=1e-5)


def test_opsets_that_are_not_written(tmp_path: Path) -> None:
    for opset in (12, OPSET + 1):
        with pytest.raises(UsageError):
            write(small(), tmp_path / "net.onnx", opset=opset)
    with pytest.raises(WriteError):
        write(small(), tmp_path / "no" / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_lowered_shares_weights() -> None:
    model = small()
    copy = lowered(model, 15)
    assert copy.graph.initializers["fc/kernel:0"].const_value is model.graph.initializers["fc/kernel:0"].const_value
    assert copy.ir_version == 8
