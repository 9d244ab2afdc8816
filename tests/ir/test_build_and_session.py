"""The builder types, shapes and names everything; sessions run any batch, fetch inner values, honour layouts."""

from __future__ import annotations

import io

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from niudao.errors import InvalidModel, LimitError, RunError
from niudao.ir import card, wire
from niudao.ir.build import Builder
from niudao.ir.session import Session, run


def test_every_value_is_typed_shaped_and_named_once(small_net: ir.Model) -> None:
    names = [v.name for n in small_net.graph for v in n.outputs]
    assert len(names) == len(set(names))
    assert all(v.shape is not None and v.type is not None for n in small_net.graph for v in n.outputs)
    onnx.checker.check_model(ir.to_proto(small_net), full_check=True)


def test_wrong_weights_are_an_error_that_names_the_layer() -> None:
    b = Builder()
    x = b.input("x", (None, 3, 8, 8))
    with pytest.raises(InvalidModel, match="MatMul") as caught:
        b.op("MatMul", x, b.weight(np.zeros((3, 4), np.float32), "w"), layer="fc")
    assert caught.value.where.node == "fc"


def test_an_output_keeps_its_name_and_inner_names_give_way() -> None:
    b = Builder()
    x = b.input("x", (None, 4))
    y = b.op("Relu", x, name="y_node")
    y.name = b.unique("out")
    z = b.op("Sigmoid", y)
    b.output(z, "out")
    model = b.model()
    assert model.graph.outputs[0].name == "out"
    assert next(iter(model.graph)).outputs[0].name != "out"


def test_streamed_bytes_are_a_model_that_others_read(small_net: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "BIG", 16)
    buffer = io.BytesIO()
    wire.stream(small_net, buffer)
    proto = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(proto)
    x = np.random.default_rng(1).random((2, 3, 9, 7), np.float32)
    theirs = onnxruntime.InferenceSession(buffer.getvalue()).run(None, {"image": x})[0]
    np.testing.assert_allclose(run(small_net, {"image": x})["prob"], theirs, atol=1e-6)


def test_a_fixed_batch_runs_in_pieces(small_net: ir.Model) -> None:
    x = np.random.default_rng(2).random((5, 3, 9, 7), np.float32)
    whole = run(small_net, {"image": x})["prob"]
    fixed = small_net.clone()
    fixed.graph.inputs[0].shape = ir.Shape([2, 3, 9, 7])
    pieces = run(fixed, x)["prob"]
    assert pieces.shape == (5, 5)
    np.testing.assert_allclose(pieces, whole, atol=1e-6)


def test_source_layout_inverts_exactly_what_was_recorded(small_net: ir.Model) -> None:
    card.set_layout(small_net.graph.inputs[0], (0, 3, 1, 2))
    x = np.random.default_rng(3).random((1, 9, 7, 3), np.float32)
    ours = run(small_net, {"image": x.transpose(0, 3, 1, 2)})
    theirs = run(small_net, {"image": x}, layout="source")
    np.testing.assert_array_equal(ours["prob"], theirs["prob"])


def test_inner_values_are_fetched_by_name(small_net: ir.Model) -> None:
    out = run(small_net, np.zeros((1, 3, 9, 7)), fetch=["relu_out"])
    assert list(out) == ["prob", "relu_out"] and out["relu_out"].shape == (1, 4, 9, 7)


def test_limits_on_memory_and_time_are_one_sentence(small_net: ir.Model) -> None:
    x = np.zeros((64, 3, 9, 7))
    assert run(small_net, x, memory=1 << 30)["prob"].shape == (64, 5)
    with pytest.raises(LimitError, match="batch of 64"):
        run(small_net, x, memory=10_000)
    b = Builder()
    y = b.input("x", (None, 400, 400))
    for _ in range(200):
        y = b.op("MatMul", y, y)
    b.output(y, "y")
    with pytest.raises(LimitError, match="more than"):
        run(b.model(), np.zeros((4, 400, 400)), seconds=0.05)


@pytest.mark.parametrize(
    ("feeds", "word"),
    [
        ({}, "missing"),
        ({"x": np.zeros(1)}, "no input"),
        ({"image": np.zeros((1, 3, 9, 8))}, "another shape"),
        ({"image": np.array(["a"])}, "holds"),
    ],
)
def test_wrong_feeds_are_named(small_net: ir.Model, feeds: dict, word: str) -> None:
    with pytest.raises(RunError, match=word):
        run(small_net, feeds)


def test_cards_and_classes_survive_the_wire(small_net: ir.Model) -> None:
    card.set_cards(small_net, {"image": card.InputCard(layout="NHWC", order="BGR", mean=(104.0, 117.0, 123.0))})
    card.set_classes(small_net, ["猫", "dog"])
    card.set_layout(small_net.graph.inputs[0], (0, 3, 1, 2))
    buffer = io.BytesIO()
    wire.stream(small_net, buffer)
    back = ir.from_proto(onnx.load_from_string(buffer.getvalue()))
    assert card.get_cards(back) == card.get_cards(small_net)
    assert card.get_classes(back) == ["猫", "dog"]
    assert card.get_layout(back.graph.inputs[0]) == (0, 3, 1, 2)


def test_unknown_card_fields_are_refused() -> None:
    with pytest.raises(InvalidModel, match="no field"):
        card.InputCard.from_dict({"colour": "RGB"})


def test_a_full_disk_under_the_weights_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    b = Builder()
    b.output(b.op("Relu", b.input("x", (1, 2))), "y")

    def full(self: Session, model: ir.Model) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Session, "_message", full)
    with pytest.raises(RunError, match=r"cannot be laid down.*No space left") as e:
        Session(b.model())
    assert "TMPDIR" in (e.value.next or "")
