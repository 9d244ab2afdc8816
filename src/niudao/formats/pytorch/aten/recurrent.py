"""Recurrent layers. torch orders LSTM gates i, f, g, o and GRU gates r, z, n; ONNX i, o, f, c and z, r, h."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import onnx_ir as ir

from niudao.formats.pytorch.aten.cut import cut
from niudao.formats.pytorch.aten.lowering import Array, Lowering
from niudao.formats.pytorch.aten.table import aten
from niudao.ir.build import Builder

_ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}
_MADE: WeakKeyDictionary[Builder, dict[tuple[Any, ...], ir.Value]] = WeakKeyDictionary()
"""Weights in ONNX's order, by the weights of torch that they are made of: layers that share weights go on sharing them."""


def _weight(c: Lowering, kind: str, parts: Sequence[ir.Value], change: Callable[..., Array]) -> ir.Value:
    """An initializer made of weights when somebody asks for it, under the name of the first of them."""
    made = _MADE.setdefault(c.b, {})
    key = (kind, change.__name__, *(id(p) for p in parts))
    if key in made:
        return made[key]
    tensors = [p.const_value for p in parts]
    if any(t is None for t in tensors):
        c.refuse("its weights are computed by the network", rewrite="remove what changes the weights (weight_norm, pruning) first")
    held = [t for t in tensors if t is not None]
    # views of zeros of the right shapes cost nothing and tell the shape after the change
    shape = change(*(np.broadcast_to(np.float32(0), tuple(t.shape.numpy())) for t in held)).shape
    new = c.b.lazy(lambda: change(*(t.numpy() for t in held)), shape, parts[0].name or "weight", held[0].dtype)
    _swap_names(c.b, parts[0], new)
    made[key] = new
    return new


def _swap_names(b: Builder, old: ir.Value, new: ir.Value) -> None:
    """The weight that is used gets the name of the file; the one it was made of is dropped unless something else uses it."""
    first, second = old.name or "", new.name or ""
    if b.initializers.get(first) is not old:
        return
    del b.initializers[first], b.initializers[second]
    for value, name in ((old, second), (new, first)):
        value.name = name
        if value.const_value is not None:
            value.const_value.name = name
        b.initializers[name] = value


def _gates(kind: str) -> Callable[[Array], Array]:
    """Puts the gates, one above the other in the first axis, into ONNX's order."""
    order = list(_ORDER[kind])

    def regroup(a: Array) -> Array:
        return a.reshape(len(order), -1, *a.shape[1:])[order].reshape(a.shape)

    return regroup


def _zero(c: Lowering, x: ir.Value) -> bool:
    """Whether a state is surely zero, which is what ONNX takes an absent one for."""
    node = x.producer()
    while node is not None and node.op_type in ("Expand", "Reshape", "Unsqueeze", "Squeeze", "Slice", "Transpose", "Cast", "Identity"):
        source = node.inputs[0]
        if source is None:
            return False
        x, node = source, source.producer()
    if node is not None and node.op_type == "ConstantOfShape":
        value = node.attributes.get("value")
        return value is None or not np.any(value.as_tensor().numpy())
    held = c.known(x)
    return held is not None and not held.any()


class _Layer:
    """Weights of one direction of one layer: input, recurrent, two biases, projection."""

    def __init__(self, params: Sequence[ir.Value], biases: bool) -> None:
        self.w, self.r, *rest = params
        self.b = rest[:2] if biases else []
        self.p = rest[2 if biases else 0] if len(rest) > (2 if biases else 0) else None


def _run(
    c: Lowering,
    kind: str,
    x: ir.Value,
    states: Sequence[ir.Value | None],
    layers: Sequence[_Layer],
    place: int,
    activations: list[str] | None,
) -> tuple[ir.Value, list[ir.Value]]:
    """One layer, one or two directions: x (T, N, in) -> y (T, N, directions * out) and last states (directions, N, out)."""
    regroup = _gates(kind)

    def stacked(*arrays: Array) -> Array:
        return np.stack([regroup(a) for a in arrays])

    def joined(*arrays: Array) -> Array:
        return np.stack([np.concatenate([regroup(a), regroup(b)]) for a, b in zip(arrays[::2], arrays[1::2], strict=True)])

    def recurrent(*arrays: Array) -> Array:
        """A projected state p = P h only meets R p = (R P) h, so h itself can be the state."""
        return np.stack([regroup((r.astype(np.float64) @ p).astype(r.dtype)) for r, p in zip(arrays[::2], arrays[1::2], strict=True)])

    def projection(*arrays: Array) -> Array:
        return np.stack([p.T for p in arrays])[None] if len(arrays) > 1 else arrays[0].T

    projected = layers[0].p is not None
    gates = len(_ORDER[kind])
    w = _weight(c, kind, [layer.w for layer in layers], stacked)
    if projected:
        r = _weight(c, kind, [v for layer in layers for v in (layer.r, layer.p) if v is not None], recurrent)
    else:
        r = _weight(c, kind, [layer.r for layer in layers], stacked)
    bias = _weight(c, kind, [b for layer in layers for b in layer.b], joined) if layers[0].b else None
    directions, n = len(layers), c.size(x, 1)
    hidden = c.fixed(layers[0].w, 0) // gates
    first: list[ir.Value | None] = []
    for i, state in enumerate(states):
        zero = state is None or _zero(c, state)
        if projected and i == 0 and not zero:
            c.refuse("a first state that is not zero under a projection", "hx", "start from zeros")
        first.append(None if zero or state is None else cut(c, state, 0, place, place + directions))
    extra: dict[str, Any] = {"linear_before_reset": 1} if kind == "GRU" else {}
    found = c.ops(
        kind,
        x,
        w,
        r,
        bias,
        None,
        *first,
        outputs=3 if kind == "LSTM" else 2,
        hidden_size=hidden,
        direction="bidirectional" if directions == 2 else "forward",
        activations=activations,
        **extra,
    )
    y, last = found[0], list(found[1:])
    c.shaped(y, [c.size(x, 0), directions, n, hidden])
    for value in last:
        c.shaped(value, [directions, n, hidden])
    out = hidden
    if projected:
        matrix = _weight(c, kind, [layer.p for layer in layers if layer.p is not None], projection)
        out = c.fixed(matrix, -1)
        y = c.shaped(c.op("MatMul", y, matrix), [c.size(x, 0), directions, n, out])
        narrow = matrix if directions == 1 else c.op("Squeeze", matrix, c.const([0]))
        last[0] = c.shaped(c.op("MatMul", last[0], narrow), [directions, n, out])
    if directions == 1:
        return c.op("Squeeze", y, c.const([1])), last
    y = c.op("Transpose", y, perm=[0, 2, 1, 3])
    return c.reshape(y, [c.size(x, 0), n, directions * out]), last


def _stacked(
    c: Lowering,
    kind: str,
    x: ir.Value,
    states: Sequence[ir.Value],
    params: Sequence[ir.Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
    activations: list[str] | None = None,
) -> tuple[ir.Value, ...]:
    if train and dropout > 0 and num_layers > 1:
        c.refuse("it drops elements at random", "train", "call eval() before the network is saved")
    directions = 2 if bidirectional else 1
    total = num_layers * directions
    if not total or len(params) % total:
        c.refuse(f"{len(params)} weights for {total} layers and directions", "params")
    each = len(params) // total
    if each not in ((4, 5) if has_biases else (2, 3)):
        c.refuse(f"{each} weights a layer", "params")
    layers = [_Layer(params[i * each : (i + 1) * each], has_biases) for i in range(total)]
    y = c.op("Transpose", x, perm=[1, 0, 2]) if batch_first else x
    ends: list[list[ir.Value]] = []
    for i in range(num_layers):
        y, last = _run(c, kind, y, states, layers[i * directions : (i + 1) * directions], i * directions, activations)
        ends.append(last)
    finals = [e[0] if num_layers == 1 else c.op("Concat", *e, axis=0) for e in zip(*ends, strict=True)]
    return (c.op("Transpose", y, perm=[1, 0, 2]) if batch_first else y, *finals)


@aten("aten.lstm.input", "aten.lstm")
def lstm(
    c: Lowering,
    input: ir.Value,
    hx: Sequence[ir.Value],
    params: Sequence[ir.Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[ir.Value, ...]:
    return _stacked(c, "LSTM", input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)


@aten("aten.gru.input", "aten.gru")
def gru(
    c: Lowering,
    input: ir.Value,
    hx: ir.Value,
    params: Sequence[ir.Value],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[ir.Value, ...]:
    return _stacked(c, "GRU", input, [hx], params, has_biases, num_layers, dropout, train, bidirectional, batch_first)


def _rnn(name: str) -> None:
    @aten(f"aten.rnn_{name.lower()}.input", f"aten.rnn_{name.lower()}")
    def rnn(
        c: Lowering,
        input: ir.Value,
        hx: ir.Value,
        params: Sequence[ir.Value],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[ir.Value, ...]:
        acts = [name] * (2 if bidirectional else 1)
        return _stacked(c, "RNN", input, [hx], params, has_biases, num_layers, dropout, train, bidirectional, batch_first, acts)

    @aten(f"aten.rnn_{name.lower()}_cell")
    def cell(
        c: Lowering,
        input: ir.Value,
        hx: ir.Value,
        w_ih: ir.Value,
        w_hh: ir.Value,
        b_ih: ir.Value | None = None,
        b_hh: ir.Value | None = None,
    ) -> ir.Value:
        return _step(c, "RNN", input, [hx], [w_ih, w_hh, b_ih, b_hh], [name])[0]


_rnn("Tanh")
_rnn("Relu")


def _step(
    c: Lowering, kind: str, x: ir.Value, states: Sequence[ir.Value], params: Sequence[ir.Value | None], acts: list[str] | None = None
) -> list[ir.Value]:
    """One step: x (N, in), states (N, out)."""
    held = [p for p in params if p is not None]
    front = c.const([0])
    layer = _Layer(held, len(held) == 4)
    _, last = _run(c, kind, c.op("Unsqueeze", x, front), [c.op("Unsqueeze", s, front) for s in states], [layer], 0, acts)
    return [c.op("Squeeze", value, front) for value in last]


@aten("aten.lstm_cell")
def lstm_cell(
    c: Lowering,
    input: ir.Value,
    hx: Sequence[ir.Value],
    w_ih: ir.Value,
    w_hh: ir.Value,
    b_ih: ir.Value | None = None,
    b_hh: ir.Value | None = None,
) -> tuple[ir.Value, ...]:
    return tuple(_step(c, "LSTM", input, hx, [w_ih, w_hh, b_ih, b_hh]))


@aten("aten.gru_cell")
def gru_cell(
    c: Lowering,
    input: ir.Value,
    hx: ir.Value,
    w_ih: ir.Value,
    w_hh: ir.Value,
    b_ih: ir.Value | None = None,
    b_hh: ir.Value | None = None,
) -> ir.Value:
    return _step(c, "GRU", input, [hx], [w_ih, w_hh, b_ih, b_hh])[0]


@aten("aten.lstm.data", "aten.gru.data", "aten.rnn_tanh.data", "aten.rnn_relu.data", "aten._pack_padded_sequence")
def packed(c: Lowering, *args: Any, **kwargs: Any) -> ir.Value:
    c.refuse("packed sequences", rewrite="run it on padded sequences")
