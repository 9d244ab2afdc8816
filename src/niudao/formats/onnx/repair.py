"""What exporters got wrong, and what the file's own framework meant.

Each repair acts on a node that breaks its operator's rule and on no other, so right files pass untouched.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.onnx.lift import Lift, rank
from niudao.formats.onnx.lift.elementwise import spread_slope

_SAME_TYPE = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Min",
        "Max",
        "Sum",
        "Mean",
        "Equal",
        "Greater",
        "Less",
        "GreaterOrEqual",
        "LessOrEqual",
        "MatMul",
        "Gemm",
        "PRelu",
        "Concat",
        "Clip",
    ]
)
_FLOATS = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16)


def repair_node(lift: Lift, node: ir.Node) -> None:
    """Mend one lifted node whose inputs have types."""
    if node.op_type in _SAME_TYPE:
        one_float_type(lift, node)
    if node.op_type == "Gemm":
        flatten_for_gemm(lift, node)
    elif node.op_type == "PRelu":
        spread_slope(lift, node, always=False)


def one_float_type(lift: Lift, node: ir.Node) -> None:
    """PyTorch 1.0 wrote double scalars beside float tensors: constants give way, else the wider type does.

    Tensors that are no constants set the type; constants of another float type are cast to it.
    """
    values = [v for v in node.inputs if v is not None]
    types = {v.dtype for v in values}
    if len(types) < 2 or not all(t in _FLOATS for t in types):
        return
    moving = [v for v in values if not _constant(v)] or values
    target = next((t for t in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE) if any(v.dtype == t for v in moving)), None)
    if target is None:
        return
    lift.note("Constants of another float type than the tensors beside them were cast.")
    for i, value in enumerate(node.inputs):
        if value is None or value.dtype == target:
            continue
        array = _array(value)
        if array is not None and array.size <= 4096:
            node.replace_input_with(i, lift.const(node, array.astype(target.numpy()), target))
        else:
            node.replace_input_with(i, lift.before(node, "Cast", value, to=int(target)))


def _array(value: ir.Value) -> np.ndarray[Any, Any] | None:
    if value.const_value is not None:
        return value.const_value.numpy()
    maker = value.producer()
    if maker is not None and maker.op_type == "Constant" and "value" in maker.attributes and not maker.attributes["value"].is_ref():
        return maker.attributes["value"].as_tensor().numpy()
    return None


def _constant(value: ir.Value) -> bool:
    return _array(value) is not None


def flatten_for_gemm(lift: Lift, node: ir.Node) -> None:
    """MXNet wrote Gemm on the feature map itself, where its FullyConnected flattens."""
    x = node.inputs[0]
    n = rank(x)
    if n is not None and n > 2 and not node.attributes.get_int("transA", 0):
        lift.note("A missing Flatten in front of Gemm was put in.")
        node.replace_input_with(0, lift.before(node, "Flatten", x, axis=1))
