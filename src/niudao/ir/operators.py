"""One description per operator family, so that passes, costs and comparison say the same about an operator.

Attribute names and their defaults come from ONNX's own schemas; here stands what the schemas do not say: which inputs are
weights, where the channels lie, and whether a Transpose may pass through.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import onnx
import onnx_ir as ir

from niudao.ir import OPSET

Kind = Literal[
    "elementwise", "conv", "pool", "matrix", "recurrent", "normalization", "reduction", "softmax", "shape", "quantize", "random", "other"
]
Transposes = Literal["free", "axis", "axes", "pads", "no"]


@dataclass(frozen=True)
class Operator:
    """What a family of operators has in common.

    Attributes:
        ops: ONNX names.
        kind: What it does with its input.
        weights: Positions of inputs that hold parameters where they are initializers.
        channel_axis: Axis of the channels of the first input, None where the operator has no such notion.
        transposes: How a Transpose of the data inputs passes: "free" (no axis has a meaning), "axis" (the attribute `axis`
            is renumbered), "axes" (the input or attribute `axes` is), "pads" (its constant input is reordered), or "no".
        commutes: The order of the inputs does not matter.
    """

    ops: tuple[str, ...]
    kind: Kind
    weights: tuple[int, ...] = ()
    channel_axis: int | None = None
    transposes: Transposes = "no"
    commutes: bool = False


_UNARY = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Cast Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish "
    "Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign "
    "Sqrt Swish Tan Tanh ThresholdedRelu BitwiseNot"
)
_BINARY = "Sub Div Pow Mod Greater GreaterOrEqual Less LessOrEqual Where BitShift"
_COMMUTING = "Add Mul Max Min Mean Sum And Or Xor Equal BitwiseAnd BitwiseOr BitwiseXor"
_REDUCE = "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare"
_SHAPE = "Reshape Flatten Squeeze Unsqueeze Transpose Slice Expand Tile DepthToSpace SpaceToDepth Shape Resize Constant ConstantOfShape "
_SHAPE += "Range Size GatherND GatherElements ScatterND ScatterElements TopK Trilu OneHot NonZero ReverseSequence Compress EyeLike"

FAMILIES: tuple[Operator, ...] = (
    Operator(tuple(_UNARY.split()), "elementwise", transposes="free"),
    Operator(tuple(_BINARY.split()), "elementwise", transposes="free"),
    Operator(("PRelu",), "elementwise", weights=(1,), channel_axis=1, transposes="free"),
    Operator(tuple(_COMMUTING.split()), "elementwise", transposes="free", commutes=True),
    Operator(("Conv",), "conv", weights=(1, 2), channel_axis=1),
    Operator(("ConvTranspose", "DeformConv"), "conv", weights=(1, 2), channel_axis=1),
    Operator(("ConvInteger", "QLinearConv"), "conv", channel_axis=1),
    Operator(("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), "pool", channel_axis=1),
    Operator(("Gemm",), "matrix", weights=(1, 2)),
    Operator(("MatMul",), "matrix", weights=(0, 1)),
    Operator(("Einsum", "MatMulInteger", "QLinearMatMul"), "matrix"),
    Operator(("RNN", "LSTM", "GRU"), "recurrent", weights=(1, 2, 3, 7)),
    Operator(("BatchNormalization",), "normalization", weights=(1, 2, 3, 4), channel_axis=1),
    Operator(("InstanceNormalization", "GroupNormalization"), "normalization", weights=(1, 2), channel_axis=1),
    Operator(("LayerNormalization", "RMSNormalization"), "normalization", weights=(1, 2)),
    Operator(("LRN",), "normalization", channel_axis=1),
    Operator(("LpNormalization", "MeanVarianceNormalization"), "normalization"),
    Operator(tuple(_REDUCE.split()), "reduction", transposes="axes"),
    Operator(("ArgMax", "ArgMin"), "reduction", transposes="axis"),
    Operator(("Softmax", "LogSoftmax", "Hardmax"), "softmax", transposes="axis"),
    Operator(("Concat", "Split", "CumSum"), "shape", transposes="axis"),
    Operator(("Pad",), "shape", transposes="pads"),
    Operator(("Gather",), "shape", weights=(0,)),
    Operator(tuple(_SHAPE.split()), "shape"),
    Operator(("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"), "quantize"),
    Operator(("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"), "random"),
)

_BY_NAME = {name: family for family in FAMILIES for name in family.ops}
_OTHER = Operator((), "other")


def describe(node: ir.Node | str) -> Operator:
    """The family of a node or operator name; one that says nothing where nobody has described it."""
    if isinstance(node, str):
        return _BY_NAME.get(node, _OTHER)
    return _BY_NAME.get(node.op_type, _OTHER) if node.domain in ("", "ai.onnx") else _OTHER


@cache
def defaults(op_type: str) -> dict[str, Any]:
    """Attribute name -> default value of an operator of the default domain, by ONNX's schema; empty for unknown operators."""
    try:
        schema = onnx.defs.get_schema(op_type, OPSET, "")
    except onnx.defs.SchemaError:
        return {}
    found: dict[str, Any] = {}
    for name, attribute in schema.attributes.items():
        if attribute.default_value.type != onnx.AttributeProto.UNDEFINED:
            value = onnx.helper.get_attribute_value(attribute.default_value)
            found[name] = value.decode() if isinstance(value, bytes) else list(value) if not isinstance(value, (int, float, str)) else value
    return found


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """An attribute's plain value, else ONNX's default for it, else `default`. Lists come as lists, strings as str."""
    held = node.attributes.get(name)
    if held is not None and not held.is_ref():
        value = held.value
        return list(value) if isinstance(value, tuple) else value
    known = defaults(node.op_type) if node.domain in ("", "ai.onnx") else {}
    return known.get(name, default)


def dims(value: ir.Value | None) -> list[int | None] | None:
    """Sizes of a value's axes, None for each that is not a number; None where even the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return [d if isinstance(d, int) else None for d in value.shape]


def is_weight(value: ir.Value | None) -> bool:
    """Whether a value's content is known: an initializer that no caller can override."""
    return value is not None and value.const_value is not None and not value.is_graph_input()
