"""Operators about shapes, whose attributes became inputs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from niudao.formats.onnx.lift import Lift, known, rank, set_inputs, until


def _first(node: ir.Node) -> ir.Value | None:
    return node.inputs[0] if node.inputs else None


@until(5, "Reshape")
def shape_as_input(lift: Lift, node: ir.Node) -> None:
    """`shape` was an attribute."""
    node.attributes.pop("consumed_inputs", None)
    shape = node.attributes.pop("shape", None)
    if shape is not None:
        set_inputs(node, [_first(node), lift.const(node, list(shape.as_ints()))])


@until(13, "Squeeze", "Unsqueeze")
def axes_as_input(lift: Lift, node: ir.Node) -> None:
    """`axes` was an attribute."""
    axes = node.attributes.pop("axes", None)
    if axes is not None:
        set_inputs(node, [_first(node), lift.const(node, list(axes.as_ints()))])


@until(13, "Split")
def sizes_as_input(lift: Lift, node: ir.Node) -> None:
    """`split` was an attribute."""
    sizes = node.attributes.pop("split", None)
    if sizes is not None and len(sizes.as_ints()):
        set_inputs(node, [_first(node), lift.const(node, list(sizes.as_ints()))])


@until(18, "Split")
def equal_parts(lift: Lift, node: ir.Node) -> None:
    """Without sizes the parts are equal, as many as there are outputs."""
    if len(node.inputs) < 2 or node.inputs[1] is None:
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


@until(10, "Slice")
def limits_as_inputs(lift: Lift, node: ir.Node) -> None:
    """`starts`, `ends` and `axes` were attributes."""
    if "starts" not in node.attributes:  # DynamicSlice, which became Slice
        return
    starts, ends = (list(node.attributes.pop(k).as_ints()) for k in ("starts", "ends"))
    axes = node.attributes.pop("axes", None)
    axis = None if axes is None else lift.const(node, list(axes.as_ints()))
    set_inputs(node, [_first(node), lift.const(node, starts), lift.const(node, ends), axis])


@until(2, "Pad")
def paddings(lift: Lift, node: ir.Node) -> None:
    """`pads` was called `paddings`."""
    old = node.attributes.pop("paddings", None)
    if old is not None:
        node.attributes["pads"] = ir.AttrInt64s("pads", list(old.as_ints()))


@until(11, "Pad")
def pads_as_input(lift: Lift, node: ir.Node) -> None:
    """`pads` and `value` were attributes."""
    pads = list(node.attributes.pop("pads").as_ints())
    value = node.attributes.pop("value", None)
    x = _first(node)
    number = 0.0 if value is None else value.as_float()
    dtype = x.dtype if x is not None and x.dtype is not None else ir.DataType.FLOAT
    fill = lift.const(node, number, dtype) if number else None
    set_inputs(node, [x, lift.const(node, pads), fill])


@until(4, "Concat")
def axis_one(lift: Lift, node: ir.Node) -> None:
    """`axis` was 1 if left out."""
    node.attributes.setdefault("axis", ir.AttrInt64("axis", 1))


@until(6, "Tile")
def tiles_along_axis(lift: Lift, node: ir.Node) -> None:
    """One axis was repeated, named by an input."""
    n, axis = rank(node.inputs[0]), known(node.inputs[2]) if len(node.inputs) > 2 else None
    if len(node.inputs) < 3:
        return
    if n is None or axis is None or not 0 <= int(axis.reshape(-1)[0]) < n:
        lift.refuse(node, "the axis of Tile is not a constant, or the rank is unknown", "axis")
        return
    at = int(axis.reshape(-1)[0])
    tiles = lift.before(node, "Cast", node.inputs[1], to=int(ir.DataType.INT64))
    one = lift.before(node, "Reshape", tiles, lift.const(node, [1]))
    parts = [lift.const(node, np.ones(k)) if k else None for k in (at, n - at - 1)]
    pieces = [p for p in (parts[0], one, parts[1]) if p is not None]
    set_inputs(node, [node.inputs[0], lift.before(node, "Concat", *pieces, axis=0)])


@until(11, "Scatter")
def scatter_elements(lift: Lift, node: ir.Node) -> None:
    """Scatter is called ScatterElements."""
    node.op_type = "ScatterElements"


@until(1000, "SpaceToDepth")
def depth_first(lift: Lift, node: ir.Node) -> None:
    """Opset 28 gave SpaceToDepth the order of DepthToSpace's CRD: the channel varies slowest. Here that is a permutation."""
    mode = node.attributes.pop("mode", None)
    if mode is None or mode.as_string() == "DCR":
        return
    size = node.inputs[0].shape if node.inputs[0] is not None else None
    block = node.attributes.get_int("blocksize", 1)
    if mode.as_string() != "CRD" or size is None or not isinstance(size[1], int):
        lift.refuse(node, f"the order {mode.as_string()} needs a known number of channels", "mode")
        return
    channels = size[1]
    order = np.arange(channels * block * block).reshape(block * block, channels).T.reshape(-1)
    lift.after(node, "Gather", lift.const(node, order), axis=1)
