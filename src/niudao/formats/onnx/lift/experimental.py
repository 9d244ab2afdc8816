"""Operators that ONNX tried and dropped (Caffe2's, mostly), which exporters of 2017 to 2019 wrote all the same.

Reference: https://github.com/onnx/onnx/blob/v1.4.0/docs/Operators.md, section "experimental ops".
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.files import MAX_MEMORY
from niudao.formats.onnx.lift import Lift, known, rank, until

_NEVER = 1000
"""These never became real operators: whatever the file's opset, they are old."""


def _dtype(node: ir.Node) -> ir.DataType:
    value = node.inputs[0]
    return value.dtype if value is not None and value.dtype is not None else ir.DataType.FLOAT


def _scaled(lift: Lift, node: ir.Node, value: ir.Value | None, op: str, number: float) -> ir.Value | None:
    """value `op` number, or the value itself where that changes nothing."""
    if (op, number) in (("Mul", 1.0), ("Add", 0.0)):
        return value
    return lift.before(node, op, value, lift.const(node, number, _dtype(node)))


def _finish(lift: Lift, node: ir.Node, value: ir.Value | None) -> None:
    if value is None or value is node.inputs[0]:
        value = lift.before(node, "Identity", node.inputs[0])
    lift.become(node, value)


@until(_NEVER, "Affine")
def affine(lift: Lift, node: ir.Node) -> None:
    """alpha * x + beta"""
    x = _scaled(lift, node, node.inputs[0], "Mul", node.attributes.get_float("alpha", 1.0))
    _finish(lift, node, _scaled(lift, node, x, "Add", node.attributes.get_float("beta", 0.0)))


@until(_NEVER, "Scale")
def scale(lift: Lift, node: ir.Node) -> None:
    """scale * x"""
    _finish(lift, node, _scaled(lift, node, node.inputs[0], "Mul", node.attributes.get_float("scale", 1.0)))


@until(_NEVER, "ScaledTanh", "ParametricSoftplus")
def scaled_activation(lift: Lift, node: ir.Node) -> None:
    """alpha * f(beta * x)"""
    op = {"ScaledTanh": "Tanh", "ParametricSoftplus": "Softplus"}[node.op_type]
    x = _scaled(lift, node, node.inputs[0], "Mul", node.attributes.get_float("beta", 1.0))
    y = lift.before(node, op, x)
    _finish(lift, node, _scaled(lift, node, y, "Mul", node.attributes.get_float("alpha", 1.0)))


@until(_NEVER, "ImageScaler")
def image_scaler(lift: Lift, node: ir.Node) -> None:
    """scale * x + bias, one bias per channel"""
    x = _scaled(lift, node, node.inputs[0], "Mul", node.attributes.get_float("scale", 1.0))
    bias = node.attributes.get_floats("bias", ())
    if bias:
        trailing = (rank(node.inputs[0]) or 4) - 2
        x = lift.before(node, "Add", x, lift.const(node, np.reshape(bias, (-1,) + (1,) * trailing), _dtype(node)))
    _finish(lift, node, x)


@until(_NEVER, "Crop")
def crop(lift: Lift, node: ir.Node) -> None:
    """Cut `border` (left, top, right, bottom) off; with `scale` (height, width) the size counts from left and top."""
    border, size = list(node.attributes.get_ints("border", (0, 0, 0, 0))), list(node.attributes.get_ints("scale", ()))
    if len(border) != 4 or len(size) not in (0, 2):
        lift.refuse(node, "border and scale are not of four and two numbers", "border")
        return
    left, top, right, bottom = border
    top_end, left_end = (top + size[0], left + size[1]) if size else (-bottom or np.iinfo(np.int64).max, -right or np.iinfo(np.int64).max)
    starts, ends = lift.const(node, [top, left]), lift.const(node, [top_end, left_end])
    lift.become(node, lift.before(node, "Slice", node.inputs[0], starts, ends, lift.const(node, [2, 3])))


@until(_NEVER, "DynamicSlice")
def dynamic_slice(lift: Lift, node: ir.Node) -> None:
    """Slice before it took its limits as inputs."""
    node.op_type = "Slice"


def _filled(lift: Lift, node: ir.Node, shape: list[int], value: Any, dtype: ir.DataType) -> None:
    if math.prod(shape) * 8 > MAX_MEMORY // 16 or any(d < 0 for d in shape):
        lift.refuse(node, f"would fill a tensor of shape {shape}", "shape")
        return
    tensor = ir.Tensor(np.full(shape, value, dtype.numpy()), dtype=dtype)
    lift.become(node, lift.before(node, "Constant", value=tensor))


@until(_NEVER, "ConstantFill")
def constant_fill(lift: Lift, node: ir.Node) -> None:
    """A tensor of one value; its shape is an attribute, an input, or the shape of an input, with `extra_shape` behind."""
    dtype = ir.DataType(node.attributes.get_int("dtype", 1))
    value = node.attributes.get_float("value", 0.0)
    extra = list(node.attributes.get_ints("extra_shape", ()))
    source = node.inputs[0] if node.inputs else None
    if source is None:
        _filled(lift, node, [*node.attributes.get_ints("shape", ()), *extra], value, dtype)
        return
    if node.attributes.get_int("input_as_shape", 0):
        shape = known(source)
        if shape is not None and math.prod(int(d) for d in shape) < 1 << 20:
            _filled(lift, node, [*(int(d) for d in shape), *extra], value, dtype)
            return
        source = lift.before(node, "Cast", source, to=7) if source.dtype != ir.DataType.INT64 else source
    else:
        source = lift.before(node, "Shape", source)
    if extra:
        source = lift.before(node, "Concat", source, lift.const(node, extra), axis=0)
    tensor = ir.Tensor(np.full(1, value, dtype.numpy()), dtype=dtype)
    lift.become(node, lift.before(node, "ConstantOfShape", source, value=tensor))


@until(_NEVER, "GivenTensorFill")
def given_tensor_fill(lift: Lift, node: ir.Node) -> None:
    """A tensor written out in attributes."""
    values = np.asarray(node.attributes.get_floats("values", ()), np.float32)
    shape = [*node.attributes.get_ints("shape", ()), *node.attributes.get_ints("extra_shape", ())]
    if any(d < 0 for d in shape) or math.prod(shape) != values.size:
        lift.refuse(node, f"{values.size} values do not fill the shape {shape}", "values")
        return
    lift.become(node, lift.before(node, "Constant", value=ir.Tensor(values.reshape(shape))))


@until(9, "MeanVarianceNormalization")
def mean_variance(lift: Lift, node: ir.Node) -> None:
    """Per image: over the channels too with `across_channels`; the variance stays with `normalize_variance` = 0."""
    across = node.attributes.pop("across_channels", None)
    variance = node.attributes.pop("normalize_variance", None)
    axes = [1, 2, 3] if across is not None and across.as_int() else [2, 3]
    if variance is not None and not variance.as_int():
        mean = lift.before(node, "ReduceMean", node.inputs[0], lift.const(node, axes))
        lift.become(node, lift.before(node, "Sub", node.inputs[0], mean))
    else:
        node.attributes["axes"] = ir.AttrInt64s("axes", axes)
