"""Activations, as layers and as names inside other layers. The same name means different arithmetic in different generations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx_ir as ir

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.call import Call
from niudao.formats.keras.layers.settings import shown
from niudao.formats.keras.tensor import Tensor

Maker = Callable[[Call, ir.Value], ir.Value]


def _op(op_type: str, **attributes: Any) -> Maker:
    return lambda call, x: call.b.op(op_type, x, **attributes)


def hard_sigmoid(call: Call) -> tuple[float, float]:
    """Slope and offset: clip(0.2 x + 0.5) up to Keras 2, relu6(x + 3) / 6 in Keras 3."""
    return (1 / 6, 0.5) if call.generation >= 3 else (0.2, 0.5)


def _hard_sigmoid(call: Call, x: ir.Value) -> ir.Value:
    alpha, beta = hard_sigmoid(call)
    return call.b.op("HardSigmoid", x, alpha=alpha, beta=beta)


def _relu6(call: Call, x: ir.Value) -> ir.Value:
    return call.b.op("Clip", x, call.b.const(0.0), call.b.const(6.0))


def _swish(call: Call, x: ir.Value) -> ir.Value:
    return call.b.op("Mul", x, call.b.op("Sigmoid", x))


def _hard_swish(call: Call, x: ir.Value) -> ir.Value:
    return call.b.op("HardSwish", x)


def _log_sigmoid(call: Call, x: ir.Value) -> ir.Value:
    return call.b.op("Neg", call.b.op("Softplus", call.b.op("Neg", x)))


def _soft_shrink(call: Call, x: ir.Value) -> ir.Value:
    return call.b.op("Shrink", x, bias=0.5, lambd=0.5)


def _tanh_shrink(call: Call, x: ir.Value) -> ir.Value:
    return call.b.op("Sub", x, call.b.op("Tanh", x))


def _square_plus(call: Call, x: ir.Value) -> ir.Value:
    inner = call.b.op("Add", call.b.op("Mul", x, x), call.b.const(4.0))
    return call.b.op("Mul", call.b.op("Add", x, call.b.op("Sqrt", inner)), call.b.const(0.5))


SIMPLE: dict[str, Maker] = {
    "relu": _op("Relu"),
    "relu6": _relu6,
    "sigmoid": _op("Sigmoid"),
    "tanh": _op("Tanh"),
    "elu": _op("Elu", alpha=1.0),
    "selu": _op("Selu", alpha=1.6732632423543772848, gamma=1.0507009873554804934),
    "softplus": _op("Softplus"),
    "softsign": _op("Softsign"),
    "exponential": _op("Exp"),
    "hard_sigmoid": _hard_sigmoid,
    "swish": _swish,
    "silu": _swish,
    "hard_silu": _hard_swish,
    "hard_swish": _hard_swish,
    "gelu": _op("Gelu", approximate="none"),
    "mish": _op("Mish"),
    "celu": _op("Celu", alpha=1.0),
    "hard_tanh": lambda call, x: call.b.op("Clip", x, call.b.const(-1.0), call.b.const(1.0)),
    "hard_shrink": _op("Shrink", bias=0.0, lambd=0.5),
    "soft_shrink": _soft_shrink,
    "tanh_shrink": _tanh_shrink,
    "log_sigmoid": _log_sigmoid,
    "squareplus": _square_plus,
    "leaky_relu": _op("LeakyRelu", alpha=0.2),
}
LINEAR = (None, "linear")


def activate(call: Call, x: Tensor, spec: Any) -> Tensor:
    """Apply an activation.

    Args:
        call: For the generation, and for messages.
        x: Any tensor.
        spec: A name, None, or the object that Keras serialises for a function or a layer.

    Raises:
        Unsupported: A name that Keras does not have.
    """
    if isinstance(spec, Mapping):
        return _object(call, x, spec)
    if spec in LINEAR:
        return x
    if spec in ("softmax", "log_softmax"):
        return x.like(call.b.op("Softmax" if spec == "softmax" else "LogSoftmax", x.value, axis=x.axis(-1)))
    if not isinstance(spec, str) or spec not in SIMPLE:
        raise call.refuse(
            f"the activation {shown(spec)} is unknown", attribute="activation", rewrite="register a layer of your own with --plugin"
        )
    return x.like(SIMPLE[spec](call, x.value))


def _object(call: Call, x: Tensor, spec: Mapping[str, Any]) -> Tensor:
    config = spec.get("config")
    if spec.get("class_name") == "function":  # Keras 3: {"class_name": "function", "config": "relu", "registered_name": "relu"}
        return activate(call, x, config)
    if isinstance(config, Mapping) and isinstance(spec.get("class_name"), str) and call.nested is not None:
        result: Tensor = call.nested({"class_name": spec["class_name"], "config": config}, {}, x)
        return result
    raise call.refuse(f"the activation {shown(spec)} is unknown", attribute="activation")


@reads("Activation")
def activation(call: Call, x: Tensor) -> Tensor:
    call.given(("activation",))
    result = call.activate(x)
    call.known()
    return result


@reads("ReLU")
def relu(call: Call, x: Tensor) -> Tensor:
    """x >= threshold: min(x, max); else slope * (x - threshold)."""
    top = call.number("max_value") if call.get("max_value") is not None else None
    slope, threshold = (call.number(k, default=0.0) if call.get(k) is not None else 0.0 for k in ("negative_slope", "threshold"))
    call.known()
    b, v = call.b, x.value
    if threshold == 0 and slope == 0:
        y = b.op("Relu", v) if top is None else b.op("Clip", v, b.const(0.0), b.const(top))
        return x.like(y)
    if threshold == 0 and top is None:
        return x.like(b.op("LeakyRelu", v, alpha=slope))
    above = v if top is None else b.op("Min", v, b.const(top))
    below = b.op("Mul", b.op("Sub", v, b.const(threshold)), b.const(slope))
    return x.like(b.op("Where", b.op("GreaterOrEqual", v, b.const(threshold)), above, below))


@reads("LeakyReLU")
def leaky_relu(call: Call, x: Tensor) -> Tensor:
    alpha = call.number("negative_slope", "alpha", default=0.3)
    call.known()
    return x.like(call.b.op("LeakyRelu", x.value, alpha=alpha))


@reads("ELU")
def elu(call: Call, x: Tensor) -> Tensor:
    alpha = call.number("alpha", default=1.0)
    call.known()
    return x.like(call.b.op("Elu", x.value, alpha=alpha))


@reads("ThresholdedReLU")
def thresholded_relu(call: Call, x: Tensor) -> Tensor:
    theta = call.number("theta", default=1.0)
    call.known()
    return x.like(call.b.op("ThresholdedRelu", x.value, alpha=theta))


@reads("PReLU", "ParametricSoftplus")
def prelu(call: Call, x: Tensor) -> Tensor:
    """The slope's axes are the source's without the batch; shared ones have length 1."""
    if call.class_name != "PReLU":
        raise call.refuse("this layer of Keras 1 is not supported")
    call.get("shared_axes")
    call.known()
    stored = call.stored("alpha")
    if len(stored.shape) != x.rank - 1:
        raise call.refuse(f"its slope has shape {stored.shape} for an input of rank {x.rank}", attribute="alpha")
    move = [p - 1 for p in x.perm[1:]]
    slope = call.weight("alpha", change=lambda a: a.transpose(move), tag="" if move == sorted(move) else "ours")
    return x.like(call.b.op("PRelu", x.value, slope))


@reads("Softmax")
def softmax(call: Call, x: Tensor) -> Tensor:
    axes = call.axes("axis", rank=x.rank)
    call.known()
    if len(axes) == 1:
        return x.like(call.b.op("Softmax", x.value, axis=x.axis(axes[0])))
    ours = call.b.const([x.axis(a) for a in axes])
    shifted = call.b.op("Exp", call.b.op("Sub", x.value, call.b.op("ReduceMax", x.value, ours, keepdims=1)))
    return x.like(call.b.op("Div", shifted, call.b.op("ReduceSum", shifted, ours, keepdims=1)))
