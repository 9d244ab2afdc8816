"""Broken models are refused with one sentence; whole ones pass and are left as they are."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from niudao.errors import InvalidModel, NiudaoError, Unsupported, Where
from niudao.ir import OPSET
from niudao.ir.build import Builder
from niudao.ir.fingerprint import fingerprint
from niudao.ir.validate import MAX_NESTING, validate


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.float32)


def net() -> ir.Model:
    b = Builder()
    x = b.input("x", (None, 3, 8, 8))
    x = b.op("Conv", x, b.weight(zeros(4, 3, 3, 3), "w"), b.weight(zeros(4), "b"), layer="conv1")
    x = b.op("BatchNormalization", x, *[b.weight(zeros(4), n) for n in ("gamma", "beta", "mean", "var")], layer="bn1")
    b.output(b.op("Relu", x, layer="relu1"), "y")
    return b.model()


def fails(model: ir.Model, *words: str, kind: type[NiudaoError] = InvalidModel) -> NiudaoError:
    with pytest.raises(kind) as caught:
        validate(model, where=Where(file="net.onnx"))
    assert caught.value.where.file == "net.onnx"
    for word in words:
        assert word in str(caught.value), caught.value
    return caught.value


def node(model: ir.Model, op: str) -> ir.Node:
    return next(n for n in model.graph if n.op_type == op)


def put(model: ir.Model, name: str, array: np.ndarray) -> None:
    """Another array under a weight's name, declared as it is."""
    value = model.graph.initializers[name]
    value.const_value = ir.tensor(array, name=name)
    value.shape = ir.Shape(array.shape)


def test_a_whole_model_passes_and_is_left_as_it_is() -> None:
    model = net()
    before = fingerprint(model), [str(v.shape) for n in model.graph for v in n.outputs]
    validate(model, where=Where())
    assert before == (fingerprint(model), [str(v.shape) for n in model.graph for v in n.outputs])


def test_an_undefined_input() -> None:
    model = net()
    node(model, "Relu").replace_input_with(0, ir.Value(name="ghost"))
    fails(model, "ghost", "nothing defines")


def test_a_cycle_and_a_wrong_order() -> None:
    model = net()
    node(model, "Conv").replace_input_with(0, node(model, "Relu").outputs[0])
    fails(model, "its own output")
    model = net()
    relu, conv = node(model, "Relu"), node(model, "Conv")
    model.graph.remove(relu)
    conv.prepend(relu)
    fails(model, "computed only later")


def test_two_values_of_one_name() -> None:
    model = net()
    node(model, "Conv").outputs[0].name = node(model, "BatchNormalization").outputs[0].name
    fails(model, "two values")


def test_no_output() -> None:
    model = net()
    model.graph.outputs.clear()
    fails(model, "no output")


def test_all_unknown_operators_at_once() -> None:
    model = net()
    node(model, "Relu").op_type = "Frobnicate"
    node(model, "Conv").op_type = "Convolve"
    error = fails(model, "Frobnicate", "Convolve", kind=Unsupported)
    assert isinstance(error, Unsupported) and len(error.refusals) == 2


def test_a_withdrawn_operator_and_another_opset() -> None:
    model = net()
    node(model, "Relu").op_type = "Upsample"
    fails(model, "withdrawn", kind=Unsupported)
    model = net()
    model.graph.opset_imports[""] = OPSET - 1
    fails(model, "opset")


@pytest.mark.parametrize(
    ("name", "shape"),
    [("w", (4, 2, 3, 3)), ("w", (4, 3, 3)), ("b", (5,)), ("gamma", (3,)), ("var", (4, 1)), ("w", (4, 0, 3, 3)), ("w", (4,))],
)
def test_a_weight_that_does_not_fit(name: str, shape: tuple[int, ...]) -> None:
    model = net()
    put(model, name, zeros(*shape))
    fails(model)


@pytest.mark.parametrize("group", [0, -1, 2, 3])
def test_groups_that_do_not_divide(group: int) -> None:
    model = net()
    node(model, "Conv").attributes["group"] = ir.AttrInt64("group", group)
    fails(model)


def test_a_weight_of_another_size_than_it_says() -> None:
    model = net()
    model.graph.initializers["w"].shape = ir.Shape((4, 3, 5, 5))
    fails(model, "'w'")
    external = ir.ExternalTensor("weights", 0, 8, ir.DataType.FLOAT, shape=ir.Shape((4, 3, 3, 3)), name="w", base_dir=".")
    model = net()
    model.graph.initializers["w"].const_value = external
    error = fails(model, "'w'")
    assert error.expected is not None and "432 bytes" in error.expected
    huge = ir.ExternalTensor("weights", 0, 0, ir.DataType.FLOAT, shape=ir.Shape((1 << 31, 1 << 31, 4)), name="w", base_dir=".")
    model = net()
    model.graph.initializers["w"].const_value = huge
    model.graph.initializers["w"].shape = ir.Shape((1 << 31, 1 << 31, 4))
    fails(model, "'w'")  # 2**66 * 4 bytes is 0 modulo 2**64: a product that wraps would let it pass


def test_a_contradicting_shape() -> None:
    model = net()
    node(model, "Relu").outputs[0].shape = ir.Shape(("batch", 4, 9, 9))
    fails(model, "another shape")


def test_deep_nesting() -> None:
    def nested(depth: int) -> ir.Model:
        value = ir.Value(name="c", type=ir.TensorType(ir.DataType.BOOL), shape=ir.Shape(()))
        inner = ir.node("Identity", [value], name="end")
        inner.outputs[0].name = "o0"
        graph = ir.Graph([], [inner.outputs[0]], nodes=[inner], name="g")
        for i in range(depth):
            outer = ir.node(
                "If", [value], attributes={"then_branch": graph, "else_branch": ir.Graph([], [], nodes=[], name="e")}, name=f"if{i}"
            )
            outer.outputs[0].name = f"o{i + 1}"
            graph = ir.Graph([value] if i == depth - 1 else [], [outer.outputs[0]], nodes=[outer], name="g", opset_imports={"": OPSET})
        return ir.Model(graph, ir_version=10)

    validate(nested(20), where=Where())
    fails(nested(MAX_NESTING + 2), "nested")
