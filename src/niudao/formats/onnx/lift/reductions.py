"""Reductions and searches along axes."""

from __future__ import annotations

import onnx_ir as ir

from niudao.formats.onnx.lift import Lift, set_inputs, until

_REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"]


@until(13, "ReduceSum")
@until(18, *(f"Reduce{kind}" for kind in _REDUCTIONS))
def axes_as_input(lift: Lift, node: ir.Node) -> None:
    """`axes` was an attribute; none of them, or an empty list, means all."""
    axes = node.attributes.pop("axes", None)
    if axes is not None and len(axes.as_ints()):
        set_inputs(node, [node.inputs[0], lift.const(node, list(axes.as_ints()))])


@until(10, "TopK")
def count_as_input(lift: Lift, node: ir.Node) -> None:
    """`k` was an attribute."""
    set_inputs(node, [node.inputs[0], lift.const(node, [node.attributes.pop("k").as_int()])])


@until(7, "Gemm")
def no_broadcast_attribute(lift: Lift, node: ir.Node) -> None:
    """The third operand is spread over the result; once that had to be said."""
    node.attributes.pop("broadcast", None)


@until(20, "DFT")
def axis_as_input(lift: Lift, node: ir.Node) -> None:
    """`axis` was an attribute, 1 if left out; today's default is another one."""
    axis = node.attributes.pop("axis", None)
    length = node.inputs[1] if len(node.inputs) > 1 else None
    set_inputs(node, [node.inputs[0], length, lift.const(node, 1 if axis is None else axis.as_int())])


@until(9, "Scan")
def batched_scan(lift: Lift, node: ir.Node) -> None:
    """Scan 8 ran over a batch of sequences."""
    lift.refuse(node, "Scan of opset 8 runs over a batch with lengths, which no newer operator does")
