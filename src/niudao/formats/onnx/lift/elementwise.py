"""Operators that work element by element: broadcasting by attribute, slopes, limits, types by name."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from niudao.formats.onnx.lift import Lift, dims, rank, set_inputs, until

_CONSUMED = [
    "Abs",
    "Add",
    "BatchNormalization",
    "Ceil",
    "Clip",
    "Div",
    "Dropout",
    "Elu",
    "Exp",
    "Floor",
    "HardSigmoid",
    "InstanceNormalization",
    "LeakyRelu",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Mul",
    "Neg",
    "PRelu",
    "Reciprocal",
    "Relu",
    "Selu",
    "Sigmoid",
    "Sqrt",
    "Sub",
    "Sum",
    "Tanh",
]


@until(6, *_CONSUMED)
def no_consumed_inputs(lift: Lift, node: ir.Node) -> None:
    """`consumed_inputs` was a hint about memory."""
    node.attributes.pop("consumed_inputs", None)


@until(6, "Selu")
def old_selu(lift: Lift, node: ir.Node) -> None:
    """The defaults had five digits."""
    node.attributes.setdefault("alpha", ir.AttrFloat32("alpha", 1.6732))
    node.attributes.setdefault("gamma", ir.AttrFloat32("gamma", 1.0507))


@until(7, "Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less")
def broadcast_by_attribute(lift: Lift, node: ir.Node) -> None:
    """The second operand lay along the first from `axis` on; without `axis`, along its end, as today."""
    node.attributes.pop("broadcast", None)
    axis = node.attributes.pop("axis", None)
    if axis is None:
        return
    a, b = rank(node.inputs[0]), rank(node.inputs[1])
    if b == 0:
        return
    if a is None or b is None:
        lift.refuse(node, "broadcasting along an axis of a tensor of unknown rank", "axis")
        return
    start = axis.as_int()
    start += a if start < 0 else 0
    missing = a - start - b
    if missing > 0:
        axes = lift.const(node, list(range(b, b + missing)))
        node.replace_input_with(1, lift.before(node, "Unsqueeze", node.inputs[1], axes))


@until(7, "PRelu")
def slope_per_channel(lift: Lift, node: ir.Node) -> None:
    """A slope of one axis lay along the channels."""
    spread_slope(lift, node, always=True)


def spread_slope(lift: Lift, node: ir.Node, *, always: bool) -> None:
    """Shape a slope (C,) as (C, 1, ..): `always`, or only where it cannot lie along the last axis."""
    x, slope = node.inputs[:2]
    size, n = dims(x), rank(x)
    length = dims(slope)
    if n is None or n <= 2 or length is None or len(length) != 1 or length[0] in (1, None):
        return
    if not always and (size is None or size[1] != length[0] or size[-1] in (None, length[0])):
        return
    axes = lift.const(node, list(range(1, n - 1)))
    node.replace_input_with(1, lift.before(node, "Unsqueeze", slope, axes))


@until(6, "Cast")
def type_by_name(lift: Lift, node: ir.Node) -> None:
    """`to` was the type's name."""
    to = node.attributes["to"]
    if to.type == ir.AttributeType.STRING:
        name = to.as_string().upper()
        if name not in set(onnx.TensorProto.DataType.keys()):
            lift.refuse(node, f"no type is called {name!r}", "to")
            return
        node.attributes["to"] = ir.AttrInt64("to", onnx.TensorProto.DataType.Value(name))


@until(11, "Clip")
def limits_as_inputs(lift: Lift, node: ir.Node) -> None:
    """`min` and `max` were attributes."""
    low, high = node.attributes.pop("min", None), node.attributes.pop("max", None)
    dtype = node.inputs[0].dtype if node.inputs[0] is not None and node.inputs[0].dtype is not None else ir.DataType.FLOAT
    widest = float(np.finfo(np.float32).max)

    def limit(attr: ir.Attr | None) -> ir.Value | None:
        if attr is None or abs(attr.as_float()) >= widest:  # the old defaults said "no limit" by these numbers
            return None
        return lift.const(node, attr.as_float(), dtype)

    set_inputs(node, [node.inputs[0], limit(low), limit(high)])


@until(8, "Sum", "Max", "Min", "Mean")
def no_broadcast_yet(lift: Lift, node: ir.Node) -> None:
    """Operands had one shape: today's rule says the same of them."""


_ANY = 1000


@until(_ANY, "Swish", "SwiGLU")
def swish(lift: Lift, node: ir.Node) -> None:
    """x * sigmoid(alpha * x), times the second operand of SwiGLU (opset 28); ONNX Runtime has no kernel of its own for either."""
    x = node.inputs[0]
    alpha = node.attributes.get_float("alpha", 1.0)
    dtype = x.dtype if x is not None and x.dtype is not None else ir.DataType.FLOAT
    inner = x if alpha == 1.0 else lift.before(node, "Mul", x, lift.const(node, alpha, dtype))
    gate = lift.before(node, "Mul", x, lift.before(node, "Sigmoid", inner))
    lift.become(node, gate if node.op_type == "Swish" else lift.before(node, "Mul", gate, node.inputs[1]))


@until(_ANY, "Mod")
def floored_float_mod(lift: Lift, node: ir.Node) -> None:
    """Since 28 floats may have the sign of the divisor (`fmod` = 0), as integers always could."""
    x, y = node.inputs[:2]
    dtype = x.dtype if x is not None else None
    if node.attributes.get_int("fmod", 0) or dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16):
        return
    zero = lift.const(node, 0, dtype)
    rest = lift.before(node, "Mod", x, y, fmod=1)
    signs_differ = lift.before(node, "Xor", lift.before(node, "Less", rest, zero), lift.before(node, "Less", y, zero))
    whole = lift.before(node, "Equal", rest, zero)
    shift = lift.before(node, "And", signs_differ, lift.before(node, "Not", whole))
    lift.become(node, lift.before(node, "Where", shift, lift.before(node, "Add", rest, y), rest))
