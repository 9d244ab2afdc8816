"""Branches, loops and functions as straight-line torch code."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper

from niudao.errors import Unsupported
from niudao.formats.pytorch import to_module
from niudao.ir import IR_VERSION, OPSET

sys.path.insert(0, str(Path(__file__).parent))
from torchjudge import differ, runtime, torch_answer, values

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name: str, kind: int = FLOAT, shape: tuple[int, ...] = (2, 3)) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def model(
    nodes: list[onnx.NodeProto], inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto], **held: np.ndarray
) -> ir.Model:
    tensors = [onnx.numpy_helper.from_array(a, n) for n, a in held.items()]
    graph = helper.make_graph(nodes, "main", inputs, outputs, tensors)
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION))


def branches(shape: tuple[int, ...] = (2, 3)) -> onnx.NodeProto:
    yes = helper.make_graph([helper.make_node("Add", ["x", "w"], ["yes"], name="yes")], "then", [], [value("yes")])
    no = helper.make_graph(
        [helper.make_node("Concat" if shape != (2, 3) else "Mul", ["x", "w"], ["no"], name="no")], "else", [], [value("no", shape=shape)]
    )
    if shape != (2, 3):
        no.node[0].attribute.append(helper.make_attribute("axis", 0))
    return helper.make_node("If", ["go"], ["y"], name="if", then_branch=yes, else_branch=no)


@pytest.mark.parametrize("go", [False, True])
def test_a_branch_chosen_while_running(go: bool) -> None:
    net = model([branches()], [value("x"), value("go", BOOL, ())], [value("y")], w=values(2, 3, seed=1))
    arrays = [values(2, 3), np.array(go)]
    wrong = differ(torch_answer(net, arrays), runtime(net, arrays))
    assert not wrong, wrong


@pytest.mark.parametrize("go", [False, True])
def test_a_branch_chosen_by_the_file(go: bool) -> None:
    """Only the branch that is taken is in the code."""
    net = model([branches()], [value("x")], [value("y")], w=values(2, 3, seed=1), go=np.array(go))
    wrong = differ(torch_answer(net, [values(2, 3)]), runtime(net, [values(2, 3)]))
    assert not wrong, wrong
    assert len([n for n in to_module(net).graph.nodes if n.op == "call_function"]) == 1


def test_branches_of_other_shapes_are_refused() -> None:
    net = model([branches((4, 3))], [value("x"), value("go", BOOL, ())], [value("y")], w=values(2, 3, seed=1))
    with pytest.raises(Unsupported, match="different or unknown shapes"):
        to_module(net)


def counting(most: int | None, stop: int = 99) -> ir.Model:
    """A loop that adds its turn and multiplies, and keeps every turn's value."""
    nodes = [
        helper.make_node("Cast", ["i"], ["turn"], to=FLOAT),
        helper.make_node("Add", ["v", "turn"], ["sum"]),
        helper.make_node("Mul", ["sum", "w"], ["v_out"]),
        helper.make_node("Less", ["i", "stop"], ["again"]),
        helper.make_node("Identity", ["v_out"], ["row"]),
    ]
    body = helper.make_graph(
        nodes, "body", [value("i", INT, ()), value("c", BOOL, ()), value("v")], [value("again", BOOL, ()), value("v_out"), value("row")]
    )
    loop = helper.make_node("Loop", ["most", "", "x"], ["last", "rows"], name="loop", body=body)
    inputs = [value("x")] + ([value("most", INT, ())] if most is None else [])
    held = {"w": values(2, 3, seed=1), "stop": np.array(stop)} | ({} if most is None else {"most": np.array(most)})
    return model([loop], inputs, [value("last"), helper.make_tensor_value_info("rows", FLOAT, [None, 2, 3])], **held)


@pytest.mark.parametrize(("most", "stop"), [(4, 99), (4, 2), (1, 99)])
def test_a_loop_of_known_length(most: int, stop: int) -> None:
    net = counting(most, stop)
    wrong = differ(torch_answer(net, [values(2, 3)]), runtime(net, [values(2, 3)]))
    assert not wrong, wrong


def test_a_loop_of_open_length_is_refused() -> None:
    with pytest.raises(Unsupported, match="how often it turns"):
        to_module(counting(None))


@pytest.mark.parametrize("backwards", [0, 1])
def test_scan(backwards: int) -> None:
    nodes = [helper.make_node("Add", ["s", "e"], ["s_out"]), helper.make_node("Mul", ["s_out", "w"], ["row"])]
    small = [value(n, shape=(3,)) for n in ("s", "e")], [value(n, shape=(3,)) for n in ("s_out", "row")]
    body = helper.make_graph(nodes, "body", *small)
    scan = helper.make_node(
        "Scan", ["start", "x"], ["last", "rows"], name="scan", body=body, num_scan_inputs=1, scan_input_directions=[backwards]
    )
    inputs = [value("start", shape=(3,)), value("x", shape=(4, 3))]
    net = model([scan], inputs, [value("last", shape=(3,)), value("rows", shape=(4, 3))], w=values(3, seed=1))
    arrays = [values(3), values(4, 3)]
    wrong = differ(torch_answer(net, arrays), runtime(net, arrays))
    assert not wrong, wrong


def test_a_function_of_the_file_is_built_in_place() -> None:
    """A node whose meaning is a function in the model: its body, twice, with its attribute."""
    constant = helper.make_node("Constant", [], ["k"])
    reference = constant.attribute.add()
    reference.name, reference.ref_attr_name, reference.type = "value_float", "k", onnx.AttributeProto.FLOAT
    nodes = [constant, helper.make_node("Mul", ["a", "k"], ["scaled"]), helper.make_node("Relu", ["scaled"], ["b"])]
    function = helper.make_function("niudao", "Scaled", ["a"], ["b"], nodes, [helper.make_opsetid("", OPSET)], ["k"])
    calls = [helper.make_node("Scaled", [a], [b], name=b, domain="niudao", k=k) for a, b, k in (("x", "h", 2.0), ("h", "y", -3.0))]
    calls.insert(1, helper.make_node("Neg", ["h"], ["unused"]))
    graph = helper.make_graph(calls, "main", [value("x")], [value("y"), value("unused")])
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("niudao", 1)]
    net = ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, functions=[function]))
    x = values(2, 3)
    wrong = differ(torch_answer(net, [x]), runtime(net, [x]))
    assert not wrong, wrong
    assert to_module(net)(torch.from_numpy(x))[0].shape == (2, 3)
