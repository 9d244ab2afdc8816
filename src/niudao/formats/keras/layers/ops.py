"""Plain operations between layers: `keras.ops` calls of Keras 3 (filed as `ops.<Class>`), TFOpLambda and SlicingOpLambda of tf.keras 2."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.activations import SIMPLE, activate
from niudao.formats.keras.layers.call import Call
from niudao.formats.keras.layers.core import settle
from niudao.formats.keras.layers.merge import concat
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
TF = {
    "math.add": "Add",
    "__operators__.add": "Add",
    "math.subtract": "Subtract",
    "math.multiply": "Multiply",
    "math.truediv": "Divide",
    "math.divide": "Divide",
    "math.pow": "Power",
    "math.maximum": "Maximum",
    "math.minimum": "Minimum",
    "math.reduce_mean": "Mean",
    "math.reduce_sum": "Sum",
    "math.reduce_max": "Max",
    "math.reduce_min": "Min",
    "math.exp": "Exp",
    "math.log": "Log",
    "math.sqrt": "Sqrt",
    "math.abs": "Abs",
    "math.negative": "Negative",
    "math.erf": "Erf",
    "math.square": "Square",
    "math.rsqrt": "Rsqrt",
    "nn.relu": "relu",
    "nn.relu6": "relu6",
    "math.sigmoid": "sigmoid",
    "math.tanh": "tanh",
    "nn.swish": "swish",
    "nn.silu": "swish",
    "nn.softplus": "softplus",
    "math.softplus": "softplus",
    "nn.softmax": "Softmax",
    "reshape": "Reshape",
    "transpose": "Transpose",
    "concat": "Concatenate",
    "expand_dims": "ExpandDims",
    "squeeze": "Squeeze",
    "cast": "Cast",
    "clip_by_value": "Clip",
    "linalg.matmul": "Matmul",
    "identity": "Identity",
    "stop_gradient": "Identity",
}


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


@reads("ops.Reshape")
def reshape(call: Call, *xs: Tensor) -> Tensor:
    shape = argument(call, 1, "newshape", "shape")
    dims = [-1 if d is None else int(d) for d in shape]
    return Tensor.plain(call.b.op("Reshape", xs[0].source_order(call.b).value, call.b.const(dims)))


@reads("ops.Transpose")
def transpose(call: Call, *xs: Tensor) -> Tensor:
    x = xs[0]
    axes = argument(call, 1, "axes", "perm")
    order = [int(a) % x.rank for a in axes] if axes is not None else list(reversed(range(x.rank)))
    return Tensor(x.value, tuple(order.index(p) for p in x.perm), x.masked)


@reads("ops.ExpandDims")
def expand_dims(call: Call, *xs: Tensor) -> Tensor:
    x = xs[0].source_order(call.b)
    axis = argument(call, 1, "axis")
    axes = [int(a) for a in (axis if isinstance(axis, (list, tuple)) else [axis])]
    return Tensor.plain(call.b.op("Unsqueeze", x.value, call.b.const(axes)))


@reads("ops.Squeeze")
def squeeze(call: Call, *xs: Tensor) -> Tensor:
    x = xs[0].source_order(call.b)
    axis = argument(call, 1, "axis")
    if axis is None:
        raise call.refuse("squeezing without an axis depends on the batch", attribute="axis")
    axes = [int(a) for a in (axis if isinstance(axis, (list, tuple)) else [axis])]
    return Tensor.plain(call.b.op("Squeeze", x.value, call.b.const(axes)))


@reads("ops.Concatenate")
def concatenate(call: Call, *xs: Tensor) -> Tensor:
    return concat(call, xs, int(argument(call, 1, "axis", default=0)))


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


@reads("ops.GetItem")
def get_item(call: Call, *xs: Tensor) -> Tensor:
    return take(call, xs[0], argument(call, 1, "key"))


@reads("SlicingOpLambda")
def slicing(call: Call, *xs: Tensor) -> Tensor:
    call.get("function")
    return take(call, xs[0], call.kwargs.get("slice_spec"))


def take(call: Call, x: Tensor, key: Any) -> Tensor:
    """numpy's basic indexing: slices, numbers, an ellipsis, new axes."""
    items = list(key) if isinstance(key, (list, tuple)) else [key]
    b = call.b
    x = x.source_order(b)
    used = sum(1 for i in items if i is not None and not _ellipsis(i))
    starts: list[int] = []
    ends: list[int] = []
    axes: list[int] = []
    steps: list[int] = []
    gone: list[int] = []
    new: list[int] = []
    axis = 0
    for item in items:
        if item is None:
            new.append(axis - len(gone) + len(new))
        elif _ellipsis(item):
            axis += x.rank - used
        elif isinstance(item, int):
            starts.append(item)
            ends.append(item + 1 if item != -1 else 2**62)
            axes.append(axis)
            steps.append(1)
            gone.append(axis)
            axis += 1
        else:
            start, stop, step = _slice(call, item)
            if (start, stop, step) != (None, None, None):
                back = step is not None and step < 0
                starts.append((2**62 if back else 0) if start is None else start)
                ends.append((-(2**62) if back else 2**62) if stop is None else stop)
                axes.append(axis)
                steps.append(step or 1)
            axis += 1
    y = x.value
    if axes:
        y = b.op("Slice", y, b.const(starts), b.const(ends), b.const(axes), b.const(steps))
    if gone:
        y = b.op("Squeeze", y, b.const(gone))
    if new:
        y = b.op("Unsqueeze", y, b.const(new))
    return Tensor.plain(y)


def _ellipsis(item: Any) -> bool:
    return item is Ellipsis or item in ("...", "Ellipsis") or (isinstance(item, Mapping) and item.get("class_name") == "__ellipsis__")


def _slice(call: Call, item: Any) -> tuple[int | None, int | None, int | None]:
    if isinstance(item, slice):
        return item.start, item.stop, item.step
    if isinstance(item, Mapping):
        fields = item.get("config", item)
        values = tuple(fields.get(k) for k in ("start", "stop", "step"))
        if all(v is None or isinstance(v, int) for v in values):
            return values
    raise call.refuse(f"the index {item!r} is not read", attribute="key")


@reads("TFOpLambda")
def tf_operation(call: Call, *xs: Tensor) -> Tensor:
    """A TensorFlow function that tf.keras 2 recorded between layers; only its name and numbers are read."""
    from niudao.formats.keras.layers import LAYERS

    name = str(call.get("function"))
    kind = TF.get(name)
    if kind is None:
        raise call.refuse(
            f"the TensorFlow function {name!r} is not read", attribute="function", rewrite="use the Keras layer that does the same"
        )
    if kind in SIMPLE:
        return activate(call, xs[0], kind)
    settings = {k: v for k, v in call.kwargs.items() if k != "name"}
    inner = Call(call.b, call.name, f"ops.{kind}", {}, {}, call.generation, call.tf_keras, settings, call.args, file=call.file)
    result: Tensor = LAYERS[f"ops.{kind}"](inner, *xs)
    return result
