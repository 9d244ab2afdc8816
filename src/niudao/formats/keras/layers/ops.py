"""Operations between layers that compute: `keras.ops` calls of Keras 3, filed as `ops.<Class>`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.activations import activate
from niudao.formats.keras.layers.call import Call
from niudao.formats.keras.layers.core import settle
from niudao.formats.keras.tensor import Tensor

BINARY = {
    "Add": "Add",
    "Subtract": "Sub",
    "Multiply": "Mul",
    "Divide": "Div",
    "TrueDivide": "Div",
    "Power": "Pow",
    "Maximum": "Max",
    "Minimum": "Min",
    "Greater": "Greater",
    "GreaterEqual": "GreaterOrEqual",
    "Less": "Less",
    "LessEqual": "LessOrEqual",
    "Equal": "Equal",
}
UNARY = {
    "Exp": "Exp",
    "Log": "Log",
    "Sqrt": "Sqrt",
    "Abs": "Abs",
    "Absolute": "Abs",
    "Negative": "Neg",
    "Erf": "Erf",
    "Floor": "Floor",
    "Ceil": "Ceil",
    "Round": "Round",
    "Sign": "Sign",
    "Sin": "Sin",
    "Cos": "Cos",
    "Tan": "Tan",
    "Arctan": "Atan",
    "Sinh": "Sinh",
    "Cosh": "Cosh",
    "Reciprocal": "Reciprocal",
    "LogicalNot": "Not",
    "Tanh": "Tanh",
}
REDUCE = {
    "Mean": "ReduceMean",
    "Sum": "ReduceSum",
    "Max": "ReduceMax",
    "Min": "ReduceMin",
    "Amax": "ReduceMax",
    "Amin": "ReduceMin",
    "Prod": "ReduceProd",
}
TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11}


def argument(call: Call, position: int, *names: str, default: Any = None) -> Any:
    """An operation's argument: from its configuration, its keywords, or its place."""
    for name in names:
        if name in call.config:
            return call.get(name)
        if name in call.kwargs:
            return call.kwargs[name]
    return call.args[position] if position < len(call.args) else default


def operand(call: Call, item: Any) -> Tensor:
    """A tensor as it is, a number or a list of numbers as a constant."""
    if isinstance(item, Tensor):
        return settle(call.b, item)
    if isinstance(item, Mapping):
        item = item.get("config", item)
        item = item.get("value", item) if isinstance(item, Mapping) else item
    try:
        return Tensor.plain(call.b.const(np.asarray(item, np.float32)))
    except (TypeError, ValueError) as e:
        raise call.refuse(f"its argument {item!r} is no tensor and no number") from e


def broadcast(call: Call, items: Sequence[Tensor]) -> list[Tensor]:
    """Tensors in one order of axes, aligned at the last axis as numpy does."""
    top = max(t.rank for t in items)
    perms = [t.perm for t in items if t.rank == top and t.perm != tuple(range(top))]
    perm = perms[0] if perms else tuple(range(top))
    result = []
    for t in items:
        if 0 < t.rank < top:
            t = t.source_order(call.b)
            t = Tensor.plain(call.b.op("Unsqueeze", t.value, call.b.const(list(range(top - t.rank)))))
        result.append(t if t.rank == 0 else t.order(call.b, perm))
    return result


def _binary(kind: str) -> Callable[..., Tensor]:
    def build(call: Call, *xs: Tensor) -> Tensor:
        a, z = (operand(call, argument(call, i, *n)) for i, n in enumerate((("x", "x1", "a"), ("y", "x2", "b"))))
        left, right = broadcast(call, (a, z))
        wide = left if left.rank >= right.rank else right
        values = [_match(call, left, right), _match(call, right, left)]
        return wide.like(call.b.op(BINARY[kind], *values))

    return build


def _match(call: Call, x: Tensor, other: Tensor) -> ir.Value:
    """A constant takes the other operand's type."""
    if x.value.const_value is not None and other.value.dtype is not None and x.value.dtype != other.value.dtype and x.rank == 0:
        return call.b.const(x.value.const_value.numpy(), other.value.dtype.numpy())
    return x.value


def _unary(kind: str) -> Callable[..., Tensor]:
    def build(call: Call, *xs: Tensor) -> Tensor:
        x = xs[0]
        return x.like(call.b.op(UNARY[kind], x.value))

    return build


def _reduce(kind: str) -> Callable[..., Tensor]:
    def build(call: Call, *xs: Tensor) -> Tensor:
        axis, keep = argument(call, 1, "axis"), bool(argument(call, 2, "keepdims", default=False))
        x = xs[0] if keep else xs[0].source_order(call.b)
        axes = range(x.rank) if axis is None else axis if isinstance(axis, (list, tuple)) else [axis]
        y = call.b.op(REDUCE[kind], x.value, call.b.const(sorted(x.axis(int(a)) for a in axes)), keepdims=int(keep))
        return x.like(y) if keep else Tensor.plain(y)

    return build


def _activation(name: str) -> Callable[..., Tensor]:
    return lambda call, *xs: activate(call, xs[0], name)


for _kind in BINARY:
    reads(f"ops.{_kind}")(_binary(_kind))
for _kind in UNARY:
    reads(f"ops.{_kind}")(_unary(_kind))
for _kind in REDUCE:
    reads(f"ops.{_kind}")(_reduce(_kind))
for _class, _name in (
    ("Relu", "relu"),
    ("Relu6", "relu6"),
    ("Sigmoid", "sigmoid"),
    ("Silu", "silu"),
    ("Softplus", "softplus"),
    ("Softsign", "softsign"),
    ("HardSigmoid", "hard_sigmoid"),
    ("HardSilu", "hard_silu"),
    ("Selu", "selu"),
):
    reads(f"ops.{_class}")(_activation(_name))


@reads("ops.Square")
def square(call: Call, *xs: Tensor) -> Tensor:
    return xs[0].like(call.b.op("Mul", xs[0].value, xs[0].value))


@reads("ops.Rsqrt")
def rsqrt(call: Call, *xs: Tensor) -> Tensor:
    return xs[0].like(call.b.op("Reciprocal", call.b.op("Sqrt", xs[0].value)))


@reads("ops.Identity", "ops.StopGradient")
def identity(call: Call, *xs: Tensor) -> Tensor:
    return xs[0]


@reads("ops.Gelu")
def gelu(call: Call, *xs: Tensor) -> Tensor:
    approximate = bool(argument(call, 1, "approximate", default=True))
    return xs[0].like(call.b.op("Gelu", xs[0].value, approximate="tanh" if approximate else "none"))


@reads("ops.LeakyRelu")
def leaky(call: Call, *xs: Tensor) -> Tensor:
    return xs[0].like(call.b.op("LeakyRelu", xs[0].value, alpha=float(argument(call, 1, "negative_slope", default=0.2))))


@reads("ops.Elu")
def elu(call: Call, *xs: Tensor) -> Tensor:
    return xs[0].like(call.b.op("Elu", xs[0].value, alpha=float(argument(call, 1, "alpha", default=1.0))))


@reads("ops.Softmax", "ops.LogSoftmax")
def softmax(call: Call, *xs: Tensor) -> Tensor:
    axis = argument(call, 1, "axis", default=-1)
    kind = call.class_name.removeprefix("ops.")
    return xs[0].like(call.b.op(kind, xs[0].value, axis=xs[0].axis(int(-1 if axis is None else axis))))


@reads("ops.Clip")
def clip(call: Call, *xs: Tensor) -> Tensor:
    low, high = argument(call, 1, "x_min", "clip_value_min"), argument(call, 2, "x_max", "clip_value_max")
    return xs[0].like(call.b.op("Clip", xs[0].value, call.b.const(float(low)), call.b.const(float(high))))


@reads("ops.Cast")
def cast(call: Call, *xs: Tensor) -> Tensor:
    kind = str(argument(call, 1, "dtype"))
    if kind not in TYPES:
        raise call.refuse(f"the type {kind!r} is not read", attribute="dtype")
    return xs[0].like(call.b.op("Cast", xs[0].value, to=TYPES[kind]))


@reads("ops.Matmul")
def matmul(call: Call, *xs: Tensor) -> Tensor:
    if any(call.kwargs.get(k) for k in ("transpose_a", "transpose_b", "adjoint_a", "adjoint_b")):
        raise call.refuse("transposed operands are not read")
    a, z = (operand(call, argument(call, i, *n)).source_order(call.b) for i, n in enumerate((("a", "x1"), ("b", "x2"))))
    return Tensor.plain(call.b.op("MatMul", a.value, z.value))


@reads("ops.Where")
def where(call: Call, *xs: Tensor) -> Tensor:
    items = [operand(call, argument(call, i, n)) for i, n in enumerate(("condition", "x1", "x2"))]
    if items[0].value.dtype != ir.DataType.BOOL:
        items[0] = items[0].like(call.b.op("Cast", items[0].value, to=TYPES["bool"]))
    same = broadcast(call, items)
    wide = max(same, key=lambda t: t.rank)
    return wide.like(call.b.op("Where", *(t.value for t in same)))


@reads("ops.Argmax", "ops.Argmin")
def arg_extreme(call: Call, *xs: Tensor) -> Tensor:
    axis, keep = argument(call, 1, "axis"), bool(argument(call, 2, "keepdims", default=False))
    if axis is None:
        raise call.refuse("the extreme over all axes is not read", attribute="axis")
    x = xs[0] if keep else xs[0].source_order(call.b)
    kind = "ArgMax" if call.class_name.endswith("max") else "ArgMin"
    y = call.b.op(kind, x.value, axis=x.axis(int(axis)), keepdims=int(keep))
    return x.like(y) if keep else Tensor.plain(y)
