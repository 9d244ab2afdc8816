"""Resizing, sampling and pooling."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from niudao.formats.onnx.lift import Lift, known, rank, set_inputs, until


@until(7, "Upsample")
def scales_by_name(lift: Lift, node: ir.Node) -> None:
    """Height and width had a factor each; "bilinear" is "linear" of two axes."""
    height, width = node.attributes.pop("height_scale", None), node.attributes.pop("width_scale", None)
    if height is not None and width is not None:
        scales = [1.0, 1.0, height.as_float(), width.as_float()]
        node.attributes["scales"] = ir.AttrFloat32s("scales", scales)
    if node.attributes.get_string("mode", "nearest") == "bilinear":
        node.attributes["mode"] = ir.AttrString("mode", "linear")


@until(9, "Upsample")
def scales_as_input(lift: Lift, node: ir.Node) -> None:
    """`scales` was an attribute."""
    scales = node.attributes.pop("scales", None)
    if scales is not None:
        set_inputs(node, [node.inputs[0], lift.const(node, list(scales.as_floats()), np.float32)])


@until(10, "Upsample")
def resize(lift: Lift, node: ir.Node) -> None:
    """Upsample became Resize."""
    node.op_type = "Resize"


@until(11, "Resize")
def asymmetric(lift: Lift, node: ir.Node) -> None:
    """Output index i came from i / scale, rounded down when enlarging and up when shrinking.

    Reference: ONNX Runtime's kernel for Resize 10 ("simple" nearest mode); ONNX itself left the rounding open.
    """
    mode = node.attributes.get_string("mode", "nearest")
    mode = "linear" if mode == "bilinear" else mode
    node.attributes["mode"] = ir.AttrString("mode", mode)
    node.attributes["coordinate_transformation_mode"] = ir.AttrString("coordinate_transformation_mode", "asymmetric")
    x, scales = node.inputs[:2]
    if mode != "nearest":
        set_inputs(node, [x, None, scales])
        return
    factors = known(scales)
    rounding = "floor"
    if factors is not None and (factors < 1).any():
        rounding = "ceil"
        if (factors > 1).any():
            bigger = lift.const(node, np.maximum(factors, 1), np.float32)
            x = lift.before(
                node, "Resize", x, None, bigger, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
            )
            scales = lift.const(node, np.minimum(factors, 1), np.float32)
    set_inputs(node, [x, None, scales])
    node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", rounding)


@until(13, "Resize")
def half_pixel_for_nearest(lift: Lift, node: ir.Node) -> None:
    """TensorFlow's (i + 0.5) / scale is half a pixel more than `half_pixel`: another rounding of the same number.

    With h = (i + 0.5) / scale - 0.5, floor(h + 0.5) is h rounded with halves up, and rounding h + 0.5 with halves down is ceil(h).
    """
    if node.attributes.get_string("coordinate_transformation_mode", "half_pixel") != "tf_half_pixel_for_nn":
        return
    rounding = node.attributes.get_string("nearest_mode", "round_prefer_floor")
    same = {"floor": "round_prefer_ceil", "round_prefer_floor": "ceil"}.get(rounding)
    if same is None or node.attributes.get_string("mode", "nearest") != "nearest":
        lift.refuse(node, f"tf_half_pixel_for_nn with nearest_mode {rounding}", "coordinate_transformation_mode")
        return
    node.attributes["coordinate_transformation_mode"] = ir.AttrString("coordinate_transformation_mode", "half_pixel")
    node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", same)


@until(1000, "Resize")
def no_empty_inputs(lift: Lift, node: ir.Node) -> None:
    """An empty tensor once stood for an input that is not given."""
    inputs = list(node.inputs)
    for i in range(1, len(inputs)):
        value = inputs[i]
        if value is not None and value.const_value is not None and value.const_value.size == 0:
            inputs[i] = None
    if len(inputs) == 4 and inputs[2] is not None and inputs[3] is not None:
        inputs[2] = None
    if node.attributes.get_string("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize" and len(inputs) > 1:
        inputs[1] = None
    set_inputs(node, inputs)


@until(16, "RoiAlign")
def no_half_pixel(lift: Lift, node: ir.Node) -> None:
    """Regions were not moved by half a pixel."""
    name = "coordinate_transformation_mode"
    node.attributes.setdefault(name, ir.AttrString(name, "output_half_pixel"))


@until(20, "GridSample")
def sampling_names(lift: Lift, node: ir.Node) -> None:
    """bilinear and bicubic are called linear and cubic."""
    mode = node.attributes.get_string("mode", "bilinear")
    node.attributes["mode"] = ir.AttrString("mode", {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode))


@until(2, "LpPool", "GlobalLpPool")
def whole_power(lift: Lift, node: ir.Node) -> None:
    """`p` was a float, 2 if left out."""
    p = node.attributes.get("p")
    if p is not None and p.type == ir.AttributeType.FLOAT:
        if p.as_float() != int(p.as_float()):
            lift.refuse(node, "p is no whole number", "p")
            return
        node.attributes["p"] = ir.AttrInt64("p", int(p.as_float()))
    if node.op_type == "LpPool" and "kernel_shape" not in node.attributes and (rank(node.inputs[0]) or 0) > 2:
        lift.refuse(node, "kernel_shape is missing", "kernel_shape")


@until(1000, "GlobalLpPool")
def norm_over_space(lift: Lift, node: ir.Node) -> None:
    """The p-norm over all axes behind the channels. ONNX Runtime has no GlobalLpPool of opset 22, but it has the norms."""
    n, p = rank(node.inputs[0]), node.attributes.get_int("p", 2)
    if n is None or n < 3:
        return
    axes = lift.const(node, list(range(2, n)))
    x = node.inputs[0]
    if p in (1, 2):
        lift.become(node, lift.before(node, f"ReduceL{p}", x, axes))
        return
    dtype = x.dtype if x is not None and x.dtype is not None else ir.DataType.FLOAT
    powers = lift.before(node, "Pow", lift.before(node, "Abs", x), lift.const(node, p, dtype))
    total = lift.before(node, "ReduceSum", powers, axes)
    lift.become(node, lift.before(node, "Pow", total, lift.const(node, 1 / p, dtype)))
