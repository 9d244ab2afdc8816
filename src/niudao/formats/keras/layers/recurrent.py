"""Recurrent layers. Keras orders LSTM gates i, f, c, o and GRU gates z, r, h; ONNX i, o, f, c and z, r, h."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.activations import hard_sigmoid
from niudao.formats.keras.layers.call import Array, Call
from niudao.formats.keras.layers.wrappers import reverse
from niudao.formats.keras.tensor import Tensor

NAMES = {"tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "softsign": "Softsign", "softplus": "Softplus", "elu": "Elu"}


def _activation(call: Call, spec: Any) -> tuple[str, float, float]:
    """ONNX's name for a gate's activation, with alpha and beta."""
    if isinstance(spec, dict):
        spec = spec.get("config")
    if spec == "hard_sigmoid":
        return ("HardSigmoid", *hard_sigmoid(call))
    if spec in (None, "linear"):
        return ("Affine", 1.0, 0.0)
    if spec not in NAMES:
        raise call.refuse(f"the activation {spec!r} cannot be used inside ONNX's recurrent operators", attribute="activation")
    return (NAMES[spec], 1.0 if spec == "elu" else 0.0, 0.0)


def _activations(call: Call, gates: list[Any]) -> dict[str, Any]:
    found = [_activation(call, g) for g in gates]
    if all(f[0] in ("Tanh", "Sigmoid", "Relu", "Softsign", "Softplus") for f in found):
        return {"activations": [f[0] for f in found]}
    # ONNX Runtime hands out alphas and betas to the activations that take them, in order
    alphas = [f[1] for f in found if f[0] in ("HardSigmoid", "Affine", "Elu")]
    betas = [f[2] for f in found if f[0] in ("HardSigmoid", "Affine")]
    return {"activations": [f[0] for f in found], "activation_alpha": alphas, "activation_beta": betas or None}


def _regroup(order: list[int], units: int) -> Callable[[Array], Array]:
    """(in, gates * units) -> (1, gates * units, in), gates in ONNX's order."""

    def change(a: Array) -> Array:
        split = a.reshape(a.shape[0], len(order), units)
        return split[:, order].reshape(a.shape[0], -1).T[None]

    return change


def _default(call: Call, key: str, old: Any, tf2: Any, three: Any) -> Any:
    value = call.get(key)
    if key in call.config:
        return value
    return three if call.generation >= 3 else tf2 if call.tf_keras else old


def _common(call: Call, x: Tensor) -> tuple[Tensor, int, bool, bool, bool]:
    units = call.integer("units", "output_dim")
    sequences, states = call.flag("return_sequences", default=False), call.flag("return_state", default=False)
    backwards = call.flag("go_backwards", default=False)
    call.get("stateful", "time_major", "zero_output_for_mask", "consume_less", "inner_init", "forget_bias_init", "use_cudnn", "unroll")
    if call.get("time_major"):
        raise call.refuse("time_major is not read", attribute="time_major")
    if x.masked:
        raise call.refuse("a mask reaches it and changes its result", rewrite="remove the Masking layer, or mask_zero of the Embedding")
    x = x.source_order(call.b)
    if x.rank != 3:
        raise call.refuse(f"its input has {x.rank} axes instead of 3")
    return (reverse(call, x) if backwards else x), units, sequences, states, backwards


def _initial(call: Call, states: tuple[Tensor, ...]) -> list[ir.Value | None]:
    return [call.b.op("Unsqueeze", s.source_order(call.b).value, call.b.const([0])) for s in states]


def _finish(call: Call, outs: tuple[ir.Value, ...], sequences: bool, states: bool) -> Any:
    """Y is (T, 1, N, units), Y_h and Y_c are (1, N, units)."""
    b = call.b
    if sequences:
        main = b.op("Transpose", b.op("Squeeze", outs[0], b.const([1])), perm=[1, 0, 2])
    else:
        main = b.op("Squeeze", outs[1], b.const([0]))
    result = Tensor.plain(main)
    if not states:
        return result
    return (result, *(Tensor.plain(b.op("Squeeze", o, b.const([0]))) for o in outs[1:]))


def _bias(call: Call, order: list[int], units: int, both: bool) -> ir.Value:
    """(gates * units) or (2, gates * units) -> (1, 2 * gates * units): input bias, then recurrent bias (zeros if there is none)."""
    n = len(order) * units

    def change(a: Array) -> Array:
        rows = np.broadcast_to(a.reshape(-1, len(order), units), (2 if a.ndim == 2 else 1, len(order), units))[:, order].reshape(-1, n)
        if rows.shape[0] == 1:
            rows = np.concatenate([rows, np.zeros_like(rows)])
        return rows.reshape(1, 2 * n)

    return call.weight("bias", (2, n) if both else (n,), change)


def _act_and_gate(call: Call, cudnn: bool) -> tuple[Any, Any]:
    """The activations of the state and of the gates; the CuDNN layers have no choice."""
    if cudnn:
        return "tanh", "sigmoid"
    gate = _default(call, "recurrent_activation", call.get("inner_activation", default="hard_sigmoid"), "sigmoid", "sigmoid")
    return call.get("activation", default="tanh"), gate


@reads("LSTM", "CuDNNLSTM")
def lstm(call: Call, x: Tensor, *states: Tensor) -> Any:
    x, units, sequences, give, _ = _common(call, x)
    cudnn = call.class_name == "CuDNNLSTM"
    act, gate = _act_and_gate(call, cudnn)
    bias = call.flag("use_bias", default=True)
    order = [0, 3, 1, 2]
    features = x.shape[2]
    w = call.weight("kernel", (features, 4 * units) if isinstance(features, int) else None, _regroup(order, units))
    r = call.weight("recurrent_kernel", (units, 4 * units), _regroup(order, units))
    if cudnn:
        bias_value: ir.Value | None = call.weight("bias", (8 * units,), lambda a: a.reshape(2, 4, units)[:, order].reshape(1, -1))
    else:
        bias_value = _bias(call, order, units, both=False) if bias else None
    b = call.b
    t = b.op("Transpose", x.value, perm=[1, 0, 2])
    start = _initial(call, states)
    outs = b.ops("LSTM", t, w, r, bias_value, None, *start, outputs=3, hidden_size=units, **_activations(call, [gate, act, act]))
    result = _finish(call, outs, sequences, give)
    call.known("reset_after", "cell")
    return result


@reads("GRU", "CuDNNGRU")
def gru(call: Call, x: Tensor, *states: Tensor) -> Any:
    x, units, sequences, give, _ = _common(call, x)
    cudnn = call.class_name == "CuDNNGRU"
    act, gate = _act_and_gate(call, cudnn)
    after = True if cudnn else bool(_default(call, "reset_after", False, True, True))
    bias = call.flag("use_bias", default=True)
    order = [0, 1, 2]
    features = x.shape[2]
    w = call.weight("kernel", (features, 3 * units) if isinstance(features, int) else None, _regroup(order, units))
    r = call.weight("recurrent_kernel", (units, 3 * units), _regroup(order, units))
    if cudnn:
        bias_value: ir.Value | None = call.weight("bias", (6 * units,), lambda a: a.reshape(1, -1))
    else:
        bias_value = _bias(call, order, units, both=after) if bias else None
    b = call.b
    t = b.op("Transpose", x.value, perm=[1, 0, 2])
    start = _initial(call, states)
    outs = b.ops(
        "GRU",
        t,
        w,
        r,
        bias_value,
        None,
        *start,
        outputs=2,
        hidden_size=units,
        linear_before_reset=int(after),
        **_activations(call, [gate, act]),
    )
    result = _finish(call, outs, sequences, give)
    call.known()
    return result


@reads("SimpleRNN")
def simple_rnn(call: Call, x: Tensor, *states: Tensor) -> Any:
    x, units, sequences, give, _ = _common(call, x)
    act = call.get("activation", default="tanh")
    bias = call.flag("use_bias", default=True)
    features = x.shape[2]
    w = call.weight("kernel", (features, units) if isinstance(features, int) else None, _regroup([0], units))
    r = call.weight("recurrent_kernel", (units, units), _regroup([0], units))
    b = call.b
    t = b.op("Transpose", x.value, perm=[1, 0, 2])
    start = _initial(call, states)
    outs = b.ops(
        "RNN",
        t,
        w,
        r,
        _bias(call, [0], units, both=False) if bias else None,
        None,
        *start,
        outputs=2,
        hidden_size=units,
        **_activations(call, [act]),
    )
    result = _finish(call, outs, sequences, give)
    call.known()
    return result
